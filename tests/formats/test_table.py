"""The rows of a table to import: which are in memory, and which belong to one recording."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import embedx
from embedx.formats.matrices import open_npy
from embedx.formats.table import table_from_matrices


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
