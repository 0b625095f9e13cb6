"""Quantized vectors take less space in an engine, and a search finds the same rows."""

from pathlib import Path

import numpy as np
import pytest

import embedx
from embedx.engines.collection import EngineCollection
from embedx.engines.comparison import compare
from embedx.engines.pushing import push_rows
from embedx.errors import UsageError
from tests.helpers.processes import wait_until
from tests.helpers.search_engines import EngineServer, engine_server

ROWS, DIM = 4000, 64
BYTES = {("qdrant-edge", "int8"): DIM + 4, ("qdrant-edge", "binary"): 2 * DIM / 8}  # of a quantized vector
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> embedx.Collection:
    random = np.random.default_rng(0)
    centres = random.standard_normal((40, DIM))
    x = centres[random.integers(40, size=ROWS)] + 0.6 * random.standard_normal((ROWS, DIM))
    return embedx.import_vectors(x.astype(np.float32), out=tmp_path_factory.mktemp("quantized") / "c")


def index_bytes(server: EngineServer, url: str) -> int:
    """Return the size of the quantized vectors of Qdrant, or of the graph of Milvus with its vectors."""
    ending = "quantized.data" if url.startswith("qdrant") else "*.idx"
    return sum(file.stat().st_size for file in server.data.rglob(f"{Path(url).name}/**/{ending}"))


def build_graph(server: EngineServer, url: str) -> None:
    """Let Milvus build the graph, which it does later for so few rows, and wait for it."""
    from pymilvus import MilvusClient

    client = MilvusClient(uri=url.replace("milvus", "http").rpartition("/")[0])
    client.flush(url.rpartition("/")[2])
    client.close()
    wait_until(lambda: index_bytes(server, url))


@pytest.mark.parametrize(
    ("engine", "quantize"), [("qdrant-edge", "int8"), ("qdrant-edge", "binary"), ("milvus", "int8")]
)
def test_quantized_vectors_are_smaller_and_find_the_same(
    clustered: embedx.Collection, engine: str, quantize: str
) -> None:
    with engine_server(engine) as server:
        plain, small = server.url.format("plain"), server.url.format("small")
        push_rows(clustered.folder, plain)
        push_rows(clustered.folder, small, quantize=quantize)
        for url in (plain, small) if engine == "milvus" else ():
            build_graph(server, url)
        recall = compare(clustered.folder, small).recall["L0.given"]
        assert recall >= 0.9
        assert compare(clustered.folder, small).is_same  # the full vectors are there too
        with EngineCollection(small) as there:
            hits = there.search(id=7, k=5)
        expected = clustered.search(id=7, k=5)
        assert hits[0].id == expected[0].id
        assert hits[0].score == pytest.approx(expected[0].score, abs=1e-2 if engine == "milvus" else 1e-4)
        before, size = index_bytes(server, plain), index_bytes(server, small)
        if engine == "milvus":
            assert 0 < size < 0.6 * before
        else:
            assert (before, size) == (0, ROWS * BYTES[engine, quantize])
        with pytest.raises(UsageError, match="the quantization"):
            push_rows(clustered.folder, plain, quantize=quantize)


@pytest.mark.parametrize(
    ("engine", "quantize"), [("postgresql", "int8"), ("postgresql", "binary"), ("milvus", "binary")]
)
def test_quantization_that_an_engine_lacks_is_refused(clustered: embedx.Collection, engine: str, quantize: str) -> None:
    with engine_server(engine) as server, pytest.raises(UsageError, match="--quantize"):
        push_rows(clustered.folder, server.url.format("x"), quantize=quantize)
