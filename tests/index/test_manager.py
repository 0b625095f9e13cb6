"""Indexes of a collection: built, listed, repaired, kept true to the store."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest

import embedx
from embedx.cli import run
from embedx.index.exact import METRICS
from embedx.index.kinds import KINDS
from embedx.index.matrix import Floats
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row
from embedx.store.store import Store
from tests.helpers.clustered_vectors import (
    DIM,
    QUERIES,
    ROWS,
    VECTORS,
    clustered,
    true_scores,
)
from tests.helpers.collections import build_collection


def write_rows(folder: Path, vectors: Floats, first: int) -> None:
    """Add rows to a collection as an extraction does."""
    recipe = Recipe("logmel", "", "", 16_000, (0,), ("mean",))
    with Store.create(folder, recipe, DIM) as store:
        batch = []
        for number, vector in enumerate(vectors, first):
            row = Row(number, f"/x/{number}.wav", 0.0, 1.0, "even" if number % 2 == 0 else None, None, None, (), {})
            batch.append((Recording(row.path, 1, 1, "[[0, null]]"), [(row, {"L0.mean": vector})]))
        store.add(batch, store.start_run({}))


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    write_rows(tmp_path / "c", VECTORS, 1)
    return tmp_path / "c"


def test_index_is_built_used_listed_and_kept(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["index", "build", str(stored), "--kind", "hnsw", "--recall", "0.9"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:5] == ["view", "metric", "kind", "rows", "pending"]
    assert table[1].split()[:5] == ["L0.mean", "cosine", "hnsw", "5000", "0"]
    write_rows(stored, clustered(1500), ROWS + 1)
    before = set((stored / "index").iterdir())
    with embedx.open(stored) as collection:
        assert collection.search(vector=VECTORS[7], k=1)[0].id == 8
        assert collection.search(id=ROWS + 9, k=1, exclude_self=False)[0].id == ROWS + 9
        expected = np.argsort(-true_scores("cosine", QUERIES[:1], VECTORS[1::2]))[0, :5]
        found = collection.search(vector=QUERIES[0], k=5, where=f"label = 'even' AND id <= {ROWS}")
        assert [hit.id for hit in found] == ((expected + 1) * 2).tolist()
    assert set((stored / "index").iterdir()) == before, "30 % of new rows do not throw the structure away"
    assert run(["status", str(stored), "--format", "json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["indexes"]
    assert (shown["kind"], shown["rows"], shown["tail"], shown["gone"]) == ("hnsw", ROWS, 1500, 0)
    assert shown["recall_at_10"] >= 0.9
    with embedx.open(stored) as collection:
        collection.indexes.refresh("L0.mean")
        (shown,) = collection.indexes.describe()
        assert (shown["kind"], shown["rows"], shown["tail"]) == ("hnsw", ROWS + 1500, 0)
        assert shown["asked"] == {"kind": "hnsw", "recall": 0.9, "max_memory": None}
        assert collection.search(vector=VECTORS[7], k=1)[0].id == 8
    assert len(list((stored / "index").iterdir())) == 4, "the files of the one before are gone"


def test_few_new_rows_do_not_rebuild_the_index(stored: Path) -> None:
    with embedx.open(stored) as collection:
        collection.build_index(kind="ivf-flat")
        write_rows(stored, clustered(100), ROWS + 1)
        files = set((stored / "index").iterdir())
        collection.indexes.refresh("L0.mean")
        assert set((stored / "index").iterdir()) == files
        assert collection.indexes.describe()[0]["tail"] == 100


def test_damaged_matrix_is_rebuilt_with_requested_kind(stored: Path) -> None:
    with embedx.open(stored) as collection:
        collection.build_index(kind="ivf-sq8")
    (file,) = (stored / "index").glob("*.vectors.npy")
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    with embedx.open(stored) as collection:
        assert collection.search(vector=VECTORS[0], k=1)[0].id == 1
        assert collection.indexes.describe()[0]["kind"] == "flat"
        collection.indexes.refresh("L0.mean")
        assert collection.indexes.describe()[0]["kind"] == "ivf-sq8"


def test_verify_repairs_damaged_ann_file_with_requested_kind(stored: Path) -> None:
    with embedx.open(stored) as collection:
        collection.build_index(kind="ivf-sq8", recall=0.9)
        assert not collection.verify().found
    (file,) = (stored / "index").glob("*.faiss")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with embedx.open(stored) as collection:
        assert [one.kind for one in collection.verify().found] == ["index"]
        assert not collection.verify(repair=True).left
        (shown,) = collection.indexes.describe()
        assert (shown["kind"], shown["asked"]["recall"]) == ("ivf-sq8", 0.9)


def test_index_beyond_its_memory_limit_does_not_fail_extract(stored: Path, caplog: pytest.LogCaptureFixture) -> None:
    with embedx.open(stored) as collection:
        collection.build_index(kind="ivf-flat", max_memory=ROWS * 160)
        write_rows(stored, clustered(2000), ROWS + 1)
        with caplog.at_level(logging.WARNING, "embedx"):
            collection.indexes.refresh("L0.mean")
        assert "max-memory" in caplog.text
        assert collection.search(vector=VECTORS[7], k=1)[0].id == 8


def test_invalid_index_options_are_refused(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[list[str], str]] = [
        (["--recall", "1.5"], "1.5"),
        (["--max-memory", "much"], "4GB"),
        (["--kind", "hnsw", "--max-memory", "10kB"], "Kinds that fit"),
        (["--view", "L9.mean"], "L0.mean"),
    ]
    for arguments, message in cases:
        assert run(["index", "build", str(stored), *arguments]) == 2
        assert message in capsys.readouterr().err
        assert not list(stored.glob("index/*")), "nothing is left behind"


def test_few_rows_are_never_compared_approximately_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with build_collection(tmp_path, np.ones((30, 20), np.float32), ["a"] * 30) as made:
        assert run(["index", "build", str(made.folder), "--kind", "ivf-pq", "--max-memory", "1KB"]) == 2
        assert "needs 3 kB, more than --max-memory (1 kB)" in capsys.readouterr().err
        assert run(["index", "build", str(made.folder), "--kind", "ivf-pq"]) == 0
        assert "flat instead of ivf-pq, since there are fewer than 1000 rows" in capsys.readouterr().out


def test_index_options_equal_api_keywords() -> None:
    import inspect

    from embedx.cli.index import build as command

    keywords = set(inspect.signature(embedx.Collection.build_index).parameters) - {"self"}
    assert {one.name for one in command.params} == keywords | {"collection", "as_json"}
    choices = {one.name: tuple(one.type.choices) for one in command.params if isinstance(one.type, click.Choice)}
    assert choices == {"kind": ("auto", *KINDS), "metric": METRICS}


def test_killed_build_keeps_old_index_and_holds_no_lock(stored: Path) -> None:
    with embedx.open(stored) as collection:
        collection.build_index(kind="ivf-flat")
        write_rows(stored, clustered(10), ROWS + 1)
    note = (stored / "index/L0.mean.cosine.json").read_bytes()
    stall = (
        "import sys, time, embedx.index.builder as builder, embedx\n"
        "builder.write_manifest = lambda *_: (print('ready', flush=True), time.sleep(60))\n"
        "embedx.open(sys.argv[1]).build_index(kind='hnsw')"
    )
    process = subprocess.Popen([sys.executable, "-c", stall, str(stored)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for file in (stored / "index").iterdir():
        os.utime(file, (0, 0))  # long ago: only that the build is alive protects its files
    write_rows(stored, clustered(10), ROWS + 11)
    with embedx.open(stored) as collection:
        collection.build_index(kind="ivf-flat")
        assert len(list((stored / "index").glob("*.faiss"))) == 2, "the files of a build at work are left alone"
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert collection.search(vector=VECTORS[7], k=1)[0].id == 8
        assert collection.indexes.describe()[0]["kind"] == "ivf-flat"
        assert (stored / "index/L0.mean.cosine.json").read_bytes() != note
        for file in (stored / "index").glob("*.building"):
            os.utime(file, (time.time() - 3600,) * 2)
        collection.build_index(kind="ivf-flat")
    assert len(list((stored / "index").iterdir())) == 4, "what a killed build left is taken away by the next"


def test_status_loads_no_faiss(stored: Path) -> None:
    with embedx.open(stored) as collection:
        collection.build_index(kind="ivf-rabitq")
    code = "import sys; from embedx.cli import run; run(['status', sys.argv[1]]); assert 'faiss' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(stored)], check=True, capture_output=True)
