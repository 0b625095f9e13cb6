"""Lock: which process writes a collection, and the copies of its last commit record.

The file has three sectors of 512 bytes, which a disk writes whole or not at all. The first names the process that
writes. The other two hold copies of commit records in turn, so that one of them is always complete.
"""

import contextlib
import fcntl
import json
import os
import socket
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embedx.errors import LockedError, StoreError
from embedx.store.record import Copy

LOCK_NAME = "lock"
SECTOR = 512  # bytes that every disk writes whole
SECTORS = 3  # the holder and two copies
POLL_S = 0.2  # between two attempts to take a lock


@dataclass(frozen=True)
class LockContent:
    """The content of the file `lock`."""

    data: bytes = b""

    @property
    def holder(self) -> str:
        """The process that has or had the lock; empty if it is not known."""
        return str(unpack(self.data[:SECTOR]).get("holder", ""))

    @property
    def copies(self) -> list[Copy]:
        """The complete copies, the newest one last."""
        found = [unpack(self.data[start : start + SECTOR]) for start in range(SECTOR, SECTOR * SECTORS, SECTOR)]
        copies = [Copy(str(one["store"]), int(one["change"]), str(one["sum"])) for one in found if "sum" in one]
        return sorted(copies, key=lambda copy: copy.change)

    @property
    def has_sectors(self) -> bool:
        """Whether a writer of this format has written copies, also if they are damaged now."""
        return len(self.data) > SECTOR

    @property
    def is_intact(self) -> bool:
        """Whether everything in the file is as it was written."""
        return len(self.data) == SECTOR * SECTORS and bool(self.holder) and len(self.copies) == SECTORS - 1


class Lock:
    """The lock of the process that writes a folder; the system releases it when the process ends.

    Args:
        folder: the folder.
        wait: wait while another process has the lock, instead of raising LockedError.

    Raises:
        LockedError: another process has the lock, and `wait` is not set.
        StoreError: the file is a link.
    """

    def __init__(self, folder: Path, *, wait: bool = False) -> None:
        self.folder = folder
        if (folder / LOCK_NAME).is_symlink():
            raise StoreError(
                f"{folder / LOCK_NAME} is a link to another file, which is not overwritten. Delete the link."
            )
        self._handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        self._kept: Copy | None = None  # the copy that was written last
        try:
            while not self._try():
                if not wait:
                    holder = LockContent(os.pread(self._handle, SECTOR, 0)).holder
                    raise LockedError(
                        f"{folder} is being written by {holder or 'another process'}. Wait for it (--wait), or stop it."
                    )
                time.sleep(POLL_S)
            self._put(0, pack({"holder": f"process {os.getpid()} on {socket.gethostname()}", "since": time.time_ns()}))
        except BaseException:
            os.close(self._handle)
            raise

    def keep(self, copy: Copy) -> None:
        """Write the copy of a commit record and flush it, unless it is there; called after every commit."""
        if copy == self._kept:
            return
        if self._kept is None:  # the first one by this process: whatever is incomplete is replaced
            content = read_lock(self.folder)
            if not content.is_intact or content.copies[-1] != copy:
                self._put(SECTOR, 2 * pack(asdict(copy)))
                os.ftruncate(self._handle, SECTOR * SECTORS)
                os.fsync(self._handle)
        else:
            self._put(SECTOR * (1 + copy.change % 2), pack(asdict(copy)))
            os.fsync(self._handle)
        self._kept = copy

    def forget(self) -> None:
        """Remove the copies, so that the store is accepted as it is."""
        os.ftruncate(self._handle, SECTOR)
        os.fsync(self._handle)

    def release(self) -> None:
        """Release the lock."""
        os.close(self._handle)

    def _try(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _put(self, start: int, data: bytes) -> None:
        """Write sectors in place, since a renamed file would be another lock."""
        if os.pwrite(self._handle, data, start) != len(data):
            raise OSError(f"{self.folder / LOCK_NAME} was written in part")


def pack(values: dict[str, Any]) -> bytes:
    """Return a sector with values and their checksum."""
    text = json.dumps(values)[: SECTOR - 10]
    return f"{zlib.crc32(text.encode()):08x} {text}".ljust(SECTOR - 1).encode() + b"\n"


def unpack(sector: bytes) -> dict[str, Any]:
    """Return the values of a sector; nothing if it is not complete."""
    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(sector[9:])
        if isinstance(values, dict) and pack(values) == sector:
            return values
    return {}


def read_lock(folder: Path) -> LockContent:
    """Return the content of the lock file; nothing if there was no writer yet.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        return LockContent((folder / LOCK_NAME).read_bytes())
    except FileNotFoundError:
        return LockContent()
    except OSError as error:
        raise StoreError(f"{folder / LOCK_NAME} cannot be read: {error.strerror}.") from error
