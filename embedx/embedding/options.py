"""EmbeddingOptions: the options of a user that say how vectors are made -> an embedder with its recipe."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypedDict

from embedx import extractors
from embedx._version import __version__
from embedx.arguments.types import Device, ModelName
from embedx.errors import UsageError
from embedx.extractors.fingerprint import fingerprint_model, pin_revision
from embedx.extractors.loading import gc_paused
from embedx.recipe import CHANNELS, MAX_RECORDING_S, MAX_WINDOW_S, MIN_WINDOW_S, TAILS, Recipe, is_real

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder
    from embedx.extractors.base import Extractor

WHOLE_S = 60.0  # without a window, a recording of up to this length is one row: attention is quadratic in time


@dataclass(frozen=True)
class EmbeddingOptions:
    """The arguments of `embedx.extract` that say how vectors are made.

    Raises:
        UsageError: an argument is invalid. What depends on the model is checked when the model is loaded.
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
    trust_model: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.model, (str, os.PathLike)):
            raise UsageError(f"model is the name of a model or a folder, such as 'logmel', not {self.model!r}.")
        object.__setattr__(self, "model", os.fspath(self.model))
        object.__setattr__(self, "device", str(self.device))  # of a torch.device too
        for name, value, longest in (
            ("window", self.window, MAX_WINDOW_S),
            ("hop", self.hop, MAX_WINDOW_S),
            ("max_seconds", self.max_seconds, MAX_RECORDING_S),
        ):
            if value is not None and not (is_real(value) and MIN_WINDOW_S <= value <= longest):
                raise UsageError(f"{name} must be from {MIN_WINDOW_S} to {longest} seconds, not {value!r}.")
        if self.hop is not None and self.window is None:
            raise UsageError("--hop (hop=) requires --window (window=): give the length of a window in seconds.")
        check_choice("tail", self.tail, TAILS)
        check_choice("channels", self.channels, CHANNELS)

    @property
    def trusted_model(self) -> str | None:
        """The name of the model if the user gave it, else None."""
        return self.model if self.trust_model else None

    def fingerprint(self) -> str | None:
        """Return a hash of the options, the state of the model's files, and the version of embedx.

        Equal fingerprints give equal recipes, so a run with nothing to do need not load the model. None if the files
        of the model are not known.

        Raises:
            ModelError: the name of the model is invalid.
        """
        files = fingerprint_model(self.model)
        if files is None:
            return None
        options = {field.name: getattr(self, field.name) for field in fields(EmbeddingOptions)}  # not of subclasses
        del options["trust_model"]
        options["model"] = ":".join(extractors.resolve(self.model))
        text = json.dumps([options, files, __version__], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @gc_paused()
    def load(self) -> "Embedder":
        """Load the model, and return an embedder with the recipe for these options.

        Raises:
            UsageError: the model has no such layer or pooling, or its maximum input is shorter than the window.
            ModelError: the model cannot be loaded.
        """
        from embedx.embedding.embedder import pick_poolings

        pick_poolings(self.pooling)  # an unknown one is refused before the model is loaded
        return self.make_embedder(self.load_extractor())

    def load_extractor(self) -> "Extractor":
        """Load the model; see `load`."""
        return extractors.load(
            self.model, backend=self.backend, allow_pickle=self.allow_pickle, trusted=self.trust_model
        )

    def make_recipe(self, extractor: "Extractor") -> Recipe:
        """Return the recipe for these options and their model.

        Raises:
            UsageError: see `load`.
        """
        from embedx.embedding.embedder import pick_layers, pick_poolings

        max_s = None if extractor.max_samples is None else extractor.max_samples / extractor.sample_rate
        whole_s = WHOLE_S if max_s is None else min(WHOLE_S, max_s)
        if max_s is not None and self.window is not None and self.window > whole_s:
            raise UsageError(f"window={self.window:g} exceeds the model's maximum input of {whole_s:g} s.")
        family, location = pin_revision(self.model)
        return Recipe(
            extractor=family,
            source=location,
            weights=extractor.weights,
            sample_rate=extractor.sample_rate,
            layers=pick_layers(self.layers, extractor.layers),
            poolings=pick_poolings(self.pooling),
            window_s=self.window,
            whole_s=whole_s,
            hop_s=self.window if self.hop is None else self.hop,
            tail=self.tail,
            channels=self.channels,
            trim_silence=self.trim_silence,
            max_seconds=self.max_seconds,
        )

    def make_embedder(self, extractor: "Extractor") -> "Embedder":
        """Return an embedder of the loaded model with the recipe for these options; see `load`."""
        from embedx.embedding.embedder import Embedder

        return Embedder(
            extractor,
            self.make_recipe(extractor),
            device=self.device,
            precision=self.precision,
            batch_seconds=self.batch_seconds,
            model=self.model,
            allow_pickle=self.allow_pickle,
            trusted=self.trust_model,
        )


class CutKwargs(TypedDict, total=False):
    """The fields of `EmbeddingOptions` that say how audio is cut, as keywords."""

    window: float | None
    hop: float | None
    tail: str
    channels: str
    trim_silence: bool
    max_seconds: float | None


class WindowKwargs(CutKwargs, total=False):
    """Those, and the fields that say where the model runs."""

    device: Device
    precision: str
    backend: str
    batch_seconds: float | None
    allow_pickle: bool
    trust_model: bool


class EmbeddingKwargs(WindowKwargs, total=False):
    """The fields of `EmbeddingOptions` as keywords."""

    model: ModelName
    layers: str | int | Sequence[int]
    pooling: str | Sequence[str]


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise UsageError unless a value is one of those allowed."""
    if value not in allowed:
        raise UsageError(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
