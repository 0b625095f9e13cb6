"""Engines: extraction in shards, here or by Ray."""

from embedx.engines.sharded import extract_shards

__all__ = ["extract_shards"]
