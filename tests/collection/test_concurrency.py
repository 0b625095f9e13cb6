"""One answer is one state; threads, forks and pickles of a collection; files that change while it is open."""

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedx
from embedx.collection.labelling import label
from embedx.errors import StoreError, UsageError
from embedx.index import matrix
from embedx.store.store import Store
from tests.helpers.amounts import fast_and_long
from tests.helpers.collections import build_collection
from tests.helpers.store_batches import Batch
from tests.reliability.report import report

ROWS = 40
X = np.random.default_rng(3).standard_normal((ROWS, 20)).astype(np.float32)


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[embedx.Collection]:
    with build_collection(tmp_path, X, ["dog"] * ROWS, None, site=["A", "B"] * (ROWS // 2)) as made:
        made.indexes.get("L0.mean")
        yield made


def added(number: int, label: str = "dog") -> Batch:
    """Return a new recording with one row, near to all others."""
    from embedx.store.records import Recording, Row

    path = f"/new{number}.wav"
    row = Row(ROWS + number, path, 0.0, 1.0, label, None, None, (), {"site": "A"})
    return [(Recording(path, 1, 1, "[]"), [(row, {"L0.mean": X[number % ROWS]})])]


@contextmanager
def writer(folder: Path, *, adds: bool = False) -> Iterator[None]:
    """Change the labels of all rows in one transaction, again and again; with `adds` also add and delete a row."""
    stop, problems = threading.Event(), list[BaseException]()

    def write() -> None:
        try:
            number = 0
            while not stop.is_set():
                number += 1
                name = ("dog", "cat")[number % 2]
                label(folder, set={"label": name})
                if adds:
                    with Store(folder, write=True) as store:
                        store.add(added(number, name), store.start_run({}))
                        store.delete([ROWS + number])
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not problems, problems


def check_one_state(collection: embedx.Collection, name: str) -> None:
    """Ask a question that mixes two states if filter, index, rows and labels are not read in one of them."""
    if name == "rows":
        frame = collection.rows("label = 'dog'")
        assert set(frame["label"]) <= {"dog"} and len(frame) in (0, ROWS, ROWS + 1)
    elif name == "vectors":
        assert len(collection.vectors(where="label = 'cat'")) in (0, ROWS, ROWS + 1)
    elif name == "search":
        hits = collection.search(id=3, k=7, where="label = 'dog'", exclude_self=False)
        assert len(hits) in (0, 7) and {hit.label for hit in hits} <= {"dog"}
        assert hits.generation is not None
    elif name == "plain search":
        assert len({hit.label for hit in collection.search(id=3, k=9)}) == 1
    elif name == "radius":
        hits = collection.search(id=3, radius=-1.0, where="label = 'dog'", exclude_self=False)
        assert len(hits) in (0, ROWS, ROWS + 1) and {hit.label for hit in hits} <= {"dog"}
    elif name == "search_many":
        answers = collection.search_many(X[:3], k=4, where="label = 'cat'")
        assert {len(hits) for hits in answers.values()} in ({0}, {4})
        assert {hit.label for hits in answers.values() for hit in hits} <= {"cat"}
    elif name == "duplicates":
        found = collection.duplicates(where="label = 'dog'", threshold=1.0)
        assert found.compared in (0, ROWS, ROWS + 1)
        assert {member.label for group in found for member in group.members} <= {"dog"}
    else:
        with collection.snapshot():
            first, second = collection.rows(), collection.rows("label = 'dog'")
            assert len(second) in (0, len(first)) and len(collection) == len(first) == len(collection.vectors())


QUESTIONS = ("rows", "vectors", "search", "plain search", "radius", "search_many", "duplicates", "snapshot")


@fast_and_long("count", 12, 80, "EMBEDX_ANSWERS")
def test_answer_beside_a_writer_is_of_one_state(collection: embedx.Collection, count: int) -> None:
    begun = time.monotonic()
    with writer(collection.folder):
        for _ in range(count):
            for name in QUESTIONS:
                check_one_state(collection, name)
    report("answers beside a writer", count * len(QUESTIONS), 0, begun)


@fast_and_long("count", 16, 60, "EMBEDX_THREADS")
def test_threads_share_a_collection_beside_a_writer(collection: embedx.Collection, count: int) -> None:
    begun, problems = time.monotonic(), list[BaseException]()

    def ask(first: int) -> None:
        try:
            for number in range(len(QUESTIONS)):
                check_one_state(collection, QUESTIONS[(first + number) % len(QUESTIONS)])
        except BaseException as error:
            problems.append(error)

    with writer(collection.folder, adds=True):
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    report("threads beside a writer", count, len(problems), begun)
    assert not problems, problems
    collection.rows()
    assert len(collection._stores._stores) <= count + 1


def test_stores_of_threads_that_ended_are_closed(collection: embedx.Collection) -> None:
    for _ in range(20):
        thread = threading.Thread(target=lambda: collection.rows("id = 1"))
        thread.start()
        thread.join()
    assert len(collection._stores._stores) <= 2


FORKED = """
import os, pickle, sys
import embedx
collection = embedx.open(sys.argv[1])
expected = collection.rows("label = 'dog'").index.tolist()
hits = [hit.id for hit in collection.search(id=1, k=5)]
if (child := os.fork()) == 0:
    same = collection.rows("label = 'dog'").index.tolist() == expected
    same &= [hit.id for hit in collection.search(id=1, k=5)] == hits
    embedx.collection.labelling.label(sys.argv[1], set={"label": "cat"})
    same &= len(collection.rows("label = 'cat'")) == len(expected)
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
assert len(collection.rows("label = 'cat'")) == len(expected)
assert [hit.id for hit in collection.search(id=1, k=5)] == hits
"""


def test_forked_process_opens_the_collection_again(collection: embedx.Collection) -> None:
    code = FORKED.replace("import embedx\n", "import embedx, embedx.collection.labelling\n")
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(collection.folder)], check=True, timeout=60)


BUSY_FORK = """
import os, sys, threading
import embedx
from embedx.store import forks

forks.MAX_WAIT_S = 60  # the reads take longer than 5 s on a machine that is busy
collection, inside, left = embedx.open(sys.argv[1]), threading.Event(), []

def read():
    with collection.snapshot():
        inside.set()
        for _ in range(30):
            collection.rows("label = 'dog'")
        left.append(True)

thread = threading.Thread(target=read)
thread.start()
inside.wait()
if (child := os.fork()) == 0:
    os._exit(0 if left and len(collection.rows()) == len(collection.rows("1")) else 3)
_, status = os.waitpid(child, 0)
thread.join()
sys.exit(os.waitstatus_to_exitcode(status) or len(collection.rows()) == 0)
"""


def test_fork_waits_for_the_reads_of_other_threads(collection: embedx.Collection) -> None:
    command = [sys.executable, "-W", "ignore", "-c", BUSY_FORK, str(collection.folder)]
    assert subprocess.run(command, timeout=120).returncode == 0


def test_pickle_holds_the_path(collection: embedx.Collection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(collection.folder.parent)
    with embedx.open(collection.folder.name, model="elsewhere") as relative:
        data = pickle.dumps(relative)
    assert len(data) < 1000
    monkeypatch.chdir("/")
    with pickle.loads(data) as again:
        assert (len(again), again.model) == (ROWS, "elsewhere")


def test_closed_collection_is_named(collection: embedx.Collection) -> None:
    collection.close()
    with pytest.raises(UsageError, match="is closed"):
        collection.rows()


def test_error_of_another_file_inside_a_snapshot_keeps_its_class(collection: embedx.Collection) -> None:
    with pytest.raises(FileNotFoundError), collection.snapshot():
        Path("/nowhere/at/all").read_bytes()
    assert len(collection.rows("id = 1")) == 1


def shorten(file: Path) -> None:
    os.truncate(file, 100)


def change(file: Path) -> None:
    with open(file, "r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        opened.write(b"\xff\xff\xff\x7f" * 40)


def replace(file: Path) -> None:
    file.with_name("other").write_bytes(bytes(file.stat().st_size))
    file.with_name("other").rename(file)


@pytest.mark.parametrize("is_loaded", [True, False])
@pytest.mark.parametrize("damage", [shorten, change, replace, Path.unlink])
@pytest.mark.parametrize("suffix", ["vectors.npy", "ids.npy", "json"])
def test_index_that_is_damaged_while_it_is_open_is_never_used(
    collection: embedx.Collection,
    suffix: str,
    damage: Callable[[Path], None],
    is_loaded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not is_loaded:
        monkeypatch.setattr(matrix, "MAX_LOADED_BYTES", 0)

    def answers() -> list[Any]:
        some = collection.search(id=9, k=5, where="site = 'A'")
        many = collection.nearest(X[:25], 4)[1].tolist()
        return [[hit.id for hit in collection.search(id=5, k=5)], [hit.id for hit in some], many]

    expected = answers()
    (file,) = (collection.folder / "index").glob(f"*.{suffix}")
    damage(file)
    assert answers() == expected
    assert collection.verify().found == []


def test_index_of_another_process_is_noticed(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((1500, 20)).astype(np.float32)
    with build_collection(tmp_path, x, ["dog"] * len(x)) as made, embedx.open(made.folder) as other:
        before = [hit.id for hit in made.search(id=7, k=3, exact=True)]
        assert made.index().manifest["kind"] == "flat"
        other.build_index(kind="ivf-flat", recall=0.5)
        assert made.index().manifest["kind"] == "ivf-flat"
        assert [hit.id for hit in made.search(id=7, k=3, exact=True)] == before


def test_damage_of_the_store_after_opening_is_noticed_by_a_filter(collection: embedx.Collection) -> None:
    assert len(collection.rows("label = 'dog' AND site = 'A'")) == ROWS // 2
    time.sleep(0.02)  # so that the times of the file differ
    file = collection.store.file
    data = file.read_bytes()
    assert data.count(b"dog") >= ROWS
    place = data.rindex(b"dog")
    with open(file, "r+b") as opened:
        opened.seek(place)
        opened.write(b"cow")
    with pytest.raises(StoreError, match="damaged"):
        collection.store.filter("label = 'dog'")
