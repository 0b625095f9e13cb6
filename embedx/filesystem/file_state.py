"""File state: whether a file was changed, and whether a process locks it, without reading it."""

import contextlib
import fcntl
import os

FileState = tuple[int, int, int, int] | None  # inode, size, time of the last change of content and of the entry


def state_of_file(path: str | os.PathLike[str]) -> FileState:
    """Return the state of a file, which differs after every change; None if the file is missing."""
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    return None


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Tell whether a process holds the exclusive lock of a file."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
