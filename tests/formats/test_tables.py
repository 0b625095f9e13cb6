"""A source of vectors is opened as a table, or refused by name."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import embedx
from embedx.errors import NothingToDo, UsageError
from embedx.formats.importing import ImportedRecordings, imported_recipe
from embedx.formats.tables import open_table
from embedx.store.store import Store
from tests.helpers.exports import RANDOM

MATRIX = RANDOM.standard_normal((6, 3)).astype(np.float32)


def write_tables(folder: Path) -> None:
    """Write the same vectors as CSV, JSON lines, Parquet and .npy, and their rows as CSV."""
    frame = pd.DataFrame({"path": [f"{i}.wav" for i in range(6)], "n": range(6)})
    frame.to_csv(folder / "meta.csv", index=False)
    np.save(folder / "m.npy", MATRIX)
    whole = frame.assign(vector=MATRIX.tolist())
    whole.to_parquet(folder / "p.parquet")
    whole.to_json(folder / "j.jsonl", orient="records", lines=True)
    pd.concat([frame, pd.DataFrame(MATRIX).add_prefix("v")], axis=1).to_csv(folder / "c.csv", index=False)


def change(file: Path, how: str) -> None:
    """Change a file as another program would."""
    content = file.read_bytes()
    if how == "appended":
        file.write_bytes(content + content[content.rindex(b"\n", 0, -1) + 1 :])
    elif how == "replaced":
        (file.parent / "new").write_bytes(content)
        (file.parent / "new").replace(file)
    elif how == "cut":
        os.truncate(file, len(content) - 10)
    else:
        file.unlink()


@pytest.mark.parametrize("how", ["appended", "replaced", "cut", "removed"])
@pytest.mark.parametrize("name", ["c.csv", "j.jsonl", "p.parquet", "m.npy", "meta.csv"])
def test_file_that_changes_during_its_import_is_refused_by_name(name: str, how: str, tmp_path: Path) -> None:
    write_tables(tmp_path)
    source = tmp_path / ("m.npy" if name == "meta.csv" else name)
    metadata = tmp_path / "meta.csv" if source.suffix == ".npy" else None
    recordings = ImportedRecordings(open_table(source, None, [], metadata), None, None, "float32")
    change(tmp_path / name, how)
    with Store.create(tmp_path / "c", imported_recipe("x"), 3, "float32") as store:
        with pytest.raises(UsageError, match=f"{re.escape(str(tmp_path / name))} was changed while it was imported"):
            recordings.store_in(store)
        assert store.count() == 0


def test_collection_and_url_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with embedx.import_vectors(MATRIX, out=tmp_path / "c", name="x"):
        pass
    with pytest.raises(UsageError, match=r"is a collection.*embedx merge"):
        embedx.import_vectors(tmp_path / "c", out=tmp_path / "d")
    with pytest.raises(UsageError, match=r"reads files of this machine, not the URL s3://b/x\.parquet"):
        embedx.import_vectors("s3://b/x.parquet", out=tmp_path / "d")
    with pytest.raises(UsageError, match=r"not the URL https://h/m\.csv\?Signature=\*\*\*"):
        embedx.import_vectors(MATRIX, out=tmp_path / "d", metadata="https://h/m.csv?Signature=abc")
    with pytest.raises(UsageError, match=r"is a folder without an export of embedx.*embedx extract"):
        embedx.import_vectors(tmp_path, out=tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_column_that_begins_late_in_json_lines_is_stored(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [{"path": f"{i}.wav", "vector": [i, 1]} for i in range(600)]
    lines[-1] |= {"site": "B", "id": 9, "flags": "x"}
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with embedx.import_vectors(tmp_path / "a.jsonl", out=tmp_path / "c") as collection:
        assert collection.rows(where="site = 'B'")[["id_", "flags_"]].values.tolist() == [[9, "x"]]
        assert len(collection.rows(where="site IS NULL")) == 599


@pytest.mark.parametrize("other", [None, 0.5])
def test_large_whole_number_beside_a_gap_or_a_fraction_is_returned_exactly(other: float | None, tmp_path: Path) -> None:
    lines = [{"path": str(value), "vector": [1], "n": value} for value in (2**53 + 1, other)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with embedx.import_vectors(tmp_path / "a.jsonl", out=tmp_path / "c") as collection:
        assert set(collection.rows()["n"]) == {2**53 + 1, other}


def test_error_of_a_vector_names_the_file_and_the_row(tmp_path: Path) -> None:
    vectors = [[1.0, 2.0], [1.0, None], [1.0, 2.0, 3.0], None]
    for row in (1, 2, 3):
        frame = pd.DataFrame({"path": ["a", "b"], "vector": [vectors[0], vectors[row]]})
        frame.to_parquet(tmp_path / "a.parquet")
        frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
        for name in ("a.parquet", "a.jsonl"):
            with pytest.raises(UsageError, match=rf"Row 2 of .*{name} has .*Nothing was imported\. Correct"):
                embedx.import_vectors(tmp_path / name, out=tmp_path / "c", vectors="vector")


def test_parquet_file_without_rows_has_nothing_to_import(tmp_path: Path) -> None:
    kind = pa.list_(pa.float32())
    pq.write_table(pa.table({"path": pa.array([], pa.string()), "v": pa.array([], kind)}), tmp_path / "a.parquet")
    with pytest.raises(NothingToDo, match="has no rows"):
        embedx.import_vectors(tmp_path / "a.parquet", out=tmp_path / "c")
