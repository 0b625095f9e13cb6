"""Disk: writing so that a file is there whole or not at all, even after a power cut."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def replace_file(file: Path, data: bytes) -> None:
    """Write beside the file, flush to the disk, rename over it, and flush the folder."""
    with whole_file(file) as handle:
        handle.write(data)


@contextlib.contextmanager
def whole_file(file: Path) -> Iterator[BinaryIO]:
    """Open a new file beside `file`; it is flushed and takes the name when the block ends, and goes if that fails."""
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
    """Make a new folder beside `folder` and hand it out; it takes the name, and the place of an older one, at the end.

    No system renames over a folder with files in it: a crash between two renames leaves the old one as `.old`.
    """
    new, old = (folder.with_name(folder.name + ending) for ending in (".new", ".old"))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        yield new
        for file in new.iterdir():
            sync_folder(file)  # a file is flushed in the same way
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
    """Make a rename inside a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder with all above it, where they are missing, so that they survive a power cut."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync_folder(one.parent)
