"""Vectors and rows from other tools are imported: nothing is lost, and invalid input is refused."""

import json
import os
import pickle
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import embedx
from embedx.errors import EmbedxError, ModelError, RecipeMismatch, UsageError
from tests.helpers.commands import Capture, outcome
from tests.helpers.exports import RANDOM

COMMAND = [sys.executable, "-m", "embedx"]


MATRIX = RANDOM.standard_normal((6, 3)).astype(np.float32)


def foreign(folder: Path) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Write the same vectors in the formats of other tools, with a label and a numeric column."""
    frame = pd.DataFrame({"filename": [f"{i}.wav" for i in range(6)], "label": list("aabbcc"), "n": range(6)})
    frame.to_csv(folder / "meta.csv", index=False)
    np.save(folder / "m.npy", MATRIX.astype(np.float64))
    np.save(folder / "f.npy", np.asfortranarray(MATRIX))
    frame.assign(embedding=list(MATRIX), box=list(MATRIX[:, :2])).to_parquet(folder / "p.parquet")
    numbers = pd.DataFrame(MATRIX, columns=["v0", "v1", "v2"])
    pd.concat([frame, numbers], axis=1).to_csv(folder / "c.csv", index=False, float_format="%.9g")
    lines = [
        json.dumps(row | {"emb": vector.tolist()}) for row, vector in zip(frame.to_dict("records"), MATRIX, strict=True)
    ]
    (folder / "j.ndjson").write_text("\n".join(lines))
    index = faiss.IndexFlatL2(3)
    index.add(MATRIX)
    faiss.write_index(index, str(folder / "i.index"))
    meta = {"metadata": folder / "meta.csv"}
    return {
        "npy": (folder / "m.npy", meta),
        "fortran": (folder / "f.npy", meta),
        "faiss": (folder / "i.index", meta),
        "parquet": (folder / "p.parquet", {}),
        "csv": (folder / "c.csv", {}),
        "jsonl": (folder / "j.ndjson", {}),
        "array": (MATRIX, {"metadata": frame}),
        "lists": (MATRIX.tolist(), meta),
        "frame": (frame.assign(x=list(MATRIX)), {"vectors": "x"}),
        "columns": (pd.concat([frame, numbers], axis=1), {"vectors": ["v0", "v1", "v2"]}),
    }


@pytest.mark.parametrize(
    "name", ["npy", "fortran", "faiss", "parquet", "csv", "jsonl", "array", "lists", "frame", "columns"]
)
def test_imported_foreign_vectors_are_searched_and_filtered(name: str, tmp_path: Path) -> None:
    source, options = foreign(tmp_path)[name]
    with embedx.import_vectors(source, out=tmp_path / "c", name="theirs", **options) as collection:
        np.testing.assert_array_equal(collection.vectors(), MATRIX)
        rows = collection.rows()
        assert rows["label"].tolist() == list("aabbcc")
        assert rows["path"].tolist() == [f"{i}.wav" for i in range(6)]
        assert collection.rows(where="n >= 4").index.tolist() == [5, 6]
        assert collection.search(vector=MATRIX[3], k=1)[0].id == 4
        assert collection.search(id=2, where="label = 'c'")[0].label == "c"
        with pytest.raises(ModelError, match=r"imported.*--id"):
            collection.search(tmp_path / "meta.csv")
        assert collection.recipe.extractor == "imported"
    with embedx.import_vectors(source, out=tmp_path / "c", name="theirs", **options) as again:
        assert again.rows().index.tolist() == [1, 2, 3, 4, 5, 6]  # nothing new, so nothing is touched
    with pytest.raises(RecipeMismatch, match="'theirs'"):
        embedx.import_vectors(source, out=tmp_path / "c", name="others", **options)


def test_imported_rows_without_path_name_their_source(tmp_path: Path) -> None:
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, MATRIX)
        collection = embedx.import_vectors(tmp_path / name, out=tmp_path / "c", name="x")
    paths = collection.rows()["path"].tolist()
    assert paths[0] == f"imported:{tmp_path}/a.npy#1"
    assert len(set(paths)) == 12
    assert len(embedx.import_vectors(MATRIX + 1, out=tmp_path / "c", name="x")) == 18
    assert len(embedx.import_vectors(MATRIX + 1, out=tmp_path / "c", name="x")) == 18


def test_import_label_and_group_come_from_columns(tmp_path: Path) -> None:
    source, _ = foreign(tmp_path)["csv"]
    with embedx.import_vectors(source, out=tmp_path / "c", label="n", group="label") as collection:
        assert collection.rows()["label"].tolist() == list("012345")
        assert collection.rows()["group"].tolist() == list("aabbcc")
        assert collection.recipe.weights == "c"


def test_import_of_scattered_and_changed_windows_replaces_recording(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"path": ["a", "b", "a", "b"], "start": [0, 0, 5, 5], "end": [5, 5, 10, 10], "n": [1, 2, 3, 4]}
    )
    frame["vector"] = list(MATRIX[:4])
    with embedx.import_vectors(frame, out=tmp_path / "c", name="x") as collection:
        rows = collection.rows()
        assert rows["path"].tolist() == ["a", "a", "b", "b"]
        assert rows["duration_s"].tolist() == [5] * 4
        np.testing.assert_array_equal(collection.vectors(), MATRIX[[0, 2, 1, 3]])
    frame.loc[2, "n"] = 7
    with embedx.import_vectors(frame, out=tmp_path / "c", name="x") as collection:
        assert collection.rows()["path"].to_dict() == {3: "b", 4: "b", 5: "a", 6: "a"}
        assert collection.rows()["n"].tolist() == [2, 4, 1, 7]


@pytest.mark.long
def test_killed_import_continues(tmp_path: Path) -> None:
    matrix = np.random.default_rng(1).standard_normal((40_000, 8)).astype(np.float32)
    np.save(tmp_path / "m.npy", matrix)
    process = subprocess.Popen([*COMMAND, "import", str(tmp_path / "m.npy"), "-o", str(tmp_path / "c")])
    count = 0
    while count < 2000 and process.poll() is None:
        if (tmp_path / "c/store.db").exists():
            with embedx.open(tmp_path / "c") as collection:
                count = len(collection)
    process.kill()
    process.wait()
    with embedx.open(tmp_path / "c") as collection:
        assert 2000 <= len(collection) < 40_000
        assert len(collection) % 4096 == 0
    with embedx.import_vectors(tmp_path / "m.npy", out=tmp_path / "c") as collection:
        assert collection.rows().index.tolist() == list(range(1, 40_001))
        np.testing.assert_array_equal(collection.vectors(), matrix)


def test_import_in_float16_refuses_values_out_of_range(tmp_path: Path) -> None:
    with embedx.import_vectors(MATRIX, out=tmp_path / "c", store_dtype="float16") as collection:
        np.testing.assert_array_equal(collection.vectors(), MATRIX.astype(np.float16))
    with pytest.raises(UsageError, match=r"Row 3 .*not finite in float16"):
        embedx.import_vectors(
            np.where(np.arange(6)[:, None] == 2, 1e5, MATRIX), out=tmp_path / "d", store_dtype="float16"
        )
    with pytest.raises(UsageError, match=r"L0.given \(3\).*\(2\)"):
        embedx.import_vectors(MATRIX[:, :2], out=tmp_path / "c", store_dtype="float16")


class Payload:
    """A pickle that leaves a trace if it runs."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def bad(folder: Path) -> dict[str, Path]:
    """Write sources that cannot be imported."""
    foreign(folder)
    np.save(folder / "nan.npy", np.where(np.arange(18).reshape(6, 3) == 13, np.nan, MATRIX))
    np.save(folder / "object.npy", np.array([Payload()], object), allow_pickle=True)
    (folder / "pickle.npy").write_bytes(pickle.dumps(Payload()))
    np.save(folder / "flat.npy", MATRIX[0])
    np.save(folder / "text.npy", np.array([["a"]]))
    np.save(folder / "none.npy", MATRIX[:0])
    (folder / "cut.npy").write_bytes((folder / "m.npy").read_bytes()[:-5])
    pd.DataFrame({"a": [1], "b": ["x"]}).to_parquet(folder / "novectors.parquet")
    pd.DataFrame({"a": list(MATRIX), "b": list(MATRIX)}).to_parquet(folder / "two.parquet")
    pd.DataFrame({"vector": [[1.0, 2.0], [1.0]]}).to_parquet(folder / "widths.parquet")
    pd.DataFrame({"vector": [[1.0, 2.0], None]}).to_parquet(folder / "gap.parquet")
    (folder / "cut.parquet").write_bytes((folder / "p.parquet").read_bytes()[:-40])
    (folder / "widths.jsonl").write_text('{"vector": [1, 2]}\n{"vector": [1]}\n')
    (folder / "words.jsonl").write_text('{"vector": [1, 2]}\n{"vector": ["a", 2]}\n')
    (folder / "broken.jsonl").write_text('{"vector": [1, 2]}\n{"vector": [1\n')
    (folder / "deep.jsonl").write_text('{"vector": ' + "[" * 100_000 + "\n")
    (folder / "ragged.csv").write_text("v0,v1\n1,2\n3\n")
    (folder / "empty.csv").write_text("")
    (folder / "header.csv").write_text("v0,v1\n")
    (folder / "infinite.csv").write_text("v0,v1\n1,2\n3,inf\n")
    (folder / "long.csv").write_text("n\n" + "1\n" * 7)
    data = bytearray((folder / "i.index").read_bytes())
    data[4:8] = b"\xff\xff\xff\x7f"
    (folder / "width.faiss").write_bytes(data)
    (folder / "cut.faiss").write_bytes((folder / "i.index").read_bytes()[:-9])
    index = faiss.index_factory(3, "HNSW4")
    index.add(MATRIX)
    faiss.write_index(index, str(folder / "graph.faiss"))
    os.mkfifo(folder / "fifo.npy")
    return {}


WRONG: list[tuple[str, list[str], int, str]] = [
    ("missing.npy", [], 2, "no file or folder"),
    ("nan.npy", [], 2, "Row 5 .*not finite.*Nothing was imported"),
    ("object.npy", [], 2, "object.npy cannot be read as a .npy file of numbers"),
    ("pickle.npy", [], 2, "pickle.npy cannot be read as a .npy file of numbers"),
    ("flat.npy", [], 2, r"shape \[3\]"),
    ("text.npy", [], 2, "matrix"),
    ("none.npy", [], 8, "no rows"),
    ("cut.npy", [], 2, "cannot be read"),
    ("m.npy", ["--metadata", "long.csv"], 2, "6 vectors but more rows"),
    ("m.npy", ["--metadata", "missing.csv"], 2, "missing.csv"),
    ("m.npy", ["--vectors", "v0"], 2, "no columns"),
    ("m.npy", ["--label", "nope"], 2, "no column 'nope'"),
    ("novectors.parquet", [], 2, "No column holds vectors.*Columns: a, b"),
    ("two.parquet", [], 2, "a, b. Choose with --vectors"),
    ("p.parquet", ["--vectors", "nope"], 2, "no column nope"),
    ("p.parquet", ["--vectors", "label"], 2, "instead of numbers"),
    (
        "widths.parquet",
        ["--vectors", "vector"],
        2,
        "widths.parquet has a vector of length 1; the first row has a vector of length 2",
    ),
    ("gap.parquet", [], 2, "gap.parquet has no vector"),
    ("cut.parquet", [], 2, "cannot be read"),
    ("widths.jsonl", [], 2, "widths.jsonl has a vector of shape"),
    ("words.jsonl", ["--vectors", "vector"], 2, "Row 2 of "),
    ("broken.jsonl", [], 2, "Line 2 .*is not JSON"),
    ("deep.jsonl", [], 2, "Line 1 .*is nested deeper"),
    ("ragged.csv", [], 2, "Line 3 .*1 cell;"),
    ("empty.csv", [], 2, "is empty"),
    ("header.csv", [], 8, "no rows"),
    ("infinite.csv", [], 2, "Row 2 .*not finite"),
    ("width.faiss", [], 2, "it is damaged"),
    ("cut.faiss", [], 2, "it is damaged"),
    ("graph.faiss", [], 2, "IHNf.*reads flat indexes"),
    ("fifo.npy", [], 2, "no file or folder"),
    ("missing.csv", ["--format", "xls"], 2, "parquet"),
]


@pytest.mark.parametrize("name, options, expected, message", WRONG, ids=lambda one: one if isinstance(one, str) else "")
def test_invalid_import_source_is_refused(
    name: str,
    options: list[str],
    expected: int,
    message: str,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, text, log = outcome(capsys, "import", name, "-o", "c", *options)
    assert (code, text) == (expected, ""), log
    assert re.search(message, log, re.DOTALL), log
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / "ran").exists()


def test_malicious_recipe_or_row_is_refused(odd: Path, tmp_path: Path) -> None:
    with embedx.open(odd) as collection:
        collection.export(tmp_path / "x", format="npy")
    recipe = json.loads((tmp_path / "x/recipe.json").read_text())
    change: dict[str, Any]
    for change in (
        {"poolings": ["mean (id); DROP TABLE rows; --"]},
        {"layers": ["../.."]},
        {"layers": []},
        {"weights": 1},
    ):
        (tmp_path / "x/recipe.json").write_text(json.dumps(recipe | change))
        with pytest.raises(UsageError, match="The recipe in the file"):
            embedx.import_vectors(tmp_path / "x", out=tmp_path / "c")
    (tmp_path / "x/recipe.json").write_text(json.dumps(recipe))
    text = (tmp_path / "x/rows.csv").read_text()
    for old, new in (
        ("\n1,", "\n-1,"),
        ("\n1,", f"\n{2**63},"),
        ("\n1,", "\na,"),
        (",0.0,", ",nope,"),
        (",0.0,", ",1e9,"),
    ):
        (tmp_path / "x/rows.csv").write_text(text.replace(old, new, 1))
        with pytest.raises(UsageError, match="Row 1 is not a row"):
            embedx.import_vectors(tmp_path / "x", out=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_index_and_rows_that_do_not_match_are_refused(odd: Path, tmp_path: Path) -> None:
    with embedx.open(odd) as collection:
        collection.export(tmp_path / "x.faiss", where="id < 6")
        collection.export(tmp_path / "y.faiss", where="id > 4")
    with pytest.raises(UsageError, match="their ids differ"):
        embedx.import_vectors(tmp_path / "x.faiss", out=tmp_path / "c", metadata=tmp_path / "y.faiss.csv")


@pytest.mark.parametrize("kind", ["parquet", "faiss", "npy", "jsonl"])
def test_damaged_import_file_is_read_or_refused(kind: str, odd: Path, tmp_path: Path) -> None:
    with embedx.open(odd) as collection:
        collection.export(tmp_path / "x", format=kind)
    file = tmp_path / "x" / "L1.mean.npy" if kind == "npy" else tmp_path / "x"
    data = file.read_bytes()
    random = np.random.default_rng(3)
    refused = 0
    for i in range(60):
        changed = bytearray(data)
        changed[random.integers(len(data))] ^= 1 << random.integers(8)
        file.write_bytes(changed)
        try:
            embedx.import_vectors(tmp_path / "x", out=tmp_path / f"c{i}", format=kind).close()
        except EmbedxError:
            refused += 1
            assert not (tmp_path / f"c{i}").exists()
    assert refused > 5


def test_imported_store_is_read_by_sqlite(tmp_path: Path) -> None:
    embedx.import_vectors(MATRIX, out=tmp_path / "c", name="theirs").close()
    with sqlite3.connect(tmp_path / "c/store.db") as db:
        view, table = db.execute("SELECT name, vectors FROM views").fetchone()
        blobs = [blob for (blob,) in db.execute(f"SELECT vector FROM {table} ORDER BY id")]
    assert view == "L0.given"
    np.testing.assert_array_equal(np.stack([np.frombuffer(blob, "<f4") for blob in blobs]), MATRIX)


def test_ids_of_an_index_are_a_column(tmp_path: Path) -> None:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(3))
    index.add_with_ids(MATRIX, np.array([7, 5, 2**60, 9, 11, 13]))
    faiss.write_index(index, str(tmp_path / "i.index"))
    expected = [7, 5, 2**60, 9, 11, 13]
    with embedx.import_vectors(tmp_path / "i.index", out=tmp_path / "c") as collection:
        assert [row.meta["faiss_id"] for row in collection.store.rows()] == expected
        assert collection.rows(where="faiss_id = 9").index.tolist() == [4]
    frame = pd.DataFrame({"faiss_id": list("abcdef")})
    with embedx.import_vectors(tmp_path / "i.index", out=tmp_path / "d", metadata=frame) as collection:
        assert next(row.meta for row in collection.store.rows()) == {"faiss_id": "a", "faiss_id_": 7}
    with pytest.raises(UsageError, match="6 vectors but"):
        embedx.import_vectors(tmp_path / "i.index", out=tmp_path / "e", metadata=frame[:4])


@pytest.mark.parametrize("form", ["parquet", "npy", "hf"])
@pytest.mark.parametrize("change", [{"extractor": "evil", "source": "make"}, {"extractor": "os", "source": "abort"}])
def test_recipe_in_a_file_never_chooses_code(form: str, change: dict[str, str], odd: Path, tmp_path: Path) -> None:
    with embedx.open(odd) as collection:
        collection.export(tmp_path / "x", format=form)
    if form == "parquet":
        table = pq.read_table(tmp_path / "x")
        note = json.loads(table.schema.metadata[b"embedx"]) | change
        pq.write_table(
            table.replace_schema_metadata({**table.schema.metadata, b"embedx": json.dumps(note)}), tmp_path / "x"
        )
    else:
        file = tmp_path / "x" / {"npy": "recipe.json", "hf": "embedx.json"}[form]
        note = json.loads(file.read_text())
        file.write_text(json.dumps(note | change if form == "npy" else note | {"embedx": note["embedx"] | change}))
    with pytest.raises(EmbedxError, match=change["extractor"]):
        embedx.import_vectors(tmp_path / "x", out=tmp_path / "c", format=form)
    assert not (tmp_path / "c").exists()


def test_import_of_columns_that_collide_or_hold_files(tmp_path: Path) -> None:
    cells = pa.array(
        [{"bytes": b"x" * 100, "path": "a.wav"}] * 6, pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    )
    numbers = list(range(6))
    columns = {"audio": cells, "id": numbers, "id_": [10 * i for i in numbers], "vector": list(MATRIX)}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with embedx.import_vectors(tmp_path / "x.parquet", out=tmp_path / "c") as collection:
        rows = list(collection.store.rows())
        assert {row.path for row in rows} == {"a.wav"}
        assert [(row.meta["id__"], row.meta["id_"]) for row in rows] == [(i, 10 * i) for i in numbers]


def test_imported_label_stays_text_and_odd_values_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path;code;label;v0\n1;007;2.50;1\n2;1e5;1.0;2\n")
    with embedx.import_vectors(tmp_path / "x.csv", out=tmp_path / "c") as collection:
        assert collection.rows()["label"].tolist() == ["2.50", "1.0"]
        assert collection.rows()["path"].tolist() == ["1", "2"]
    for text, message in (
        ('{"path": {"x": 1}, "vector": [1]}', "Row 1 .*column path"),
        ('{"path": "a", "start": 2, "end": 1, "vector": [1]}', "before its start"),
        ('{"path": "a", "label": [1], "vector": [1]}', "column label"),
        ('{"path": "a", "x": ' + "[" * 200 + "]" * 200 + ', "vector": [1]}', "deeper than 100"),
    ):
        (tmp_path / "x.jsonl").write_text(text)
        with pytest.raises(UsageError, match=message):
            embedx.import_vectors(tmp_path / "x.jsonl", out=tmp_path / "d")
    np.savez(tmp_path / "x.npz", MATRIX)
    with pytest.raises(UsageError, match=r"x\.npz .*numpy\.save"):
        embedx.import_vectors(tmp_path / "x.npz", out=tmp_path / "d")


def test_odd_columns_of_a_parquet_file_are_imported_or_refused_by_name(tmp_path: Path) -> None:
    features = {"label": {"names": ["ant", "bee"], "_type": "ClassLabel"}}
    columns = {
        "path": pa.array(["a", "b"]),
        "label": pa.array([1, -1]),
        "year": pa.array([2**60, 0], pa.timestamp("us")),  # after the last year that Python has
        "vector": pa.array([[1.0, 2.0], [3.0, 4.0]]),
    }
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "x.parquet")
    with embedx.import_vectors(tmp_path / "x.parquet", out=tmp_path / "c") as collection:
        first, second = collection.store.rows()
        assert (first.label, second.label, second.meta["year"]) == ("bee", None, "1970-01-01 00:00:00.000000")
    pq.write_table(pa.Table.from_arrays([*columns.values()], ["path", "x", "x", "vector"]), tmp_path / "x.parquet")
    with pytest.raises(UsageError, match="several columns with the name 'x'"):
        embedx.import_vectors(tmp_path / "x.parquet", out=tmp_path / "d")
