"""Measure search, and write the part of BENCHMARKS.md. `make bench` runs it; 10 minutes, and 15 GB with --million.

The vectors are random clusters from a fixed seed. The queries come from the same clusters and are not rows. Other
search libraries are measured too if they are installed, with common settings; they are not dependencies.
"""

import argparse
import importlib
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from page import commit, write_part

from embedx.bench.speed.roofline import name_device
from embedx.index.builder import IndexBuilder
from embedx.index.kinds import KINDS
from embedx.index.vector_index import VectorIndex
from embedx.index.vectors import unit
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row
from embedx.store.store import Store

Floats = NDArray[np.float32]
DIM = 768
CLUSTERS = 2000
BLOCK = 20_000
RECALL = 0.99


def clustered(rows: int, seed: int, dim: int = DIM) -> Iterator[Floats]:
    """Yield vectors in blocks: clusters in 64 of the directions, each row at a random distance, plus noise."""
    shape = np.random.default_rng(0)
    centres = shape.standard_normal((CLUSTERS, 64), dtype=np.float32)
    spread = shape.standard_normal((64, dim), dtype=np.float32)
    for block, start in enumerate(range(0, rows, BLOCK)):
        random = np.random.default_rng([seed, block])
        count = min(BLOCK, rows - start)
        places = centres[random.integers(0, CLUSTERS, count)]
        places += random.standard_normal((count, 64), dtype=np.float32) * random.uniform(0.3, 1, (count, 1))
        yield (places @ spread + random.standard_normal((count, dim), dtype=np.float32)).astype(np.float32)


def pairs(rows: int) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """Yield the rows with their ids."""
    for number, vectors in enumerate(clustered(rows, 1)):
        yield np.arange(len(vectors)) + number * BLOCK + 1, vectors


def timed(work: Callable[[], Any]) -> float:
    """Return the time that the work takes, in seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def flat_against_faiss(queries: Floats) -> Iterator[str]:
    """Yield a table of the flat index and of faiss, in alternating turns so that both meet the same load."""
    vectors = np.concatenate(list(clustered(100_000, 1)))
    ours, raw = VectorIndex.build(np.arange(len(vectors)), vectors), faiss.IndexFlatIP(DIM)
    raw.add(unit(vectors))
    prepared = unit(queries)
    works = (lambda: raw.search(prepared, 10), lambda: ours.search(queries, 10))
    runs = []
    for turn in range(11):
        order = (0, 1) if turn % 2 else (1, 0)
        taken = {which: timed(works[which]) for which in order}
        runs.append((taken[0], taken[1]))
    theirs, mine = np.min(runs, axis=0)
    ratio = np.median([own / other for other, own in runs])
    yield "| 1 000 queries over 100 000 x 768, k = 10 | s, minimum of 11 | ratio, median of 11 turns |"
    yield "|---|---|---|"
    yield f"| faiss IndexFlatIP | {theirs:.3f} | 1 |"
    yield f"| embedx, flat | {mine:.3f} | {ratio:.3f} |"


def make_collection(folder: Path, rows: int) -> None:
    """Store rows as an extraction does, ten per recording."""
    recipe = Recipe("logmel", "", "", 16_000, (0,), ("mean",))
    with Store.create(folder, recipe, DIM) as store:
        run = store.start_run({})
        for ids, vectors in pairs(rows):
            batch = []
            for start in range(0, len(ids), 10):
                name = f"/sounds/{ids[start]}.wav"
                some = [
                    (
                        Row(int(ids[i]), name, i - start, i - start + 1, None, None, None, (), {}),
                        {"L0.mean": vectors[i]},
                    )
                    for i in range(start, start + 10)
                ]
                batch.append((Recording(name, 1, 1, "[[0, null]]"), some))
            store.add(batch, run)


def cold_search(folder: Path) -> str:
    """Return a sentence with the wall time of the search command."""
    command = [sys.executable, "-m", "embedx", "search", str(folder), "--id", "77"]

    def search() -> float:
        return timed(lambda: subprocess.run(command, check=True, capture_output=True))

    first = search()  # builds the flat index
    wall = sorted(search() for _ in range(7))
    build = [*command[:3], "index", "build", str(folder), "--kind", "ivf-rabitq"]
    subprocess.run(build, check=True, capture_output=True)
    after = sorted(search() for _ in range(7))
    return (
        f"`embedx search --id` over 100 000 x 768, a new process each time (median of 7, files in the page cache): "
        f"{wall[3]:.2f} s with the flat index, with all its blocks checked; {after[3]:.2f} s with ivf-rabitq; "
        f"{first:.2f} s for the first search, which builds the flat index."
    )


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Return the share of the true ids [Q, 10] in the result."""
    return float(np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, truth, strict=True)]))


def nearest_ids(index: VectorIndex, queries: Floats) -> NDArray[np.int64]:
    """Return the ids [Q, 10] of the nearest rows."""
    return index.search(queries, 10)[1]


def line(name: str, build_s: float, octets: float, search: Callable[[Floats], Any], queries: Floats, truth: Any) -> str:
    """Return a row of the table of engines; `search` returns ids [Q, 10]."""
    found = search(queries)
    batch = min(timed(lambda: search(queries)) for _ in range(3))
    single = np.median([timed(lambda query=query: search(query[None])) for query in queries[:200]])  # type: ignore[misc]
    return (
        f"| {name} | {build_s:.0f} | {octets / 1e6:.0f} | {recall(found, truth):.4f} | {len(queries) / batch:.0f} | "
        f"{single * 1000:.2f} |"
    )


def every_kind(rows: int, queries: Floats, kinds: list[str], others: bool) -> Iterator[str]:
    """Yield a table of the kinds of index in embedx, and of other libraries."""
    yield f"| {rows} x {DIM} | build s | memory MB | recall@10 | queries/s, batch | one query, ms |"
    yield "|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            with IndexBuilder(Path(folder), "view.cosine", "cosine") as draft:
                draft.add_matrix({}, rows, DIM, pairs(rows))
                draft.add_ann_index(kind, RECALL)
                index = draft.publish()
            if kind == "flat":
                truth = index.search(queries, 10)[1]
            manifest = index.manifest
            settings = manifest.get("settings")
            name = f"embedx {kind}" + (f", {settings['10']['breadth']} wide" if settings else "")
            search = partial(nearest_ids, index)
            made = line(name, manifest["build_s"], manifest["memory_bytes"], search, queries, truth)
            print(made, settings, manifest.get("remark"), flush=True)
            yield made
    if others:
        yield from other_engines(rows, unit(queries), truth)


def other_engines(rows: int, queries: Floats, truth: NDArray[np.int64]) -> Iterator[str]:
    """Yield rows of the table for other libraries, on unit vectors in memory."""
    vectors, ids = unit(np.concatenate(list(clustered(rows, 1)))), np.arange(rows) + 1
    for spec, breadth in (("Flat", 0), ("IVF1024,SQ8", 16), ("HNSW32", 64)):
        index = faiss.index_factory(DIM, spec, faiss.METRIC_INNER_PRODUCT)
        seconds = timed(lambda: (index.train(vectors[:: max(1, rows // 50_000)]), index.add(vectors)))  # noqa: B023
        if breadth:
            name = "nprobe" if spec.startswith("IVF") else "efSearch"
            faiss.ParameterSpace().set_index_parameter(index, name, breadth)
        octets = len(faiss.serialize_index(index))
        search = partial(faiss_ids, index)
        yield line(f"faiss {spec} {breadth or ''}".strip(), seconds, octets, search, queries, truth)
    if importlib.util.find_spec("hnswlib"):
        graph = importlib.import_module("hnswlib").Index("ip", DIM)
        graph.init_index(rows, M=16, ef_construction=100)
        seconds = timed(lambda: graph.add_items(vectors, ids))
        graph.set_ef(64)
        octets = rows * (DIM * 4 + 16 * 2 * 4 + 16)
        yield line("hnswlib M16 ef 64", seconds, octets, lambda q: graph.knn_query(q, 10)[0], queries, truth)
    if importlib.util.find_spec("usearch"):
        engine = importlib.import_module("usearch.index").Index
        other = engine(ndim=DIM, metric="ip", dtype="bf16", connectivity=16, expansion_search=64)
        seconds = timed(lambda: other.add(ids, vectors))
        yield line(
            "usearch bf16 ef 64", seconds, other.memory_usage,
            lambda q: np.atleast_2d(other.search(q, 10).keys).astype(np.int64), queries, truth,
        )  # fmt: skip


def faiss_ids(index: Any, queries: Floats) -> NDArray[np.int64]:
    """Search a faiss index whose ids start at 0."""
    found: NDArray[np.int64] = index.search(queries, 10)[1] + 1
    return found


def main() -> None:
    """Measure everything, and write the part of BENCHMARKS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--million", action="store_true", help="also 1 000 000 rows, flat and ivf-rabitq")
    options = parser.parse_args()
    queries = np.concatenate(list(clustered(1000, 2)))
    parts = [
        f"Made by `python benchmarks/search.py{' --million' * options.million}` on {time.strftime('%Y-%m-%d')} at "
        f"commit {commit()}: {os.cpu_count()} cores of {name_device('cpu')}, faiss {faiss.__version__}, Python "
        f"{platform.python_version()}. Kinds are tuned to a recall of {RECALL:g}; recall is measured on 1 000 queries "
        "that are not rows. Memory is the size of the index structure; its candidates are re-ranked with the mapped "
        "vectors, which a flat search reads completely.\n",
        "## Exact search\n",
        *flat_against_faiss(queries),
        "\n## From the command line\n",
    ]
    with tempfile.TemporaryDirectory() as folder:
        make_collection(Path(folder) / "c", 100_000)
        parts.append(cold_search(Path(folder) / "c"))
    print("\n".join(parts), flush=True)
    parts += ["\n## Kinds\n", *every_kind(100_000, queries, list(KINDS), others=True)]
    if options.million:
        parts += ["", *every_kind(1_000_000, queries, ["flat", "ivf-rabitq"], others=False)]
    print("\n".join(parts))
    write_part("Search", "\n".join(parts))


if __name__ == "__main__":
    main()
