import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedx.collection.verify import verify_collection
from embedx.errors import DiskError, LockedError, RecipeMismatch, StoreError, UsageError
from embedx.store.records import Recording
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store
from tests.helpers.paths import ROOT
from tests.helpers.store_batches import DIM, RECIPE, batch


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "c", RECIPE, DIM) as opened:
        yield opened


def test_store_round_trips_recordings_and_vectors(store: Store) -> None:
    made = batch("/a.wav", os.fsdecode(b"/caf\xe9\xff.wav"))
    store.add(made, store.start_run({}))
    with Store(store.folder) as reader:
        assert reader.recipe == RECIPE
        assert reader.views == {"L0.mean": DIM, "L1.mean": DIM}
        assert list(reader.recordings().values()) == [recording for recording, _ in made]
        assert reader.rows() == [row for _, rows in made for row, _ in rows]
        assert [row.id for row in reader.rows([3, 1])] == [1, 3]
        assert [row.id for row in reader.rows(paths=["/a.wav"])] == [1, 2]
        assert reader.paths_of("hash of /a") == ["/a.wav"]
        ids, vectors = reader.vectors("L1.mean")
        assert ids.tolist() == [1, 2, 3, 4]
        np.testing.assert_array_equal(vectors, [[np.float32(i + 0.1)] * DIM for i in range(1, 5)])
        assert reader.vectors("L0.mean", [4, 2])[0].tolist() == [2, 4]
        assert reader.count() == 4
        assert reader.hours() == pytest.approx(6 / 3600)
        assert reader.count_recordings() == (2, reader.hours())


def test_batch_is_stored_whole_or_not_at_all(store: Store) -> None:
    run = store.start_run({})
    good, bad = batch("/a.wav", "/b.wav")
    row, vectors = bad[1][1]
    bad[1][1] = row, {"L0.mean": vectors["L0.mean"]}  # a view is missing
    with pytest.raises(KeyError):
        store.add([good, bad], run)
    assert store.count() == 0
    assert store.recordings() == {}
    assert store.generation == 0


def test_replaced_recording_loses_old_rows_and_ids_are_not_reused(store: Store) -> None:
    run = store.start_run({})
    store.add(batch("/a.wav", "/b.wav"), run)
    assert store.next_id() == 5
    store.add(batch("/b.wav", first_id=store.next_id(), rows=1), run)
    assert [row.id for row in store.rows()] == [1, 2, 5]
    assert store.vectors("L0.mean")[0].tolist() == [1, 2, 5]
    store.add([(Recording("/b.wav", 1, 1, "[]", reason="empty", detail="x"), [])], run)
    assert [row.id for row in store.rows()] == [1, 2]
    assert store.next_id() == 6
    assert store.count_recordings() == (1, store.hours())  # without the one that failed


def test_generation_grows_with_every_change(store: Store) -> None:
    seen = [store.generation]
    for i in range(3):
        store.add(batch(f"/{i}.wav", first_id=store.next_id()), store.start_run({}))
        seen.append(store.generation)
    assert seen == [0, 1, 2, 3]


def test_reader_sees_committed_rows_while_another_writes(store: Store) -> None:
    with Store(store.folder) as reader:
        run = store.start_run({})
        store._db.execute("BEGIN IMMEDIATE")
        assert reader.count() == 0  # at once, without waiting
        store._db.execute("ROLLBACK")
        store.add(batch("/a.wav"), run)
        assert reader.count() == 2


def test_relabel_changes_labels_only(store: Store) -> None:
    store.add(batch("/a.wav"), store.start_run({}))
    row = store.rows()[0]
    store.relabel([replace(row, label="cat", meta={"fold": 9, "site": "A"})])
    assert store.rows()[0] == replace(row, label="cat", meta={"fold": 9, "site": "A"})
    assert store.filter("site = 'A'").tolist() == [1]


# -- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE vectors_L0_mean SET vector = zeroblob(16) WHERE id = 2",
        "UPDATE vectors_L0_mean SET checksum = checksum + 1 WHERE id = 2",
        "UPDATE vectors_L0_mean SET vector = substr(vector, 1, 12) WHERE id = 2",
        "UPDATE vectors_L0_mean SET (vector, checksum) = "
        "(SELECT vector, checksum FROM vectors_L0_mean WHERE id = 1) WHERE id = 2",
        "UPDATE vectors_L0_mean SET (vector, checksum) = "
        "(SELECT vector, checksum FROM vectors_L1_mean WHERE id = 2) WHERE id = 2",
    ],
)
def test_damaged_or_swapped_vector_is_never_served(store: Store, damage: str) -> None:
    store.add(batch("/a.wav"), store.start_run({}))
    store._db.execute(damage)
    with pytest.raises(StoreError, match="row 2"):
        store.vectors("L0.mean")
    assert store.vectors("L0.mean", [1])[0].tolist() == [1]


def test_file_that_is_not_a_store_is_refused(tmp_path: Path) -> None:
    cases = {"text": b"hello" * 1000, "empty": b"", "other": b""}
    for name, content in cases.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE_NAME).write_bytes(content)
    with sqlite3.connect(tmp_path / "other" / FILE_NAME) as db:
        db.execute("CREATE TABLE t (x)")
    for name in cases:
        with pytest.raises(StoreError, match=FILE_NAME):
            Store(tmp_path / name)
    with pytest.raises(UsageError, match="no collection"):
        Store(tmp_path / "missing")


def test_newer_format_is_refused(store: Store) -> None:
    store._db.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(StoreError, match=r"format 99.*Update embedx"):
        Store(store.folder)


def test_another_recipe_is_refused_with_the_field_named(store: Store) -> None:
    store.add(batch("/a.wav"), store.start_run({}))
    store.close()
    with pytest.raises(RecipeMismatch, match=r"layers: stored \(0, 1\), requested \(1,\)"):
        Store.create(store.folder, replace(RECIPE, layers=(1,)), DIM)
    Store.create(store.folder, replace(RECIPE, source="moved"), DIM).close()
    assert Store(store.folder).recipe.source == "moved"


def test_folder_with_other_files_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="not a collection"):
        Store.create(tmp_path, RECIPE, DIM)
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.txt"]


def test_half_created_store_is_created_again(tmp_path: Path) -> None:
    (tmp_path / f"{FILE_NAME}.new").write_bytes(b"half a file")
    Store.create(tmp_path, RECIPE, DIM).close()
    assert Store(tmp_path).count() == 0


# -- one writer ----------------------------------------------------------------------------------------------------


def test_second_writer_is_refused_by_name_and_dead_one_ignored(store: Store) -> None:
    with pytest.raises(LockedError, match=f"process {os.getpid()} on "):
        Store(store.folder, write=True)
    store.close()
    code = (
        "import os, signal, sys; from embedx.store import Store; Store(sys.argv[1], write=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(store.folder)], check=False).returncode == -signal.SIGKILL
    Store(store.folder, write=True).close()


def test_several_reader_threads_work(store: Store) -> None:
    store.add(batch("/a.wav"), store.start_run({}))
    found = []

    def read() -> None:
        with Store(store.folder) as reader:
            found.append(reader.vectors("L0.mean")[1].sum())

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 8


def test_full_disk_is_an_error_and_committed_rows_stay(store: Store) -> None:
    run = store.start_run({})
    store.add(batch("/a.wav"), run)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DiskError, match="committed before is safe"):
        store.add(batch("/b.wav", first_id=3, rows=5000), run)
    assert store.count() == 2
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.add(batch("/b.wav", first_id=3), run)
    assert store.count() == 4


def test_file_size_limit_is_a_disk_error(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from tests.helpers.store_batches import RECIPE, DIM, batch
from embedx.errors import DiskError
from embedx.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store.create(sys.argv[1], RECIPE, DIM)
run = store.start_run({})
store.add(batch("/a.wav"), run)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
try:
    store.add(batch("/b.wav", first_id=3, rows=30_000), run)
except DiskError as error:
    print("disk error", store.count())
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "c")], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.split() == ["disk", "error", "2"], run.stderr
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert Store(tmp_path / "c").count() == 2


# -- filters -------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(store: Store) -> Store:
    run = store.start_run({})
    metas: list[dict[str, Any]] = [
        {"site": "A", "code": "001", "depth": 2.5, "odd name": "x", 'quo"te': 1},
        {"site": "B", "code": "1", "depth": 10, "odd name": "y"},
        {"site": None, "code": "1e5", "depth": None, "it's": 3},
    ]
    for i, meta in enumerate(metas):
        store.add(batch(f"/{i}.wav", first_id=i + 1, rows=1, meta=meta), run)
    return store


@pytest.mark.parametrize(
    "where, expected",
    [
        ("site = 'A'", [1]),
        ("site <> 'A'", [2]),
        ("site IS NULL", [3]),
        ("code = '001'", [1]),
        ("code = 1", [2]),  # text compares as text: 001 is not 1
        ("depth > 9", [2]),  # numbers compare as numbers: 10 is more than 9
        ("depth = '2.5'", [1]),
        ("fold = 1 OR fold = '2'", [1, 2]),
        ("fold <> 1", [2, 3]),
        ("\"odd name\" LIKE 'X'", [1]),
        ('"it\'s" = 3', [3]),
        ("label = 'dog' AND id IN (2, 3)", [2, 3]),
        ("\"group\" = 'g' AND duration_s = 1", [1, 2, 3]),
        ("path LIKE '%1.wav'", [2]),
        ("lower(site) IN ('a', 'b') AND end_s - start_s > 0.5", [1, 2]),
        ("0", []),
    ],
)
def test_filter_selects_matching_rows(filled: Store, where: str, expected: list[int]) -> None:
    assert filled.filter(where).tolist() == expected


@pytest.mark.parametrize(
    "where, message",
    [
        ("sight = 'A'", "no such column: sight.*Columns: .*site"),
        ("site =", "is invalid"),
        ("", "is invalid"),
        ("1); DELETE FROM rows; --", "is invalid"),
        ("DELETE FROM rows", "is invalid"),
        ("1 = 1; UPDATE rows SET label = 'x'", "is invalid"),
        ("(SELECT count(*) FROM sqlite_master) > 0", "is invalid"),
        ("(SELECT value FROM collection) = 1", "is invalid"),
        ("load_extension('x')", "is invalid"),
        ("length(zeroblob(1000000000)) > 1", "is invalid"),
        ("id IN (WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT n FROM t)", "is invalid"),
        ("id = ?", "is invalid"),
        ("a\x00b", "is invalid"),
    ],
)
def test_filter_that_does_more_than_compare_is_refused(filled: Store, where: str, message: str) -> None:
    before = filled.rows()
    with pytest.raises(UsageError, match=message):
        filled.filter(where)
    assert filled.rows() == before


def test_column_that_becomes_text_compares_as_text(store: Store) -> None:
    run = store.start_run({})
    store.add(batch("/a.wav", rows=1, meta={"n": 5}), run)
    assert store.filter("n = 5").tolist() == [1]
    store.add(batch("/b.wav", first_id=2, rows=1, meta={"n": "five"}), run)
    assert store.filter("n = 5").tolist() == [1]
    assert store.filter("n = 'five'").tolist() == [2]


def test_read_only_folder_can_be_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(batch("/a.wav"), store.start_run({}))
    store.close()
    access: Callable[..., bool] = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    with Store(store.folder) as reader:
        assert reader.count() == 2
        assert reader.filter("id = 1").tolist() == [1]


@pytest.mark.parametrize(
    "content", [b"x" * 100, bytes.fromhex("d9d505f920a163d7") + bytes(4000)], ids=["text", "journal"]
)
def test_rollback_journal_is_refused_by_writers_and_changes_nothing(store: Store, content: bytes) -> None:
    store.add(batch("/a.wav"), store.start_run({}))
    store.close()
    before = store.file.read_bytes()
    Path(f"{store.file}-journal").write_bytes(content)
    with pytest.raises(StoreError, match=r"store\.db-journal does not belong to .*Move it away"):
        Store(store.folder, write=True)
    with Store(store.folder) as reader:
        assert reader.count() == 2
    assert [issue.kind for issue in verify_collection(store.folder, repair=True).left] == ["foreign"]
    assert store.file.read_bytes() == before
