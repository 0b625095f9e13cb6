"""Running: how far the extraction is that fills a collection, so that others can show it while it runs.

The process that extracts locks the file `run` and writes one sector into it, again and again in place. The system
releases the lock when the process ends, so what a killed run has left is not taken for a running one.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from embedx.filesystem.file_state import is_locked
from embedx.store.lock import SECTOR, pack, unpack

RUN_NAME = "run"
WRITE_S = 0.5  # between two writes


class RunNote:
    """The note of a running extraction. It is only shown: a disk that refuses it does not stop the run.

    Args:
        folder: the folder of the collection, whose lock this process holds.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / RUN_NAME
        self._handle: int | None = None
        self._written = float("-inf")

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):  # the disk refuses the file: the run goes on without it
            self._handle = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            fcntl.flock(self._handle, fcntl.LOCK_EX)  # a reader that looks holds it for an instant
        return self

    def write(self, values: Mapping[str, Any]) -> None:
        """Write how far the run is, at most twice a second."""
        if self._handle is None or time.monotonic() - self._written < WRITE_S:
            return
        self._written = time.monotonic()
        with contextlib.suppress(OSError):  # a full disk stops the run where it commits, not here
            os.pwrite(self._handle, pack(dict(values)), 0)

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            with contextlib.suppress(OSError):  # a file that is left is not locked, so nobody takes it for a run
                self.file.unlink()
            os.close(self._handle)


def read_run(folder: Path) -> dict[str, Any] | None:
    """Return what the extraction that is running now has written about itself; None if none is running."""
    file = folder / RUN_NAME
    with contextlib.suppress(OSError):  # the run has ended meanwhile and removed its file, or it cannot be read
        if file.is_file() and is_locked(file):
            with file.open("rb") as handle:
                return unpack(handle.read(SECTOR)) or None
    return None
