"""Atomic writes: a file is written completely or not at all, even if the power fails."""

import contextlib
import ctypes
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h and linux/fs.h; see renameat2(2)


def replace_file(file: Path, data: bytes) -> None:
    """Write a new file next to `file`, flush it to the disk, rename it over `file`, and flush the folder."""
    with whole_file(file) as handle:
        handle.write(data)


@contextlib.contextmanager
def whole_file(file: Path) -> Iterator[BinaryIO]:
    """Open a new file next to `file`; at the end of the block flush and rename it, after an error remove it.

    Two processes that replace the same file wait for each other.
    """
    new = file.with_name(file.name + ".new")
    if new.is_symlink():  # a stranger may have put it there: the file behind it is not overwritten
        new.unlink()
    with open(open_alone(new), "wb") as handle:
        try:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
            os.replace(new, file)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    sync_folder(file.parent)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Create a new folder next to `folder`. At the end of the block it replaces `folder`; after an error it is removed.

    Linux exchanges the two in one step. On other systems a crash between two renames leaves the old one as `.old`.
    """
    new, old = (folder.with_name(folder.name + ending) for ending in (".new", ".old"))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        yield new
        for file in new.iterdir():
            sync_folder(file)  # it also flushes a file
        sync_folder(new)
        if folder.exists() and exchange(new, folder):
            sync_folder(folder.parent)
            shutil.rmtree(new, ignore_errors=True)  # now the old one
        elif folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
            os.rename(new, folder)
        else:
            os.rename(new, folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False if this system cannot do it."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0


def open_alone(file: Path) -> int:
    """Open an empty file for writing, but not through a link; wait while another process has it open like this."""
    while True:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):  # the other process has renamed it
                if os.path.samestat(os.fstat(handle), os.stat(file, follow_symlinks=False)):
                    os.ftruncate(handle, 0)
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that a rename in it survives a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, and flush them to the disk."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)
