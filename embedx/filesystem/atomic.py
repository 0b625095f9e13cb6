"""Atomic writes: a file is written completely or not at all, even if the power fails."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def replace_file(file: Path, data: bytes) -> None:
    """Write a new file next to `file`, flush it to the disk, rename it over `file`, and flush the folder."""
    with whole_file(file) as handle:
        handle.write(data)


@contextlib.contextmanager
def whole_file(file: Path) -> Iterator[BinaryIO]:
    """Open a new file next to `file`; at the end of the block flush and rename it, after an error remove it."""
    new = file.with_name(file.name + ".new")
    try:
        with open(new, "wb") as handle:
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

    No system renames a folder over one that has files: a crash between the two renames leaves the old one as `.old`.
    """
    new, old = (folder.with_name(folder.name + ending) for ending in (".new", ".old"))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        yield new
        for file in new.iterdir():
            sync_folder(file)  # it also flushes a file
        sync_folder(new)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
        os.rename(new, folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


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
