"""Recipe: everything that changes a vector, and nothing else. It is stored with the vectors.

The store holds it as JSON, and search creates its embedder from it. Batch size, device and precision are not part of
it, because the vector of a clip does not depend on them.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from embedx.errors import RecipeMismatch, StoreError, UsageError


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
            return cls(**values)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"The stored recipe cannot be read ({error}). A newer version of embedx may have written it."
            ) from error

    def require_same(self, stored: "Recipe", where: str) -> None:
        """Check that vectors of this recipe can be compared with stored ones.

        Args:
            stored: the recipe of a collection.
            where: the name of the collection, for the error.

        Raises:
            RecipeMismatch: a field other than `source` differs; the message names all such fields.
        """
        mine, theirs = self._identity(), stored._identity()
        different = [name for name in mine if mine[name] != theirs[name]]
        if different:
            details = "; ".join(f"{name}: stored {theirs[name]!r}, requested {mine[name]!r}" for name in different)
            raise RecipeMismatch(
                f"{where} holds vectors of another recipe ({details}). Vectors of two recipes cannot be compared. "
                "Use the stored options, or write to another collection."
            )

    def _identity(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "source"}


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
