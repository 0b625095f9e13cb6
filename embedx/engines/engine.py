"""Engine: what a search engine has to do, and the description of what was pushed to it."""

import contextlib
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from embedx._version import __version__
from embedx.engines.conditions import Node
from embedx.engines.places import Place
from embedx.engines.stored import Digests, Point
from embedx.errors import DiskError, EmbedxError, UsageError
from embedx.index.matrix import Floats, Ids
from embedx.recipe import Recipe
from embedx.store.records import Row

FORMAT = 1  # of the description
QUANTIZED = ("int8", "binary")
COLUMNS = {  # column of every row -> what it holds; those of the metadata are added
    "id": "number",
    "path": "text",
    "start_s": "number",
    "end_s": "number",
    "duration_s": "number",
    "label": "text",
    "group": "text",
    "split": "text",
    "flags": "text",
}


@dataclass(frozen=True)
class Description:
    """What an engine holds: it stands in the metadata of the collection there.

    Attributes:
        recipe: the recipe of the vectors, with the hash of the weights, as JSON.
        views: name -> dimension of the views there.
        metric: "cosine", "ip" or "l2"; for cosine the vectors there have length 1.
        columns: column -> "number" or "text".
        store: the id of the store that was pushed.
        root: the folder of the sources; None if there is none.
        quantize: "int8", "binary" or None.
        generation: the state of the vectors that was pushed; None until the first push is complete.
        revision: the state of the labels that was pushed.
        recordings, hours: the recordings of the rows, and their length.
    """

    recipe: str
    views: Mapping[str, int]
    metric: str
    columns: Mapping[str, str]
    store: str
    root: str | None
    quantize: str | None
    generation: int | None
    revision: int = 0
    recordings: int = 0
    hours: float = 0.0

    def to_json(self) -> str:
        """Return the description as JSON; see `from_json`."""
        return json.dumps({"format": FORMAT, "embedx": __version__, **asdict(self)})

    @classmethod
    def from_json(cls, text: str | None, place: Place) -> "Description":
        """Return the description that `to_json` wrote.

        Raises:
            UsageError: embedx has not written it, or only a newer version.
        """
        try:
            content = json.loads(text or "")
            version = content.pop("format")
            content.pop("embedx")
            if version <= FORMAT:
                description = cls(**content)
                Recipe.from_json(description.recipe)
                return description
        except (ValueError, TypeError, KeyError, AttributeError, EmbedxError):
            raise UsageError(f"{place} was not made by `embedx push`, or is damaged. Give another name.") from None
        raise UsageError(f"{place} was pushed by a newer embedx. Update embedx.")


class Engine(Protocol):
    """A collection in a search engine. Every method raises DiskError if the engine cannot be reached or refuses it."""

    place: Place
    dtype: str  # of the stored vectors

    def describe(self) -> str | None:
        """Return the description; None if there is no collection of this name."""

    def prepare(self, description: Description) -> None:
        """Make the collection, or add columns that it lacks, and write the description."""

    def finish(self, description: Description) -> None:
        """Write the description, and make the indexes that searches need."""

    def scan(self, after: int, limit: int, views: Sequence[str], *, whole: bool) -> list[Digests]:
        """Return the rows with the next larger ids, ascending; `whole` makes the digests from what is stored now."""

    def write(self, points: Sequence[Point]) -> None:
        """Insert rows, or replace those with the same ids."""

    def relabel(self, points: Sequence[Point]) -> None:
        """Replace the metadata of rows that exist."""

    def delete(self, ids: Sequence[int]) -> None:
        """Delete rows."""

    def count(self) -> int:
        """Return the exact number of rows."""

    def search(
        self, description: Description, view: str, query: Floats, k: int, where: Node | None, *, exact: bool
    ) -> tuple[list[float], list[int]]:
        """Return the scores and ids of the k nearest rows to a vector [D], best first."""

    def ids(self, where: Node | None, after: int, limit: int) -> list[int]:
        """Return the next larger ids of the rows that meet a condition, ascending."""

    def rows(self, ids: Sequence[int]) -> list[Row]:
        """Return rows in the order of their ids; ids that do not exist are left out."""

    def vectors(self, view: str, ids: Sequence[int]) -> tuple[Ids, Floats]:
        """Return ids [N], ascending, and stored vectors [N, D]; ids that do not exist are left out."""

    def close(self) -> None:
        """Close the connection."""


class EngineBase:
    """What the engines share: the place, and the errors of their libraries as errors of embedx.

    Args:
        place: the place of the collection.
        library: the library of the engine.
        extra: the extra of embedx that installs it.

    Raises:
        UsageError: the library is not installed.
    """

    def __init__(self, place: Place, library: str, extra: str) -> None:
        self.place = place
        self.kinds: tuple[type[BaseException], ...] = (OSError,)
        try:
            self.library: Any = importlib.import_module(library)
        except ImportError as error:
            raise UsageError(
                f"{place.scheme}:// needs {library.replace('_', '-')}, which is not installed: "
                f"pip install 'embedx[{extra}]'"
            ) from error

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise errors of the library as DiskError, without the password."""
        try:
            yield
        except EmbedxError:
            raise
        except self.kinds as error:
            detail = " ".join(str(error).split())[:500] or type(error).__name__
            if self.place.password:
                detail = detail.replace(self.place.password, "***")
            raise DiskError(
                f"{self.place} cannot be used: {detail.rstrip('.')}. What was sent stays; run it again."
            ) from None
