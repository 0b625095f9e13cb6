"""A backup is a committed state of the collection, whatever happens to the collection meanwhile."""

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedx
from embedx.cli import run
from embedx.collection.backup import backup
from embedx.collection.verify import find_issues
from embedx.errors import StoreError, UsageError
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store
from tests.helpers.collections import build_collection, clusters
from tests.helpers.store_batches import DIM, RECIPE, batch


@pytest.fixture
def collection(tmp_path: Path) -> embedx.Collection:
    """A collection with an index and a head."""
    x, labels = clusters(60, 3, 0.1)
    opened = build_collection(tmp_path, x, labels)
    opened.index()
    opened.fit_head("label", name="kinds")
    return opened


def test_backup_equals_collection_with_heads_and_indexes(collection: embedx.Collection, tmp_path: Path) -> None:
    assert run(["backup", str(collection.folder), str(tmp_path / "new" / "copy"), "--json"]) == 0
    copied = tmp_path / "new" / "copy"
    assert find_issues(copied) == []
    names = {path.relative_to(copied) for path in copied.rglob("*") if path.is_file()}
    assert {path for path in names if path.parts[0] in ("index", "heads")} == {
        path.relative_to(collection.folder)
        for part in ("index", "heads")
        for path in (collection.folder / part).rglob("*")
        if path.is_file()
    }
    with embedx.open(copied) as opened:
        assert opened.rows().equals(collection.rows())
        np.testing.assert_array_equal(opened.vectors(), collection.vectors())
        assert list(opened.heads()) == ["kinds"]
    with Store(copied, write=True) as store:
        store.delete([1])
    assert find_issues(copied) == []


def test_backup_leaves_out_an_index_that_changes_all_the_time(
    collection: embedx.Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copytree = shutil.copytree

    def fail(source: Path, *arguments: Any, **options: Any) -> None:
        copytree(source, *arguments, **options)
        if Path(source).name == "index":
            raise shutil.Error([(str(source), "", "No such file or directory")])

    (collection.folder / "index" / "L0.mean.cosine-0123abcd.building").touch()
    collection.backup(tmp_path / "one")
    assert not list((tmp_path / "one" / "index").glob("*.building"))
    monkeypatch.setattr(shutil, "copytree", fail)
    collection.backup(tmp_path / "two")
    assert not (tmp_path / "two" / "index").exists()
    assert find_issues(tmp_path / "two") == []


def test_existing_folder_and_damaged_collection_are_refused(collection: embedx.Collection, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exists"):
        backup(collection.folder, tmp_path)
    with Store(collection.folder, write=True) as store:
        store._db.execute("UPDATE rows SET label = 'x' WHERE id = 3")
    with pytest.raises(StoreError, match="is damaged"):
        backup(collection.folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert not (tmp_path / "copy.new").exists()


def test_backup_beside_a_writer_is_one_commit(tmp_path: Path) -> None:
    stop = threading.Event()
    with Store.create(tmp_path / "c", RECIPE, DIM) as writer:
        run_id = writer.start_run({})

    def write() -> None:
        with Store(tmp_path / "c", write=True) as writer:
            for number in range(2000):
                if stop.is_set():
                    return
                writer.add(batch(f"/{number}.wav", first_id=writer.next_id(), rows=4), run_id)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        counts = []
        for number in range(4):
            copied = tmp_path / f"copy{number}"
            backup(tmp_path / "c", copied)
            assert find_issues(copied) == []
            with Store(copied) as store:
                assert len(store.rows()) == 4 * len(store.recordings())
                counts.append(store.count())
    finally:
        stop.set()
        thread.join()
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]
    assert (tmp_path / "c" / FILE_NAME).exists()
