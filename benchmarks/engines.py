"""Measure search engines on this machine, and write the part of BENCHMARKS.md.

    make test-engines                                  once: it makes the environment with the engines
    build/engines/bin/python benchmarks/engines.py     some minutes
    build/engines/bin/python benchmarks/engines.py --rows 2000 --json

The vectors lie in clusters, and a tenth of the rows has a label. Each engine runs on this machine. The engine of
Qdrant (qdrant-edge-py) runs in the process of this script, so the memory of the push includes the memory of the engine.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from page import ROOT, commit, write_part

import embedx
from embedx.bench.speed.roofline import name_device
from embedx.engines import EngineCollection
from embedx.engines.pushing import push_rows
from embedx.index.matrix import Floats, Ids

sys.path.insert(0, str(ROOT))
from tests.helpers.processes import children
from tests.helpers.search_engines import EngineServer, ProcessServer, engine_server

DIM, CLUSTERS, SPREAD = 128, 200, 0.6
QUERIES, EXACT_QUERIES, K = 100, 20, 10
RARE = 10  # one row in 10 has the label that the filter selects
ENGINES = {  # name -> how it is shown, its quantizations, whether it compares all vectors
    "qdrant-edge": ("Qdrant's engine, in the process", (None, "int8", "binary"), True),
    "postgresql": ("PostgreSQL with pgvector", (None,), True),
    "milvus": ("Milvus Lite", (None, "int8"), False),
}
SETTLE_S = 60.0  # until an engine has built its graph


@dataclass
class Figures:
    """What was measured for an engine and a quantization; rates are per second of a processor."""

    engine: str
    quantize: str | None
    push: float
    push_mb: float
    again: float
    search: float
    filtered: float
    exact: float | None
    recall: float
    filtered_recall: float
    disk_mb: float


def main() -> None:
    """Make a collection, measure each engine, and write the part of BENCHMARKS.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        vectors, queries = make_vectors(options.rows)
        frame = pd.DataFrame({"kind": np.where(np.arange(options.rows) % RARE, "common", "rare")})
        with embedx.import_vectors(vectors, out=f"{folder}/c", metadata=frame) as collection:
            figures = list(measure_all(collection, vectors, queries))
    if options.json:
        print(json.dumps([asdict(one) for one in figures]))
    else:
        write_part("Engines", describe(figures, options.rows))


def make_vectors(rows: int) -> tuple[Floats, Floats]:
    """Return vectors [N, D] in clusters, and queries [Q, D] from the same clusters, all of length 1."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((CLUSTERS, DIM))
    x = centres[random.integers(CLUSTERS, size=rows + QUERIES)]
    x = x + SPREAD * random.standard_normal(x.shape)
    vectors: Floats = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return vectors[:rows], vectors[rows:]


def measure_all(collection: embedx.Collection, vectors: Floats, queries: Floats) -> Iterator[Figures]:
    """Yield the figures of each engine and quantization, each in a new folder."""
    for name, (_, quantizations, has_exact) in ENGINES.items():
        for quantize in quantizations:
            with engine_server(name) as server:
                yield (one := measure(collection, vectors, queries, server, (name, quantize, has_exact)))
                print(json.dumps(asdict(one)), file=sys.stderr, flush=True)


def measure(
    collection: embedx.Collection,
    vectors: Floats,
    queries: Floats,
    server: EngineServer,
    case: tuple[str, str | None, bool],
) -> Figures:
    """Push the collection to an engine, and search there."""
    name, quantize, has_exact = case
    url, before, rows = server.url.format("bench"), size_of(server.data), len(vectors)
    resident = reset_peak()
    push_s = seconds(server, lambda: push_rows(collection.folder, url, quantize=quantize))
    push_mb = (peak() - resident) / 1e6
    again_s = seconds(server, lambda: push_rows(collection.folder, url))
    settle(name, server)
    rare = np.arange(0, rows, RARE)
    with EngineCollection(url) as there:
        there.search(vector=queries[0], k=K)  # Qdrant's engine builds its graph now
        found, search_s = search(server, there, queries)
        filtered, filtered_s = search(server, there, queries, where="kind = 'rare'")
        exact_s = search(server, there, queries[:EXACT_QUERIES], exact=True)[1] if has_exact else None
    return Figures(
        name,
        quantize,
        rows / push_s,
        push_mb,
        rows / again_s,
        QUERIES / search_s,
        QUERIES / filtered_s,
        EXACT_QUERIES / exact_s if exact_s else None,
        recall_of(found, vectors, queries, np.arange(rows)),
        recall_of(filtered, vectors, queries, rare),
        (size_of(server.data) - before) / 1e6,
    )


def search(
    server: EngineServer, there: EngineCollection, queries: Floats, **options: Any
) -> tuple[list[list[int]], float]:
    """Return the ids of the hits of each query, and the processor time of all."""
    found: list[list[int]] = []

    def run() -> None:
        found.extend([hit.id for hit in there.search(vector=query, k=K, **options)] for query in queries)

    return found, seconds(server, run)


def recall_of(found: list[list[int]], vectors: Floats, queries: Floats, chosen: Ids) -> float:
    """Return the share of the true nearest of the chosen rows that were found; the id of row 0 is 1."""
    nearest = chosen[np.argsort(-queries @ vectors[chosen].T, axis=1)[:, :K]] + 1
    return sum(len({*ids} & {*true}) for ids, true in zip(found, nearest.tolist(), strict=True)) / (K * len(queries))


def settle(name: str, server: EngineServer) -> None:
    """Let Milvus write its rows and build its graph, which it does later for few rows."""
    if name != "milvus":
        return
    from pymilvus import MilvusClient

    client = MilvusClient(uri=server.url.replace("milvus", "http").replace("/{}", ""))
    client.flush("bench")
    client.close()
    end, size = time.monotonic() + SETTLE_S, -1
    while time.monotonic() < end and (size != size_of(server.data) or not list(server.data.rglob("*.idx"))):
        size = size_of(server.data)
        time.sleep(2)


def seconds(server: EngineServer, call: Callable[[], object]) -> float:
    """Return the processor time of a call, here and in the server: it depends little on what else the machine does."""
    start = processor_s(server)
    call()
    return processor_s(server) - start


def processor_s(server: EngineServer) -> float:
    """Return the processor time of this process and of the server, with all its processes, until now."""
    total, pids = time.process_time(), [server.process.pid] if isinstance(server, ProcessServer) else []
    while pids:
        pid = pids.pop()
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]  # with those of ended children
        total += sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
        pids += children(pid)
    return total


def size_of(folder: Path) -> int:
    """Return the bytes that the files in a folder take on the disk."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())


def reset_peak() -> int:
    """Return the memory of this process in bytes, and forget its peak."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """Return the largest memory of this process in bytes since `reset_peak`."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def describe(figures: list[Figures], rows: int) -> str:
    """Return the part of BENCHMARKS.md."""
    lines = [
        f"`python benchmarks/engines.py` at {commit()}, {name_device('cpu')}, 2 cores, loaded (other programs ran):",
        f"{rows:,} rows of {DIM} numbers in {CLUSTERS} clusters, cosine, {K} hits, one client. Rates are per second",
        "of a processor, of the client and the server together. Push is in rows: the first one, then one without",
        "changes. MB is the memory that the first one adds to its process. The filter meets one row in "
        f"{RARE}. Recall is",
        f"of the {K} nearest rows, over {QUERIES} queries.",
        "",
        "| engine | quantized | push | again | MB | searches | filtered | exact | recall | filtered | disk, MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in figures:
        exact = "none" if one.exact is None else f"{one.exact:.0f}"
        rates = (
            f"{one.push:.0f} | {one.again:.0f} | {one.push_mb:.0f} | {one.search:.0f} | {one.filtered:.0f} | {exact}"
        )
        lines.append(
            f"| {ENGINES[one.engine][0]} | {one.quantize or 'no'} | {rates} | {one.recall:.3f} "
            f"| {one.filtered_recall:.3f} | {one.disk_mb:.0f} |"
        )
    lines += [
        "",
        "The engine of Qdrant runs in the process, without a network: its memory is in MB, and its graph is built",
        "after the push. The others are servers on the same two cores. Milvus Lite is written in Python: its figures",
        "are not those of a Milvus server. The disk has all that an engine keeps, with its logs.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
