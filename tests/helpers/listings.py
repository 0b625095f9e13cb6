"""Folders that cannot be listed: os.scandir fails for them as the system call would."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock


@contextlib.contextmanager
def failing_listings(*folders: Path, error: int = errno.EIO, after: int = 0) -> Iterator[None]:
    """Let the listing of folders fail, at once or after some entries."""
    real, broken = os.scandir, {os.fspath(folder) for folder in folders}

    class Listing:
        """A listing that ends with the error."""

        def __init__(self, folder: str) -> None:
            self.folder, self.left, self.entries = folder, after, real(folder)

        def __enter__(self) -> "Listing":
            return self

        def __exit__(self, *details: object) -> None:
            self.entries.close()

        def __iter__(self) -> "Listing":
            return self

        def __next__(self) -> "os.DirEntry[str]":
            self.left -= 1
            if self.left < 0:
                raise OSError(error, os.strerror(error), self.folder)
            return next(self.entries)

    def scandir(path: Any = ".") -> Any:
        if isinstance(path, int) or os.fspath(path) not in broken:
            return real(path)
        if not after:
            raise OSError(error, os.strerror(error), path)
        return Listing(os.fspath(path))

    with mock.patch("os.scandir", scandir):
        yield
