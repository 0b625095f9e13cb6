import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr

from embedx.audio.inspection import inspect_layout
from embedx.audio.windows import read_windows
from embedx.errors import AudioError
from embedx.filesystem.paths import display_path
from tests.helpers.window_reading import RECIPE, read

WriteWav = Callable[..., Path]
SINE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(48_000 * 2) / 48_000)).astype(np.float32)


def test_multichannel_file_is_averaged_and_flagged(write_wav: WriteWav) -> None:
    stereo = np.random.default_rng(0).uniform(-0.5, 0.5, (8_000, 2)).astype(np.float32)
    clip, windows = read_windows(str(write_wav(samples=stereo)), RECIPE)
    np.testing.assert_allclose(next(windows).samples, stereo.mean(axis=1), atol=1e-7)
    assert clip.flags == {"downmixed"}


@pytest.mark.parametrize("suffix, codec", [("m4a", "aac"), ("webm", "libopus"), ("mka", "flac"), ("mp4", "aac")])
def test_format_unknown_to_libsndfile_is_read_by_ffmpeg(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        assert isinstance(stream, av.AudioStream)
        for i in range(0, len(SINE), 960):
            frame = av.AudioFrame.from_ndarray((SINE[None, i : i + 960] * 32767).astype(np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, i, Fraction(1, 48_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (window,) = read(path)
    assert window.end_s == pytest.approx(2.0, abs=0.05)
    middle = window.samples[8_000:24_000]
    spectrum = np.abs(np.fft.rfft(middle))
    assert spectrum.argmax() == 440
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.05)


SUBTYPES = [
    *(
        ("WAV", kind)
        for kind in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW", "IMA_ADPCM")
    ),
    *(("FLAC", kind) for kind in ("PCM_S8", "PCM_16", "PCM_24")),
    *(("AIFF", kind) for kind in ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW")),
    *(("AU", kind) for kind in ("PCM_16", "FLOAT", "ULAW")),
    *(("OGG", kind) for kind in ("VORBIS", "OPUS")),
    *((form, "PCM_16") for form in ("W64", "RF64", "CAF")),
    ("MP3", "MPEG_LAYER_III"),
]


@pytest.mark.parametrize("form, subtype", SUBTYPES)
def test_every_libsndfile_format_is_read(tmp_path: Path, form: str, subtype: str) -> None:
    path = tmp_path / f"a.{form.lower()}"
    soundfile.write(path, SINE, 48_000, format=form, subtype=subtype)
    (window,) = read(path)
    expected = soxr.resample(SINE, 48_000, 16_000, quality="HQ")
    middle = slice(4_000, 28_000)
    cosine = window.samples[middle] @ expected[middle]
    cosine /= np.linalg.norm(window.samples[middle]) * np.linalg.norm(expected[middle])
    assert cosine > (0.99 if subtype in ("IMA_ADPCM", "OPUS", "MPEG_LAYER_III", "PCM_U8", "PCM_S8") else 0.999)
    assert window.end_s == pytest.approx(2.0, abs=0.06)


def test_flac_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "stream.flac"
    soundfile.write(path, SINE, 48_000)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the 36 bits of the number of samples in STREAMINFO: 0 says that it is not known
    data[22:26] = bytes(4)
    path.write_bytes(data)
    (window,) = read(path)
    assert window.end_s == pytest.approx(2.0)


def test_video_file_gives_its_audio_track(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        assert isinstance(video, av.VideoStream)
        video.width = video.height = 64
        audio = container.add_stream("aac", rate=48_000, layout="mono")
        assert isinstance(audio, av.AudioStream)
        for _ in range(20):
            container.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(video.encode(None))
        for i in range(0, len(SINE), 960):
            frame = av.AudioFrame.from_ndarray((SINE[None, i : i + 960] * 32767).astype(np.int16), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, i, Fraction(1, 48_000)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    assert read(path)[0].end_s == pytest.approx(2.0, abs=0.05)


def test_damage_found_by_decoder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "damaged.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, 48_000), 48_000)
    data = path.read_bytes()
    path.write_bytes(data[:40_000] + bytes(20_000) + data[60_000:])
    with pytest.raises(AudioError, match=r"damaged\.flac cannot be decoded") as caught:
        read(path)
    assert caught.value.reason == "corrupt"


def test_flac_that_was_cut_is_read_to_the_cut_and_flagged(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, 48_000), 48_000)
    path.write_bytes(path.read_bytes()[:60_000])
    clip, windows = read_windows(str(path), RECIPE)
    assert 0.5 < sum(window.end_s - window.start_s for window in windows) < 0.75
    assert clip.flags == {"truncated"}


def test_file_with_fewer_frames_than_its_header_says_is_flagged(tmp_path: Path) -> None:
    path = tmp_path / "cut.au"
    soundfile.write(path, SINE, 48_000, format="AU")
    clip, windows = read_windows(str(path), RECIPE)
    clip.declared = len(SINE) + 1  # what a header may say that libsndfile believes
    list(windows)
    assert clip.flags == {"truncated"}
    assert clip.duration_s == 2.0


@pytest.mark.parametrize(
    "name, data, reason",
    [
        ("text.wav", b"this is text\n" * 99, "not-audio"),
        ("empty.wav", b"", "empty"),
        ("header.wav", b"RIFF\x24\x00\x00\x00WAVEfmt ", "not-audio"),
        ("random.mp3", bytes(range(256)) * 8, "not-audio"),
    ],
)
def test_file_without_audio_fails_with_its_reason(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(AudioError, match=name) as caught:
        read(path)
    assert caught.value.reason == reason


def test_wav_without_samples_is_an_empty_failure(write_wav: WriteWav) -> None:
    with pytest.raises(AudioError, match="no samples") as caught:
        read(write_wav(seconds=0))
    assert caught.value.reason == "empty"


def test_path_that_is_missing_folder_or_fifo_is_refused(tmp_path: Path, write_wav: WriteWav) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    cases = {"missing.wav": "missing", ".": "not-a-file", "pipe.wav": "not-a-file"}
    for name, reason in cases.items():
        with pytest.raises(AudioError) as caught:
            read(tmp_path / name)
        assert caught.value.reason == reason
    with pytest.raises(AudioError, match="1 s long") as caught:
        read(write_wav(), start_s=5.0)
    assert caught.value.reason == "outside"


def test_samples_with_nan_are_refused_and_silence_is_flagged(write_wav: WriteWav) -> None:
    bad = np.zeros(1000, np.float32)
    bad[500] = np.nan
    with pytest.raises(AudioError) as caught:
        read(write_wav(samples=bad))
    assert caught.value.reason == "non-finite"
    assert read(write_wav("b.wav", samples=np.zeros(1000, np.float32)))[0].flags == ("silent",)


@pytest.mark.parametrize("rate", [50, 2_000_000])
def test_implausible_sample_rate_is_refused(write_wav: WriteWav, rate: int) -> None:
    with pytest.raises(AudioError, match=str(rate)):
        read(write_wav(samples=np.zeros(1000, np.float32), rate=rate))


def test_file_name_of_any_bytes_is_read_and_printed_safely(write_wav: WriteWav) -> None:
    path = write_wav(os.fsdecode(b"caf\xe9 \xff.wav"))
    assert len(read(path)) == 1
    assert display_path(str(path)).isprintable()
    assert display_path("a\x1b[31m.wav") == "a\\x1b[31m.wav"


def test_import_of_audio_loads_no_decoder_library() -> None:
    code = (
        "import sys, embedx.audio.decode; print([m for m in ('soundfile', 'av', 'soxr', 'torch') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_mp3_without_frame_count_is_read_to_its_end(tmp_path: Path) -> None:
    """libsndfile estimates the length of such a file from its first frame, and stops there."""
    path = tmp_path / "a.mp3"
    loud_at_last = SINE * np.linspace(0, 1, len(SINE), dtype=np.float32) ** 4  # a variable bit rate, low at first
    soundfile.write(path, loud_at_last, 48_000, format="MP3")
    data = bytearray(path.read_bytes())
    place, length = data.index(b"Xing"), len(data)
    frames = int.from_bytes(data[place + 8 : place + 12], "big")
    data[place : place + 120] = bytes(120)
    path.write_bytes(data)
    assert read(path)[0].end_s == pytest.approx(2.0, abs=0.12)  # with the padding that the tag tells to leave out
    vbri = b"VBRI" + struct.pack(">HHHIIHHHH", 1, 0, 75, length, frames, 0, 1, 2, 1)
    data[36 : 36 + len(vbri)] = vbri
    for kept, flags in ((length, set[str]()), (length // 2, {"truncated"})):
        path.write_bytes(data[:kept])
        clip, windows = read_windows(str(path), RECIPE)
        list(windows)
        assert clip.flags == flags


def test_file_that_names_a_network_address_opens_no_socket(tmp_path: Path) -> None:
    """FFmpeg would open the network address in a session description."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = tmp_path / "radio.wav"
    path.write_text(f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio {port} RTP/AVP 0\n")
    begun = time.monotonic()
    with pytest.raises(AudioError, match="cannot be read as audio"):
        read(path)
    assert time.monotonic() - begun < 60  # the socket would wait for ever


def test_wav_size_in_header_decides_whether_it_is_truncated(write_wav: WriteWav) -> None:
    path = write_wav()
    data = path.read_bytes()
    assert inspect_layout(str(path)).flags == set()
    path.write_bytes(data[:-1])
    assert inspect_layout(str(path)).flags == {"truncated"}
    path.write_bytes(data + b"LIST")
    assert inspect_layout(str(path)).flags == set()


def test_excerpt_has_flags_and_length_of_its_recording(write_wav: WriteWav) -> None:
    tone = np.clip(3 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000), -1, 1).astype(np.float32)
    path = write_wav(samples=np.r_[tone, 0.1 * np.tile(tone, 29)])
    clip, windows = read_windows(str(path), RECIPE)
    list(windows)
    assert clip.flags == {"clipped"}
    path.write_bytes(path.read_bytes()[: 44 + 4 * 16_000 * 10])
    clip, windows = read_windows(str(path), RECIPE, 5.0, 6.0)
    list(windows)
    assert "truncated" in clip.flags
    assert clip.duration_s == pytest.approx(10, abs=0.01)  # not where decoding stopped
