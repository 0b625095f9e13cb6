"""Stored: what a row is in a search engine: its fields, its digests, and the row that is read back."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embedx.index.matrix import Floats
from embedx.store.reading import split_flags
from embedx.store.records import Row

PLAIN = re.compile(r"[a-z][a-z0-9_]{0,39}")  # a column whose name is also the name of its field in the engine
ROW, VECTORS, META = "embedx_row", "embedx_vectors", "embedx_meta"  # fields beside the columns
ROW_FIELDS = ("path", "start_s", "end_s", "label", "group", "split", "flags", META)  # what `row_of` reads


@dataclass(frozen=True)
class Point:
    """A row for an engine.

    Attributes:
        id: the id of the row.
        values: field -> number or text; fields without a value are left out.
        meta: the metadata as JSON; see `row_of`.
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


def field_of(column: str) -> str:
    """Return the name of a column in an engine: its own, or a hash if an engine could misread it.

    >>> field_of("site"), field_of("Site name")
    ('site', 'c_c8d6d36d8a0c')
    """
    if PLAIN.fullmatch(column) and not column.startswith(("c_", "v_", "embedx_")):
        return column
    return "c_" + hashlib.blake2b(column.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def view_field(view: str) -> str:
    """Return the name of a view in an engine that takes no dots: it is one that no column of the metadata has.

    >>> view_field("L12.mean")
    'v_L12_mean'
    """
    return "v_" + view.replace(".", "_")


def digests_of(point: Point, views: Sequence[str], dtype: str) -> Digests:
    """Return the digests of a row as an engine stores it, which can be with half precision."""
    values = {name: value if isinstance(value, str) else float(value) for name, value in point.values.items()}
    row = json.dumps([sorted(values.items()), point.meta]).encode()
    data = b"".join(np.ascontiguousarray(point.vectors[view], dtype).tobytes() for view in views)
    return Digests(point.id, digest_of(row), digest_of(data))


def digests_of_stored(
    row_id: int, fields: Mapping[str, Any], vectors: Mapping[str, Any], views: Sequence[str], dtype: str
) -> Digests:
    """Return the digests of what an engine holds now; they are empty if a vector or the metadata is missing.

    Args:
        row_id: the id of the row.
        fields: its fields with a value, with those of embedx.
        vectors: view -> vector [D].
        views: the views that were pushed.
        dtype: how the engine stores vectors.
    """
    values = {name: value for name, value in fields.items() if name not in (ROW, VECTORS, META)}
    try:
        arrays = {view: np.asarray(vectors[view], np.float32) for view in views}
        return digests_of(Point(row_id, values, fields[META], arrays), views, dtype)
    except (KeyError, TypeError, ValueError):
        return Digests(row_id, "", "")


def fields_of(point: Point, dtype: str) -> dict[str, Any]:
    """Return the fields of a row: its values, its metadata and its digests."""
    digests = digests_of(point, list(point.vectors), dtype)
    return {**point.values, META: point.meta, ROW: digests.row, VECTORS: digests.vectors}


def row_of(row_id: int, fields: Mapping[str, Any]) -> Row:
    """Return a row from its fields: `ROW_FIELDS`, without those that have no value."""
    meta, *special = json.loads(fields[META])
    path = special[0] if special else fields["path"]
    label, group, split = (fields.get(name) for name in ("label", "group", "split"))
    flags = split_flags(fields.get("flags") or "")
    return Row(row_id, path, float(fields["start_s"]), float(fields["end_s"]), label, group, split, flags, meta)


def digest_of(data: bytes) -> str:
    """Return the digest of some bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
