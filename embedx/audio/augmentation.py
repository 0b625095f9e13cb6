"""Augmentation: altered copies of clips to train on, each drawn from a random generator of its own.

`augmentation_generator` makes the generator of a clip from the seed and from numbers that identify the clip, so a copy
does not depend on the other clips, on their order or on the number of workers.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from embedx.audio.clip import Samples
from embedx.audio.phase_vocoder import change_pitch, change_speed, spectrum_of, wave_of
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path

Settings = Mapping[str, float]
PROBABILITY = (0.5, 0.0, 1.0)  # how often an alteration is made; 0.5 as in audiomentations
# Name of an alteration -> name of a setting -> default, lowest and highest value. The defaults of noise, pitch,
# stretch, shift and gain are those of audiomentations. SpecAugment (Park et al. 2019) masks at most 27 of 80 bands
# and 20 % of the time, twice each, on utterances of 10 s and more; half as much here, because clips are shorter.
KINDS: dict[str, dict[str, tuple[float, float, float]]] = {
    "noise": {"p": PROBABILITY, "min_snr_db": (5, -20, 120), "max_snr_db": (40, -20, 120)},
    "pitch": {"p": PROBABILITY, "min_semitones": (-4, -12, 12), "max_semitones": (4, -12, 12)},
    "stretch": {"p": PROBABILITY, "min_speed": (0.8, 0.5, 2), "max_speed": (1.25, 0.5, 2)},
    "shift": {"p": PROBABILITY, "min_share": (-0.5, -1, 1), "max_share": (0.5, -1, 1)},
    "gain": {"p": PROBABILITY, "min_db": (-12, -60, 60), "max_db": (12, -60, 60)},
    "specaugment": {"p": PROBABILITY, "masks": (2, 1, 10), "max_time": (0.1, 0, 0.5), "max_band": (0.17, 0, 0.5)},
    "mixup": {"p": PROBABILITY, "alpha": (0.4, 0.01, 100)},  # Beta(0.4, 0.4): Zhang et al. 2018 use 0.2 to 0.4
}
ALL = ",".join(KINDS)


def augmentation_generator(seed: int, *numbers: int) -> Generator:
    """Return the random generator of one clip.

    Args:
        seed: the seed of the run.
        numbers: what identifies the clip, such as the epoch and its row, each 0 or more.

    >>> float(augmentation_generator(0, 1, 7).random()) == float(augmentation_generator(0, 1, 7).random())
    True
    """
    return np.random.default_rng([seed % 2**64, *numbers])


@dataclass(frozen=True)
class Augmentation:
    """Alterations of clips, in the order in which they are made.

    Attributes:
        kinds: name of an alteration -> all its settings; see `KINDS`.

    Raises:
        UsageError: an alteration or a setting does not exist, or a value is not allowed.
    """

    kinds: Mapping[str, Settings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", {kind: complete(kind, given) for kind, given in self.kinds.items()})

    @classmethod
    def from_option(cls, option: str) -> Self:
        """Return the augmentation that an option names.

        Args:
            option: names with commas between them, such as "noise,pitch"; or a TOML file with a table for each
                alteration, such as `[noise]` with `min_snr_db = 10`.

        Raises:
            UsageError: there is no such file or alteration, or the file is not valid.
        """
        if option.lower().endswith(".toml"):
            return cls(read_toml(option))
        names = [name.strip() for name in option.split(",")]
        if len(set(names)) < len(names):
            raise UsageError(f"--augment {option} names an alteration twice. Name each once.")
        return cls({name: {} for name in names})

    def clip(self, samples: Samples, rate: int, rng: Generator, *, altered: bool = False) -> Samples:
        """Return an altered copy of a clip; "mixup" needs a batch, see `draw_mixup`.

        Args:
            samples: [S].
            rate: their sample rate in Hz.
            rng: the generator of this clip; see `augmentation_generator`.
            altered: make at least one alteration; by default each is made with its probability, so there may be none.

        Returns:
            The copy [S] as float32; "stretch" changes S to at least S / max_speed and at most S / min_speed.
        """
        chosen = [kind for kind in self.kinds if kind in ALTERATIONS and rng.random() < self.kinds[kind]["p"]]
        possible = [kind for kind in self.kinds if kind in ALTERATIONS and self.kinds[kind]["p"]]
        if altered and not chosen and possible:
            chosen = [possible[rng.integers(len(possible))]]
        copy = np.array(samples, np.float32)
        for kind in chosen if len(copy) else ():
            copy = ALTERATIONS[kind](copy, rate, self.kinds[kind], rng).astype(np.float32)
        return copy

    def draw_mixup(self, clips: int, rng: Generator) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Draw which clips of a batch are mixed.

        Args:
            clips: B, the number of clips in the batch.
            rng: the generator of this batch.

        Returns:
            The partner of each clip [B], and the share [B] from 0.5 to 1 that each clip keeps; 1 where it is not mixed.
            The mixed wave is `mix_waves(waves, lengths, partners, shares)`, the mixed target of clip i
            `shares[i] * targets[i] + (1 - shares[i]) * targets[partners[i]]`.
        """
        settings = self.kinds.get("mixup")
        if settings is None or clips < 2:
            return np.arange(clips), np.ones(clips, np.float32)
        drawn = rng.beta(settings["alpha"], settings["alpha"], clips)
        shares = np.where(rng.random(clips) < settings["p"], np.maximum(drawn, 1 - drawn), 1)
        return rng.permutation(clips), shares.astype(np.float32)


def mix_waves(
    waves: NDArray[np.float32], lengths: NDArray[np.int64], partners: NDArray[np.int64], shares: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return mixed waves [B, S]; each keeps its length, with zeros after it.

    Args:
        waves: [B, S].
        lengths: the number of valid samples of each wave [B].
        partners, shares: see `Augmentation.draw_mixup`.
    """
    valid = np.where(np.arange(waves.shape[1]) < lengths[:, None], waves, 0)
    mixed = shares[:, None] * valid + (1 - shares[:, None]) * valid[partners]
    return np.where(np.arange(waves.shape[1]) < lengths[:, None], mixed, 0).astype(np.float32)


def add_noise(samples: Samples, rate: int, settings: Settings, rng: Generator) -> Samples:
    """Add white noise at a signal-to-noise ratio; silence stays silent."""
    snr_db = rng.uniform(settings["min_snr_db"], settings["max_snr_db"])
    level = np.sqrt(np.mean(np.square(samples, dtype=np.float64))) * 10 ** (-snr_db / 20)
    return np.asarray(samples + level * rng.standard_normal(len(samples)))


def shift_pitch(samples: Samples, rate: int, settings: Settings, rng: Generator) -> Samples:
    """Change the pitch and keep the length."""
    return change_pitch(samples, rate, rng.uniform(settings["min_semitones"], settings["max_semitones"]))


def stretch(samples: Samples, rate: int, settings: Settings, rng: Generator) -> Samples:
    """Change the speed and keep the pitch; as likely slower as faster for speeds from 1 / x to x."""
    low, high = np.log(settings["min_speed"]), np.log(settings["max_speed"])
    return change_speed(samples, rate, float(np.exp(rng.uniform(low, high))))


def shift_time(samples: Samples, rate: int, settings: Settings, rng: Generator) -> Samples:
    """Move the clip in time by a share of its length; what leaves at one end enters at the other."""
    share = rng.uniform(settings["min_share"], settings["max_share"])
    return np.roll(samples, round(share * len(samples)))


def change_gain(samples: Samples, rate: int, settings: Settings, rng: Generator) -> Samples:
    """Change the level, at most to full scale or to the peak that the clip already has."""
    factor = 10 ** (rng.uniform(settings["min_db"], settings["max_db"]) / 20)
    peak = float(np.abs(samples).max())
    return np.asarray(samples * min(factor, max(1.0, peak) / peak) if peak else samples)


def mask_spectrum(samples: Samples, rate: int, settings: Settings, rng: Generator) -> Samples:
    """Remove stretches of time and bands of the mel scale (SpecAugment), in the wave, so that any model can use it."""
    spectrum = spectrum_of(samples, rate)
    frames, bins = spectrum.shape
    mel = 1127 * np.log1p(np.linspace(0, rate / 2, bins) / 700)
    for _ in range(round(settings["masks"])):
        width = rng.uniform(0, settings["max_time"]) * frames
        first = rng.uniform(0, frames - width)
        spectrum[round(first) : round(first + width)] = 0
        width = rng.uniform(0, settings["max_band"]) * mel[-1]
        low = rng.uniform(0, mel[-1] - width)
        spectrum[:, (mel >= low) & (mel < low + width)] = 0
    return wave_of(spectrum, rate, len(samples))


ALTERATIONS: dict[str, Callable[[Samples, int, Settings, Generator], Samples]] = {
    "noise": add_noise,
    "pitch": shift_pitch,
    "stretch": stretch,
    "shift": shift_time,
    "gain": change_gain,
    "specaugment": mask_spectrum,
}


def complete(kind: str, given: Mapping[str, object]) -> Settings:
    """Check the settings of an alteration, and add the defaults of those that are not given.

    >>> complete("gain", {"max_db": 6})
    {'p': 0.5, 'min_db': -12.0, 'max_db': 6.0}
    """
    if kind not in KINDS:
        raise UsageError(f"There is no alteration {kind!r}. Alterations: {', '.join(KINDS)}; or give a .toml file.")
    if not isinstance(given, Mapping):
        raise UsageError(f"{kind} must be a table of settings, such as [{kind}] with p = 0.5, not {given!r:.99}.")
    allowed = KINDS[kind]
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        raise UsageError(f"{kind} has no setting {unknown[0]!r}. Settings: {', '.join(allowed)}.")
    settings = {}
    for name, (default, low, high) in allowed.items():
        value = given.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise UsageError(f"{name} of {kind} must be a number from {low:g} to {high:g}, not {value!r:.99}.")
        if name == "masks" and value != int(value):
            raise UsageError(f"masks of {kind} must be a whole number, not {value:g}.")
        settings[name] = float(value)
    for name in settings:
        other = name.replace("min_", "max_")
        if settings[name] > settings[other]:
            raise UsageError(f"{name} of {kind} is {settings[name]:g}, more than {other}, {settings[other]:g}.")
    return settings


def read_toml(file: str) -> dict[str, Settings]:
    """Read the tables of a TOML file."""
    shown = display_path(file)
    try:
        tables = tomllib.loads(Path(file).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The augmentation file {shown} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise UsageError(f"The augmentation file {shown} is not valid TOML: {error}.") from error
    if not tables:
        raise UsageError(f"The augmentation file {shown} names no alteration. Tables: {', '.join(KINDS)}.")
    return tables
