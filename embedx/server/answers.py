"""Answers: rows, hits and errors as JSON, with paths relative to the source."""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from embedx.filesystem.paths import display_path, is_inside

if TYPE_CHECKING:
    from embedx.collection.collection import Collection
    from embedx.engines.collection import EngineCollection
    from embedx.search.hit import Hit
    from embedx.store.records import Row

TIMES = ("start_s", "end_s")
JSON = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a value as an answer in JSON."""
    return text_response(json_text(value), status, headers)


def text_response(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a text in JSON as an answer."""
    return Response(text.encode("ascii"), status, dict(headers or {}), "application/json")


def json_text(value: Any) -> str:
    """Return a value as JSON. It is ASCII, so that text that is not valid Unicode stays valid JSON."""
    try:
        return JSON.encode(value)
    except ValueError:
        return JSON.encode(without_nan(value))


def without_nan(value: Any) -> Any:
    """Return a value with null for every number that JSON does not have; metadata can hold NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return value


class Paths:
    """The paths of recordings as clients see them: relative to the root of the sources, and never absolute."""

    def __init__(self, collection: "Collection | EngineCollection") -> None:
        root = collection.root
        folders = dict.fromkeys(os.path.dirname(name) for name in collection.store.source_names())
        self.folders = [folder for folder in (root, *folders) if folder and folder != os.sep]
        self.version = collection.store.version

    def shown(self, path: str) -> str:
        """Return a path as it is shown."""
        for folder in self.folders:
            if is_inside(path, folder):
                return display_path(os.path.relpath(path, folder))
        return display_path(os.path.basename(path) if os.path.isabs(path) else path)

    def row(self, row: "Row") -> dict[str, Any]:
        """Return a row as JSON values."""
        return {
            "id": row.id,
            "path": self.shown(row.path),
            "start_s": row.start_s,
            "end_s": row.end_s,
            "duration_s": row.end_s - row.start_s,
            "label": row.label,
            "group": row.group,
            "split": row.split,
            "flags": list(row.flags),
            "meta": dict(row.meta),
            "recording": recording_name(row.path),
            "v": self.version,
        }

    def hit(self, hit: "Hit", vector: Sequence[float] | None = None) -> dict[str, Any]:
        """Return a hit as JSON values."""
        extra: dict[str, Any] = {} if hit.query_start_s is None else {"query_start_s": hit.query_start_s}
        if vector is not None:
            extra["vector"] = vector
        return {
            "id": hit.id,
            "score": float(hit.score),
            "path": self.shown(hit.path),
            "start_s": hit.start_s,
            "end_s": hit.end_s,
            "label": hit.label,
            "meta": dict(hit.meta),
            "recording": recording_name(hit.path),
            "v": self.version,
            **extra,
        }


def public_recipe(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a recipe, with the name of the folder of its model in place of its path."""
    source = str(fields.get("source", ""))
    return {**fields, "source": source.rstrip("/").rpartition("/")[2]} if source.startswith(("/", "~", ".")) else fields


def recording_name(path: str) -> str:
    """Return the short name of a recording in URLs, which does not show where it is."""
    return hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()


def state_of(collection: "Collection | EngineCollection") -> dict[str, int]:
    """Return the generation of the vectors and the revision of the labels that an answer is about."""
    return {"generation": collection.store.generation, "revision": collection.store.revision}


def stated_response(value: Mapping[str, Any], state: Mapping[str, int]) -> Response:
    """Return an answer about a state of a collection, with the state in the body and as ETag."""
    return json_response({**value, **state}, headers={"ETag": etag(state)})


def etag(state: Mapping[str, int]) -> str:
    """Return the ETag of a state.

    >>> etag({"generation": 12, "revision": 3})
    'W/"12.3"'
    """
    return f'W/"{state["generation"]}.{state["revision"]}"'
