"""The engine of Qdrant inside of a test: the calls of qdrant-client that embedx makes, answered by qdrant-edge-py.

It takes the place of the local mode of qdrant-client, which has neither graphs (HNSW) nor quantized vectors.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import qdrant_edge as edge
from qdrant_client import models

INDEXED_KB = 1  # of vectors in a segment that is indexed
GRAPH = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10}


class EdgeClient:
    """A client with the collections in a folder."""

    def __init__(self, path: str) -> None:
        self.folder = Path(path)
        self._shards: dict[str, Any] = {}

    def _place(self, name: str) -> Path:
        return self.folder / name / "metadata.json"

    def shard(self, name: str) -> Any:
        """Return the open shard of a collection."""
        if name not in self._shards:
            self._shards[name] = edge.EdgeShard.load(str(self.folder / name / "shard"))
        return self._shards[name]

    def close(self) -> None:
        """Close the shards."""
        for shard in self._shards.values():
            shard.close()
        self._shards = {}

    def collection_exists(self, name: str) -> bool:
        return self._place(name).exists()

    def create_collection(
        self, name: str, *, vectors_config: dict[str, models.VectorParams], quantization_config: Any, metadata: Any
    ) -> None:
        distances = {models.Distance.DOT: edge.Distance.Dot, models.Distance.EUCLID: edge.Distance.Euclid}
        config = edge.EdgeConfig(
            {view: edge.EdgeVectorParams(one.size, distances[one.distance]) for view, one in vectors_config.items()},
            hnsw_config=edge.HnswIndexConfig(**GRAPH),
            quantization_config=quantization(quantization_config),
            optimizers=edge.EdgeOptimizersConfig(indexing_threshold=INDEXED_KB),
        )
        (self.folder / name).mkdir(parents=True)
        self._shards[name] = edge.EdgeShard.create(str(self.folder / name / "shard"), config)
        self.update_collection(name, metadata=metadata)

    def update_collection(self, name: str, *, metadata: dict[str, Any]) -> None:
        self._place(name).write_text(json.dumps(metadata))

    def create_payload_index(self, name: str, key: str, *, field_schema: models.PayloadSchemaType, wait: bool) -> None:
        kinds = {"keyword": edge.PayloadSchemaType.Keyword, "float": edge.PayloadSchemaType.Float}
        self.shard(name).update(edge.UpdateOperation.create_field_index(key, kinds[field_schema.value]))

    def get_collection(self, name: str) -> Any:
        return SimpleNamespace(config=SimpleNamespace(metadata=json.loads(self._place(name).read_text())))

    def scroll(
        self,
        name: str,
        *,
        limit: int,
        offset: int,
        with_payload: Any,
        with_vectors: Any = False,
        scroll_filter: models.Filter | None = None,
    ) -> Any:
        return self.shard(name).scroll(
            edge.ScrollRequest(offset, limit, condition(scroll_filter), with_payload, with_vectors)
        )

    def upsert(self, name: str, *, points: Sequence[models.PointStruct], wait: bool) -> None:
        rows = [edge.Point(point.id, point.vector, point.payload) for point in points]
        self.shard(name).update(edge.UpdateOperation.upsert_points(rows))

    def batch_update_points(self, name: str, *, update_operations: Sequence[Any], wait: bool) -> None:
        for operation in update_operations:
            new = operation.overwrite_payload
            self.shard(name).update(edge.UpdateOperation.overwrite_payload(new.points, new.payload))

    def delete(self, name: str, *, points_selector: models.PointIdsList, wait: bool) -> None:
        self.shard(name).update(edge.UpdateOperation.delete_points(points_selector.points))

    def count(self, name: str, *, exact: bool) -> Any:
        return SimpleNamespace(count=self.shard(name).count(edge.CountRequest(exact)))

    def query_points(
        self,
        name: str,
        *,
        query: list[float],
        using: str,
        limit: int,
        query_filter: models.Filter | None,
        search_params: models.SearchParams,
        with_payload: bool,
    ) -> Any:
        self.shard(name).optimize()  # a server does it by itself
        given = search_params.quantization
        quantized = given and edge.QuantizationSearchParams(rescore=given.rescore, oversampling=given.oversampling)
        params = edge.SearchParams(exact=bool(search_params.exact), quantization=quantized)
        request = edge.QueryRequest(
            limit, query=edge.Query.Nearest(query, using), filter=condition(query_filter), params=params
        )
        return SimpleNamespace(points=self.shard(name).query(request))

    def facet(self, name: str, *, key: str, limit: int, exact: bool) -> Any:
        return self.shard(name).facet(edge.FacetRequest(key, limit, exact))

    def retrieve(self, name: str, *, ids: list[int], with_payload: Any = True, with_vectors: Any = False) -> Any:
        return self.shard(name).retrieve(ids, with_payload, with_vectors)


def quantization(config: Any) -> Any:
    """Return the same quantization for the engine."""
    if isinstance(config, models.ScalarQuantization):
        return edge.ScalarQuantizationConfig(edge.ScalarType.Int8, always_ram=config.scalar.always_ram)
    if isinstance(config, models.BinaryQuantization):
        return edge.BinaryQuantizationConfig(always_ram=config.binary.always_ram)
    return None


def condition(given: Any) -> Any:
    """Return the same filter for the engine."""
    if isinstance(given, models.Filter):
        parts = [getattr(given, name) for name in ("must", "should", "must_not")]
        return edge.Filter(*(None if part is None else [condition(one) for one in part] for part in parts))
    if isinstance(given, models.IsEmptyCondition):
        return edge.IsEmptyCondition(given.is_empty.key)
    if isinstance(given, models.FieldCondition):
        match = None if given.match is None else edge.MatchAny(given.match.any)
        limits = given.range and edge.RangeFloat(given.range.gte, given.range.gt, given.range.lte, given.range.lt)
        return edge.FieldCondition(given.key, match=match, range=limits)
    return given
