"""The sample of a corpus that is measured."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from embedx.bench.speed.measure import measure_speed
from embedx.bench.speed.sample import Sample
from embedx.datasets.synthetic import synthesise_lengths
from tests.helpers.speed_results import WriteWav


def test_sample_is_even_has_requested_seconds_and_grows(write_wav: WriteWav, tmp_path: Path) -> None:
    for i in range(60):
        write_wav(f"in/{i:02}.wav", seconds=0.5)
    sample = Sample(str(tmp_path / "in"), str(tmp_path))
    small, large = sample.take(6.0), sample.take(12.0)
    assert len(small) == 12
    assert len(large) == 24
    assert set(small) < set(large)
    places = sorted(int(Path(path).stem) for path in small)
    gaps = np.diff([0, *places, 60])
    assert gaps.max() <= 3 * 60 / 12
    assert list(large) == sorted(large)
    assert len(sample.take(1e6)) == 60


def test_sample_of_long_recording_is_a_part(write_wav: WriteWav, tmp_path: Path) -> None:
    path = write_wav("in/long.wav", seconds=300.0, rate=8_000)
    found = measure_speed(path, seconds=400.0)
    assert found.figures.audio_s == pytest.approx(120.0)
    assert set(found.figures.lengths) == {10.0}  # cut as the whole of it would be


def test_synthetic_noise_is_deterministic_and_of_requested_length(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    short, long = synthesise_lengths(tmp_path / "a", 40.0), synthesise_lengths(tmp_path / "b", 200.0)
    lengths = [soundfile.info(path).duration for path in long]
    assert sum(lengths) == pytest.approx(200.0, abs=0.31)
    assert 0.3 <= min(lengths) < 1.5
    assert 8 < max(lengths) <= 30
    assert [one.read_bytes() for one in short[:-1]] == [one.read_bytes() for one in long[: len(short) - 1]]
