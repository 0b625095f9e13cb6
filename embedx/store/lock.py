"""Lock: who writes a collection, and the seal that the last writer left.

The file `lock` names the writer in its first line. A writer that closes properly adds a second one, the seal: the size
and hash of the store as it left it. A store that is sealed and not as the seal says has been damaged; without a seal
its last writer is at work, or was killed.
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
from pathlib import Path
from typing import Any

from embedx.errors import LockedError, StoreError

LOCK_NAME = "lock"
POLL_S = 0.2  # between two looks at a lock that is waited for


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
            self.seal: dict[str, Any] | None = None
            with contextlib.suppress(StoreError):
                self.seal = read_seal(folder)
            self._write()
        except BaseException:
            os.close(self._handle)
            raise

    def break_seal(self) -> None:
        """Take the seal away, before the store is changed."""
        if self.seal is not None:
            self.seal = None
            self._write()
            os.fsync(self._handle)

    def set_seal(self, file: Path) -> None:
        """Seal a store that no one will change until the next writer comes."""
        self.seal = {"size": file.stat().st_size, "sha256": hash_file(file)}
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
        lines = f"process {os.getpid()} on {socket.gethostname()}\n"
        if self.seal is not None:
            lines += json.dumps(self.seal | {"sum": zlib.crc32(json.dumps([lines, self.seal]).encode())}) + "\n"
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, lines.encode(), 0)


def read_seal(folder: Path) -> dict[str, Any] | None:
    """Return the seal of a folder; None where the last writer left none.

    Raises:
        StoreError: the file is not what a writer writes.
    """
    try:
        head, _, tail = (folder / LOCK_NAME).read_bytes().decode().partition("\n")
        if not tail:
            return None
        seal: dict[str, Any] = json.loads(tail)
        found = seal.pop("sum")
        if zlib.crc32(json.dumps([head + "\n", seal]).encode()) == found:
            return seal
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, AttributeError):
        pass
    raise StoreError(f"{folder / LOCK_NAME} is damaged.")


def hash_file(file: Path, hasher: Callable[[], Any] = hashlib.sha256) -> str:
    """Return the hash of a file."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, hasher).hexdigest()
