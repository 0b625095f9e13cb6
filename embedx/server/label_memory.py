"""LabelMemory: what the service remembers about changes of labels: answers to repeated requests, and who has set what.

It is kept in memory. After a restart a repeated request finds its values set, and changes nothing.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

MAX_ANSWERS = 10_000  # of requests with a key; a page repeats a request for some minutes
MAX_CHANGES = 2_000  # whose cells are known; a page can undo 200
MAX_CELLS = 100_000  # whose author is known

Cell = tuple[int, str]  # row and column
Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Change:
    """A change that was made through the service: by whom, and the values of its cells after it."""

    by: str | None
    cells: Mapping[Cell, Any]


class LabelMemory:
    """What the service remembers about the changes of a collection; `lock` is held while one is made."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answers: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.changes: OrderedDict[int, Change] = OrderedDict()
        self.authors: OrderedDict[Cell, str | None] = OrderedDict()

    def once(self, key: str | None, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the answer to a request; a request with the same key was answered before, and is not made again."""
        with self.lock:
            if key is not None and key in self.answers:
                return self.answers[key]
            answer = make()
            if key is not None:
                put(self.answers, key, answer, MAX_ANSWERS)
            return answer

    def note(self, revision: int, by: str | None, cells: Mapping[Cell, Any]) -> None:
        """Remember a change."""
        put(self.changes, revision, Change(by, cells), MAX_CHANGES)
        for cell in cells:
            put(self.authors, cell, by, MAX_CELLS)


def put(memory: OrderedDict[Key, Value], key: Key, value: Value, limit: int) -> None:
    """Add an item, and forget the oldest above a number."""
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > limit:
        memory.popitem(last=False)
