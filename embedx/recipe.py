"""Recipe: everything that changes a vector, and nothing else. It travels with the data.

The store keeps it as JSON; search builds its embedder from it. Batch size, device and precision are no part of
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

    `extractor` is the family ("huggingface"), `weights` the hash of its numbers; together they are its identity.
    `source` says where it was loaded from, and may change when a folder moves.
    """

    extractor: str
    source: str
    weights: str
    sample_rate: int  # Hz, what the extractor hears
    layers: tuple[int, ...]
    poolings: tuple[str, ...]
    window_s: float | None = None  # None: the whole recording, if it is not longer than
    whole_s: float = 60.0  # this; a longer one is cut into windows of 10 s
    hop_s: float | None = None
    tail: str = "keep"  # "keep": the last window ends where the audio ends; "pad" with zeros; or "drop"
    channels: str = "mean"  # of all channels, or the "first", or "each" with rows of its own
    trim_silence: bool = False  # at both ends
    max_seconds: float | None = None  # of each recording, from its start
    resampler: str = "soxr-hq"

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the stored views, one for each layer and pooling.

        >>> Recipe("logmel", "", "", 16000, (0, 6), ("mean", "max")).views
        ('L0.mean', 'L0.max', 'L6.mean', 'L6.max')
        """
        return tuple(view_name(layer, pooling) for layer in self.layers for pooling in self.poolings)

    @property
    def model(self) -> str:
        """The name that `embedx.extractors.load` knows the extractor by, if it lies where it was.

        >>> Recipe("yamnet", "weights/yamnet", "", 16000, (0,), ("mean",)).model
        'yamnet:weights/yamnet'
        """
        return f"{self.extractor}:{self.source}"

    @property
    def default_view(self) -> str:
        """The view that search and probe take when none is named: last layer, first pooling."""
        return view_name(self.layers[-1], self.poolings[0])

    @property
    def fingerprint(self) -> str:
        """A short hash of the identity, for files that are derived from the vectors."""
        identity = json.dumps(self._identity(), sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Return the recipe as JSON; `from_json` is the way back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read what `to_json` wrote.

        Raises:
            StoreError: the text is no recipe of this version.
        """
        try:
            values = json.loads(text)
            values["layers"], values["poolings"] = tuple(values["layers"]), tuple(values["poolings"])
            return cls(**values)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"The stored recipe cannot be read ({error}); a newer embedx may have made it.") from error

    def require_same(self, stored: "Recipe", where: str) -> None:
        """Refuse to mix vectors of two recipes.

        Raises:
            RecipeMismatch: the identities differ; the message names every differing field.
        """
        mine, theirs = self._identity(), stored._identity()
        different = [name for name in mine if mine[name] != theirs[name]]
        if different:
            details = "; ".join(f"{name}: stored {theirs[name]!r}, asked {mine[name]!r}" for name in different)
            raise RecipeMismatch(
                f"{where} holds vectors of another recipe ({details}). "
                "Vectors of two recipes cannot be compared: repeat the stored options, or name another collection."
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
