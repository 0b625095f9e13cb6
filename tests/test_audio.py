import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import soxr

from embedx.audio import LONG_WINDOW_S, Window, count_windows, cut, read_channels, read_windows, show
from embedx.errors import AudioError
from embedx.recipe import Recipe

WriteWav = Callable[..., Path]
SINE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(48_000 * 2) / 48_000)).astype(np.float32)


RECIPE = Recipe("logmel", "", "", 16_000, (0,), ("mean",))


def read(path: Path, start_s: float = 0.0, end_s: float | None = None, **changes: Any) -> list[Window]:
    return [window for *_, window in read_channels(str(path), replace(RECIPE, **changes), start_s, end_s)]


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_a_stream_equals_soxr_run_at_once(write_wav: WriteWav, rate: int) -> None:
    path = write_wav(seconds=11.3, rate=rate)
    samples = soundfile.read(path, dtype="float32")[0]
    (window,) = read(path)
    expected = samples if rate == 16_000 else soxr.resample(samples, rate, 16_000, quality="HQ")
    np.testing.assert_array_equal(window.samples, expected)
    assert (window.start_s, window.end_s) == (0.0, len(expected) / 16_000)


def test_channels_are_averaged_and_that_is_flagged(write_wav: WriteWav) -> None:
    stereo = np.random.default_rng(0).uniform(-0.5, 0.5, (8_000, 2)).astype(np.float32)
    clip, windows = read_windows(str(write_wav(samples=stereo)), RECIPE)
    np.testing.assert_allclose(next(windows).samples, stereo.mean(axis=1), atol=1e-7)
    assert clip.flags == {"downmixed"}


@pytest.mark.parametrize("window_s, hop_s", [(1.0, 1.0), (0.5, 0.2), (1.0, 1.7), (0.333, 0.1), (9.0, 9.0)])
@pytest.mark.parametrize("block", [1, 7, 1000, 10**6])
def test_windows_lie_where_they_say_and_nothing_is_lost(window_s: float, hop_s: float, block: int) -> None:
    samples = np.arange(3_456, dtype=np.float32)
    window, hop = round(window_s * 1000), round(hop_s * 1000)
    blocks = [samples[i : i + block] for i in range(0, len(samples), block)]
    pieces = list(cut(blocks, window, hop))
    for start, piece in pieces:
        np.testing.assert_array_equal(piece, samples[start : start + len(piece)])
        assert len(piece) == min(window, len(samples))
    starts = [start for start, _ in pieces]
    whole = [start for start in range(0, len(samples), hop) if start + window <= len(samples)]
    assert starts[: len(whole)] == whole
    if hop <= window:
        assert pieces[-1][0] + len(pieces[-1][1]) == len(samples)
        covered = {i for start, piece in pieces for i in range(start, start + len(piece))}
        assert covered == set(range(len(samples)))


@pytest.mark.parametrize(
    "tail, expected",
    [
        ("keep", [(0.0, 1.0), (1.0, 2.0), (1.5, 2.5)]),
        ("pad", [(0.0, 1.0), (1.0, 2.0), (2.0, 2.5)]),
        ("drop", [(0.0, 1.0), (1.0, 2.0)]),
    ],
)
def test_tails(write_wav: WriteWav, tail: str, expected: list[tuple[float, float]]) -> None:
    windows = read(write_wav(seconds=2.5), window_s=1.0, tail=tail)
    assert [(w.start_s, w.end_s) for w in windows] == expected
    assert {len(w.samples) for w in windows} == {16_000}
    assert [w.flags for w in windows] == [()] * 2 + ([("padded",)] if tail == "pad" else [()])[: len(expected) - 2]
    if tail == "pad":
        assert not windows[-1].samples[8_000:].any()
    short = write_wav("short.wav", seconds=0.5)
    if tail == "drop":
        with pytest.raises(AudioError, match="shorter than a window of 1 s") as caught:
            read(short, window_s=1.0, tail=tail)
        assert caught.value.reason == "too-short"
    else:
        assert len(read(short, window_s=1.0, tail=tail)) == 1


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 2.5, 7.3])
@pytest.mark.parametrize("window_s, hop_s", [(None, None), (1.0, None), (1.0, 0.3), (1.0, 1.4)])
@pytest.mark.parametrize("tail", ["keep", "pad"])
def test_windows_are_counted_as_they_are_cut(
    write_wav: WriteWav, seconds: float, window_s: float | None, hop_s: float | None, tail: str
) -> None:
    changes: Any = {"window_s": window_s, "hop_s": hop_s, "tail": tail, "whole_s": 2.0}
    assert count_windows(seconds, replace(RECIPE, **changes)) == len(read(write_wav(seconds=seconds), **changes))


def test_channels_are_taken_apart(write_wav: WriteWav) -> None:
    three = np.random.default_rng(0).uniform(-0.5, 0.5, (32_000, 3)).astype(np.float32)
    path = write_wav(samples=three)
    np.testing.assert_array_equal(read(path, channels="first")[0].samples, three[:, 0])
    found = list(read_channels(str(path), replace(RECIPE, channels="each", window_s=1.0)))
    assert [(channel, window.start_s) for _, channel, window in found] == [(c, s) for c in range(3) for s in (0.0, 1.0)]
    for _, channel, window in found:
        begin = round(window.start_s * 16_000)
        np.testing.assert_array_equal(window.samples, three[begin : begin + 16_000, channel])


def test_silence_at_both_ends_is_trimmed_and_the_times_say_so(write_wav: WriteWav) -> None:
    samples = np.zeros(16_000 * 5, np.float32)
    samples[20_000:52_000] = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000)
    samples += 1e-4 * np.random.default_rng(1).standard_normal(len(samples)).astype(np.float32)
    (window,) = read(write_wav(samples=samples), trim_silence=True)
    assert window.start_s == pytest.approx(1.25, abs=0.025)
    assert window.end_s == pytest.approx(3.25, abs=0.025)
    np.testing.assert_array_equal(
        window.samples, samples[round(window.start_s * 16_000) : round(window.end_s * 16_000)]
    )
    silent = write_wav("silent.wav", samples=np.zeros(16_000, np.float32))
    assert [(w.start_s, w.end_s, w.flags) for w in read(silent, trim_silence=True)] == [(0.0, 1.0, ("silent",))]


def test_max_seconds(write_wav: WriteWav) -> None:
    path = write_wav(seconds=5.0)
    assert [w.end_s for w in read(path, max_seconds=2.0)] == [2.0]
    assert [(w.start_s, w.end_s) for w in read(path, start_s=1.0, max_seconds=2.0)] == [(1.0, 3.0)]
    assert [w.end_s for w in read(path, max_seconds=99.0)] == [5.0]


def test_windows_do_not_drift_over_a_day() -> None:
    hop, hours = 7, 24
    blocks = (np.zeros(60 * 100, np.float32) for _ in range(hours * 60))  # a day at 100 Hz
    starts = [start for start, _ in cut(blocks, 10, hop)]
    assert starts[:-1] == list(range(0, hop * (len(starts) - 1), hop))
    assert starts[-1] + 10 == hours * 3600 * 100


def test_a_long_recording_is_cut_even_if_no_window_is_asked_for(write_wav: WriteWav) -> None:
    assert len(read(write_wav(seconds=60, rate=4_000), sample_rate=4_000)) == 1
    clip, stream = read_windows(str(write_wav("b.wav", seconds=65, rate=4_000)), replace(RECIPE, sample_rate=4_000))
    windows = list(stream)
    assert [w.end_s - w.start_s for w in windows] == [LONG_WINDOW_S] * 7
    assert windows[-1].end_s == 65
    assert clip.flags == {"cut"}
    assert [w.end_s for w in read(write_wav("c.wav", seconds=5.0), whole_s=2.0)] == [2.0, 4.0, 5.0]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("start_s, end_s", [(0.0, 1.0), (3.0, 4.0), (3.217, 5.9), (6.5, None)])
def test_a_stretch_is_the_same_slice_of_the_whole(
    tmp_path: Path, suffix: str, start_s: float, end_s: float | None
) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.random.default_rng(1).uniform(-0.5, 0.5, 44_100 * 8), 44_100)
    (whole,), (part,) = read(path), read(path, start_s=start_s, end_s=end_s)
    last = None if end_s is None else round(end_s * 16_000)
    np.testing.assert_allclose(part.samples, whole.samples[round(start_s * 16_000) : last], atol=1e-6)
    assert part.start_s == pytest.approx(start_s, abs=1e-4)


@pytest.mark.parametrize("suffix, codec", [("m4a", "aac"), ("webm", "libopus"), ("mka", "flac"), ("mp4", "aac")])
def test_what_libsndfile_does_not_read_is_read_by_ffmpeg(tmp_path: Path, suffix: str, codec: str) -> None:
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
def test_every_format_of_libsndfile(tmp_path: Path, form: str, subtype: str) -> None:
    path = tmp_path / f"a.{form.lower()}"
    soundfile.write(path, SINE, 48_000, format=form, subtype=subtype)
    (window,) = read(path)
    expected = soxr.resample(SINE, 48_000, 16_000, quality="HQ")
    middle = slice(4_000, 28_000)
    cosine = window.samples[middle] @ expected[middle]
    cosine /= np.linalg.norm(window.samples[middle]) * np.linalg.norm(expected[middle])
    assert cosine > (0.99 if subtype in ("IMA_ADPCM", "OPUS", "MPEG_LAYER_III", "PCM_U8", "PCM_S8") else 0.999)
    assert window.end_s == pytest.approx(2.0, abs=0.06)


def test_flac_of_unknown_length(tmp_path: Path) -> None:
    path = tmp_path / "stream.flac"
    soundfile.write(path, SINE, 48_000)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the 36 bits of the number of samples in STREAMINFO: 0 says that it is not known
    data[22:26] = bytes(4)
    path.write_bytes(data)
    (window,) = read(path)
    assert window.end_s == pytest.approx(2.0)


def test_the_audio_track_of_a_video(tmp_path: Path) -> None:
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


def test_damage_that_the_decoder_finds_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, 48_000), 48_000)
    path.write_bytes(path.read_bytes()[:40_000])
    with pytest.raises(AudioError, match=r"cut\.flac cannot be decoded") as caught:
        read(path)
    assert caught.value.reason == "corrupt"


def test_fewer_frames_than_the_header_promises_is_flagged(tmp_path: Path) -> None:
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
def test_what_is_no_audio_is_named(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(AudioError, match=name) as caught:
        read(path)
    assert caught.value.reason == reason


def test_wav_without_samples(write_wav: WriteWav) -> None:
    with pytest.raises(AudioError, match="no samples") as caught:
        read(write_wav(seconds=0))
    assert caught.value.reason == "empty"


def test_missing_folder_fifo_and_outside(tmp_path: Path, write_wav: WriteWav) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    cases = {"missing.wav": "missing", ".": "not-a-file", "pipe.wav": "not-a-file"}
    for name, reason in cases.items():
        with pytest.raises(AudioError) as caught:
            read(tmp_path / name)
        assert caught.value.reason == reason
    with pytest.raises(AudioError, match="1 s long") as caught:
        read(write_wav(), start_s=5.0)
    assert caught.value.reason == "outside"


def test_numbers_that_are_none_are_refused_and_silence_is_flagged(write_wav: WriteWav) -> None:
    bad = np.zeros(1000, np.float32)
    bad[500] = np.nan
    with pytest.raises(AudioError) as caught:
        read(write_wav(samples=bad))
    assert caught.value.reason == "non-finite"
    assert read(write_wav("b.wav", samples=np.zeros(1000, np.float32)))[0].flags == ("silent",)


@pytest.mark.parametrize("rate", [50, 2_000_000])
def test_rates_that_no_recorder_has_are_refused(write_wav: WriteWav, rate: int) -> None:
    with pytest.raises(AudioError, match=str(rate)):
        read(write_wav(samples=np.zeros(1000, np.float32), rate=rate))


def test_memory_is_bounded_by_the_window(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 8_000, 1, subtype="PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(8_000 * 60, np.int16))  # an hour: 115 MB as float32
    tracemalloc.start()
    windows = sum(1 for _ in read_windows(str(path), replace(RECIPE, sample_rate=8_000, window_s=5.0))[1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert windows == 720
    assert peak < 20e6


def test_names_of_any_bytes_are_read_and_safe_to_print(write_wav: WriteWav) -> None:
    path = write_wav(os.fsdecode(b"caf\xe9 \xff.wav"))
    assert len(read(path)) == 1
    assert show(str(path)).isprintable()
    assert show("a\x1b[31m.wav") == "a\\x1b[31m.wav"


def test_importing_audio_loads_no_decoder() -> None:
    code = "import sys, embedx.audio; print([m for m in ('soundfile', 'av', 'soxr', 'torch') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
