"""Lock: who writes a collection, and the seal that the last writer left.

The file `lock` names the writer in its first line. The second one says how far the store had come when a writer last
closed it properly, and holds the seal until the next one changes it: size and hash. A store that is sealed and not as
the seal says has been damaged; without a seal its last writer is at work, or was killed.
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
POLL_S = 0.2  # between two looks at a lock that is waited for


@dataclass(frozen=True)
class Note:
    """What a writer that closed properly left."""

    seal: dict[str, Any] | None = None  # size and sha256 of the store, until the next writer changes it
    state: dict[str, Any] | None = None  # generation with its token, and the count of changes of labels


class Lock:
    """The writer's lock of a folder; the system lets go of it when the process dies.

    Raises:
        LockedError: another process holds it, and `wait` is not set.
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
            self.note = Note()
            with contextlib.suppress(StoreError):
                self.note = read_note(folder)
            self._write()
        except BaseException:
            os.close(self._handle)
            raise

    def break_seal(self) -> None:
        """Take the seal away, before the store is changed."""
        if self.note.seal is not None:
            self.note = Note(None, self.note.state)
            self._write()
            os.fsync(self._handle)

    def set_seal(self, file: Path, state: dict[str, Any]) -> None:
        """Seal a store that no one will change until the next writer comes; `state` says how far it has come."""
        self.note = Note({"size": file.stat().st_size, "sha256": hash_file(file)}, state)
        self._write()

    def release(self) -> None:
        """Let go."""
        os.close(self._handle)

    def _try(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _write(self) -> None:
        """Write in place, since a renamed file would be another lock. A kill leaves it empty: that is no seal."""
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        second = [self.note.seal, self.note.state]
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{holder}\n{json.dumps([*second, sum_of(holder, second)])}\n".encode(), 0)


def sum_of(holder: str, second: list[Any]) -> int:
    """Return the checksum of what is in the file."""
    return zlib.crc32(json.dumps([holder, *second]).encode())


def read_note(folder: Path) -> Note:
    """Return what the last writer noted; nothing where there was none yet.

    Raises:
        StoreError: the file is not what a writer writes.
    """
    try:
        text = (folder / LOCK_NAME).read_bytes().decode()
        if not text:  # for an instant, while it is written
            return Note()
        holder, line, end = text.split("\n")
        *second, found = json.loads(line)
        if end == "" and sum_of(holder, second) == found:
            return Note(*second)
    except FileNotFoundError:
        return Note()
    except OSError as error:
        raise StoreError(f"{folder / LOCK_NAME} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError):
        pass
    raise StoreError(f"{folder / LOCK_NAME} is damaged.")


def hash_file(file: Path, hasher: Callable[[], Any] = hashlib.sha256) -> str:
    """Return the hash of a file."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, hasher).hexdigest()
