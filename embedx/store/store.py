"""Store: rows, vectors, failures and recipe in one SQLite file, which is the truth.

A recording and all its windows and views appear in one transaction or not at all. Every row of every table carries a
checksum, which is compared when it is read. The file opens with any SQLite client (indexes/README.md describes it);
everything else in the folder is derived from it and can be deleted.
"""

import contextlib
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedx.errors import StoreError, UsageError
from embedx.filesystem.atomic import sync_folder
from embedx.recipe import Recipe
from embedx.store.lock import Lock, Note, read_note
from embedx.store.schema import (
    FILE_NAME,
    MIGRATIONS,
    check_version,
    connect,
    count_changes,
    explained,
    migrate,
    write_empty,
)
from embedx.store.writing import Writer

CACHE_KIB = 16_384  # of pages that a commit changes: they go to the log once, not whenever SQLite's 2 MB are full


class Store(Writer):
    """The open store of a collection. One process writes, which a lock sees to; any number read.

    Raises:
        UsageError: there is no collection in the folder.
        LockedError: another process is writing.
        StoreError: the file is damaged, foreign, or of a newer version.
        DiskError: the system refuses to read or write.
    """

    def __init__(self, folder: str | os.PathLike[str], *, write: bool = False, wait: bool = False) -> None:
        self.folder = Path(folder)
        self.file = self.folder / FILE_NAME
        if not self.file.is_file():
            raise UsageError(f"There is no collection in {self.folder} (no {FILE_NAME}). `embedx extract` makes one.")
        with explained(self.folder):
            self._lock = Lock(self.folder, wait=wait) if write else None
        try:
            with explained(self.file):
                note = self._find_note()
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
                elif note.state is not None:
                    self._compare_with(note.state)
        except BaseException:
            self._unlock()
            raise

    def _update_format(self, version: int, wait: bool) -> None:
        if self._lock is not None:
            self._lock.break_seal()
            migrate(self._db, version)
            return
        if not os.access(self.folder, os.W_OK):
            raise StoreError(
                f"{self.file} has the older format {version}, and cannot be brought up to date because its folder "
                "cannot be written. Copy the collection to a place where you may write."
            )
        Store(self.folder, write=True, wait=wait).close()

    def _find_note(self) -> Note:
        """Return what the last writer noted beside the store.

        Raises:
            StoreError: a log lies beside a store that was sealed without one: SQLite would believe it.
        """
        log = Path(f"{self.file}-wal")
        try:
            note = read_note(self.folder) if self._lock is None else self._lock.note
            if note.seal is None or not log.is_file() or not log.stat().st_size:
                return note
            if self._lock is None and read_note(self.folder) != note:  # a writer has begun meanwhile
                return Note()
        except StoreError:  # a damaged lock is in nobody's way; `verify` finds it
            return Note()
        raise StoreError(f"{log} is no part of {self.file}, which was sealed without one. Move it away.")

    def _compare_with(self, state: Mapping[str, Any]) -> None:
        """Refuse an older copy of the file, or that of another collection, beside the lock of this one.

        A store that has grown since it was in this state still knows the token of that generation.
        """
        try:
            known = self.token(state["generation"]) == state["token"]
            newer = int(self._get("labelled")) >= state["labelled"]
        except StoreError:  # this very entry is damaged: what reads it will say so
            return
        if not (known and newer):
            raise StoreError(
                f"{self.file} is an older copy, or belongs to another collection: it is not what the last writer left "
                f"(see {self.folder / 'lock'}). Put the right file back, or copy the whole folder."
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
        """Open the store of a folder for writing, and make both where they are not there yet.

        Raises:
            RecipeMismatch: the store holds vectors of another recipe.
            UsageError: the folder holds other things.
        """
        path = Path(folder)
        if not (path / FILE_NAME).exists():
            write_empty(path, recipe, dim, dtype)
        store = cls(path, write=True, wait=wait)
        try:
            recipe.require_same(store.recipe, str(path))
            if store.dtype != dtype:
                raise UsageError(f"{path} stores vectors as {store.dtype}: repeat --store-dtype {store.dtype}.")
            if recipe != store.recipe:  # the model lies elsewhere by now
                with store._transaction():
                    store._set("recipe", recipe.to_json())
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the file and let go of the lock. A writer seals what it leaves, if no reader is in its way."""
        state: dict[str, Any] | None = None
        if self._lock is not None and self._lock.note.seal is None:
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
    """Make sure that the log of a store is empty or gone on the disk too, before a seal says so."""
    with contextlib.suppress(FileNotFoundError), open(f"{file}-wal", "rb") as log:
        os.fsync(log.fileno())
    sync_folder(file.parent)
