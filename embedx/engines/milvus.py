"""Milvus: one collection with a vector field for each view; the metadata is in dynamic fields.

Milvus compares texts by their case, and LIKE does not, so a text with capital letters has a second field in small
letters. The beginning of a text is a range of texts: no sign in it has a special meaning then.
"""

import importlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embedx.engines.conditions import LOWER, Comparison, IsNull, Junction, Node, Prefix
from embedx.engines.engine import Description, EngineBase
from embedx.engines.places import Place
from embedx.engines.stored import (
    META,
    ROW,
    ROW_FIELDS,
    VECTORS,
    Digests,
    Point,
    digests_of_stored,
    field_of,
    fields_of,
    row_of,
    view_field,
)
from embedx.errors import UsageError
from embedx.index.matrix import Floats, Ids
from embedx.store.records import Row

DESCRIPTION = "embedx"  # property of the collection
KEY = "embedx_id"  # the primary key; the column id is a dynamic field as the other columns
LOWERED = "embedx_lower_"  # before the name of a field: its text in small letters
METRICS = {"cosine": "IP", "ip": "IP", "l2": "L2"}  # vectors for cosine have length 1
GRAPH = {"M": 16, "efConstruction": 200}
REFINED = {"sq_type": "SQ8", "refine": True, "refine_type": "FP32"}  # Milvus Lite does not rank again
REFINE_K = 3.0  # candidates per hit that are ranked again with full vectors, if the vectors are quantized
MIN_EF = 100  # candidates of a search in the graph
TIMEOUT_S = 120  # of a request
QUIET = {  # servers close connections that ask every 10 s whether they are still there, as pymilvus does
    "grpc.keepalive_time_ms": 300_000,
    "grpc.keepalive_permit_without_calls": False,
}
MAX_TEXT = 65_535  # bytes of a text field
SIGNS = {"=": "==", "<>": "!="}
SURROGATES = range(0xD800, 0xE000)  # no characters
FIRST_AFTER, LAST = chr(0xE000), chr(0x10FFFF)


class MilvusEngine(EngineBase):
    """A collection of a Milvus server.

    Raises:
        UsageError: pymilvus is not installed.
        DiskError: the server cannot be reached.
    """

    dtype = "<f4"

    def __init__(self, place: Place) -> None:
        super().__init__(place, "pymilvus", "milvus")
        self.name = place.name
        grpc = importlib.import_module("grpc")
        self.kinds = (self.library.MilvusException, grpc.RpcError, OSError)
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs the errors that it raises, with their trace
        scheme = "https" if place.options.get("tls") == "1" else "http"
        with self._errors():
            self.client: Any = self.library.MilvusClient(
                uri=f"{scheme}://{place.host}:{place.port or 19530}",
                token=f"{place.user}:{place.password}" if place.user else place.password,
                db_name=place.options.get("database", ""),
                timeout=TIMEOUT_S,
                grpc_options=QUIET,
            )

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def describe(self) -> str | None:
        """Return the description; None if there is no collection of this name."""
        with self._errors():
            if not self.client.has_collection(self.name):
                return None
            return str(self.client.describe_collection(self.name).get("properties", {}).get(DESCRIPTION, ""))

    def prepare(self, description: Description) -> None:
        """Make the collection with its indexes if there is none, and write the description; see `Engine.prepare`.

        Raises:
            UsageError: the quantization is one that Milvus does not have.
        """
        if description.quantize not in (None, "int8"):
            raise UsageError("--quantize binary is for Qdrant. Milvus takes --quantize int8.")
        with self._errors():
            if not self.client.has_collection(self.name):
                self._create(description)
            self.client.load_collection(self.name)
        self.finish(description)

    def _create(self, description: Description) -> None:
        types, indexes = self.library.DataType, self.client.prepare_index_params()
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=True)
        schema.add_field(KEY, types.INT64, is_primary=True)
        for name in (ROW, VECTORS, META):
            schema.add_field(name, types.VARCHAR, max_length=MAX_TEXT)
        kind, options = ("HNSW_SQ", REFINED) if description.quantize else ("HNSW", {})
        for view, dim in description.views.items():
            schema.add_field(view_field(view), types.FLOAT_VECTOR, dim=dim)
            metric = METRICS[description.metric]
            indexes.add_index(view_field(view), kind, metric_type=metric, params={**GRAPH, **options})
        properties = {DESCRIPTION: description.to_json()}
        self.client.create_collection(
            self.name, schema=schema, index_params=indexes, consistency_level="Strong", properties=properties
        )

    def finish(self, description: Description) -> None:
        """Write the description; Milvus makes its indexes itself."""
        with self._errors():
            self.client.alter_collection_properties(self.name, properties={DESCRIPTION: description.to_json()})

    def scan(self, after: int, limit: int, views: Sequence[str], *, whole: bool) -> list[Digests]:
        """Return the rows with the next larger ids; see `Engine.scan`."""
        rows = self._page("", after, limit, ["*"] if whole else [ROW, VECTORS])
        if not whole:
            return [Digests(row[KEY], row[ROW], row[VECTORS]) for row in rows]
        return [self._digests_of(row, views) for row in rows]

    def _digests_of(self, row: Mapping[str, Any], views: Sequence[str]) -> Digests:
        """Return the digests of what is stored now."""
        fields = {
            name: value
            for name, value in row.items()
            if name != KEY and not name.startswith((LOWERED, "v_")) and value is not None
        }
        vectors = {view: row.get(view_field(view)) for view in views}
        return digests_of_stored(row[KEY], fields, vectors, views, self.dtype)

    def _page(self, where: str, after: int, limit: int, names: list[str]) -> list[dict[str, Any]]:
        """Return rows with the next larger ids; only an iterator of Milvus returns them in the order of ids."""
        condition = f"{KEY} > {after}" + (f" and ({where})" if where else "")
        with self._errors():
            pages = self.client.query_iterator(
                self.name, batch_size=limit, limit=limit, filter=condition, output_fields=names
            )
            try:
                return list(pages.next())
            finally:
                pages.close()

    def write(self, points: Sequence[Point]) -> None:
        """Insert rows, or replace those with the same ids; Milvus Lite would keep fields that a new row lacks."""
        if existing := [row[KEY] for row in self._get([point.id for point in points], [])]:
            self.delete(existing)
        rows = []
        for point in points:
            lowered = {
                LOWERED + name: small
                for name, text in point.values.items()
                if isinstance(text, str) and (small := text.translate(LOWER)) != text
            }
            vectors = {view_field(view): vector.tolist() for view, vector in point.vectors.items()}
            rows.append({KEY: point.id, **fields_of(point, self.dtype), **lowered, **vectors})
        with self._errors():
            self.client.upsert(self.name, rows)

    def relabel(self, points: Sequence[Point]) -> None:
        """Replace the metadata of rows that exist, which Milvus does with their vectors."""
        self.write(points)

    def delete(self, ids: Sequence[int]) -> None:
        """Delete rows."""
        with self._errors():
            self.client.delete(self.name, ids=list(ids))

    def count(self) -> int:
        """Return the exact number of rows."""
        with self._errors():
            return int(self.client.query(self.name, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def search(
        self, description: Description, view: str, query: Floats, k: int, where: Node | None, *, exact: bool
    ) -> tuple[list[float], list[int]]:
        """Return the nearest rows to a vector; see `Engine.search`.

        Raises:
            UsageError: the search is exact, which Milvus is not.
        """
        if exact:
            raise UsageError("Milvus cannot compare all vectors. Leave out --exact; `embedx verify` gives the recall.")
        params = {"ef": max(MIN_EF, k)} | ({"refine_k": REFINE_K} if description.quantize else {})
        with self._errors():
            (found,) = self.client.search(
                self.name,
                [query.tolist()],
                anns_field=view_field(view),
                limit=k,
                filter="" if where is None else translate(where),
                search_params={"params": params},
            )
        scores = [float(hit["distance"]) for hit in found]
        if description.metric == "l2":  # Milvus returns the square of the distance
            scores = [-math.sqrt(max(0.0, score)) for score in scores]
        return scores, [int(hit[KEY]) for hit in found]

    def ids(self, where: Node | None, after: int, limit: int) -> list[int]:
        """Return the next larger ids of the rows that meet a condition; see `Engine.ids`."""
        condition = "" if where is None else translate(where)
        return [row[KEY] for row in self._page(condition, after, limit, [KEY])]

    def _get(self, ids: Sequence[int], names: Sequence[str]) -> list[dict[str, Any]]:
        with self._errors():
            rows = self.client.get(self.name, list(ids), output_fields=[KEY, *names]) if ids else []
        return sorted(rows, key=lambda row: int(row[KEY]))

    def rows(self, ids: Sequence[int]) -> list[Row]:
        """Return rows in the order of their ids; ids that do not exist are left out."""
        return [row_of(row[KEY], row) for row in self._get(ids, ROW_FIELDS)]

    def vectors(self, view: str, ids: Sequence[int]) -> tuple[Ids, Floats]:
        """Return ids [N], ascending, and stored vectors [N, D]; ids that do not exist are left out."""
        rows = self._get(ids, [view_field(view)])
        vectors = [row[view_field(view)] for row in rows]
        return np.array([row[KEY] for row in rows], np.int64), np.array(vectors, np.float32)


def translate(node: Node) -> str:
    """Return a condition as an expression of Milvus. A field without a value is left out, and meets no comparison."""
    if isinstance(node, Junction):
        return (" or " if node.is_any else " and ").join(f"({translate(part)})" for part in node.parts)
    name = field_of(node.column)
    field, has_value = f'$meta["{name}"]', f'exists $meta["{name}"]'
    if isinstance(node, IsNull):
        return has_value if node.negated else f"not ({has_value})"
    if isinstance(node, Comparison):
        return f"{has_value} and {field} {SIGNS.get(node.operator, node.operator)} {literal(node.value)}"
    if isinstance(node, Prefix):
        lower = f'$meta["{LOWERED}{name}"]'
        begins, lower_begins = (begins_with(one, node.prefix) for one in (field, lower))
        if node.negated:
            return f"{has_value} and not ({begins}) and (not (exists {lower}) or not ({lower_begins}))"
        return f"{has_value} and (({begins}) or (exists {lower} and {lower_begins}))"
    return f"{has_value} and {'not ' if node.negated else ''}({one_of(field, node.values)})"


def one_of(field: str, values: Sequence[float | str]) -> str:
    """Return the condition that a field is one of some values, with few parentheses inside each other.

    >>> one_of("x", (1.0, 2.0))
    '(x == 1.0) or (x == 2.0)'
    """
    if len(values) == 1:
        return f"{field} == {literal(values[0])}"
    middle = len(values) // 2
    return f"({one_of(field, values[:middle])}) or ({one_of(field, values[middle:])})"


def literal(value: float | str) -> str:
    """Return a value as Milvus reads it."""
    return json.dumps(value, ensure_ascii=False)


def begins_with(field: str, prefix: str) -> str:
    """Return a condition for texts that begin with another: those from it to the first text after all of them."""
    limits = [f"{field} >= {literal(prefix)}"]
    kept = prefix.rstrip(LAST)
    if kept:
        following = chr(ord(kept[-1]) + 1)
        limits.append(f"{field} < {literal(kept[:-1] + (FIRST_AFTER if ord(following) in SURROGATES else following))}")
    return " and ".join(limits)
