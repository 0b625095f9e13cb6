"""Answers while other code changes the collection: each is one state that was committed, and none is an error."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import embedx
from embedx.collection.labelling import label_rows
from embedx.store.records import Recording, Row
from embedx.store.store import Store
from tests.helpers.amounts import fast_and_long
from tests.helpers.collections import DIM, build_collection, clusters
from tests.helpers.service import Client, Reply, serving
from tests.reliability.report import report

ROWS, READERS = 60, 3
State = dict[int, str | None]  # row id -> label


class Model:
    """The states that the collection has had or is about to have."""

    def __init__(self, rows: State) -> None:
        self.states: list[State] = [rows]
        self.answers: list[tuple[tuple[int, int], str, Any]] = []  # (generation, revision), question, content
        self.faults: list[str] = []
        self.is_done = threading.Event()

    def change(self, state: State, commit: Callable[[], object]) -> None:
        """Commit a change; its state is known before anybody can see it."""
        self.states.append(state)
        commit()

    def ask(self, client: Client) -> None:
        """Ask all questions again and again."""
        base = f"/v1/collections/{next(iter(client.service.collections))}"
        every = {"id": 1, "limit": 1000, "exclude_self": False}
        questions: dict[str, Callable[[], Reply]] = {
            "rows": lambda: client.get(f"{base}/rows?limit=1000"),
            "search": lambda: client.post(f"{base}/search", every),
            "filter": lambda: client.post(f"{base}/search", every | {"filter": "label = 'c1' or label = 'new'"}),
            "count": lambda: client.get(base),
        }
        while not self.is_done.is_set():
            for name, question in questions.items():
                reply = question()
                if reply.status != 200:
                    self.faults.append(f"{name}: {reply.status} {reply.body[:300]!r}")
                    return
                self.answers.append(
                    ((reply.json["generation"], reply.json["revision"]), name, content(name, reply.json))
                )

    def check(self) -> None:
        """Check that every answer is one of the states, and that all answers of one generation and revision agree."""
        assert not self.faults, self.faults
        expected: dict[str, list[Any]] = {
            "rows": self.states,
            "search": self.states,
            "filter": [{row: label for row, label in one.items() if label in ("c1", "new")} for one in self.states],
            "count": [len(one) for one in self.states],
        }
        seen: dict[tuple[tuple[int, int], str], Any] = {}
        for state, name, answer in self.answers:
            assert answer in expected[name], (name, state, answer)
            assert seen.setdefault((state, name), answer) == answer, (name, state)
        assert len({state for state, *_ in self.answers}) > 3  # the readers have seen changes


def content(name: str, answer: dict[str, Any]) -> Any:
    """Return what an answer says about the collection."""
    if name == "count":
        return answer["rows"]
    return {row["id"]: row["label"] for row in answer["rows" if name == "rows" else "hits"]}


def make_changes(folder: Path, model: Model, rounds: int) -> None:
    """Label, add, delete, and build the index, in turn."""
    random = np.random.default_rng(0)
    state = dict(model.states[0])
    with embedx.open(folder) as collection:
        for number in range(rounds):
            label = f"c{number % 3}"
            state = dict.fromkeys(state, label)
            values = {row: {"label": label} for row in state}
            model.change(state, lambda values=values: label_rows(folder, values))  # type: ignore[misc]
            with Store(folder, write=True) as store:
                row = store.next_id()
                new = Row(row, f"/new{row}.wav", 0.0, 1.0, "new", None, None, (), {})
                vector = random.standard_normal(DIM).astype(np.float32)
                batch = [(Recording(new.path, 1, 1, "[]"), [(new, {"L0.mean": vector})])]
                state = {**state, row: "new"}
                model.change(state, lambda store=store, batch=batch: store.add(batch, store.start_run({})))  # type: ignore[misc]
            collection.build_index()
            state = {row: label for row, label in state.items() if row != max(state)}
            gone = max(model.states[-1])
            model.change(state, lambda gone=gone: collection.remove(where=f"id = {gone}"))  # type: ignore[misc]


@fast_and_long("rounds", fast=3, long=15, variable="EMBEDX_SERVICE_ROUNDS")
def test_answers_during_changes_are_states_of_the_collection(tmp_path: Path, rounds: int) -> None:
    vectors, labels = clusters(ROWS, 3, 0.3)
    with build_collection(tmp_path, vectors, labels) as collection:
        folder = collection.folder
    begun = time.monotonic()
    model = Model({number + 1: label for number, label in enumerate(labels)})
    with serving(folder) as client:
        readers = [threading.Thread(target=model.ask, args=(client,)) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        try:
            make_changes(folder, model, rounds)
        finally:
            model.is_done.set()
            for reader in readers:
                reader.join()
    report("service: answers during changes", len(model.answers), len(model.faults), begun)
    model.check()
