"""Lock: which process writes a collection, and the seal of the last writer.

The first line of the file `lock` names the process that writes. The second line holds the seal, which is the size and
the hash of the store, and the state of the store when a writer last closed it properly. The next writer removes the
seal before it changes the store. A sealed store that does not match its seal is damaged; without a seal a writer is
active, or was killed.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import socket
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedx.errors import LockedError, StoreError

LOCK_NAME = "lock"
POLL_S = 0.2  # between two attempts to take a lock


@dataclass(frozen=True)
class LockContent:
    """What the last writer left in the file when it closed the store properly."""

    seal: dict[str, Any] | None = None  # size and sha256 of the store; None if a writer has changed it since
    state: dict[str, Any] | None = None  # generation, its token, and the number of changes of labels


class Lock:
    """The lock of the process that writes a folder; the system releases it when the process ends.

    Args:
        folder: the folder.
        wait: wait while another process has the lock, instead of raising LockedError.

    Raises:
        LockedError: another process has the lock, and `wait` is not set.
    """

    def __init__(self, folder: Path, *, wait: bool = False) -> None:
        self.folder = folder
        self._handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            while not self._try():
                if not wait:
                    holder = os.pread(self._handle, 200, 0).decode("utf-8", "replace").split("\n")[0]
                    raise LockedError(
                        f"{folder} is being written by {holder or 'another process'}. Wait for it (--wait), or stop it."
                    )
                time.sleep(POLL_S)
            self.content = LockContent()
            with contextlib.suppress(StoreError):
                self.content = read_lock(folder)
            self._write()
        except BaseException:
            os.close(self._handle)
            raise

    def break_seal(self) -> None:
        """Remove the seal, before the store is changed."""
        if self.content.seal is not None:
            self.content = LockContent(None, self.content.state)
            self._write()
            os.fsync(self._handle)

    def set_seal(self, file: Path, state: dict[str, Any]) -> None:
        """Seal a store that does not change until the next writer opens it; `state` describes it."""
        self.content = LockContent({"size": file.stat().st_size, "sha256": hash_file(file)}, state)
        self._write()

    def release(self) -> None:
        """Release the lock."""
        os.close(self._handle)

    def _try(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _write(self) -> None:
        """Write the file in place, since a renamed file would be another lock. A kill leaves it empty: no seal."""
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        second = [self.content.seal, self.content.state]
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{holder}\n{json.dumps([*second, sum_of(holder, second)])}\n".encode(), 0)


def sum_of(holder: str, second: list[Any]) -> int:
    """Return the checksum of the content of the file."""
    return zlib.crc32(json.dumps([holder, *second]).encode())


def read_lock(folder: Path) -> LockContent:
    """Return what the last writer left in the lock file; nothing if there was no writer yet.

    Raises:
        StoreError: the file is damaged or cannot be read.
    """
    try:
        text = (folder / LOCK_NAME).read_bytes().decode()
        if not text:  # a writer is writing it now, or was killed meanwhile
            return LockContent()
        holder, line, end = text.split("\n")
        *second, checksum = json.loads(line)
        if end == "" and sum_of(holder, second) == checksum:
            return LockContent(*second)
    except FileNotFoundError:
        return LockContent()
    except OSError as error:
        raise StoreError(f"{folder / LOCK_NAME} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError):
        pass
    raise StoreError(f"{folder / LOCK_NAME} is damaged.")


def hash_file(file: Path, hasher: Callable[[], Any] = hashlib.sha256) -> str:
    """Return the hash of a file."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, hasher).hexdigest()
