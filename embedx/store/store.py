"""Store: open, close, lock and seal the SQLite file of a collection."""

import contextlib
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedx.errors import StoreError, UsageError
from embedx.filesystem.atomic import sync_folder
from embedx.recipe import Recipe
from embedx.store.lock import Lock, LockContent, read_lock
from embedx.store.schema import (
    FILE_NAME,
    MIGRATIONS,
    check_version,
    connect,
    count_changes,
    migrate,
    wrap_errors,
    write_empty,
)
from embedx.store.writing import Writer

CACHE_KIB = 16_384  # page cache of a writer: a commit writes a page once; with the default of 2 MB it can be often


class Store(Writer):
    """The open store of a collection. A lock allows one process to write; any number of processes can read.

    Args:
        folder: the folder of the collection.
        write: open the store for writing, and take the lock.
        wait: wait while another process writes, instead of raising LockedError.

    Raises:
        UsageError: there is no collection in the folder.
        LockedError: another process is writing.
        StoreError: the file is damaged, is not an embedx store, or was made by a newer embedx.
        DiskError: the file cannot be read or written.
    """

    def __init__(self, folder: str | os.PathLike[str], *, write: bool = False, wait: bool = False) -> None:
        self.folder = Path(folder)
        self.file = self.folder / FILE_NAME
        if not self.file.is_file():
            raise UsageError(f"There is no collection in {self.folder} (no {FILE_NAME}). `embedx extract` creates one.")
        with wrap_errors(self.folder):
            self._lock = Lock(self.folder, wait=wait) if write else None
        try:
            with wrap_errors(self.file):
                content = self._read_lock()
                self._db = connect(self.file, "rw" if write else "ro")
                version = check_version(self._db, self.file)
                if write:
                    self._db.execute("PRAGMA journal_mode = WAL")
                    self._db.execute("PRAGMA synchronous = FULL")
                    self._db.execute("PRAGMA foreign_keys = ON")
                    self._db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
                    count_changes(self._db)
                if version < len(MIGRATIONS):
                    self._update_format(version, wait)
                elif content.state is not None:
                    self._compare_with(content.state)
        except BaseException:
            self._unlock()
            raise

    def _update_format(self, version: int, wait: bool) -> None:
        """Update a store of an older format; a reader opens it for writing to do so."""
        if self._lock is not None:
            self._lock.break_seal()
            migrate(self._db, version)
            return
        if not os.access(self.folder, os.W_OK):
            raise StoreError(
                f"{self.file} has the older format {version}, and cannot be updated because its folder is read-only. "
                "Copy the collection to a folder that you can write to."
            )
        Store(self.folder, write=True, wait=wait).close()

    def _read_lock(self) -> LockContent:
        """Return what the last writer left in the lock file.

        Raises:
            StoreError: there is a log, but the store was sealed without one; SQLite would apply it.
        """
        log = Path(f"{self.file}-wal")
        try:
            content = read_lock(self.folder) if self._lock is None else self._lock.content
            if content.seal is None or not log.is_file() or not log.stat().st_size:
                return content
            if self._lock is None and read_lock(self.folder) != content:  # a writer has started meanwhile
                return LockContent()
        except StoreError:  # reading needs no lock file; `verify` finds the damage
            return LockContent()
        raise StoreError(f"{log} does not belong to {self.file}, which was sealed without a log. Move it away.")

    def _compare_with(self, state: Mapping[str, Any]) -> None:
        """Refuse an older copy of the file, or the file of another collection, next to this lock file.

        A store that has grown since this state still has the token of its generation.
        """
        try:
            known = self.token(state["generation"]) == state["token"]
            newer = int(self._get("labelled")) >= state["labelled"]
        except StoreError:  # this entry is damaged: whatever needs it will report that
            return
        if not (known and newer):
            raise StoreError(
                f"{self.file} is an older copy, or belongs to another collection: it does not match "
                f"{self.folder / 'lock'}. Restore the right file, or copy the whole folder."
            )

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        recipe: Recipe,
        dim: int,
        dtype: str = "float32",
        *,
        wait: bool = False,
    ) -> "Store":
        """Open the store of a folder for writing; make the folder and the store if they do not exist.

        Args:
            folder: the folder of the collection.
            recipe: the recipe of the vectors.
            dim: the dimension of the vectors.
            dtype: how vectors are stored: "float32" or "float16".
            wait: wait while another process writes, instead of raising LockedError.

        Raises:
            RecipeMismatch: the store has another recipe.
            UsageError: the folder exists and is not a collection, or the store has another dtype.
            LockedError: another process is writing.
        """
        path = Path(folder)
        if not (path / FILE_NAME).exists():
            write_empty(path, recipe, dim, dtype)
        store = cls(path, write=True, wait=wait)
        try:
            recipe.require_same(store.recipe, str(path))
            if store.dtype != dtype:
                raise UsageError(f"{path} stores vectors as {store.dtype}. Use --store-dtype {store.dtype}.")
            if recipe != store.recipe:  # the model has moved
                with store._transaction():
                    store._set("recipe", recipe.to_json())
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the file and release the lock. A writer seals the store, unless a reader prevents it."""
        state: dict[str, Any] | None = None
        if self._lock is not None and self._lock.content.seal is None:
            with contextlib.suppress(sqlite3.Error, StoreError):
                if self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0:
                    generation, labelled = self.generation, int(self._get("labelled"))
                    state = {"generation": generation, "token": self.token(generation), "labelled": labelled}
        self._db.close()
        if state is not None and self._lock is not None:
            with contextlib.suppress(OSError):
                sync_log(self.file)
                self._lock.set_seal(self.file, state)
        self._unlock()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def sync_log(file: Path) -> None:
    """Flush the emptied log of a store to the disk, before a seal says that there is none."""
    with contextlib.suppress(FileNotFoundError), open(f"{file}-wal", "rb") as log:
        os.fsync(log.fileno())
    sync_folder(file.parent)
