"""Exports open in other tools, are safe for spreadsheets, and are written whole or not at all."""

import csv
import json
import re
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

import embedx
from embedx.errors import NothingToDo
from embedx.formats.columns import escape_path
from embedx.formats.registry import FORMATS
from embedx.index.faiss_files import write_flat
from embedx.index.vectors import unit
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row
from embedx.store.store import Store
from tests.helpers.commands import Capture, outcome
from tests.helpers.exports import METAS, PATHS, RECIPE, facts, fill

OTHERS = ("parquet", "npy", "jsonl", "hf")  # formats that hold several views


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


def test_faiss_file_written_in_blocks_is_the_file_of_faiss(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((7, 3), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.array([2, 3, 5, 8, 13, 21, 34])
    with open(tmp_path / "x.faiss", "wb") as file:
        write_flat(file, ids, 3, [vectors[:4], vectors[4:]])
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(3))
    index.add_with_ids(unit(vectors), ids)
    assert (tmp_path / "x.faiss").read_bytes() == faiss.serialize_index(index).tobytes()


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


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=[] if form in ("faiss", "parquet") else pytest.mark.long) for form in FORMATS]
)
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


@pytest.mark.long
def test_export_is_a_consistent_snapshot(odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedx.formats.selection.MAX_BATCH_ROWS", 2)
    from embedx.formats.selection import Selection

    read = Selection.read

    def disturbed(self: Selection) -> Any:
        pieces = read(self)
        yield next(pieces)
        with Store(odd, write=True) as store:
            row = Row(store.next_id(), PATHS[-1], 0, 1, None, None, None, (), {})
            vectors = {view: np.zeros(4, np.float32) for view in RECIPE.views}
            store.add([(Recording(PATHS[-1], 1, 1, "[]"), [(row, vectors)])], 1)
        yield from pieces

    with embedx.open(odd) as collection:
        expected = collection.vectors("L1.mean")
        monkeypatch.setattr(Selection, "read", disturbed)
        collection.export(tmp_path / "x.parquet")
    np.testing.assert_array_equal(np.stack(list(pd.read_parquet(tmp_path / "x.parquet")["L1.mean"])), expected)
