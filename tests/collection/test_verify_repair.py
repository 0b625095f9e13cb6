"""`verify --repair` restores what can be computed again, and names the rest."""

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedx
from embedx.cli import run
from embedx.collection.verify import find_issues, verify_collection
from embedx.errors import EmbedxError, StoreError
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store


@pytest.fixture
def collection(tmp_path: Path, write_wav: Callable[..., Path]) -> Path:
    """A collection of two labelled recordings in four windows each."""
    lines = [f"{write_wav(f'{name}.wav', seconds=2)},{name}\n" for name in ("owl", "otter")]
    (tmp_path / "m.csv").write_text("path,label\n" + "".join(lines))
    embedx.extract(tmp_path / "m.csv", out=tmp_path / "c", window=0.5).close()
    return tmp_path / "c"


def spoil(folder: Path, *statements: str) -> None:
    """Run SQL statements on the file of a store, bypassing embedx."""
    db = sqlite3.connect(folder / FILE_NAME)
    with db:
        for statement in statements:
            db.execute(statement)
    db.close()


def test_damaged_vector_is_repaired_from_its_recording_alone(collection: Path, tmp_path: Path) -> None:
    before = ask_all(collection)
    spoil(collection, "UPDATE vectors_L0_mean SET vector = zeroblob(1024) WHERE id = 2")
    os.unlink(tmp_path / "otter.wav")
    done = verify_collection(collection, repair=True)
    assert {"vector"} <= {one.kind for one in done.found} <= {"vector", "file"}
    assert (done.remade, done.removed, done.left) == ([2], [], [])
    after = ask_all(collection)
    np.testing.assert_array_equal(after[1][1], before[1][1])
    assert after[0] == before[0]


def ask_all(folder: Path) -> tuple[Any, Any]:
    with Store(folder) as store:
        return store.rows(), store.vectors("L0.mean")


def test_missing_vector_is_repaired(collection: Path) -> None:
    before = ask_all(collection)
    spoil(collection, "DELETE FROM vectors_L0_mean WHERE id IN (3, 7)")
    with Store(collection) as store:
        with pytest.raises(EmbedxError, match="damaged"):
            store.vectors("L0.mean")
        with pytest.raises(EmbedxError, match="row 3"):
            store.vectors("L0.mean", [2, 3])
    assert verify_collection(collection, repair=True).remade == [3, 7]
    np.testing.assert_array_equal(ask_all(collection)[1][1], before[1][1])


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE rows SET label = 'cat' WHERE id = 2",
        "UPDATE rows SET meta = '{' WHERE id = 2",
        "UPDATE rows SET label = CAST(x'ff' AS TEXT) WHERE id = 2",
        "UPDATE recordings SET size = size + 1 WHERE id = 1",
        "UPDATE recordings SET path = CAST(path AS TEXT) WHERE id = 1",
    ],
)
def test_lost_recording_facts_are_restored_by_extract(collection: Path, tmp_path: Path, damage: str) -> None:
    before = ask_all(collection)
    spoil(collection, damage)
    with Store(collection) as store, pytest.raises(EmbedxError, match="damaged"):
        store.rows(), store.recordings()
    done = verify_collection(collection, repair=True)
    assert done.left == []
    assert len(done.removed) == 1
    embedx.extract(tmp_path / "m.csv", out=collection, window=0.5).close()
    after = ask_all(collection)
    assert sorted((row.path, row.start_s, row.label) for row in after[0]) == [
        (row.path, row.start_s, row.label) for row in sorted(before[0], key=lambda row: (row.path, row.start_s))
    ]
    np.testing.assert_array_equal(np.unique(after[1][1], axis=0), np.unique(before[1][1], axis=0))
    assert find_issues(collection) == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE runs SET settings = '[' WHERE id = 1",
        "UPDATE runs SET checksum = 0",
        "INSERT INTO columns (name, kind) VALUES ('ghost', 'text')",
        "UPDATE history SET token = 'x'",
        "UPDATE rows SET recording = 2 WHERE id = 2",
    ],
)
def test_recomputable_damage_is_repaired(collection: Path, damage: str) -> None:
    before = ask_all(collection)
    spoil(collection, damage)
    assert find_issues(collection)
    done = verify_collection(collection, repair=True)
    assert (done.left, done.removed, done.remade) == ([], [], [])
    assert ask_all(collection)[0] == before[0]
    with embedx.open(collection) as opened:
        assert len(opened.search(id=1)) == 7
    assert find_issues(collection) == []


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        ("UPDATE collection SET value = '{}' WHERE key = 'recipe'", "collection recipe"),
        ("DELETE FROM rows WHERE id = 8", "rows"),
        ("DELETE FROM recordings WHERE id = 2", "recordings"),
        ("DROP TABLE views", FILE_NAME),
        ("UPDATE views SET vectors = 'x; y'", "views L0.mean"),
    ],
)
def test_unrepairable_damage_is_named(collection: Path, damage: str, place: str) -> None:
    spoil(collection, damage)
    done = verify_collection(collection, repair=True)
    assert any(one.place.endswith(place) for one in done.left), done.left
    assert any(one.place.endswith(place) for one in verify_collection(collection, repair=True).left), (
        "it is not forgotten"
    )


def test_damaged_row_without_recording_is_named(collection: Path, tmp_path: Path) -> None:
    spoil(collection, "UPDATE vectors_L0_mean SET vector = zeroblob(1024) WHERE id IN (2, 6)")
    os.unlink(tmp_path / "owl.wav")
    done = verify_collection(collection, repair=True)
    assert done.remade == [6]
    assert [(one.kind, one.id) for one in done.left] == [("vector", 2)]


def test_verify_command_returns_exit_code_of_damage(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify = ["verify", str(collection), "--json"]
    assert run(verify) == 0
    spoil(collection, "UPDATE vectors_L0_mean SET vector = zeroblob(1024) WHERE id = 2")
    capsys.readouterr()
    assert run(verify) == 5
    assert "L0.mean of row 2" in {one["place"] for one in json.loads(capsys.readouterr().out)["found"]}
    assert run([*verify, "--repair"]) == 0
    assert run(verify) == 0
    spoil(collection, "UPDATE vectors_L0_mean SET vector = zeroblob(1024) WHERE id = 2")
    os.unlink(tmp_path / "owl.wav")
    assert run([*verify, "--repair"]) == 5


def test_write_ahead_log_of_another_time_is_refused(collection: Path) -> None:
    with Store(collection, write=True) as writer:
        writer.delete([1])
        log = (collection / f"{FILE_NAME}-wal").read_bytes()
        writer.delete([2])
    before = (collection / FILE_NAME).read_bytes()
    (collection / f"{FILE_NAME}-wal").write_bytes(log)
    assert find_issues(collection)
    for write in (False, True):
        with pytest.raises(StoreError, match=r"store.db-wal is damaged or of another time"):
            Store(collection, write=write)
    assert (collection / FILE_NAME).read_bytes() == before, "the old log was written into the store"
    (collection / f"{FILE_NAME}-wal").unlink()
    assert find_issues(collection) == []
