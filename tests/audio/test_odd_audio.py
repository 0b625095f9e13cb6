"""Odd audio: files whose headers promise too little or too much are read to their end, or have a flag."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from embedx.audio.excerpts import read_excerpt
from embedx.audio.inspection import inspect_layout
from embedx.audio.windows import read_windows
from embedx.errors import AudioError
from tests.helpers import odd_audio
from tests.helpers.framed_audio import framed
from tests.helpers.odd_audio import RATE, OddFile
from tests.helpers.ogg_pages import ogg_headers
from tests.helpers.window_reading import RECIPE, read

KINDS = [
    odd_audio.joined,
    odd_audio.mp3_headers,
    odd_audio.wav_headers,
    odd_audio.other_headers,
    framed,
    ogg_headers,
]


def outcome(path: Path) -> tuple[float, float, str]:
    """Return the seconds of audio in the windows, the duration of the clip and its flags, or a reason for flags."""
    try:
        clip, windows = read_windows(str(path), RECIPE)
        seconds = sum(window.end_s - window.start_s for window in windows)
        return seconds, clip.duration_s, ",".join(sorted(clip.flags - {"downmixed", "clipped"}))
    except AudioError as error:
        return 0.0, 0.0, error.reason


def wrong(files: Iterator[OddFile], folder: Path) -> dict[str, object]:
    """Return the files whose length or flags are wrong, with what was read."""
    found: dict[str, object] = {}
    for file in files:
        path = folder / file.name
        path.write_bytes(file.data)
        seconds, duration_s, flags = outcome(path)
        length_is_right = file.seconds is None or abs(seconds - file.seconds) <= file.tolerance_s
        if not length_is_right or abs(duration_s - seconds) > 2 / RATE or flags not in file.flags:
            found[file.name] = (seconds, duration_s, flags, file.seconds, file.flags)
    return found


@pytest.mark.parametrize("files", KINDS)
def test_odd_file_is_read_to_its_end_or_flagged(tmp_path: Path, files: Callable[[], Iterator[OddFile]]) -> None:
    assert wrong(files(), tmp_path) == {}


def test_ordinary_file_of_any_format_has_no_flag(tmp_path: Path) -> None:
    assert wrong(odd_audio.ordinary(), tmp_path) == {}


@pytest.mark.parametrize("declared", ["wrapped", "largest"])
def test_wav_over_4_gb_is_read_to_its_end(tmp_path: Path, declared: str) -> None:
    """The file is sparse: 4 GB of silence between two sounds, at a rate and with channels that make them short."""
    rate, channels = 192_000, 32
    sound = odd_audio.pcm(1.0, 16_000, channels)
    length = (1 << 32) + 16_384 * channels * 2
    size = {"wrapped": length % 2**32, "largest": 2**32 - 1}[declared]
    path = tmp_path / "long.wav"
    after = odd_audio.chunk(b"LIST", b"INFO")
    with open(path, "wb") as file:
        file.write(odd_audio.wav(sound, size, 0, channels=channels, rate=rate))
        start = file.tell() - len(sound)
        file.seek(start + length - len(sound))
        file.write(sound + (after if declared == "wrapped" else b""))
    duration_s = length / (2 * channels * rate)
    read_blocks = list(read_excerpt(str(path), duration_s - 16_000 / rate, duration_s))
    clip, last = read_blocks[0][0], np.concatenate([block for _, block in read_blocks])
    assert clip.duration_s == pytest.approx(duration_s)
    assert clip.flags == set()
    np.testing.assert_allclose(last * 32_768, np.frombuffer(sound, "<i2").reshape(-1, channels), atol=0.5)
    with pytest.raises(AudioError, match="there is no audio at"):
        list(read_excerpt(str(path), duration_s + 1, duration_s + 2))


def test_wav_of_3_gb_has_no_flag(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with open(path, "wb") as file:
        file.write(odd_audio.wav(b"", 3 << 30, (3 << 30) + 36))
        file.truncate(44 + (3 << 30))
    assert inspect_layout(str(path)).flags == set()
    assert inspect_layout(str(path)).parts == ()


def test_stretch_of_odd_file_is_the_same_audio_as_in_the_whole(tmp_path: Path) -> None:
    for file in (*odd_audio.joined(), *odd_audio.wav_headers()):
        if file.name in STRETCHES:
            path = tmp_path / file.name
            path.write_bytes(file.data)
            (whole,) = read(path)
            (part,) = read(path, 2.0, 3.5)
            assert (part.start_s, part.end_s) == (2.0, min(3.5, whole.end_s))
            expected = whole.samples[2 * RATE : round(3.5 * RATE)]
            np.testing.assert_allclose(part.samples, expected, atol=1e-6, err_msg=file.name)


STRETCHES = {
    "chain-same.ogg", "chain-rates.ogg", "chain-same.opus", "joined.mp3", "joined-rates.mp3", "joined.flac",
    "joined-rates.flac", "joined.aac", "riff0-data0.wav", "two-data.wav", "ds64-zero.rf64", "rifx-data0.wav",
}  # fmt: skip


def test_tag_before_or_after_any_format_is_no_flag(tmp_path: Path) -> None:
    tagged = [
        OddFile(f"{place}-{file.name}", data, file.seconds)
        for file in odd_audio.ordinary()
        if "ordinary-1" in file.name
        for place, data in (
            ("after", file.data + odd_audio.APE + odd_audio.ID3V1),
            ("before", odd_audio.id3v2() + file.data),
        )
    ]
    assert len(tagged) > 50
    assert wrong(iter(tagged), tmp_path) == {}


def test_file_that_ends_within_a_frame_is_read_up_to_there(tmp_path: Path) -> None:
    for form, codec, suffix in (("adts", "aac", "aac"), ("wv", "wavpack", "wv"), ("mpegts", "aac", "ts")):
        data = odd_audio.muxed(form, codec, 3.0, 44_100)
        (tmp_path / f"a.{suffix}").write_bytes(data[: len(data) * 6 // 10])
        seconds, duration_s, flags = outcome(tmp_path / f"a.{suffix}")
        assert flags == "truncated", suffix
        assert abs(seconds - duration_s) < 1e-3
        assert 0.9 < seconds < 2.2


def test_changed_file_is_inspected_again(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    data = odd_audio.wav(odd_audio.pcm(1.0))
    path.write_bytes(data)
    assert outcome(path) == (1.0, 1.0, "")
    path.write_bytes(data[:-RATE])
    assert outcome(path) == (0.5, 0.5, "truncated")


def test_chain_of_ogg_with_a_damaged_link_is_flagged_or_fails_by_name(tmp_path: Path) -> None:
    path = tmp_path / "chain.ogg"
    link = odd_audio.native("OGG", "VORBIS", 1.0)
    path.write_bytes(link + link[:200] + bytes(len(link) - 2_000) + link[-1_800:])
    seconds, _, flags = outcome(path)
    assert (flags, seconds >= 1) == ("truncated", True)
    path.write_bytes(link + link[:100] + b"\xff" * 1_000 + link[1_100:])
    with pytest.raises(AudioError, match=r"chain\.ogg cannot be decoded after 1 s") as caught:
        read(path)
    assert caught.value.reason == "corrupt"


def test_joined_files_need_the_memory_of_a_block(tmp_path: Path) -> None:
    """Blocks have up to 2**18 samples, also where the rate changes."""
    from embedx.audio.decode import decode_frames

    path = tmp_path / "a.ogg"
    parts = (odd_audio.native("OGG", "VORBIS", 20.0), odd_audio.native("OGG", "VORBIS", 10.0, 8_000))
    path.write_bytes(parts[0] + parts[1] + parts[0])
    _, blocks = decode_frames(str(path))
    assert max(map(len, blocks)) <= 2**20


@pytest.mark.parametrize("rate", [8_000, 16_000, 192_000, 1_536_000])
@pytest.mark.parametrize("samples", [0, 1, 2, 3, 50])
def test_very_short_file_is_read_or_too_short(tmp_path: Path, rate: int, samples: int) -> None:
    data = struct.pack("<50h", *range(100, 150))[: 2 * samples]
    (tmp_path / "a.wav").write_bytes(odd_audio.wav(data, rate=rate))
    try:
        (window,) = read(tmp_path / "a.wav")
    except AudioError as error:
        assert error.reason == ("too-short" if samples else "empty")
        assert rate > RATE or not samples
    else:
        assert len(window.samples) == pytest.approx(samples * RATE / rate, abs=1.01)
