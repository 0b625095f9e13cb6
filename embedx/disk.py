"""Disk: writing so that a file is there whole or not at all, even after a power cut."""

import os
from pathlib import Path


def replace_file(file: Path, data: bytes) -> None:
    """Write beside the file, flush to the disk, rename over it, and flush the folder."""
    new = file.with_name(file.name + ".new")
    with open(new, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(new, file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename inside a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
