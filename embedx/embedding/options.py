"""EmbeddingOptions: how vectors are asked to be made, in the words of a user -> an embedder, which knows the recipe."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypedDict

from embedx import extractors
from embedx._version import __version__
from embedx.audio.windows import CHANNELS, TAILS
from embedx.errors import UsageError
from embedx.extractors.fingerprint import stamp
from embedx.extractors.loading import gc_paused
from embedx.recipe import Recipe

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

WHOLE_S = 60.0  # up to here a recording is one row when no window is asked for: attention is quadratic in time


@dataclass(frozen=True)
class EmbeddingOptions:
    """The arguments of `embedx.extract` that say how vectors are made; see there.

    Raises:
        UsageError: an argument cannot be meant. What only the model knows is seen when it is loaded.
    """

    model: str = "logmel"
    layers: str | int | Sequence[int] = "last"
    pooling: str | Sequence[str] = "mean"
    window: float | None = None
    hop: float | None = None
    tail: str = "keep"
    channels: str = "mean"
    trim_silence: bool = False
    max_seconds: float | None = None
    device: str = "auto"
    precision: str = "auto"
    backend: str = "auto"
    batch_seconds: float | None = None
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        for name, value, most in (
            ("window", self.window, 3600),
            ("hop", self.hop, 3600),
            ("max_seconds", self.max_seconds, 1e9),
        ):
            if value is not None and not 0.01 <= value <= most:
                raise UsageError(f"{name} is in seconds, from 0.01 to {most:g}, not {value}.")
        if self.hop is not None and self.window is None:
            raise UsageError("hop says how far apart windows start: give a window too.")
        check_choice("tail", self.tail, TAILS)
        check_choice("channels", self.channels, CHANNELS)

    def fingerprint(self) -> str | None:
        """Return a hash of all that is asked, of the model's files as they lie there, and of the version of embedx.

        The same mark gives the same recipe, so that it can be known without loading the model. None where the files
        of the model cannot be seen.

        Raises:
            ModelError: the name cannot be a model.
        """
        files = stamp(self.model)
        if files is None:
            return None
        asked = json.dumps([asdict(self), files, __version__], sort_keys=True, default=str)
        return hashlib.sha256(asked.encode()).hexdigest()[:16]

    @gc_paused()
    def load(self) -> "Embedder":
        """Load the model, and return an embedder with the recipe that was asked for.

        Raises:
            UsageError: the model has no such layer or pooling, or cannot hear so long a window.
            ModelError: the model cannot be loaded.
        """
        from embedx.embedding.embedder import Embedder, pick_layers, pick_poolings

        poolings = pick_poolings(self.pooling)
        extractor = extractors.load(self.model, allow_pickle=self.allow_pickle, backend=self.backend)
        longest = None if extractor.max_samples is None else extractor.max_samples / extractor.sample_rate
        whole_s = WHOLE_S if longest is None else min(WHOLE_S, longest)
        if longest is not None and self.window is not None and self.window > whole_s:
            raise UsageError(f"This model hears {whole_s:g} s at most, so a window cannot be {self.window:g} s long.")
        family, place = extractors.resolve(self.model)
        recipe = Recipe(
            extractor=family,
            source=place,
            weights=extractor.weights,
            sample_rate=extractor.sample_rate,
            layers=pick_layers(self.layers, extractor.layers),
            poolings=poolings,
            window_s=self.window,
            whole_s=whole_s,
            hop_s=self.window if self.hop is None else self.hop,
            tail=self.tail,
            channels=self.channels,
            trim_silence=self.trim_silence,
            max_seconds=self.max_seconds,
        )
        return Embedder(
            extractor,
            recipe,
            device=self.device,
            precision=self.precision,
            batch_seconds=self.batch_seconds,
            model=self.model,
            allow_pickle=self.allow_pickle,
        )


class EmbeddingKwargs(TypedDict, total=False):
    """The fields of `EmbeddingOptions` as keywords."""

    model: str
    layers: str | int | Sequence[int]
    pooling: str | Sequence[str]
    window: float | None
    hop: float | None
    tail: str
    channels: str
    trim_silence: bool
    max_seconds: float | None
    device: str
    precision: str
    backend: str
    batch_seconds: float | None
    allow_pickle: bool


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a word that is none of those allowed."""
    if value not in allowed:
        raise UsageError(f"{name} is one of {', '.join(allowed)}, not {value!r}.")
