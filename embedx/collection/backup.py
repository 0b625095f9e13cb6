"""Backup: a consistent copy of a collection, made while other processes use it."""

import os
import shutil
from pathlib import Path

from embedx.collection.verify import find_issues
from embedx.errors import StoreError, UsageError
from embedx.filesystem.atomic import make_folder, sync_folder, whole_folder
from embedx.filesystem.paths import display_path
from embedx.index.manager import FOLDER
from embedx.store.connections import wrap_errors
from embedx.store.store import Store

HEADS = "heads"
ATTEMPTS = 10  # to copy heads while another process replaces one


def backup(folder: str | os.PathLike[str], out: str | os.PathLike[str]) -> int:
    """Copy a collection with its heads and indexes; a writer may be active.

    The copy is checked like `embedx verify` does. It holds one committed state. An index that changes meanwhile is left
    out, because a search builds it again.

    Args:
        folder: the folder of the collection.
        out: the new folder; it appears complete or not at all.

    Returns:
        The size of the copy in bytes.

    Raises:
        UsageError: there is no collection, or `out` exists.
        StoreError: the collection is damaged.
        DiskError: the disk is full or cannot be written.
    """
    source, target = Path(folder), Path(out)
    if target.exists() or target.is_symlink():
        raise UsageError(f"{display_path(str(target))} exists. Give the name of a new folder.")
    with Store(source) as store, wrap_errors(target):
        make_folder(target.absolute().parent)
        with whole_folder(target) as new:
            # Before the store, which then knows the state of every index.
            copy_folder(source / FOLDER, new / FOLDER, is_needed=False)
            copy_folder(source / HEADS, new / HEADS)
            store.copy_to(new)
            issues = find_issues(new)
            if any(Path(issue.place).parent.name == FOLDER for issue in issues):
                shutil.rmtree(new / FOLDER)
                issues = find_issues(new)
            if issues:
                raise StoreError(
                    f"{display_path(str(source))} is damaged: {issues[0].place}: {issues[0].detail} "
                    f"`embedx verify {display_path(str(source))}` lists all damage."
                )
            for path in new.rglob("*"):
                sync_folder(path)  # it also flushes a file
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


def copy_folder(source: Path, target: Path, *, is_needed: bool = True) -> None:
    """Copy a folder if it exists; begin again if another process changes it meanwhile.

    Files that are still being written are left out, and if it changes all the time and is not needed, the whole folder.
    """
    for attempt in range(ATTEMPTS):
        if not source.is_dir():
            return
        try:
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.building", "*.new"))
            return
        except shutil.Error:
            shutil.rmtree(target)
            if attempt == ATTEMPTS - 1 and is_needed:
                raise
