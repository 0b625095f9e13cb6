"""Blocks that were compared before are only hashed, and damage in them is found all the same."""

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedx.collection.verify import find_issues, find_unused
from embedx.errors import StoreError
from embedx.store import checksums as reading
from embedx.store.blocks import BLOCK_IDS, BLOCKS_NAME, MAX_VALUE_BYTES
from embedx.store.edits import Edit
from embedx.store.record import Checksums
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store
from tests.helpers.store_batches import DIM, RECIPE, batch

ROWS = 3 * BLOCK_IDS
DAMAGE = {
    "value": "UPDATE rows SET label = 'cat' WHERE id = 300",
    "text as bytes": "UPDATE rows SET label = CAST('dog' AS BLOB) WHERE id = 300",
    "integer as text": "UPDATE rows SET flags = CAST(flags || x'00' AS TEXT) WHERE id = 300",
    "invalid UTF-8": "UPDATE rows SET label = CAST(x'ff' AS TEXT) WHERE id = 300",
    "checksum": "UPDATE rows SET checksum = zeroblob(16) WHERE id = 300",
    "number": "UPDATE rows SET start_s = start_s + 1e-9 WHERE id = 300",
    "other recording": "UPDATE rows SET recording = recording + 1 WHERE id = 2",
    "row lost": "DELETE FROM rows WHERE id = 300",
    "last row lost": f"DELETE FROM rows WHERE id = {ROWS}",
    "block lost": f"DELETE FROM rows WHERE id BETWEEN {BLOCK_IDS} AND {2 * BLOCK_IDS - 1}",
    "other id": f"UPDATE rows SET id = {ROWS + 5000} WHERE id = 300",
    "negative id": "UPDATE rows SET id = -9223372036854775808 WHERE id = 300",
    "highest id": "UPDATE rows SET id = 9223372036854775807 WHERE id = 300",
    "path": "UPDATE recordings SET path = x'2f78' WHERE id = 3",
    "recording lost": "DELETE FROM recordings WHERE id = 3",
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three blocks of rows, all compared, and the file with their hashes."""
    folder = tmp_path_factory.mktemp("blocks") / "c"
    names = [f"/{i:03d}.wav" for i in range(ROWS // 8)]
    with Store.create(folder, RECIPE, DIM) as store:
        store.add(batch(*names, rows=8), store.start_run({}))
    with pytest.MonkeyPatch.context() as patch, Store(folder) as store:
        patch.setattr(reading, "MIN_NEW", 1)
        assert len(store.filter("label = 'dog'")) == ROWS
    assert (folder / BLOCKS_NAME).is_file()
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this store, which writes its file after each comparison."""
    monkeypatch.setattr(reading, "MIN_NEW", 1)
    return Path(shutil.copytree(whole, tmp_path / "c"))


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The table of every row that was compared with its checksum."""
    tables: list[str] = []
    row = Checksums.row

    def counted(self: Checksums, table: str, values: tuple[object, ...]) -> bytes:
        tables.append(table)
        return row(self, table, values)

    monkeypatch.setattr(Checksums, "row", counted)
    yield tables


def change(folder: Path, sql: str) -> None:
    """Change the file of a store outside of embedx."""
    with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as db:
        db.execute(sql)
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_in_a_block_that_was_compared_before_is_found(folder: Path, damage: str) -> None:
    with Store(folder) as store:
        store.filter("id = 1")
        change(folder, DAMAGE[damage])
        with pytest.raises(StoreError, match="damaged"):
            store.filter("id = 1")
    with Store(folder) as store, pytest.raises(StoreError, match="damaged"):  # with the hashes of the file
        store.filter("id = 1")


def test_old_rows_with_their_checksums_are_found(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as db:
        db.execute("ATTACH ? AS old", (str(folder.parent / "old.db"),))
        db.execute("CREATE TABLE old.rows AS SELECT * FROM rows WHERE id = 300")
        db.commit()
    with Store(folder, write=True) as store:
        row = store.rows([300])[0]
        path, content = row.path, store.recordings([row.path])[row.path].content_hash
        store.edit([Edit("change", store.next_time(), path, content, None, {"label": "cat"})])
    with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as db:
        db.execute("ATTACH ? AS old", (str(folder.parent / "old.db"),))
        db.execute(
            "UPDATE rows SET (label, checksum, source_values) = (SELECT label, checksum, source_values FROM old.rows) "
            "WHERE id = 300"
        )
        db.commit()
    with Store(folder) as store, pytest.raises(StoreError, match="damaged"):
        store.filter("id = 1")


def test_only_new_and_changed_blocks_are_compared(folder: Path, compared: list[str]) -> None:
    with Store(folder) as store:
        compared.clear()
        assert store.filter("fold = 1").size
        assert compared.count("rows") == 0, "the file has the hashes"
        row = store.rows([300])[0]
        content = store.recordings([row.path])[row.path].content_hash
        with Store(folder, write=True) as writer:
            writer.edit([Edit("change", writer.next_time(), row.path, content, None, {"label": "cat"})])
        compared.clear()
        assert store.filter("label = 'cat'").tolist() == list(range(297, 305))
        assert 0 < compared.count("rows") <= BLOCK_IDS


WRONG_FILES = {
    "empty": b"",
    "no JSON": b"{",
    "other JSON": b"[1]",
    "no hashes": b'{"rows": {"xy": [1, 2]}}',
    "infinite": b'{"rows": {"00": [Infinity, 1]}}',
    "not ASCII": b"\xff\xfe",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", WRONG_FILES)
def test_damaged_file_of_hashes_only_causes_comparisons(folder: Path, compared: list[str], content: str) -> None:
    (folder / BLOCKS_NAME).write_bytes(WRONG_FILES[content])
    with Store(folder) as store:
        assert len(store.filter("label = 'dog'")) == ROWS
    assert compared.count("rows") >= ROWS
    assert find_issues(folder) == []


def test_wrong_sum_in_the_file_of_hashes_is_replaced(folder: Path) -> None:
    right = json.loads((folder / BLOCKS_NAME).read_text())
    for place in (0, 1):
        wrong = json.loads((folder / BLOCKS_NAME).read_text())
        for blocks in wrong.values():
            next(iter(blocks.values()))[place] += 1
        (folder / BLOCKS_NAME).write_text(json.dumps(wrong))
        with Store(folder) as store:
            assert len(store.filter("label = 'dog'")) == ROWS
        assert json.loads((folder / BLOCKS_NAME).read_text()) == right


def test_write_that_was_killed_harms_nothing(folder: Path) -> None:
    whole = (folder / BLOCKS_NAME).read_bytes()
    (folder / BLOCKS_NAME).unlink()
    (folder / f"{BLOCKS_NAME}.new").write_bytes(whole[: len(whole) // 2])
    assert find_issues(folder) == []
    assert find_unused(folder) == [str(folder / f"{BLOCKS_NAME}.new")]
    with Store(folder) as store:
        assert len(store.filter("label = 'dog'")) == ROWS
    assert (folder / BLOCKS_NAME).read_bytes() == whole
    assert find_unused(folder) == []


def test_reader_of_an_older_state_leaves_a_file_that_is_only_old(folder: Path, compared: list[str]) -> None:
    (folder / BLOCKS_NAME).unlink()
    with Store(folder) as old, Store(folder, write=True) as writer, old.snapshot():
        row = writer.rows([300])[0]
        content = writer.recordings([row.path])[row.path].content_hash
        writer.edit([Edit("change", writer.next_time(), row.path, content, None, {"label": "cat"})])
        assert len(old.filter("label = 'dog'")) == ROWS
    compared.clear()
    with Store(folder) as store:
        assert len(store.filter("label = 'dog'")) == ROWS - 8
    assert 0 < compared.count("rows") <= BLOCK_IDS


def test_long_values_are_read_row_by_row(folder: Path, compared: list[str]) -> None:
    with Store(folder, write=True) as store:
        row = store.rows([300])[0]
        content = store.recordings([row.path])[row.path].content_hash
        store.edit([Edit("change", store.next_time(), row.path, content, None, {"label": "x" * 2 * MAX_VALUE_BYTES})])
    for _ in range(2):
        compared.clear()
        with Store(folder) as store:
            assert len(store.filter("label = 'dog'")) == ROWS - 8
        assert 0 < compared.count("rows") <= BLOCK_IDS
    change(folder, DAMAGE["number"])
    with Store(folder) as store, pytest.raises(StoreError, match="damaged"):
        store.filter("id = 1")


def test_hashes_of_another_store_are_not_used(folder: Path, tmp_path: Path, compared: list[str]) -> None:
    names = [f"/{i:03d}.wav" for i in range(ROWS // 8)]
    with Store.create(tmp_path / "other", RECIPE, DIM) as store:
        store.add(batch(*names, rows=8), store.start_run({}))
    (tmp_path / "other" / BLOCKS_NAME).write_bytes((folder / BLOCKS_NAME).read_bytes())
    compared.clear()
    with Store(tmp_path / "other") as store:
        store.filter("id = 1")
    assert compared.count("rows") >= ROWS


def test_folder_that_cannot_get_the_file_is_read(folder: Path) -> None:
    (folder / BLOCKS_NAME).unlink()
    (folder / BLOCKS_NAME).mkdir()
    with Store(folder) as store:
        assert len(store.filter("label = 'dog'")) == ROWS
    assert not list(folder.glob("*.new"))


def test_small_store_gets_no_file(tmp_path: Path) -> None:
    with Store.create(tmp_path / "c", RECIPE, DIM) as store:
        store.add(batch("/a.wav"), store.start_run({}))
    with Store(tmp_path / "c") as store:
        store.filter("id = 1")
    assert not (tmp_path / "c" / BLOCKS_NAME).exists()
