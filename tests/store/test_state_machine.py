"""A store equals a dictionary after any sequence of changes, crashes and reopenings."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from numpy.typing import NDArray

from embedx.collection.verify import find_issues
from embedx.index.manager import IndexManager
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row, Vectors
from embedx.store.store import Store
from tests.helpers.amounts import fast_and_long
from tests.reliability.report import report, seed

DIM = 5
RECIPE = Recipe("logmel", "", "00", 16_000, (0, 1), ("mean",))
LABELS = (None, "owl", "otter", "öre", "it's")
NAMES = [f"/{name}.wav" for name in "abcdefgh"]
METRICS = ("cosine", "ip", "l2")
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # what is flushed here need not survive

Model = dict[int, tuple[Row, Vectors]]  # id -> what was stored


@dataclass
class Known:
    """The expected contents of a store."""

    rows: Model = field(default_factory=dict)
    recordings: dict[str, Recording] = field(default_factory=dict)

    def copy(self) -> "Known":
        return Known(dict(self.rows), dict(self.recordings))

    def drop(self, paths: set[str]) -> None:
        self.recordings = {path: one for path, one in self.recordings.items() if path not in paths}
        self.rows = {number: one for number, one in self.rows.items() if one[0].path not in paths}


def made(random: np.random.Generator) -> Vectors:
    return {view: random.standard_normal(DIM).astype(np.float32) for view in RECIPE.views}


def scores(metric: str, query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Score by the definition, in double precision."""
    q, v = query.astype(float), vectors.astype(float)
    if metric == "l2":
        return np.asarray(-np.linalg.norm(v - q, axis=1))
    if metric == "cosine":
        return np.asarray(v @ q / np.linalg.norm(v, axis=1) / np.linalg.norm(q))
    return np.asarray(v @ q)


class StoreMachine(RuleBasedStateMachine):
    """Every rule does the same to a store and to a dictionary; the invariants compare the two."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(mkdtemp(dir=FAST))
        self.folder = self.home / "0"
        self.store = Store.create(self.folder, RECIPE, DIM)
        self.indexes = IndexManager(self.store.folder, lambda: self.store)
        self.reader = Store(self.folder)
        self.known = Known()
        self.random = np.random.default_rng(0)
        self.given: set[int] = set()  # ids that were ever used
        self.generation = self.labelled = 0
        self.crashes = count(1)

    @initialize(number=st.integers(0, 2**32 - 1))
    def begin(self, number: int) -> None:
        self.random = np.random.default_rng(number)

    def teardown(self) -> None:
        try:
            self.reader.close()
            self.store.close()
            assert find_issues(self.folder) == []
        finally:
            shutil.rmtree(self.home)

    # changes ------------------------------------------------------------------------------------------------------

    @rule(
        names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
        windows=st.integers(0, 6),
        label=st.sampled_from(LABELS),
        failed=st.booleans(),
    )
    def add(self, names: list[str], windows: int, label: str | None, failed: bool) -> None:
        """Add new recordings, or replace existing ones."""
        batch, number = [], self.store.next_id()
        for name in names:
            reason = "empty" if failed and windows == 0 else ""
            one = Recording(
                name, int(self.random.integers(1000)), 5, "[[0.0, null]]", f"of {name}", 3.0, 8000, 1, (), reason
            )
            rows = []
            for i in range(windows):
                meta = {"fold": int(self.random.integers(3)), "site": self.random.choice(["a", "b"]).item()}
                row = Row(number, name, i / 2, i / 2 + 1, label, None, None, ("padded",), meta)
                rows.append((row, made(self.random)))
                number += 1
            batch.append((one, rows))
        new = {row.id for _, rows in batch for row, _ in rows}
        assert not new & self.given, "an id was used twice"
        self.store.add(batch, self.store.start_run({"sources": names}))
        self.given |= new
        self.known.drop(set(names))
        self.known.recordings |= {one.path: one for one, _ in batch}
        self.known.rows |= {row.id: (row, vectors) for _, rows in batch for row, vectors in rows}

    @rule(fold=st.integers(0, 2), start=st.sampled_from((0.0, 0.5, 1.5)), metric=st.sampled_from(METRICS))
    def delete(self, fold: int, start: float, metric: str) -> None:
        """Remove rows that match a condition; a recording is removed with its last row."""
        self.search(metric, RECIPE.default_view, 1000, None)
        if not self.given:
            return  # no column of metadata is known yet
        gone = {n for n, (row, _) in self.known.rows.items() if row.meta["fold"] == fold and row.start_s >= start}
        found = self.store.filter(f"fold = {fold} AND start_s >= {start}").tolist()
        assert set(found) == gone
        if gone:
            self.store.delete(found)
        touched = {self.known.rows[number][0].path for number in gone}
        self.known.rows = {number: one for number, one in self.known.rows.items() if number not in gone}
        self.known.drop(touched - {row.path for row, _ in self.known.rows.values()})
        self.search(metric, RECIPE.default_view, 1000, None)

    @rule(label=st.sampled_from(LABELS), fold=st.integers(0, 3), share=st.integers(1, 3))
    def relabel(self, label: str | None, fold: int, share: int) -> None:
        """Change a label and a metadata value."""
        some = [row for number, (row, _) in self.known.rows.items() if number % share == 0]
        changed = [replace(row, label=label, meta={**row.meta, "fold": fold}) for row in some]
        if changed:
            self.store.relabel(changed)
        self.known.rows |= {row.id: (row, self.known.rows[row.id][1]) for row in changed}

    @rule(names=st.lists(st.sampled_from(NAMES), max_size=2))
    def forget(self, names: list[str]) -> None:
        """Remove recordings with all their rows; some do not exist."""
        self.store.forget(names)
        self.known.drop(set(names))

    @rule(old=st.sampled_from(NAMES), new=st.sampled_from(NAMES))
    def relink(self, old: str, new: str) -> None:
        """Move a recording to another path."""
        if old not in self.known.recordings or new in self.known.recordings:
            return
        moved = replace(self.known.recordings[old], path=new, size=77)
        self.store.relink({old: moved})
        del self.known.recordings[old]
        self.known.recordings[new] = moved
        for number, (row, vectors) in self.known.rows.items():
            if row.path == old:
                self.known.rows[number] = replace(row, path=new), vectors

    @precondition(lambda self: self.known.rows)
    @rule(metric=st.sampled_from(METRICS))
    def rewrite(self, metric: str) -> None:
        """Change the vectors of a row that is already in an index."""
        self.search(metric, RECIPE.default_view, 1000, None)
        number = int(self.random.choice(list(self.known.rows)))
        vectors = made(self.random)
        self.store.rewrite([(number, vectors)])
        self.known.rows[number] = self.known.rows[number][0], vectors
        self.search(metric, RECIPE.default_view, 1000, None)

    @rule()
    def compact(self) -> None:
        """Compact the file."""
        self.store.compact()

    # closing, crashing --------------------------------------------------------------------------------------------

    @rule()
    def reopen(self) -> None:
        """Close and reopen the writer and the reader."""
        self.reader.close()
        self.store.close()
        self.open()

    @rule()
    def crash(self) -> None:
        """Continue with a copy of the folder and its log, as after a crash."""
        after = self.home / str(next(self.crashes))
        shutil.copytree(self.folder, after)
        self.reader.close()
        self.store.close()
        self.folder = after
        assert find_issues(after) == []
        self.open()

    def open(self) -> None:
        self.store = Store(self.folder, write=True)
        self.indexes = IndexManager(self.store.folder, lambda: self.store)
        self.reader = Store(self.folder)

    @rule()
    def verify(self) -> None:
        """Verify finds no damage, also during writing."""
        assert find_issues(self.folder) == []

    # comparing ----------------------------------------------------------------------------------------------------

    @rule(
        metric=st.sampled_from(METRICS),
        view=st.sampled_from(RECIPE.views),
        k=st.integers(1, 12),
        fold=st.sampled_from((None, 0, 1)),
    )
    def search(self, metric: str, view: str, k: int, fold: int | None) -> None:
        """The nearest rows equal the definition, whatever the index was built from."""
        if not self.known.rows:
            return
        query = self.random.standard_normal(DIM).astype(np.float32)
        keep = None if fold is None else self.store.filter(f"fold = {fold}")
        found, ids = self.indexes.ask(view, metric, lambda index: index.search(query[None], k, include_ids=keep))
        wanted = [n for n, (row, _) in sorted(self.known.rows.items()) if fold is None or row.meta["fold"] == fold]
        assert len(ids[0]) == min(k, len(wanted))
        assert len(set(ids[0].tolist())) == len(ids[0])
        if wanted:
            every = scores(metric, query, np.stack([self.known.rows[number][1][view] for number in wanted]))
            np.testing.assert_allclose(found[0], np.sort(every)[::-1][:k], atol=1e-4)
            by_id = dict(zip(wanted, every.tolist(), strict=True))
            np.testing.assert_allclose(found[0], [by_id[number] for number in ids[0].tolist()], atol=1e-4)

    @invariant()
    def both_see_what_is_known(self) -> None:
        """The writer and a reader that was opened earlier agree with the dictionary."""
        expected = [row for _, (row, _) in sorted(self.known.rows.items())]
        for store in (self.store, self.reader):
            assert store.rows() == expected
            assert store.count() == len(expected)
            assert store.recordings() == self.known.recordings
            view = RECIPE.views[len(self.given) % 2]
            ids, vectors = store.vectors(view)
            assert ids.tolist() == [row.id for row in expected]
            for number, vector in zip(ids.tolist(), vectors, strict=True):
                assert vector.tobytes() == self.known.rows[number][1][view].tobytes()

    @invariant()
    def generations_only_grow(self) -> None:
        """Tokens of earlier states never equal the current one."""
        assert self.store.generation >= self.generation
        self.generation = self.store.generation
        assert self.store.token(self.generation) is not None or self.generation == 0
        assert self.store.next_id() > max(self.given, default=0)


@contextmanager
def told(name: str, machines: int) -> Iterator[None]:
    """Report the result."""
    begun = time.monotonic()
    print(f"EMBEDX_SEED={seed()}")
    failures = 1
    try:
        yield
        failures = 0
    finally:
        report(name, machines, failures, begun, seed())


def run_machines(kind: Any, machines: int, steps: int) -> None:
    """Run a number of state machines for a number of steps each."""
    chosen = settings(
        max_examples=int(os.environ.get("EMBEDX_MACHINES", machines)),
        stateful_step_count=int(os.environ.get("EMBEDX_STEPS", steps)),
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    with told(kind.__name__, chosen.max_examples):
        run_state_machine_as_test(with_seed(seed())(kind), settings=chosen)


@fast_and_long("machines", 5, 20)
def test_store_equals_dictionary_after_any_operations(machines: int) -> None:
    run_machines(StoreMachine, machines, 50)


@pytest.mark.reliability
def test_store_equals_dictionary_after_many_operations() -> None:
    run_machines(StoreMachine, 2000, 100)
