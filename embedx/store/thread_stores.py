"""ThreadStores: the store of a collection for reading, opened once by every thread that uses it."""

import threading
from pathlib import Path

from embedx.errors import UsageError
from embedx.store.checksums import Compared
from embedx.store.store import Store

LEFT_TO_PARENT: list["ThreadStores"] = []  # in a forked process: SQLite must not close a connection of its parent


class ThreadStores:
    """The stores of the threads of this process; a connection of SQLite reads one state at a time, for one thread.

    Args:
        folder: the folder of the collection.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stores: dict[threading.Thread, Store] = {}
        self._compared = Compared()
        self._is_closed = False

    def get(self) -> Store:
        """Return the store of this thread, and open it at the first call.

        Raises:
            UsageError: the collection was closed, or there is none in the folder.
            StoreError: the store is damaged.
        """
        thread = threading.current_thread()
        store = self._stores.get(thread)
        if store is None:
            if self._is_closed:
                raise UsageError(f"The collection {self.folder} is closed. Open it again with embedx.open.")
            self._close([other for other in list(self._stores) if not other.is_alive()])
            store = self._stores[thread] = Store(self.folder, compared=self._compared)
        return store

    def close(self) -> None:
        """Close the stores of all threads."""
        self._is_closed = True
        self._close(list(self._stores))

    def leave_to_parent(self) -> None:
        """Keep the stores of the parent process open and unused, after a fork."""
        LEFT_TO_PARENT.append(self)

    def _close(self, threads: list[threading.Thread]) -> None:
        """Close the stores of some threads."""
        for thread in threads:
            store = self._stores.pop(thread, None)
            if store is not None:
                store.close()
