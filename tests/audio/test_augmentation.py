"""Augmentation: each alteration does what its settings say, drawn from the seed and the clip alone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedx.audio.augmentation import ALTERATIONS, KINDS, Augmentation, augmentation_generator, mix_waves
from embedx.audio.phase_vocoder import change_pitch, change_speed, spectrum_of, wave_of
from embedx.errors import UsageError

RATE = 16_000
Samples = NDArray[np.float32]


def tone(hertz: float = 440.0, seconds: float = 1.0, rate: int = RATE) -> Samples:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(samples: int = RATE, seed: int = 1) -> Samples:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def loudest_hertz(samples: Samples, rate: int = RATE) -> float:
    return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)), n=4 * rate)).argmax() / 4)


def alter(kind: str, samples: Samples, number: int = 0, **settings: float) -> Samples:
    return Augmentation({kind: {"p": 1, **settings}}).clip(samples, RATE, augmentation_generator(0, number))


@pytest.mark.parametrize("kind", ALTERATIONS)
@pytest.mark.parametrize("length", [1, 2, 17, 999, 5000])
def test_copy_is_finite_float32_of_the_same_length(kind: str, length: int) -> None:
    for clip in (noise(length), np.zeros(length, np.float32), np.ones(length, np.float32)):
        before = clip.copy()
        for number in range(3):
            copy = alter(kind, clip, number)
            assert copy.dtype == np.float32
            assert np.isfinite(copy).all()
            assert len(copy) == length or (kind == "stretch" and length / 1.25 - 1 <= len(copy) <= length / 0.8 + 1)
        assert np.array_equal(clip, before)
    assert len(alter(kind, noise(0))) == 0


def test_noise_has_the_chosen_ratio() -> None:
    clip = tone()
    added = alter("noise", clip, min_snr_db=20, max_snr_db=20) - clip
    assert 10 * np.log10(np.square(clip).mean() / np.square(added).mean()) == pytest.approx(20, abs=0.2)
    assert not alter("noise", np.zeros(99, np.float32)).any()


def test_gain_changes_the_level_up_to_full_scale() -> None:
    np.testing.assert_allclose(alter("gain", tone(), min_db=6, max_db=6), tone() * 10 ** (6 / 20), rtol=1e-6)
    assert np.abs(alter("gain", tone(), min_db=40, max_db=40)).max() == pytest.approx(1)
    np.testing.assert_allclose(alter("gain", 9 * tone(), min_db=40, max_db=40), 9 * tone(), rtol=1e-6)


def test_shift_moves_the_clip_round_its_end() -> None:
    clip = noise()
    copy = alter("shift", clip, min_share=0.25, max_share=0.25)
    assert np.array_equal(np.roll(copy, -RATE // 4), clip)


@pytest.mark.parametrize("rate", [8000, 44_100])
@pytest.mark.parametrize("speed", [0.5, 0.8, 1.25, 2.0])
def test_speed_changes_the_length_and_not_the_pitch(rate: int, speed: float) -> None:
    copy = change_speed(tone(rate=rate), rate, speed)
    assert len(copy) == round(rate / speed)
    assert loudest_hertz(copy, rate) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("semitones", [-12, -4, 3, 12])
def test_pitch_changes_the_frequency_and_not_the_length(semitones: int) -> None:
    copy = change_pitch(tone(), RATE, semitones)
    assert len(copy) == RATE
    assert loudest_hertz(copy) == pytest.approx(440 * 2 ** (semitones / 12), abs=1)


def test_events_move_with_the_speed() -> None:
    clip = np.zeros(RATE, np.float32)
    clip[8000:8160] = noise(160)
    for speed in (0.8, 1.25):
        assert np.abs(change_speed(clip, RATE, speed)).argmax() == pytest.approx(8080 / speed, abs=400)


def test_spectrum_gives_the_wave_back() -> None:
    np.testing.assert_allclose(wave_of(spectrum_of(noise(5001), RATE), RATE, 5001), noise(5001), atol=1e-6)


def test_specaugment_removes_bands_and_stretches_and_keeps_the_rest() -> None:
    clip, found = noise(), {"time": 0, "band": 0}
    for number in range(20):
        copy = alter("specaugment", clip, number, max_time=0.3, max_band=0.3)
        ratio = np.abs(spectrum_of(copy, RATE)[4:-4]) / np.abs(spectrum_of(clip, RATE)[4:-4])
        found["time"] += bool((np.median(ratio, axis=1) < 1e-3).any())
        found["band"] += bool((np.median(ratio, axis=0) < 1e-3).any())
        assert np.median(ratio[np.median(ratio, axis=1) > 0.5]) > 0.9
    assert min(found.values()) > 10
    np.testing.assert_allclose(alter("specaugment", clip, max_time=0, max_band=0), clip, atol=1e-6)


def test_copies_depend_on_seed_and_clip_and_not_on_order_or_threads() -> None:
    augmentation = Augmentation.from_option(",".join(ALTERATIONS))
    clips = [noise(2000 + 100 * number, number) for number in range(12)]

    def copy(number: int, seed: int = 4) -> bytes:
        return augmentation.clip(clips[number], RATE, augmentation_generator(seed, 0, number)).tobytes()

    one_by_one = [copy(number) for number in range(12)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(copy, reversed(range(12)))) == one_by_one[::-1]
    assert [copy(number, seed=5) for number in range(12)] != one_by_one
    assert copy(0, seed=-1) == copy(0, seed=-1)


def test_probability_is_that_of_the_setting() -> None:
    clip = noise(50)
    for p in (0.0, 0.3, 1.0):
        augmentation = Augmentation({"noise": {"p": p}})
        copies = [augmentation.clip(clip, RATE, augmentation_generator(0, i)) for i in range(400)]
        assert np.mean([not np.array_equal(copy, clip) for copy in copies]) == pytest.approx(p, abs=0.08)
    augmentation = Augmentation({"noise": {"p": 0.1}, "gain": {"p": 0}, "shift": {"p": 0.1}})
    copies = [augmentation.clip(clip, RATE, augmentation_generator(0, i), altered=True) for i in range(50)]
    assert not any(np.array_equal(copy, clip) for copy in copies)


def test_mixup_mixes_the_valid_samples_of_two_clips() -> None:
    augmentation = Augmentation({"mixup": {"p": 0.7}})
    partners, shares = augmentation.draw_mixup(500, augmentation_generator(0))
    assert sorted(partners) == list(range(500))
    assert ((shares >= 0.5) & (shares <= 1)).all()
    assert (shares < 1).mean() == pytest.approx(0.7, abs=0.08)
    waves = np.array([[1, 1, 1, 9], [2, 2, 9, 9]], np.float32)  # 9: padding
    mixed = mix_waves(waves, np.array([3, 2]), np.array([1, 0]), np.array([0.75, 0.5], np.float32))
    np.testing.assert_allclose(mixed, [[1.25, 1.25, 0.75, 0], [1.5, 1.5, 0, 0]])


def test_clips_are_not_mixed_without_mixup_or_partner() -> None:
    for augmentation, clips in ((Augmentation({"noise": {}}), 5), (Augmentation({"mixup": {"p": 1}}), 1)):
        partners, shares = augmentation.draw_mixup(clips, augmentation_generator(0))
        assert partners.tolist() == list(range(clips))
        assert (shares == 1).all()


def test_file_gives_settings(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[gain]\nmin_db = 3\nmax_db = 3\np = 1\n\n[noise]\n")
    augmentation = Augmentation.from_option(str(file))
    assert list(augmentation.kinds) == ["gain", "noise"]
    assert augmentation.kinds["gain"] == {"p": 1, "min_db": 3, "max_db": 3}
    assert augmentation.kinds["noise"] == {name: default for name, (default, _, _) in KINDS["noise"].items()}


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("noise,echo", "no alteration 'echo'. Alterations: noise, pitch"),
        ("", "no alteration ''"),
        ("noise,noise", "twice"),
        ("none.toml", "cannot be read: No such file"),
    ],
)
def test_invalid_option_is_refused(option: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Augmentation.from_option(option)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"[noise", "not valid TOML"),
        (b"\xff\xfe", "not valid TOML"),
        (b"", "names no alteration"),
        (b"[echo]", "no alteration 'echo'"),
        (b"noise = 1", "noise must be a table"),
        (b"[noise]\nsnr = 1", "no setting 'snr'. Settings: p, min_snr_db, max_snr_db"),
        (b"[noise]\np = 2", "p of noise must be a number from 0 to 1, not 2"),
        (b"[noise]\np = nan", "must be a number"),
        (b"[noise]\np = true", "must be a number"),
        (b"[noise]\np = 'x'", "must be a number"),
        (b"[noise]\nmin_snr_db = 41", "more than max_snr_db, 40"),
        (b"[specaugment]\nmasks = 1.5", "masks of specaugment must be a whole number"),
    ],
)
def test_invalid_file_is_refused(tmp_path: Path, content: bytes, text: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=text):
        Augmentation.from_option(str(file))
