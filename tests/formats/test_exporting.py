"""Exports that other tools open, and vectors from elsewhere: nothing is lost, nothing runs, nothing half is left."""

import csv
import json
import os
import pickle
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import faiss
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import embedx
from embedx.cli import run
from embedx.errors import EmbedxError, ModelError, NothingToDo, RecipeMismatch, UsageError
from embedx.formats.columns import escape_path, from_cell, to_cell, unescape_path
from embedx.formats.registry import FORMATS
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row
from embedx.store.store import Store

Capture = pytest.CaptureFixture[str]
OTHERS = ("parquet", "npy", "jsonl", "hf")  # formats that hold several views
COMMAND = [sys.executable, "-m", "embedx"]
RECIPE = Recipe("logmel", "", "", 16_000, (0, 1), ("mean",))
RANDOM = np.random.default_rng(0)
PATHS = ["/a/one.wav", "/a/one.wav", os.fsdecode(b"/a/caf\xe9\xff.wav"), "/a/=cmd\n.wav", "/a/back\\x41slash.wav"]
METAS: list[dict[str, Any]] = [
    {"site": "A", "fold": 1, "mixed": 1, "level": 0.5, "tags": ["a", ["b", None]], "night": True, "L0.mean": "x"},
    {"site": "'tis", "fold": 2, "mixed": "1", "level": None, "tags": [], "night": False, "v0": "=1+1"},
    {"site": "=HYPERLINK(1)", "fold": None, "mixed": [1], "level": 2, "tags": None, "night": None, "vector": "-"},
    {"site": "12", "fold": 4, "mixed": None, "level": 1e-300, "tags": [1], "night": True, "text": "a,\"b\"\r\n\tc"},
    {"site": "null", "fold": 2**60, "mixed": True, "level": -1.5, "tags": [{"k": 2}], "night": True, "none": None},
]  # fmt: skip


def fill(folder: Path, paths: list[str], metas: list[dict[str, Any]], dim: int = 4, labels: Any = "=dog") -> Path:
    """Make a collection of rows with two views; every other id is left out, as where rows were deleted."""
    with Store.create(folder, RECIPE, dim) as store:
        batch: dict[str, list[Any]] = {}
        for i, (path, meta) in enumerate(zip(paths, metas, strict=True)):
            row = Row(2 * i + 1, path, i / 3, i + 0.5, labels, None if i % 2 else "g", "train", ("silent",), meta)
            vectors = {view: RANDOM.standard_normal(dim).astype(np.float32) for view in RECIPE.views}
            batch.setdefault(path, []).append((row, vectors))
        store.add([(Recording(path, 1, 1, "[]"), rows) for path, rows in batch.items()], store.start_run({}))
    return folder


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    return fill(tmp_path / "odd", PATHS, METAS)


def outcome(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    code = run([str(one) for one in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def facts(collection: embedx.Collection) -> list[tuple[Any, ...]]:
    """Return all that a row is but its id; a missing value and None are the same."""
    return [
        (row.path, row.start_s, row.end_s, row.label, row.group, row.split, row.flags,
         {name: value for name, value in row.meta.items() if value is not None})
        for row in collection.store.rows()
    ]  # fmt: skip


# -- other tools -----------------------------------------------------------------------------------------------------


def test_parquet_export_is_read_by_pandas(odd: Path, tmp_path: Path) -> None:
    with embedx.open(odd) as collection:
        assert collection.export(tmp_path / "x.parquet", view="all") == 5
        frame = pd.read_parquet(tmp_path / "x.parquet")
        for view in ("L0.mean", "L1.mean"):
            np.testing.assert_array_equal(np.stack(list(frame[view])), collection.vectors(view))
        assert frame["id"].tolist() == [1, 3, 5, 7, 9]
        assert frame["path"].tolist() == [escape_path(path) for path in PATHS]
        assert frame["fold"].dropna().tolist() == [1, 2, 4, 2**60]
        assert frame["level"].dropna().tolist() == [0.5, 2.0, 1e-300, -1.5]
        assert [json.loads(one) for one in frame["mixed"].dropna()] == [1, "1", [1], True]
        assert frame["label"].tolist() == ["=dog"] * 5
        note = pq.read_schema(tmp_path / "x.parquet").metadata[b"embedx"]
        assert Recipe.from_json(note.decode()) == collection.recipe


def test_datasets_export_is_loaded_by_datasets(odd: Path, tmp_path: Path) -> None:
    with embedx.open(odd) as collection:
        collection.export(tmp_path / "x", format="hf", view="all")
        dataset = datasets.load_from_disk(str(tmp_path / "x"))
        np.testing.assert_array_equal(np.array(dataset["L1.mean"], np.float32), collection.vectors("L1.mean"))
        assert list(dataset["site"]) == [meta["site"] for meta in METAS]
        assert dataset.features["L0.mean"].length == 4


def test_numpy_export_is_read_by_numpy_and_csv(odd: Path, tmp_path: Path) -> None:
    with embedx.open(odd) as collection:
        collection.export(tmp_path / "x", format="npy", view="all")
        for view in collection.views:
            matrix = np.load(tmp_path / "x" / f"{view}.npy", allow_pickle=False)
            assert matrix.dtype == np.float32
            np.testing.assert_array_equal(matrix, collection.vectors(view))
    with open(tmp_path / "x" / "rows.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["id"] for row in rows] == ["1", "3", "5", "7", "9"]
    assert [row["text"] for row in rows][3] == 'a,"b"\r\n\tc'


def test_faiss_export_is_read_by_faiss_with_equal_hits(odd: Path, tmp_path: Path) -> None:
    with embedx.open(odd) as collection:
        collection.export(tmp_path / "x.faiss")
        index = faiss.read_index(str(tmp_path / "x.faiss"))
        assert type(index) is faiss.IndexIDMap2
        query = collection.vectors("L1.mean")[2:3]
        scores, ids = index.search(query / np.linalg.norm(query), 5)
        hits = collection.search(vector=query, k=5)
        assert ids[0].tolist() == [hit.id for hit in hits]
        np.testing.assert_allclose(scores[0], [hit.score for hit in hits], atol=1e-6)
    with open(tmp_path / "x.faiss.csv", newline="", encoding="utf-8") as handle:
        assert [int(row["id"]) for row in csv.DictReader(handle)] == [1, 3, 5, 7, 9]


def test_csv_and_jsonl_exports_are_safe_for_spreadsheets(odd: Path, tmp_path: Path) -> None:
    with embedx.open(odd) as collection:
        collection.export(tmp_path / "x.csv")
        collection.export(tmp_path / "x.jsonl", view="all")
        matrix = collection.vectors("L1.mean")
    frame = pd.read_csv(tmp_path / "x.csv")
    np.testing.assert_array_equal(frame[[f"v{i}" for i in range(4)]].to_numpy(np.float32), matrix)
    with open(tmp_path / "x.csv", newline="", encoding="utf-8") as handle:
        cells = [cell for line in csv.reader(handle) for cell in line]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t")) or re.match(r"-[^\d]", cell)]
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    np.testing.assert_array_equal(np.array([line["L1.mean"] for line in lines], np.float32), matrix)
    assert [line["tags"] for line in lines] == [meta["tags"] for meta in METAS]


def test_export_where_and_view_select_rows_and_vectors(odd: Path, tmp_path: Path) -> None:
    with embedx.open(odd) as collection:
        assert collection.export(tmp_path / "x.parquet", view="L0.mean", where="fold > 1") == 3
        ids = collection.rows(where="fold > 1").index.tolist()
        frame = pd.read_parquet(tmp_path / "x.parquet")
        assert frame["id"].tolist() == ids
        np.testing.assert_array_equal(np.stack(list(frame["L0.mean"])), collection.vectors("L0.mean", where="fold > 1"))
        assert "L1.mean" not in frame


@pytest.mark.parametrize("form", OTHERS)
def test_export_of_large_collection_reads_in_chunks(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedx.formats.selection.MAX_BATCH_ROWS", 7)
    folder = fill(tmp_path / "c", [f"/{i}.wav" for i in range(50)], [{"n": i} for i in range(50)])
    with embedx.open(folder) as collection:
        collection.export(tmp_path / "x", format=form, view="all")
        again = embedx.import_vectors(
            tmp_path / "x", out=tmp_path / "d", format=form, vectors=["L1.mean"][: form == "jsonl"]
        )
        assert facts(again) == facts(collection)
        np.testing.assert_array_equal(again.vectors(), collection.vectors())


# -- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_export_and_import_round_trip_rows_and_vectors(form: str, odd: Path, tmp_path: Path) -> None:
    with embedx.open(odd) as collection:
        collection.export(tmp_path / "x", format=form)
        with embedx.import_vectors(tmp_path / "x", out=tmp_path / "again", format=form) as again:
            expected = facts(collection)
            taken = {"parquet": "L0.mean", "hf": "L0.mean", "csv": "v0", "jsonl": "vector"}
            assert [fact[:7] for fact in facts(again)] == [fact[:7] for fact in expected]
            for mine, theirs in zip(facts(again), expected, strict=True):
                if form in taken:  # a column of vectors has that name, so the metadata gets an underscore
                    theirs = (
                        *theirs[:7],
                        {k + "_" * (k == taken[form] and form in ("csv", "jsonl")): v for k, v in theirs[7].items()},
                    )
                assert mine[7] == theirs[7]
            assert again.rows().index.tolist() == collection.rows().index.tolist()
            vectors = collection.vectors()
            if form == "faiss":
                vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
                np.testing.assert_allclose(again.vectors(), vectors, atol=1e-6)
            else:
                np.testing.assert_array_equal(again.vectors(), vectors)


@pytest.mark.parametrize("form", ["parquet", "npy", "hf"])
def test_imported_collection_can_be_searched_by_file(form: str, made: Path, tmp_path: Path) -> None:
    with embedx.open(made) as collection:
        for view in ("all", "L0.max"):
            collection.export(tmp_path / f"x{view}", format=form, view=view)
            with embedx.import_vectors(tmp_path / f"x{view}", out=tmp_path / f"c{view}") as again:
                names = list(collection.views) if view == "all" else [view]
                assert list(again.views) == names
                for name in names:
                    np.testing.assert_array_equal(again.vectors(name), collection.vectors(name))
                pd.testing.assert_frame_equal(again.rows(), collection.rows())
                assert (again.recipe == collection.recipe) == (view == "all")
                query = collection.rows()["path"].iloc[4]
                assert again.search(query, k=5, view=names[-1])[0].id == collection.search(query, k=1)[0].id


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("aé="), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@given(VALUES, st.booleans())
def test_metadata_cell_round_trips(value: Any, text: bool) -> None:
    if not text or isinstance(value, str):
        cell = to_cell(value, text)
        assert from_cell(cell, text) == value
        assert not cell.startswith(("=", "+", "@"))


@given(st.binary(max_size=20).map(os.fsdecode) | st.text("\\x89af", max_size=8))
def test_escaped_path_round_trips(path: str) -> None:
    assert unescape_path(escape_path(path)) == path
    escape_path(path).encode()


NAMES = st.sampled_from(["site", "Site", "n", "vector", "v0", "L0.mean", "flags_", "été"])
LABELS = st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)


@pytest.mark.parametrize("form", ["parquet", "npy", "csv", "jsonl"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metas=st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=4), label=LABELS)
def test_any_metadata_round_trips(
    form: str, metas: list[dict[str, Any]], label: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("any")
    fill(place / "c", [f"/{i}.wav" for i in range(len(metas))], metas, labels=label)
    with embedx.open(place / "c") as collection:
        collection.export(place / "x", format=form)
        with embedx.import_vectors(place / "x", out=place / "again", format=form) as again:
            taken = {"csv": ("v0",), "jsonl": ("vector",)}.get(form, ())
            expected = [{k + "_" * (k in taken): v for k, v in fact[7].items()} for fact in facts(collection)]
            assert [fact[7] for fact in facts(again)] == expected
            assert [fact[:7] for fact in facts(again)] == [fact[:7] for fact in facts(collection)]
            np.testing.assert_array_equal(again.vectors(), collection.vectors())


# -- vectors from elsewhere ------------------------------------------------------------------------------------------

MATRIX = RANDOM.standard_normal((6, 3)).astype(np.float32)


def foreign(folder: Path) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Write the same vectors as others would; label, and a number that must stay a number."""
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


def test_killed_import_continues(tmp_path: Path) -> None:
    matrix = np.random.default_rng(1).standard_normal((30_000, 8)).astype(np.float32)
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
        assert 2000 <= len(collection) < 30_000
        assert len(collection) % 512 == 0
    with embedx.import_vectors(tmp_path / "m.npy", out=tmp_path / "c") as collection:
        assert collection.rows().index.tolist() == list(range(1, 30_001))
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


# -- wrong input: named, and nothing is left ---------------------------------------------------------------------------


class Payload:
    """A pickle that would show if it ran."""

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
        "Row 2 has a vector of length 1; the first row has a vector of length 2",
    ),
    ("gap.parquet", [], 2, "Row 2 has no vector"),
    ("cut.parquet", [], 2, "cannot be read"),
    ("widths.jsonl", [], 2, "Row 2 has a vector of shape"),
    ("words.jsonl", ["--vectors", "vector"], 2, "Row 2 has no vector of numbers"),
    ("broken.jsonl", [], 2, "Row 2 .*is not JSON"),
    ("deep.jsonl", [], 2, "Row 1 .*is not JSON"),
    ("ragged.csv", [], 2, "Row 2 .*1 cells"),
    ("empty.csv", [], 2, "first line"),
    ("header.csv", [], 8, "no rows"),
    ("infinite.csv", [], 2, "Row 2 .*not finite"),
    ("width.faiss", [], 2, "it is damaged"),
    ("cut.faiss", [], 2, "it is damaged"),
    ("graph.faiss", [], 2, "IHNf.*Flat indexes are read"),
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


# -- where an export goes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_existing_export_is_replaced_only_on_request(form: str, odd: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / f"x.{form}"
    command = ["export", odd, "-o", out, "--format", form]
    assert outcome(capsys, *command)[:2] == (0, f"{out}: 5 rows\n")
    code, _, log = outcome(capsys, *command)
    assert code == 2
    assert "--overwrite" in log
    assert outcome(capsys, *command, "--overwrite", "--where", "id = 1")[0] == 0
    assert len(embedx.import_vectors(out, out=tmp_path / "c", format=form)) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").touch()
    code, _, log = outcome(capsys, "export", odd, "-o", tmp_path / "mine", "--format", form, "--overwrite")
    assert code == 2
    assert "is not an export in the format" in log
    assert (tmp_path / "mine/letter.txt").exists()
    assert not [one.name for one in tmp_path.iterdir() if one.suffix in (".new", ".old")]


def test_invalid_export_is_refused(odd: Path, tmp_path: Path, capsys: Capture) -> None:
    for arguments, expected, message in (
        (["-o", "none/x.csv"], 2, "no folder none"),
        (["-o", "x"], 2, "format of x is unknown"),
        (["-o", "x.csv", "--view", "all"], 2, "one view"),
        (["-o", "x.csv", "--view", "L9.mean"], 2, "L0.mean, L1.mean"),
        (["-o", "x.csv", "--where", "id < 0"], 8, "no rows that match id < 0"),
        (["-o", "x.csv", "--where", "nope"], 2, "no such column"),
    ):
        code, text, log = outcome(capsys, "export", odd, *arguments)
        assert (code, text) == (expected, ""), log
        assert re.search(message, log), log
        assert not Path("x").exists()
        assert not Path("x.csv").exists()
    with Store.create(tmp_path / "empty", RECIPE, 4):
        pass
    with pytest.raises(NothingToDo), embedx.open(tmp_path / "empty") as collection:
        collection.export(tmp_path / "y.csv")


@pytest.mark.parametrize("form", FORMATS)
def test_full_disk_keeps_the_old_export(form: str, tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for the full disk: write() fails either way."""
    folder = fill(tmp_path / "c", [f"/{i}.wav" for i in range(300)], [{} for _ in range(300)], dim=256)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "import datasets, faiss, pyarrow.parquet; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, -1)); "
        "from embedx.cli import main; main()"
    )
    out = tmp_path / "x"
    with embedx.open(folder) as collection:
        collection.export(out, format=form, where="id = 1")
    listing = sorted(str(one) for one in tmp_path.rglob("*"))
    command = [sys.executable, "-c", code, "export", str(folder), "-o", str(out), "--format", form, "--overwrite"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(str(one) for one in tmp_path.rglob("*")) == listing
    assert len(embedx.import_vectors(out, out=tmp_path / "again", format=form)) == 1


def test_killed_export_leaves_no_partial_file(odd: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys, embedx, embedx.formats.selection as s; read = s.Selection.read\n"
        "def dying(self):\n"
        "    yield from read(self)\n"
        "    os.kill(os.getpid(), 9)\n"
        "s.Selection.read = dying\n"
        "embedx.open(sys.argv[1]).export(sys.argv[2], format=sys.argv[3])"
    )
    for form in ("parquet", "npy", "csv"):
        out = tmp_path / f"out.{form}"
        command = [sys.executable, "-c", code, str(odd), str(out), form]
        assert subprocess.run(command, check=False).returncode == -9
        assert not out.exists()
        with embedx.open(odd) as collection:
            assert collection.export(out, format=form) == 5
        assert not out.with_name(out.name + ".new").exists()


def test_export_is_a_consistent_snapshot(odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedx.formats.selection.MAX_BATCH_ROWS", 2)
    from embedx.formats.selection import Selection

    read = Selection.read

    def disturbed(self: Selection) -> Any:
        for piece in read(self):
            with Store(odd, write=True) as store:
                row = Row(store.next_id(), PATHS[-1], 0, 1, None, None, None, (), {})
                vectors = {view: np.zeros(4, np.float32) for view in RECIPE.views}
                store.add([(Recording(PATHS[-1], 1, 1, "[]"), [(row, vectors)])], 1)
            yield piece

    with embedx.open(odd) as collection:
        expected = collection.vectors("L1.mean")
        monkeypatch.setattr(Selection, "read", disturbed)
        collection.export(tmp_path / "x.parquet")
    np.testing.assert_array_equal(np.stack(list(pd.read_parquet(tmp_path / "x.parquet")["L1.mean"])), expected)


def test_imported_store_is_read_by_sqlite(tmp_path: Path) -> None:
    embedx.import_vectors(MATRIX, out=tmp_path / "c", name="theirs").close()
    with sqlite3.connect(tmp_path / "c/store.db") as db:
        view, table = db.execute("SELECT name, vectors FROM views").fetchone()
        blobs = [blob for (blob,) in db.execute(f"SELECT vector FROM {table} ORDER BY id")]
    assert view == "L0.given"
    np.testing.assert_array_equal(np.stack([np.frombuffer(blob, "<f4") for blob in blobs]), MATRIX)
