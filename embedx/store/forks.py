"""Forks: while this process is forked, no other thread of it is inside SQLite.

SQLite has locks for the whole process. One that another thread holds at this moment would be locked for ever in the
child; and a read that has begun would look to the child like its own, so that it would take no lock on the file.
"""

import concurrent.futures.thread  # noqa: F401 -- registers its functions for a fork before ours
import contextlib
import os
import threading
from collections.abc import Iterator

MAX_WAIT_S = 5.0  # for reads of other threads before a fork: a search takes less than a second


class Forks:
    """Lets a fork wait until no other thread uses a store, and these threads until it is done."""

    def __init__(self) -> None:
        self._users: dict[int, int] = {}  # thread -> number of contexts that it is in
        self._start()

    def _start(self) -> None:
        self._changed = threading.Condition()
        self._is_forking = False

    @contextlib.contextmanager
    def hold_off(self) -> Iterator[None]:
        """Within this context other threads do not fork; wait at its beginning while one does."""
        thread = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: not self._is_forking or thread in self._users)
            self._users[thread] = self._users.get(thread, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._users[thread] -= 1
                if not self._users[thread]:
                    del self._users[thread]
                    self._changed.notify_all()

    def begin(self) -> None:
        """Wait until no other thread uses a store; called before a fork."""
        self._changed.acquire()
        self._is_forking = True
        self._changed.wait_for(lambda: self._users.keys() <= {threading.get_ident()}, MAX_WAIT_S)

    def end(self) -> None:
        """Let the threads of the parent go on."""
        self._is_forking = False
        self._changed.notify_all()
        self._changed.release()

    def begin_child(self) -> None:
        """Forget the threads of the parent, which the child does not have."""
        self._users = {thread: count for thread, count in self._users.items() if thread == threading.get_ident()}
        self._start()


FORKS = Forks()
# The function that is registered last is called first: concurrent.futures then takes its lock, which filters need.
os.register_at_fork(before=FORKS.begin, after_in_parent=FORKS.end, after_in_child=FORKS.begin_child)
