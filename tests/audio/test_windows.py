import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from embedx.audio.windows import LONG_WINDOW_S, count_windows, cut, read_channels, read_windows
from embedx.errors import AudioError
from tests.helpers.window_reading import RECIPE, read

WriteWav = Callable[..., Path]


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_streamed_resampling_equals_soxr_on_the_whole_signal(write_wav: WriteWav, rate: int) -> None:
    path = write_wav(seconds=11.3, rate=rate)
    samples = soundfile.read(path, dtype="float32")[0]
    (window,) = read(path)
    expected = samples if rate == 16_000 else soxr.resample(samples, rate, 16_000, quality="HQ")
    np.testing.assert_array_equal(window.samples, expected)
    assert (window.start_s, window.end_s) == (0.0, len(expected) / 16_000)


@pytest.mark.parametrize("window_s, hop_s", [(1.0, 1.0), (0.5, 0.2), (1.0, 1.7), (0.333, 0.1), (9.0, 9.0)])
@pytest.mark.parametrize("block", [1, 7, 1000, 10**6])
def test_window_times_match_samples_and_nothing_is_lost(window_s: float, hop_s: float, block: int) -> None:
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
def test_tail_option_decides_the_last_window(
    write_wav: WriteWav, tail: str, expected: list[tuple[float, float]]
) -> None:
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
def test_count_windows_equals_number_of_windows_cut(
    write_wav: WriteWav, seconds: float, window_s: float | None, hop_s: float | None, tail: str
) -> None:
    changes: Any = {"window_s": window_s, "hop_s": hop_s, "tail": tail, "whole_s": 2.0}
    assert count_windows(seconds, replace(RECIPE, **changes)) == len(read(write_wav(seconds=seconds), **changes))


def test_channels_each_gives_windows_per_channel(write_wav: WriteWav) -> None:
    three = np.random.default_rng(0).uniform(-0.5, 0.5, (32_000, 3)).astype(np.float32)
    path = write_wav(samples=three)
    np.testing.assert_array_equal(read(path, channels="first")[0].samples, three[:, 0])
    found = list(read_channels(str(path), replace(RECIPE, channels="each", window_s=1.0)))
    assert [(channel, window.start_s) for _, channel, window in found] == [(c, s) for c in range(3) for s in (0.0, 1.0)]
    for _, channel, window in found:
        begin = round(window.start_s * 16_000)
        np.testing.assert_array_equal(window.samples, three[begin : begin + 16_000, channel])


def test_trim_silence_cuts_both_ends_and_keeps_times(write_wav: WriteWav) -> None:
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


def test_max_seconds_limits_the_audio(write_wav: WriteWav) -> None:
    path = write_wav(seconds=5.0)
    assert [w.end_s for w in read(path, max_seconds=2.0)] == [2.0]
    assert [(w.start_s, w.end_s) for w in read(path, start_s=1.0, max_seconds=2.0)] == [(1.0, 3.0)]
    assert [w.end_s for w in read(path, max_seconds=99.0)] == [5.0]


def test_window_times_do_not_drift_over_a_day() -> None:
    hop, hours = 7, 24
    blocks = (np.zeros(60 * 100, np.float32) for _ in range(hours * 60))  # a day at 100 Hz
    starts = [start for start, _ in cut(blocks, 10, hop)]
    assert starts[:-1] == list(range(0, hop * (len(starts) - 1), hop))
    assert starts[-1] + 10 == hours * 3600 * 100


def test_long_recording_without_window_option_is_cut(write_wav: WriteWav) -> None:
    assert len(read(write_wav(seconds=60, rate=4_000), sample_rate=4_000)) == 1
    clip, stream = read_windows(str(write_wav("b.wav", seconds=65, rate=4_000)), replace(RECIPE, sample_rate=4_000))
    windows = list(stream)
    assert [w.end_s - w.start_s for w in windows] == [LONG_WINDOW_S] * 7
    assert windows[-1].end_s == 65
    assert clip.flags == {"cut"}
    assert [w.end_s for w in read(write_wav("c.wav", seconds=5.0), whole_s=2.0)] == [2.0, 4.0, 5.0]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("start_s, end_s", [(0.0, 1.0), (3.0, 4.0), (3.217, 5.9), (6.5, None)])
def test_excerpt_equals_slice_of_whole_recording(
    tmp_path: Path, suffix: str, start_s: float, end_s: float | None
) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.random.default_rng(1).uniform(-0.5, 0.5, 44_100 * 8), 44_100)
    (whole,), (part,) = read(path), read(path, start_s=start_s, end_s=end_s)
    last = None if end_s is None else round(end_s * 16_000)
    np.testing.assert_allclose(part.samples, whole.samples[round(start_s * 16_000) : last], atol=1e-6)
    assert part.start_s == pytest.approx(start_s, abs=1e-4)


def test_reading_memory_is_bounded_by_window_length(tmp_path: Path) -> None:
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
