"""Qdrant: one collection with a named vector for each view; the metadata is the payload of the points."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedx.engines.conditions import COMPARE, LOWER, MAX_EXACT, Comparison, IsNull, Junction, Node, OneOf, Prefix
from embedx.engines.engine import Description, EngineBase
from embedx.engines.places import Place
from embedx.engines.stored import ROW, VECTORS, Digests, Point, digests_of_stored, field_of, fields_of, row_of
from embedx.errors import UsageError
from embedx.index.matrix import Floats, Ids
from embedx.store.records import Row

DESCRIPTION = "embedx"  # key in the metadata of the collection
TIMEOUT_S = 120  # of a request: a server that builds indexes can be slow
MAX_DISTINCT = 10_000  # values of a column that are compared here, because Qdrant compares texts only for equality
OVERSAMPLING = {"int8": 3.0, "binary": 20.0}  # candidates per hit that are ranked again with the full vectors
RANGES = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


class QdrantEngine(EngineBase):
    """A collection of a Qdrant server, or with an empty host a folder of the local mode of qdrant-client.

    Raises:
        UsageError: qdrant-client is not installed.
        DiskError: the server cannot be reached.
    """

    dtype = "<f4"

    def __init__(self, place: Place) -> None:
        super().__init__(place, "qdrant_client", "qdrant")
        self.models = self.library.models
        self.name = place.path.rpartition("/")[2]
        self.kinds = (self.library.http.exceptions.ApiException, RuntimeError, ValueError, OSError)
        with self._errors():
            if not place.host:
                self.client: Any = self.library.QdrantClient(path=str(Path(place.path).parent))
            else:
                scheme = "https" if place.options.get("tls") == "1" else "http"
                self.client = self.library.QdrantClient(
                    url=f"{scheme}://{place.host}:{place.port or 6333}",
                    api_key=place.password or None,
                    timeout=TIMEOUT_S,
                    check_compatibility=False,
                )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        with super()._errors(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of qdrant-client: a key without TLS, and large local collections
            yield

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def describe(self) -> str | None:
        """Return the description; None if there is no collection of this name."""
        with self._errors():
            if not self.client.collection_exists(self.name):
                return None
            return str((self.client.get_collection(self.name).config.metadata or {}).get(DESCRIPTION, ""))

    def prepare(self, description: Description) -> None:
        """Make the collection if there is none, and write the description; see `Engine.prepare`."""
        models = self.models
        with self._errors():
            if not self.client.collection_exists(self.name):
                distance = models.Distance.EUCLID if description.metric == "l2" else models.Distance.DOT
                self.client.create_collection(
                    self.name,
                    vectors_config={
                        view: models.VectorParams(size=dim, distance=distance)
                        for view, dim in description.views.items()
                    },
                    quantization_config=self._quantization(description.quantize),
                    metadata={DESCRIPTION: description.to_json()},
                )
            self._write_description(description)
            for column, kind in description.columns.items():  # before the rows: the graph then has links for filters
                schema = models.PayloadSchemaType.FLOAT if kind == "number" else models.PayloadSchemaType.KEYWORD
                self.client.create_payload_index(self.name, field_of(column), field_schema=schema, wait=True)

    def finish(self, description: Description) -> None:
        """Write the description; Qdrant makes its indexes itself."""
        with self._errors():
            self._write_description(description)

    def _write_description(self, description: Description) -> None:
        self.client.update_collection(self.name, metadata={DESCRIPTION: description.to_json()})

    def _quantization(self, quantize: str | None) -> Any:
        models = self.models
        if quantize == "int8":
            scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
            return models.ScalarQuantization(scalar=scalar)
        if quantize == "binary":
            return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
        return None

    def scan(self, after: int, limit: int, views: Sequence[str], *, whole: bool) -> list[Digests]:
        """Return the rows with the next larger ids; see `Engine.scan`."""
        with self._errors():
            records, _ = self.client.scroll(
                self.name,
                limit=limit,
                offset=after + 1,
                with_payload=True if whole else [ROW, VECTORS],
                with_vectors=list(views) if whole else False,
            )
        if not whole:
            return [
                Digests(record.id, *(str(record.payload.get(name)) for name in (ROW, VECTORS))) for record in records
            ]
        return [digests_of_stored(one.id, one.payload, one.vector or {}, views, self.dtype) for one in records]

    def write(self, points: Sequence[Point]) -> None:
        """Insert rows, or replace those with the same ids."""
        structs = [
            self.models.PointStruct(
                id=point.id,
                vector={view: vector.tolist() for view, vector in point.vectors.items()},
                payload=payload_of(point, self.dtype),
            )
            for point in points
        ]
        with self._errors():
            self.client.upsert(self.name, points=structs, wait=True)

    def relabel(self, points: Sequence[Point]) -> None:
        """Replace the payload of rows that exist."""
        models = self.models
        operations = [
            models.OverwritePayloadOperation(
                overwrite_payload=models.SetPayload(payload=payload_of(point, self.dtype), points=[point.id])
            )
            for point in points
        ]
        with self._errors():
            self.client.batch_update_points(self.name, update_operations=operations, wait=True)

    def delete(self, ids: Sequence[int]) -> None:
        """Delete rows."""
        with self._errors():
            self.client.delete(self.name, points_selector=self.models.PointIdsList(points=list(ids)), wait=True)

    def count(self) -> int:
        """Return the exact number of rows."""
        with self._errors():
            return int(self.client.count(self.name, exact=True).count)

    def search(
        self, description: Description, view: str, query: Floats, k: int, where: Node | None, *, exact: bool
    ) -> tuple[list[float], list[int]]:
        """Return the nearest rows to a vector; see `Engine.search`."""
        models = self.models
        quantization = None
        if description.quantize:
            oversampling = OVERSAMPLING[description.quantize]
            quantization = models.QuantizationSearchParams(rescore=True, oversampling=oversampling)
        with self._errors():
            answer = self.client.query_points(
                self.name,
                query=query.tolist(),
                using=view,
                limit=k,
                query_filter=None if where is None else self.translate(where),
                search_params=models.SearchParams(exact=exact, quantization=quantization),
                with_payload=False,
            )
        sign = -1.0 if description.metric == "l2" else 1.0
        return [sign * float(point.score) for point in answer.points], [int(point.id) for point in answer.points]

    def translate(self, node: Node) -> Any:
        """Return a condition as a filter of Qdrant.

        Raises:
            UsageError: it compares the order or the beginning of texts in a column with too many values.
        """
        models = self.models
        if isinstance(node, Junction):
            parts = [self.translate(part) for part in node.parts]
            return models.Filter(should=parts) if node.is_any else models.Filter(must=parts)
        field = field_of(node.column)
        empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=field))
        if isinstance(node, IsNull):
            return models.Filter(must_not=[empty]) if node.negated else models.Filter(must=[empty])
        if isinstance(node, Comparison) and node.operator not in ("=", "<>"):
            if node.is_number:
                limits = models.Range(**{RANGES[node.operator]: node.value})
                return models.Filter(must=[models.FieldCondition(key=field, range=limits)])
            compare, limit = COMPARE[node.operator], str(node.value).encode()
            return self._any_of(field, [text for text in self._texts(node.column) if compare(text.encode(), limit)])
        if isinstance(node, Prefix):
            texts = self._texts(node.column)
            return self._any_of(field, [t for t in texts if t.translate(LOWER).startswith(node.prefix) != node.negated])
        values = node.values if isinstance(node, OneOf) else (node.value,)
        negated = node.negated if isinstance(node, OneOf) else node.operator == "<>"
        if node.is_number:
            each = [models.FieldCondition(key=field, range=models.Range(gte=value, lte=value)) for value in values]
        else:
            each = [models.FieldCondition(key=field, match=models.MatchAny(any=list(values)))]
        return models.Filter(must_not=[empty, *each]) if negated else models.Filter(should=each)

    def _any_of(self, field: str, texts: list[str]) -> Any:
        match = self.models.MatchAny(any=texts)
        return self.models.Filter(must=[self.models.FieldCondition(key=field, match=match)])

    def _texts(self, column: str) -> list[str]:
        """Return the different values of a column of texts."""
        with self._errors():
            counts = self.client.facet(self.name, key=field_of(column), limit=MAX_DISTINCT + 1, exact=True).hits
        if len(counts) > MAX_DISTINCT:
            raise UsageError(
                f"Qdrant cannot compare the order or the beginning of texts, and {column} has more than {MAX_DISTINCT} "
                f"different ones. Use = or IN with {column}, or a condition on another column."
            )
        return [str(count.value) for count in counts]

    def _records(self, ids: Sequence[int], **options: Any) -> list[Any]:
        with self._errors():
            return sorted(self.client.retrieve(self.name, ids=list(ids), **options), key=lambda record: record.id)

    def ids(self, where: Node | None, after: int, limit: int) -> list[int]:
        """Return the next larger ids of the rows that meet a condition; see `Engine.ids`."""
        condition = None if where is None else self.translate(where)
        with self._errors():
            records, _ = self.client.scroll(
                self.name, scroll_filter=condition, offset=after + 1, limit=limit, with_payload=False
            )
        return [record.id for record in records]

    def rows(self, ids: Sequence[int]) -> list[Row]:
        """Return rows in the order of their ids; ids that do not exist are left out."""
        return [row_of(record.id, record.payload) for record in self._records(ids)]

    def vectors(self, view: str, ids: Sequence[int]) -> tuple[Ids, Floats]:
        """Return ids [N], ascending, and stored vectors [N, D]; ids that do not exist are left out."""
        records = self._records(ids, with_payload=False, with_vectors=[view])
        vectors = [record.vector[view] for record in records]
        return np.array([record.id for record in records], np.int64), np.array(vectors, np.float32)


def payload_of(point: Point, dtype: str) -> dict[str, Any]:
    """Return the fields of a row, whole numbers without a point: qdrant-edge misreads 9007199254740991.0."""

    def without_point(value: Any) -> Any:
        is_whole = isinstance(value, float) and value != 0 and value.is_integer() and abs(value) <= MAX_EXACT
        return int(value) if is_whole else value

    return {name: without_point(value) for name, value in fields_of(point, dtype).items()}
