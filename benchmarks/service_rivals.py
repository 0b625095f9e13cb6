"""The application that benchmarks/service.py compares `embedx serve` with: another engine behind the same FastAPI.

`python service_rivals.py ENGINE FOLDER PORT` stores FOLDER/vectors.npy in the engine, unless FOLDER has it already, and
answers `POST /search` with {"id": ...} or {"vector": base64}. It imports nothing of embedx, so that it can run in an
environment of its own: pip install fastapi uvicorn chromadb qdrant-client.
"""

import base64
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

BLOCK = 2000
LIMIT = 10
Query = Callable[[Any, int], list[dict[str, Any]]]


class Body(BaseModel):
    """A search by a row or by a vector."""

    id: int | None = None
    vector: str | None = None


def payload(number: int) -> dict[str, Any]:
    """Return what a hit shows beside its score."""
    return {"path": f"/sounds/{number}.wav", "start_s": float(number % 10), "end_s": float(number % 10 + 1)}


def chroma(vectors: Any, folder: Path) -> tuple[Query, Callable[[int], Any]]:
    """Return a search in Chroma with an HNSW index for the cosine, and a function that returns the vector of a row."""
    client = importlib.import_module("chromadb").PersistentClient(path=str(folder))
    rows = client.get_or_create_collection("rows", metadata={"hnsw:space": "cosine"})
    for start in range(rows.count(), len(vectors), BLOCK):
        numbers = range(start, min(start + BLOCK, len(vectors)))
        rows.add(
            ids=list(map(str, numbers)),
            embeddings=vectors[start : start + BLOCK],
            metadatas=list(map(payload, numbers)),
        )

    def search(vector: Any, limit: int) -> list[dict[str, Any]]:
        found = rows.query(query_embeddings=[vector], n_results=limit, include=["distances", "metadatas"])
        triples = zip(found["ids"][0], found["distances"][0], found["metadatas"][0], strict=True)
        return [{"id": int(number), "score": 1 - distance, **meta} for number, distance, meta in triples]

    return search, lambda number: rows.get(ids=[str(number)], include=["embeddings"])["embeddings"][0]


def qdrant(vectors: Any, folder: Path) -> tuple[Query, Callable[[int], Any]]:
    """Return a search in the local mode of qdrant-client, which compares all vectors, and the same second function."""
    library = importlib.import_module("qdrant_client")
    client = library.QdrantClient(":memory:")
    kinds = library.models
    size = kinds.VectorParams(size=vectors.shape[1], distance=kinds.Distance.COSINE)
    client.create_collection("rows", vectors_config=size)
    for start in range(0, len(vectors), BLOCK):
        numbers = range(start, min(start + BLOCK, len(vectors)))
        points = [kinds.PointStruct(id=number, vector=vectors[number], payload=payload(number)) for number in numbers]
        client.upsert("rows", points)

    def search(vector: Any, limit: int) -> list[dict[str, Any]]:
        points = client.query_points("rows", query=vector, limit=limit, with_payload=True).points
        return [{"id": point.id, "score": point.score, **point.payload} for point in points]

    return search, lambda number: client.retrieve("rows", ids=[number], with_vectors=True)[0].vector


def make_app(search: Query, vector_of: Callable[[int], Any]) -> FastAPI:
    """Return an application with one route; its function runs in a thread, as FastAPI does by default."""
    app = FastAPI()

    @app.post("/search")
    def answer(body: Body) -> dict[str, Any]:
        if body.id is None:
            vector = np.frombuffer(base64.b64decode(body.vector or ""), "<f4")
            return {"hits": search(vector, LIMIT)}
        hits = search(vector_of(body.id), LIMIT + 1)
        return {"hits": [hit for hit in hits if hit["id"] != body.id][:LIMIT]}

    return app


def main() -> None:
    """Store the vectors, and answer."""
    engine, folder, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    vectors = np.load(folder / "vectors.npy")
    search, vector_of = {"chroma": chroma, "qdrant": qdrant}[engine](vectors, folder / engine)
    uvicorn.run(make_app(search, vector_of), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
