"""Front ends of checkpoints of transformers: where their settings are, and whether they fit the model."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from embedx.errors import ModelError

log = logging.getLogger(__name__)

OLD_FILE = "preprocessor_config.json"
NEW_FILE = "processor_config.json"  # written by processors of transformers 5, which hold a tokenizer too
NEW_KEYS = ("feature_extractor", "audio_processor")
MISSING = f"no {OLD_FILE}, and no {NEW_FILE} with a feature_extractor"
RATES = range(1_000, 384_001)  # Hz, for any audio
MAX_BANDS = 1024  # models have 64 to 128; more would only take memory
DEFAULTS = {"do_normalize": True, "sampling_rate": 16_000}  # of Wav2Vec2FeatureExtractor


def read_front_end(place: str, read: Callable[[str], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Return the settings of the front end, None if there are none.

    As in transformers, the new file is used if both files have settings.

    Args:
        place: the checkpoint, for errors.
        read: returns the content of a JSON file of the checkpoint by name, None if there is no such file.

    Raises:
        ModelError: the settings are not a JSON object.
    """
    processor = read(NEW_FILE) or {}
    for key in NEW_KEYS:
        settings = processor.get(key)
        if settings is not None and not isinstance(settings, dict):
            raise ModelError(f"{key} in {NEW_FILE} of {place} is not a JSON object.")
        if settings is not None:
            return dict(settings)
    return read(OLD_FILE)


@dataclass(frozen=True)
class WaveformSettings:
    """The settings of the front end of a model on the waveform: whether waves are normalised, and their rate in Hz."""

    normalise: bool
    sample_rate: int

    @classmethod
    def parse(
        cls, place: str, front_end: dict[str, Any] | None, defaults: Mapping[str, Any] = DEFAULTS
    ) -> "WaveformSettings":
        """Read and check the settings; warn of every setting that is missing and is assumed to have its default.

        Raises:
            ModelError: a setting has an invalid value.
        """
        settings = {key: value for key, value in (front_end or {}).items() if value is not None}
        missing = [name for name in defaults if name not in settings]
        if missing:
            log.warning(
                "%s has %s, so the %s assumed: %s. If the model was trained in another way, the vectors are wrong. "
                "Then write %s with do_normalize and sampling_rate into its folder.",
                place,
                MISSING if front_end is None else f"a front end without {' and '.join(missing)}",
                "default is" if len(missing) == 1 else "defaults are",
                " and ".join(f"{name} = {defaults[name]}".lower() for name in missing),
                OLD_FILE,
            )
        normalise, rate = ({**defaults, **settings}[name] for name in DEFAULTS)
        if not isinstance(normalise, bool):
            raise ModelError(f"do_normalize in the front end of {place} must be true or false, not {normalise!r:.99}.")
        check_fit(place, "feature_size", settings.get("feature_size", 1), "1, because it takes the waveform", 1)
        return cls(normalise, check_rate(place, rate))


def check_rate(place: str, rate: Any) -> int:
    """Return a sample rate; raise ModelError if it is not a number of Hz in `RATES`."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or int(rate) != rate or int(rate) not in RATES:
        raise ModelError(
            f"sampling_rate in the front end of {place} must be {RATES[0]} to {RATES[-1]} Hz, not {rate!r:.99}."
        )
    return int(rate)


def check_spectrogram_settings(place: str, front_end: dict[str, Any]) -> None:
    """Raise ModelError for a rate or a number of bands with which a front end cannot be built."""
    if "sampling_rate" in front_end:
        check_rate(place, front_end["sampling_rate"])
    for name in ("feature_size", "num_mel_bins"):
        bands = front_end.get(name, 1)
        if isinstance(bands, bool) or not isinstance(bands, int) or not 1 <= bands <= MAX_BANDS:
            raise ModelError(f"{name} in the front end of {place} must be 1 to {MAX_BANDS}, not {bands!r:.99}.")


def check_fit(place: str, name: str, found: Any, expected: str, accepted: Any) -> None:
    """Raise ModelError unless a size of the front end is one that the model accepts.

    Args:
        place: the checkpoint.
        name: name of the setting of the front end.
        found: its value.
        expected: what the model expects, for the error.
        accepted: the value that the model accepts.
    """
    if isinstance(found, bool) or found != accepted:
        raise ModelError(
            f"The front end of {place} does not fit its model: {name} is {found!r:.99}, but the model expects "
            f"{expected}. Use the {OLD_FILE} that belongs to this model."
        )
