"""Connect to the search engine of a URL."""

from embedx.engines.engine import Engine
from embedx.engines.places import MILVUS, POSTGRES, parse_place


def connect(text: str) -> Engine:
    """Return the engine of a URL.

    Raises:
        UsageError: the URL cannot be used, or a package is missing.
        DiskError: the engine cannot be reached.
    """
    place = parse_place(text)
    if place.scheme == POSTGRES:
        from embedx.engines.postgres import PostgresEngine

        return PostgresEngine(place)
    if place.scheme == MILVUS:
        from embedx.engines.milvus import MilvusEngine

        return MilvusEngine(place)
    from embedx.engines.qdrant import QdrantEngine

    return QdrantEngine(place)
