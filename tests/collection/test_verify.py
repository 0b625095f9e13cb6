"""Random damage to any file of a collection is detected, named and repaired, and damaged data is never returned."""

import contextlib
import logging
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedx
from embedx.collection.merge import copy_into
from embedx.collection.verify import find_issues, verify_collection
from embedx.datasets.synthetic import synthesise
from embedx.errors import EmbedxError, StoreError
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store
from tests.helpers import corruption
from tests.helpers.amounts import fast_and_long
from tests.helpers.corruption import Damage, Victim
from tests.reliability.report import report, seed

SCORE = 1e-5  # of a cosine: an updated index and a rebuilt one sum in different orders


REPAIRED = 5  # every how many damages are repaired, too


ROW_OF = {"search by id": 2, "search where": 64}  # of the questions that name a row


QUESTIONS: dict[str, Callable[[embedx.Collection], Any]] = {
    "rows": lambda c: c.store.rows(),
    "some rows": lambda c: c.store.rows([2, 60, 7, 9999]),
    "rows of a recording": lambda c: c.store.rows(paths=[PATHS[1]]),
    "count": len,
    "hours": lambda c: c.store.hours(),
    "recordings": lambda c: c.store.recordings(),
    "paths by content": lambda c: c.store.paths_of(HASHES[1]),
    "sources": lambda c: c.store.sources(),
    "recipe": lambda c: c.recipe,
    "views": lambda c: c.views,
    "vectors": lambda c: c.store.vectors("L0.mean"),
    "other vectors": lambda c: c.store.vectors("L0.max"),
    "some vectors": lambda c: c.store.vectors("L0.mean", [2, 60, 7, 9999]),
    "filter": lambda c: c.store.filter("label = 'bell' OR start_s > 0.5"),
    "filter by path": lambda c: c.store.filter(f"path LIKE '%{os.path.basename(PATHS[1])}' AND id > 3"),
    "search by id": lambda c: hits(c.search(id=ROW_OF["search by id"], k=200)),
    "search by vector": lambda c: hits(c.search(vector=np.linspace(-1, 1, 256), k=7)),
    "search where": lambda c: hits(c.search(id=ROW_OF["search where"], k=9, where="label <> 'bell'")),
    "distance": lambda c: c.indexes.ask("L0.mean", "l2", lambda index: index.search(np.ones((1, 256), np.float32), 9)),
}


PATHS: list[str] = []


HASHES: list[str] = []


Answers = dict[str, Any]


def hits(found: embedx.Hits) -> tuple[list[Any], Any]:
    return [(hit.id, hit.path, hit.start_s, hit.label, hit.meta) for hit in found], np.array([h.score for h in found])


def ask(folder: Path) -> Answers:
    """Return the answers of a collection; refused questions are left out."""
    answers: Answers = {}
    try:
        with embedx.open(folder) as collection:
            for name, question in QUESTIONS.items():
                try:
                    answers[name] = question(collection)
                except EmbedxError:
                    continue
    except EmbedxError:
        pass
    return answers


def same(one: Any, two: Any) -> bool:
    """Compare answers: scores and vectors within rounding, everything else exactly."""
    if isinstance(one, tuple) and isinstance(two, tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, np.ndarray) and one.dtype.kind == "f":
        return one.shape == two.shape and bool(np.allclose(one, two, rtol=0, atol=SCORE * max(1, np.abs(one).max())))
    return bool(np.array_equal(one, two)) if isinstance(one, np.ndarray) else bool(one == two)


def right(answers: Answers, states: list[Answers]) -> bool:
    """Tell whether all answers belong to one state."""
    return any(all(same(answer, state[name]) for name, answer in answers.items()) for state in states)


@dataclass(frozen=True)
class Patient:
    """A collection to damage, and its answers after every commit, in order."""

    victim: Victim
    states: list[Answers]


def extract(manifest: Path, out: Path, clips: int) -> None:
    """Embed the first clips of the synthetic corpus."""
    part = manifest.with_name(f"{clips} clips.csv")
    part.write_text("".join(manifest.read_text().splitlines(keepends=True)[: clips + 1]))
    embedx.extract(part, out=out, window=0.25, pooling=("mean", "max")).close()


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory if there is one: nothing here has to survive a power cut."""
    if os.access("/dev/shm", os.W_OK):
        folder = Path("/dev/shm") / f"embedx-{os.getpid()}"
        folder.mkdir()
        yield folder
        shutil.rmtree(folder)
    else:
        yield tmp_path_factory.mktemp("fast")


@pytest.fixture(scope="module")
def patients(fast: Path) -> dict[str, Patient]:
    """A collection that was closed, and one whose writer was killed; both have several commits."""
    manifest = synthesise(fast / "corpus", takes=1, classes=3)
    folder = fast / "c"
    extract(manifest, folder, 12)
    with embedx.open(folder) as collection:
        collection.index(metric="l2")
        PATHS[:] = list(collection.store.recordings())
        HASHES[:] = [one.content_hash for one in collection.store.recordings().values()]
    extract(manifest, fast / "more", 15)
    first, states = corruption.read(folder), [ask(folder)]
    with Store(folder, write=True) as writer, Store(fast / "more") as more:
        writer.delete([5, 6, 60, 61])
        states.append(ask(folder))
        copy_into(writer, [more])
        states.append(ask(folder))
        writer.relabel([row_with_label(row) for row in writer.rows() if row.id % 3 == 0])
        states.append(ask(folder))
        killed = corruption.read(folder)
    with embedx.open(folder) as collection:
        for metric in ("cosine", "l2"):
            collection.indexes.get("L0.mean", metric, compact=True)
    shutil.copytree(fast / "more", fast / "other")
    with Store(fast / "other", write=True) as writer:
        writer.delete([1, 2, 3])
        other = corruption.read(fast / "other")
    assert any(map(corruption.is_log, killed))
    assert any(map(corruption.is_log, other))
    closed = corruption.read(folder)
    assert not any(map(corruption.is_log, closed))
    for answers in states:
        assert answers.keys() == QUESTIONS.keys()
    return {
        "closed": Patient(Victim(closed, killed, other), states),
        "killed": Patient(Victim(killed, first, other), states),
    }


def row_with_label(row: Any) -> Any:
    from dataclasses import replace

    return replace(row, label=f"{row.label} {row.id}", meta={**row.meta, "seen": row.id})


def faults_of(kind: str, patient: Patient, damage: Damage, folder: Path, repair: bool) -> Iterator[str]:
    """Damage a collection, and yield every broken promise.

    SQLite leaves bytes unused, and an index can be built again: damage that is not found must change no answer.
    """
    files = {**patient.victim.now, damage.name: damage.content}
    damaged = {name: data for name, data in files.items() if data is not None}
    corruption.write(damaged, folder)
    found = find_issues(folder) if any(one in damaged for one in ("lock", FILE_NAME)) else []
    answers = ask(folder)
    if not right(answers, patient.states[-1:]):
        yield f"is served: {wrong(answers, patient.states[-1])}"
    if not found and answers.keys() != QUESTIONS.keys():
        yield f"is not found, and yet refused: {QUESTIONS.keys() - answers.keys()}"
    if repair and found:
        yield from faults_of_repair(patient, damaged, folder, patient.states)


def faults_of_repair(
    patient: Patient, damaged: corruption.Files, folder: Path, allowed: list[Answers]
) -> Iterator[str]:
    """Repair a damaged collection, and yield what differs from the original."""
    shutil.rmtree(folder)
    corruption.write(damaged, folder)
    done = verify_collection(folder, repair=True)
    answers = ask(folder)
    lost = {"sources", "filter"} if done.removed or any("runs" in one.place for one in done.found) else set()
    for name in ("rows", "recordings"):
        if name in answers and done.removed:
            lost |= QUESTIONS.keys() - {"rows", "recordings"}
            answers[name] = without(answers[name], done.removed)
            allowed = [state | {name: without(state[name], done.removed)} for state in allowed]
    rows = {row.id for row in answers.get("rows", [])}
    refused = QUESTIONS.keys() - answers.keys() - {name for name, row in ROW_OF.items() if row not in rows}
    if refused and not done.left:
        yield f"was repaired, and yet refused: {refused}"
    answers = {name: answer for name, answer in answers.items() if name not in lost}
    if not right(answers, allowed[-1:] if not done.left else allowed):
        yield f"was repaired wrongly: {wrong(answers, allowed[-1])}; left {done.left}, found {done.found}"


def without(known: Any, removed: list[str]) -> Any:
    """Return rows or recordings without those of some paths."""
    if isinstance(known, dict):
        return {path: one for path, one in known.items() if path not in removed}
    return [row for row in known if row.path not in removed]


def wrong(answers: Answers, state: Answers) -> list[str]:
    return [name for name, answer in answers.items() if not same(answer, state[name])]


def attack(patients: dict[str, Patient], fast: Path, count: int) -> None:
    """Damage the collections `count` times."""
    faults = []
    begun = time.monotonic()
    for number in range(count):
        kind = ("closed", "killed")[number % 2]
        patient = patients[kind]
        damage = corruption.draw(patient.victim, random.Random(f"{seed()} {number}"))
        folder = fast / "damaged"
        try:
            faults += [
                f"{number} {kind}: {damage} {fault}"
                for fault in faults_of(kind, patient, damage, folder, number % REPAIRED == 0)
            ]
        except Exception as error:
            faults.append(f"{number} {kind}: {damage} raises {type(error).__name__}: {error}")
        shutil.rmtree(folder)
    report("damages", count, len(faults), begun, seed())
    assert not faults, f"EMBEDX_SEED={seed()}: {len(faults)} of {count}\n" + "\n".join(faults[:40])


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch off warnings: pytest would keep each one, with its exception and all that this refers to."""
    monkeypatch.setattr(logging.getLogger("embedx"), "disabled", True)


@pytest.mark.usefixtures("quiet")
@fast_and_long("count", 40, 150)
def test_damaged_collection_is_reported_and_never_served(patients: dict[str, Patient], fast: Path, count: int) -> None:
    attack(patients, fast, count)


@pytest.mark.usefixtures("quiet")
@pytest.mark.reliability
def test_damaged_collection_is_reported_and_never_served_many_times(patients: dict[str, Patient], fast: Path) -> None:
    attack(patients, fast, int(os.environ.get("EMBEDX_DAMAGES", "50000")))


def test_damaged_head_and_foreign_file_beside_heads_are_named(tmp_path: Path) -> None:
    embedx.import_vectors(np.eye(4, dtype=np.float32), out=tmp_path / "c").close()
    head = tmp_path / "c" / "heads" / "owl"
    head.mkdir(parents=True)
    (head / "head.json").write_bytes(b"{}")
    (head.parent / "note.txt").touch()
    found = {(issue.kind, Path(issue.place).name) for issue in find_issues(tmp_path / "c")}
    assert found == {("head", "owl"), ("foreign", "note.txt")}


def test_every_foreign_file_is_named_hidden_ones_included(tmp_path: Path) -> None:
    with embedx.import_vectors(np.eye(4, dtype=np.float32), out=tmp_path / "c") as collection:
        collection.indexes.get(collection.recipe.default_view)
    (tmp_path / "c" / "heads" / "owl").mkdir(parents=True)
    names = {".foo", "index/.foo", "heads/.foo", "heads/owl/.foo", ".hidden/", "index/.hidden/", "heads/.hidden/"}
    for name in names:
        path = tmp_path / "c" / name
        path.mkdir() if name.endswith("/") else path.touch()
    for damaged in (False, True):  # a foreign file does not hide the damage of an index
        if damaged:
            next((tmp_path / "c" / "index").glob("*vectors.npy")).write_bytes(b"")
        found = find_issues(tmp_path / "c")
        named = {os.path.relpath(issue.place, tmp_path / "c") for issue in found if issue.kind == "foreign"}
        assert named == {name.rstrip("/") for name in names}
        assert any(issue.kind == "index" for issue in found) == damaged


@pytest.mark.parametrize("name", ["index", "heads", "store.db.new"])
def test_file_in_place_of_a_folder_is_named(tmp_path: Path, name: str) -> None:
    embedx.import_vectors(np.eye(4, dtype=np.float32), out=tmp_path / "c").close()
    place = tmp_path / "c" / name
    place.mkdir() if name == "store.db.new" else place.touch()
    assert [(issue.kind, issue.place) for issue in find_issues(tmp_path / "c")] == [("foreign", str(place))]


def test_file_that_no_index_names_is_foreign_or_left_by_an_interrupted_build(tmp_path: Path) -> None:
    with embedx.import_vectors(np.eye(4, dtype=np.float32), out=tmp_path / "c") as collection:
        collection.indexes.get(collection.recipe.default_view)
        name = f"{collection.recipe.default_view}.cosine"
    index = tmp_path / "c" / "index"
    left = [f"{name}-0123abcd.{end}" for end in ("vectors.npy", "ids.npy", "faiss", "building")] + [f"{name}.json.new"]
    strange = [f"{name}-notes.txt", f"{name}.json.bak", f"{name}-0123abcd.vectors.npy.old", "x", f"{name}.evil"]
    assert not verify_collection(tmp_path / "c").unused
    for each in (*left, *strange):
        (index / each).touch()
    (index / f"{name}-0123abce.ids.npy").symlink_to("/etc/hostname")
    (index / f"{name}-0123abcf.ids.npy").mkdir()
    report = verify_collection(tmp_path / "c")
    link, folder = f"{name}-0123abce.ids.npy", f"{name}-0123abcf.ids.npy"
    assert {Path(issue.place).name for issue in report.found if issue.kind == "foreign"} == {*strange, link, folder}
    assert {Path(file).name for file in report.unused} == set(left)
    for file in index.iterdir():
        os.utime(file, (0, 0), follow_symlinks=False)
    with embedx.open(tmp_path / "c") as collection:
        collection.build_index()
    assert {file.name for file in index.iterdir()} & {*left, *strange, folder} == {*strange, folder}


def test_file_left_by_an_interrupted_training_is_listed(tmp_path: Path) -> None:
    embedx.import_vectors(np.eye(20, dtype=np.float32), out=tmp_path / "c", name="m").close()
    with embedx.open(tmp_path / "c") as collection:
        collection.label(set={"label": "a"}, where="id <= 10")
        collection.label(set={"label": "b"}, where="id > 10")
        collection.fit_head("label", name="owl")
    head = tmp_path / "c" / "heads" / "owl"
    for name in ("head.json.new", "0123456789abcdef.safetensors", "0123456789abcdef.safetensors.new"):
        (head / name).touch()
        report = verify_collection(tmp_path / "c")
        assert ([Path(file).name for file in report.unused], report.found) == ([name], [])
        (head / name).unlink()


@pytest.mark.parametrize("wrong", [1, 2, 4, 5, 6, 7])
def test_repair_of_a_row_with_a_wrong_id_loses_no_other_row(
    wrong: int, write_wav: Callable[..., Path], tmp_path: Path
) -> None:
    """Give a row the id of another row, as damage to one byte of its page does."""
    for number in range(6):
        write_wav(f"in/{number}.wav", seconds=0.5)
    embedx.extract(tmp_path / "in", out=tmp_path / "c").close()
    file = tmp_path / "c" / FILE_NAME
    with contextlib.closing(sqlite3.connect(file)) as db:
        [(root,)] = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'rows'")
        [(size,)] = db.execute("PRAGMA page_size")
    content = bytearray(file.read_bytes())
    page = memoryview(content)[(root - 1) * size : root * size]
    assert page[0] == 0x0D  # all cells are on this page: the length of each, then its id
    third = int.from_bytes(page[8 + 2 * 2 : 8 + 2 * 3])
    while page[third] >= 0x80:  # a length of several bytes
        third += 1
    assert page[third + 1] == 3
    page[third + 1] = wrong
    file.write_bytes(content)
    report = verify_collection(tmp_path / "c", repair=True)
    assert report.found
    if report.left:  # nothing was changed
        assert report.removed == []
        with embedx.open(tmp_path / "c") as collection, pytest.raises(StoreError):
            collection.rows()
    else:  # what was removed comes back
        with embedx.extract(tmp_path / "in", out=tmp_path / "c") as collection:
            assert len(collection) == len(collection.rows()) == 6
