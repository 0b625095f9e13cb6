"""Compared: which tables of a store were compared with the commit record, in which state of the store and its files."""

import threading
from collections import deque
from pathlib import Path

from embedx.filesystem.file_state import state_of_file

KEPT_STATES = 8  # per table: threads that began to read at different times know different states
State = tuple[object, ...]


class Compared:
    """What was compared; the threads that read a collection share it, so that each state is compared once."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # of the thread that compares
        self._states: dict[str, deque[State]] = {}

    def has(self, what: str, state: State) -> bool:
        """Tell whether something was compared in a state."""
        return state in self._states.get(what, ())

    def add(self, what: str, state: State) -> None:
        """Remember that something was compared in a state."""
        self._states.setdefault(what, deque(maxlen=KEPT_STATES)).append(state)

    def carry(self, token: str, state: State) -> None:
        """Remember that what was compared in the state with a token needs no new comparison in the next state."""
        for known in self._states.values():
            if any(one[0] in (token, state[0]) for one in known):
                known.append(state)


def state_of_files(file: Path) -> State:
    """Return inode, size and times of change of a SQLite file and its log: damage from outside changes them."""
    return state_of_file(file), state_of_file(f"{file}-wal")
