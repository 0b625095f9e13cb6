"""The rows of a table to import: which are in memory, and which belong to one recording."""

import tracemalloc
from pathlib import Path

import faiss
import numpy as np
import pandas as pd
import pytest

import embedx
from embedx.formats.matrices import open_npy
from embedx.formats.table import table_from_matrices
from embedx.formats.tables import open_table


def test_rows_of_one_recording_may_lie_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [f"/{i % 3}.wav" for i in range(12)]
    frame = pd.DataFrame({"path": paths, "start_s": range(12)})
    matrix = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
    expected = [(path, start) for path in ("/0.wav", "/1.wav", "/2.wav") for start in range(12) if paths[start] == path]
    for number, equal_hashes in enumerate((False, True)):  # of different paths
        if equal_hashes:
            monkeypatch.setattr("embedx.formats.importing.hash", lambda path: 0, raising=False)
        with embedx.import_vectors(matrix, metadata=frame, out=tmp_path / f"c{number}", name="m") as collection:
            rows = collection.rows()
            assert list(zip(rows["path"], rows["start_s"], strict=True)) == expected
            assert len(collection.store.recordings()) == 3
            np.testing.assert_array_equal(collection.vectors(), matrix[[int(start) for _, start in expected]])


def test_mapped_file_is_let_go_batch_by_batch(tmp_path: Path) -> None:
    file, shape = tmp_path / "m.npy", (32_768, 512)  # 67 MB of zeros: Linux can map 4 MB at a time
    np.lib.format.open_memmap(file, "w+", np.float32, shape)
    table = table_from_matrices("m", {"L0.given": open_npy(file)}, [], None)
    peaks = [
        resident_bytes(file)
        for number, (_, matrices) in enumerate(table.read())
        if matrices["L0.given"].any() or number % 8 == 0  # all vectors are read; `smaps` takes long
    ]
    assert 0 < max(peaks) < file.stat().st_size / 4


def resident_bytes(file: Path) -> int:
    """Return how much of a mapped file is in the memory of this process."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    kilobytes = 0
    for line in lines:
        if line.endswith(str(file)):
            kilobytes += int(next(part for part in lines if part.startswith("Rss:")).split()[1])
    return kilobytes * 1024


LONG_FORMS = ("csv", "parquet", "jsonl", "npy+tsv")


def write_source(folder: Path, form: str, rows: int) -> tuple[Path, Path | None]:
    """Write vectors with a long text in each row; return their file and that of the metadata."""
    matrix = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    frame = pd.DataFrame({"path": [f"{i}.wav" for i in range(rows)], "note": [f"{i:0500d}" for i in range(rows)]})
    file, metadata = folder / f"v{rows}.{form}", None
    if form in ("csv", "parquet", "jsonl"):
        frame["vector"] = [str(row) for row in matrix.tolist()] if form == "csv" else matrix.tolist()
    if form == "csv":
        frame.to_csv(file, index=False)
    elif form == "parquet":
        frame.to_parquet(file, row_group_size=512)
    elif form == "jsonl":
        frame.to_json(file, orient="records", lines=True)
    elif form == "faiss":
        index = faiss.IndexFlatIP(256)
        index.add(np.zeros((rows, 256), np.float32))
        faiss.write_index(index, str(file))
    else:
        np.save(folder / f"v{rows}.npy", matrix)
        file, metadata = folder / f"v{rows}.npy", folder / f"m{rows}.{form.removeprefix('npy+')}"
        if form == "npy+parquet":
            frame.to_parquet(metadata, row_group_size=512)
        else:
            frame.to_csv(metadata, index=False, sep="," if form == "npy+csv" else "\t")
    return file, metadata


FORMS = ["faiss", "npy+csv", "npy+parquet", *(pytest.param(form, marks=pytest.mark.long) for form in LONG_FORMS)]


@pytest.mark.parametrize("form", FORMS)
def test_memory_of_reading_does_not_grow_with_the_rows(form: str, tmp_path: Path) -> None:
    peaks = []
    for rows in (100, 2100, 6000):  # the first time, libraries are loaded
        file, metadata = write_source(tmp_path, form, rows)
        tracemalloc.start()
        table = open_table(file, None, [], metadata)
        assert sum(len(records) for records, _ in table.read()) == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1]


@pytest.mark.long
def test_memory_of_reading_a_frame_does_not_grow_with_the_rows() -> None:
    peaks = []
    for rows in (100, 2100, 6000):
        frame = pd.DataFrame({"note": range(rows), "vector": list(np.zeros((rows, 4), np.float32))})
        tracemalloc.start()
        table = open_table(frame, None, [], None)
        assert sum(len(records) for records, _ in table.read()) == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1]
