"""Memory: what is done with a whole collection never holds all of its vectors."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import faiss  # noqa: F401 -- so that its import is not measured
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

import embedx
from embedx.cli.status import describe

ROWS, DIM = 512, 2048
VECTORS_BYTES = 4 * ROWS * DIM  # 4.2 MB
BLOCK = 32  # rows in memory at a time: 0.3 MB
BLOCKS = {
    "store.checksums.BLOCK": BLOCK,
    "store.reading.BLOCK": BLOCK,
    "formats.selection.MAX_BATCH_ROWS": BLOCK,
    "formats.importing.COMMIT_ROWS": BLOCK,
    "formats.table.BATCH_ROWS": BLOCK,
    "formats.arrow.BATCH_ROWS": BLOCK,
    "index.matrix.BLOCK": BLOCK // 8,
    "index.exact.CHUNK": BLOCK,
    "index.builder.TEST_QUERIES": BLOCK,
    "index.matrix.MAX_LOADED_BYTES": 0,  # as for an index that is too large to be kept in memory
}
QUERY = np.ones(DIM, np.float32)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a matrix, a table of the same vectors with metadata, and the collection of the table."""
    folder = tmp_path_factory.mktemp("memory")
    matrix = np.random.default_rng(0).standard_normal((ROWS, DIM), dtype=np.float32)
    np.save(folder / "m.npy", matrix)
    vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(matrix.ravel()), DIM)
    paths = pyarrow.array([f"/{i // 8}.wav" for i in range(ROWS)])
    columns = {"path": paths, "start_s": pyarrow.array([i % 8 for i in range(ROWS)]), "vector": vectors}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "m.parquet", row_group_size=BLOCK)
    embedx.import_vectors(folder / "m.parquet", out=folder / "c").close()
    return folder


def act(name: str) -> Callable[[Path, Path], object]:
    """Return a function that calls a method of the collection in a folder."""

    def call(source: Path, out: Path) -> object:
        with embedx.open(source / "c") as collection:
            return ACTIONS[name](collection, out)

    return call


ACTIONS: dict[str, Callable[[embedx.Collection, Path], object]] = {
    "index": lambda collection, out: collection.build_index(kind="flat"),
    "exact search": lambda collection, out: collection.search(vector=QUERY, exact=True),
    "filtered search": lambda collection, out: collection.search(vector=QUERY, where="start_s < 4"),
    "status": lambda collection, out: describe(collection),
    "verify": lambda collection, out: collection.verify(),
    "label": lambda collection, out: collection.label(set={"label": "a"}, where="id < 20"),
    "remove": lambda collection, out: collection.remove(f"id = {ROWS}"),
    "npy": lambda collection, out: collection.export(out / "x", format="npy"),
    "faiss": lambda collection, out: collection.export(out / "x.faiss"),
}
STEPS = {
    "import npy": lambda source, out: embedx.import_vectors(source / "m.npy", out=out / "c").close(),
    "import parquet": lambda source, out: embedx.import_vectors(source / "m.parquet", out=out / "c").close(),
    **{name: act(name) for name in ACTIONS},
}


FAST = ("import parquet", "verify", "filtered search", "status")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.long) for name in STEPS])
def test_step_never_holds_all_vectors(name: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, value in BLOCKS.items():
        monkeypatch.setattr(f"embedx.{place}", value)
    tracemalloc.start()
    try:
        STEPS[name](source, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < VECTORS_BYTES / 2


def test_frame_of_all_rows_needs_no_more_than_its_columns(source: Path) -> None:
    with embedx.open(source / "c") as collection:
        tracemalloc.start()
        try:
            frame = collection.rows()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert isinstance(frame, pd.DataFrame)
    assert peak / len(frame) < 600  # bytes per row; its values alone are 200
