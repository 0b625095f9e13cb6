"""Engine: what a search engine has to do, and what embedx stores in it."""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from embedx._version import __version__
from embedx.engines.conditions import Node
from embedx.engines.places import Place
from embedx.errors import DiskError, EmbedxError, UsageError
from embedx.index.matrix import Floats, Ids
from embedx.recipe import Recipe
from embedx.search.hit import Hit

FORMAT = 1  # of the description
PLAIN = re.compile(r"[a-z][a-z0-9_]{0,39}")  # a column whose name is also the name of its field in the engine
ROW, VECTORS, META = "embedx_row", "embedx_vectors", "embedx_meta"  # fields beside the columns
QUANTIZED = ("int8", "binary")


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
        generation: the state of the store that was pushed; None until the first push is complete.
    """

    recipe: str
    views: Mapping[str, int]
    metric: str
    columns: Mapping[str, str]
    store: str
    root: str | None
    quantize: str | None
    generation: int | None

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


@dataclass(frozen=True)
class Point:
    """A row for an engine.

    Attributes:
        id: the id of the row.
        values: field -> number or text; fields without a value are left out.
        meta: the metadata as JSON; see `hit_of`.
        vectors: view -> vector [D], of length 1 for the metric cosine.
    """

    id: int
    values: Mapping[str, float | str]
    meta: str
    vectors: Mapping[str, Floats]


@dataclass(frozen=True)
class Digests:
    """The id of a row, and the digests of its metadata and of its vectors."""

    id: int
    row: str
    vectors: str


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

    def hits(self, ids: Sequence[int]) -> dict[int, Hit]:
        """Return id -> hit, with the score 0."""

    def vectors(self, view: str, ids: Sequence[int]) -> tuple[Ids, Floats]:
        """Return ids [N], ascending, and stored vectors [N, D]; ids that do not exist are left out."""

    def close(self) -> None:
        """Close the connection."""


def field_of(column: str) -> str:
    """Return the name of a column in an engine: its own, or a hash if an engine could misread it.

    >>> field_of("site"), field_of("Site name")
    ('site', 'c_c8d6d36d8a0c')
    """
    if PLAIN.fullmatch(column) and not column.startswith(("c_", "v_", "embedx_")):
        return column
    return "c_" + hashlib.blake2b(column.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def digests_of(point: Point, views: Sequence[str], dtype: str) -> Digests:
    """Return the digests of a row as an engine stores it, which can be with half precision."""
    values = {name: value if isinstance(value, str) else float(value) for name, value in point.values.items()}
    row = json.dumps([sorted(values.items()), point.meta]).encode()
    data = b"".join(np.ascontiguousarray(point.vectors[view], dtype).tobytes() for view in views)
    return Digests(point.id, digest_of(row), digest_of(data))


def hit_of(row_id: int, values: Mapping[str, Any], meta: str) -> Hit:
    """Return a hit with the score 0, from the fields of a row and its metadata."""
    stored, *special = json.loads(meta)
    path = special[0] if special else values["path"]
    return Hit(row_id, 0.0, path, float(values["start_s"]), float(values["end_s"]), values.get("label"), stored)


def digest_of(data: bytes) -> str:
    """Return the digest of some bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@contextlib.contextmanager
def engine_errors(place: Place, *kinds: type[BaseException]) -> Iterator[None]:
    """Raise errors of the library of an engine as DiskError, without the password."""
    try:
        yield
    except EmbedxError:
        raise
    except kinds as error:
        detail = " ".join(str(error).split())[:500] or type(error).__name__
        detail = detail.replace(place.password, "***") if place.password else detail
        raise DiskError(f"{place} cannot be used: {detail.rstrip('.')}. What was sent stays; run it again.") from None
