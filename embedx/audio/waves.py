"""Wave: sound in memory (a NumPy array, a tensor, or an entry of a Hugging Face data set) instead of a file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from embedx.audio.clip import Clip, Frames, Samples, check_limits
from embedx.audio.decode import BLOCK, mix_down
from embedx.errors import UsageError

RATE_KEYS = ("sampling_rate", "sample_rate")  # of a mapping with "array"; the first is that of Hugging Face


@dataclass(frozen=True, eq=False)
class Wave:
    """Sound in memory.

    Attributes:
        frames: [S, channels], float32, full scale is 1.
        rate: the sampling rate in Hz.
        path: what errors call it, such as "array 3".
    """

    frames: Frames
    rate: int
    path: str

    def open(self, start_s: float, channel: int | None) -> tuple[Clip, Iterator[Samples]]:
        """Return it as an open clip with mono blocks [S], as `embedx.audio.decode.decode` returns a recording."""
        clip = Clip(self.path, self.rate, self.frames.shape[1], len(self.frames))
        check_limits(clip)
        step = max(1024, BLOCK // clip.channels)
        starts = range(0, len(self.frames), step)
        return clip, (mix_down(clip, self.frames[start : start + step], channel) for start in starts)


def is_array(value: Any) -> bool:
    """Tell whether a value is sound in memory: samples, or an entry of a data set; see `make_wave`."""
    return isinstance(value, np.ndarray) or is_tensor(value) or is_entry(value)


def is_tensor(value: Any) -> bool:
    """Tell whether a value is a tensor of torch, which need not be imported."""
    return hasattr(value, "detach") and hasattr(value, "shape")  # an open file has `detach` too


def is_entry(value: Any) -> bool:
    """Tell whether a value is sound with its own rate, as Hugging Face data sets have."""
    return hasattr(value, "get_all_samples") or (isinstance(value, Mapping) and "array" in value)


def split_batch(value: Any) -> list[Any]:
    """Return the sounds of an array or tensor: [S] is one sound, [N, S] are N sounds.

    Raises:
        UsageError: it has another number of axes, or is rather one sound [S, channels].
    """
    shape = list(value.shape)
    if len(shape) == 2 and shape[0] > shape[1]:
        raise UsageError(
            f"An array {shape} would be {shape[0]} sounds of {shape[1]} samples. For one sound with {shape[1]} "
            "channels give a list: [array]."
        )
    if len(shape) not in (1, 2):
        raise UsageError(f"Give an array [S] for one sound or [N, S] for N sounds, not one of the shape {shape}.")
    return [value] if len(shape) == 1 else list(value)


def make_wave(value: Any, rate: float | None, path: str) -> Wave:
    """Return one sound in memory as a wave.

    Args:
        value: an array or a tensor [S], [channels, S] or [S, channels] (the longer axis is time), or a mapping
            {"array": ..., "sampling_rate": ...}, or a decoder of torchcodec. Integers are divided by their full scale,
            as a WAV file's are.
        rate: the sampling rate in Hz; a mapping has its own.
        path: what errors call it.

    Raises:
        UsageError: there is no rate, or it is not one sound of real numbers.
    """
    if hasattr(value, "get_all_samples"):
        decoded = value.get_all_samples()
        value, rate = decoded.data, decoded.sample_rate
    elif isinstance(value, Mapping):
        rate = next((value[key] for key in RATE_KEYS if key in value), rate)
        value = value["array"]
    if is_tensor(value):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    if rate is None:
        raise UsageError(f"sample_rate is missing: {path} is samples, so give their rate, as in sample_rate=16000.")
    if not is_whole(rate):
        raise UsageError(f"sample_rate must be a whole number of Hz, such as 16000, not {rate!r}.")
    samples = np.asarray(value)
    if samples.ndim not in (1, 2):
        raise UsageError(f"{path} has the shape {list(samples.shape)}; one sound is [S], or [channels, S].")
    frames = samples[:, None] if samples.ndim == 1 else samples if len(samples) >= samples.shape[1] else samples.T
    return Wave(to_float(frames, path), int(rate), path)


def is_whole(rate: Any) -> bool:
    """Tell whether a rate is a whole number, of Python or NumPy."""
    return isinstance(rate, (int, float, np.number)) and not isinstance(rate, bool) and float(rate).is_integer()


def to_float(samples: Any, path: str) -> Frames:
    """Return samples as float32; integers are divided by their full scale.

    >>> to_float(np.array([-32768, 16384], np.int16), "").tolist(), to_float(np.array([0, 192], np.uint8), "").tolist()
    ([-1.0, 0.5], [-1.0, 0.5])
    """
    kind = samples.dtype.kind
    if kind == "f":
        with np.errstate(over="ignore"):  # too large for float32: it becomes infinite, which is refused later
            return np.ascontiguousarray(samples, np.float32)
    if kind not in "iu":
        raise UsageError(f"{path} holds {samples.dtype} values; samples are floats from -1 to 1, or integers.")
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return np.ascontiguousarray(samples / half - (1.0 if kind == "u" else 0.0), np.float32)
