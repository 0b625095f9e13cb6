"""Recipe: everything that changes a vector, and nothing else. It is stored with the vectors.

The store holds it as JSON, and search creates its embedder from it. Batch size, device and precision are not part of
it, because the vector of a clip does not depend on them.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any

from embedx.errors import RecipeMismatch, StoreError, UsageError

TAILS, CHANNELS, RESAMPLERS = ("keep", "pad", "drop"), ("mean", "first", "each"), ("soxr-hq",)
MIN_WINDOW_S = 0.01  # a window and a hop; shorter ones would give millions of rows for an hour of audio
MAX_WINDOW_S = 3_600  # also of a hop; the decoder's memory limit is computed from it
MAX_RECORDING_S = 1_000_000_000  # some 30 years, in practice no limit
MAX_RATE = 768_000  # Hz, the highest rate of audio interfaces
MAX_LAYER, MAX_LIST = 10_000, 1000  # published models have up to some hundred layers
MAX_TEXT = 4096  # characters; the longest path of Linux


@dataclass(frozen=True)
class Recipe:
    """How the vectors of a collection are made.

    Attributes:
        extractor: the family of the model, such as "huggingface".
        source: where the model was loaded from. It may change when a folder moves, so it does not count in comparisons.
        weights: the hash of the weights.
        sample_rate: the rate in Hz of the model's input.
        layers: the layers that are pooled.
        poolings: the poolings of each layer.
        window_s: the length of a window in seconds; None: a recording of up to `whole_s` is one window.
        whole_s: without `window_s`, a longer recording is cut into windows of 10 s.
        hop_s: seconds between the starts of two windows.
        tail: audio after the last full window: "keep" (a window that ends where the audio ends), "pad" (with zeros) or
            "drop".
        channels: "mean" of all channels, the "first", or "each" with rows of its own.
        trim_silence: drop silence at both ends.
        max_seconds: use only the first seconds of each recording.
        resampler: the resampler and its quality.
    """

    extractor: str
    source: str
    weights: str
    sample_rate: int
    layers: tuple[int, ...]
    poolings: tuple[str, ...]
    window_s: float | None = None
    whole_s: float = 60.0
    hop_s: float | None = None
    tail: str = "keep"
    channels: str = "mean"
    trim_silence: bool = False
    max_seconds: float | None = None
    resampler: str = "soxr-hq"

    @property
    def views(self) -> tuple[str, ...]:
        """The names of the stored views, one for each layer and pooling.

        >>> Recipe("logmel", "", "", 16000, (0, 6), ("mean", "max")).views
        ('L0.mean', 'L0.max', 'L6.mean', 'L6.max')
        """
        return tuple(view_name(layer, pooling) for layer in self.layers for pooling in self.poolings)

    @property
    def model(self) -> str:
        """The name to pass to `embedx.extractors.load`, if the model is still at `source`.

        >>> Recipe("yamnet", "weights/yamnet", "", 16000, (0,), ("mean",)).model
        'yamnet:weights/yamnet'
        """
        return f"{self.extractor}:{self.source}"

    @property
    def default_view(self) -> str:
        """The view that is used if none is given: the last layer with the first pooling."""
        return view_name(self.layers[-1], self.poolings[0])

    @property
    def fingerprint(self) -> str:
        """A short hash of all fields except `source`; files that are made from the vectors hold it."""
        identity = json.dumps(self._identity(), sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Return the recipe as JSON; see `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Return the recipe that `to_json` wrote.

        Raises:
            StoreError: the text is not a recipe of this version.
        """
        try:
            values = json.loads(text)
            values["layers"], values["poolings"] = tuple(values["layers"]), tuple(values["poolings"])
            recipe = cls(**values)
            invalid = [name for name, check in CHECKS.items() if not check(getattr(recipe, name))]
            if invalid:
                raise ValueError(f"{invalid[0]} is {str(getattr(recipe, invalid[0]))[:99]!r}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"The stored recipe cannot be read ({error}). A newer version of embedx may have written it."
            ) from error
        return recipe

    def require_same(self, stored: "Recipe", where: str, here: str | None = None) -> None:
        """Check that vectors of this recipe can be compared with stored ones.

        Args:
            stored: the recipe of a collection.
            where: the name of the collection, for the error.
            here: the name of the collection with this recipe; None for the options of a user.

        Raises:
            RecipeMismatch: a field other than `source` differs; the message names all such fields.
        """
        mine, theirs = self._identity(), stored._identity()
        different = [name for name in mine if mine[name] != theirs[name]]
        if different:
            owners = ("stored", "requested") if here is None else (f"in {where}", f"in {here}")
            details = "; ".join(
                f"{name}: {owners[0]} {theirs[name]!r}, {owners[1]} {mine[name]!r}" for name in different
            )
            if here is not None:
                raise RecipeMismatch(
                    f"These collections have different recipes and cannot be used together ({details})."
                )
            raise RecipeMismatch(
                f"{where} holds vectors of another recipe ({details}). Vectors of two recipes cannot be compared. "
                "Use the stored options, or write to another collection."
            )

    def _identity(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "source"}


def is_number(low: float, high: float) -> Callable[[object], bool]:
    """Return a check for numbers from `low` to `high`; it refuses NaN and True."""
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def is_name(value: object) -> bool:
    """Tell whether a value is a pooling's name; it becomes a part of file names and table names."""
    return isinstance(value, str) and re.fullmatch(r"[a-z_]{1,40}", value, re.ASCII) is not None


def is_list_of(check: Callable[[object], bool]) -> Callable[[Sequence[object]], bool]:
    """Return a check for lists whose items are valid and differ, with at least one."""
    return lambda values: 0 < len(values) <= MAX_LIST and len(set(values)) == len(values) and all(map(check, values))


def is_none_or(check: Callable[[object], bool]) -> Callable[[object], bool]:
    """Return a check that also accepts None."""
    return lambda value: value is None or check(value)


def is_text(value: object) -> bool:
    """Tell whether a value is a text of at most `MAX_TEXT` characters."""
    return isinstance(value, str) and len(value) <= MAX_TEXT


# The values that a stored recipe may have; a file from a stranger may hold any.
CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("extractor", "source", "weights"), is_text),
    "tail": lambda value: value in TAILS,
    "channels": lambda value: value in CHANNELS,
    "resampler": lambda value: value in RESAMPLERS,
    "sample_rate": lambda value: type(value) is int and 0 <= value <= MAX_RATE,
    "layers": is_list_of(lambda layer: type(layer) is int and 0 <= layer <= MAX_LAYER),
    "poolings": is_list_of(is_name),
    **dict.fromkeys(("window_s", "hop_s"), is_none_or(is_number(MIN_WINDOW_S, MAX_WINDOW_S))),
    "whole_s": is_number(MIN_WINDOW_S, MAX_WINDOW_S),
    "max_seconds": is_none_or(is_number(MIN_WINDOW_S, MAX_RECORDING_S)),
    "trim_silence": lambda value: isinstance(value, bool),
}


def is_real(value: object, kind: type = Real) -> bool:
    """Tell whether a value is a number (of a kind) of Python or NumPy, for arguments of any type."""
    return isinstance(value, kind)


def view_name(layer: int, pooling: str) -> str:
    """Return the name of a view.

    >>> view_name(12, "mean")
    'L12.mean'
    """
    return f"L{layer}.{pooling}"


def check_view(view: str, views: Iterable[str]) -> None:
    """Refuse a view that a collection does not have.

    Raises:
        UsageError: there is no such view.
    """
    names = list(views)
    if view not in names:
        raise UsageError(f"There is no view {view!r}. Views of this collection: {', '.join(names)}.")
