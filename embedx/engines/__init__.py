"""Engines: extraction in shards, here or by Ray; collections in search engines, Qdrant, pgvector and Milvus."""

from embedx.engines.collection import EngineCollection
from embedx.engines.sharded import extract_shards

__all__ = ["EngineCollection", "extract_shards"]
