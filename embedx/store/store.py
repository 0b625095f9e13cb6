"""Store: open, close and lock the SQLite file of a collection."""

import contextlib
import os
import sqlite3
from pathlib import Path

from embedx.errors import EmbedxError, StoreError, UsageError
from embedx.filesystem.urls import require_folder
from embedx.recipe import Recipe
from embedx.store.checksums import Compared
from embedx.store.connections import connect, wrap_errors
from embedx.store.creation import migrate, write_empty
from embedx.store.forks import FORKS
from embedx.store.lock import Lock, read_lock
from embedx.store.repair import Repairer
from embedx.store.schema import FILE_NAME, MIGRATIONS, check_schema, check_version, vector_tables

CACHE_KIB = 16_384  # page cache of a writer: a commit writes a page once; with the default of 2 MB it can be often


class Store(Repairer):
    """The open store of a collection. A lock allows one process to write; any number of processes can read.

    Args:
        folder: the folder of the collection.
        write: open the store for writing, and take the lock.
        wait: wait while another process writes, instead of raising LockedError.
        compared: what other threads have compared already.

    Raises:
        UsageError: there is no collection in the folder.
        LockedError: another process is writing.
        StoreError: the file is damaged, is not an embedx store, or was made by a newer embedx.
        DiskError: the file cannot be read or written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        write: bool = False,
        wait: bool = False,
        compared: Compared | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.file = self.folder / FILE_NAME
        self._compared = compared or Compared()
        self._known = {}
        if not self.file.is_file():
            raise UsageError(f"There is no collection in {self.folder} (no {FILE_NAME}). `embedx extract` creates one.")
        with wrap_errors(self.folder):
            self._lock = Lock(self.folder, wait=wait) if write else None
        try:
            with FORKS.hold_off(), wrap_errors(self.file):
                if write:
                    refuse_journal(self.file)
                # A writer reads first: SQLite would write a log that does not belong to the file into it.
                self._opened = read_lock(self.folder)
                self._db = connect(self.file, "ro", is_writer=write)
                version = check_version(self._db, self.file)
                check_schema(self._db, self.file, version)
                if version < len(MIGRATIONS):
                    self._update_format(version, wait)
                with self.snapshot():
                    self._refuse_foreign_tables()
                if self._lock is not None:
                    self._db.close()
                    self._db = self._connect_writer()
                    self._lock.keep(self._record.copy)
        except BaseException:
            self._release()
            raise

    def _refuse_foreign_tables(self) -> None:
        """Refuse tables of vectors that belong to no view."""
        try:
            known = vector_tables(self.recipe)
        except EmbedxError:  # a damaged recipe is refused when it is used
            return
        stored = self._query("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'vectors_*'")
        foreign = [name for (name,) in stored if name not in known]
        if foreign:
            raise StoreError(f"{self.file} is damaged, or no embedx store: {foreign[0]!r} is unknown.")

    def _connect_writer(self) -> sqlite3.Connection:
        """Open the file for writing."""
        db = connect(self.file, "rw")
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", f"cache_size = -{CACHE_KIB}"):
            db.execute(f"PRAGMA {pragma}")
        db.create_function("checksum_of", -1, lambda table, *values: self._checksums.row(table, values))
        return db

    def _update_format(self, version: int, wait: bool) -> None:
        """Update a store of an older format; a reader opens it for writing to do so."""
        if read_lock(self.folder).copies:
            raise StoreError(f"{self.file} is an older copy with format {version}: it does not match `lock`.")
        if not os.access(self.folder, os.W_OK):
            raise StoreError(
                f"{self.file} has the older format {version}, and cannot be updated because its folder is read-only. "
                "Copy the collection to a folder that you can write to."
            )
        if self._lock is None:
            Store(self.folder, write=True, wait=wait).close()
        else:
            with contextlib.closing(self._connect_writer()) as db:
                migrate(db, version)

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
        require_folder(folder)
        path = Path(folder)
        if not (path / FILE_NAME).exists():
            write_empty(path, recipe, dim, dtype)
        store = cls(path, write=True, wait=wait)
        try:
            if not store.count():
                store.restart(recipe, dim, dtype)
            recipe.require_same(store.recipe, str(path))
            if store.dtype != dtype:
                raise UsageError(f"{path} stores vectors as {store.dtype}. Use --store-dtype {store.dtype}.")
            if recipe != store.recipe:  # the model has moved
                store.move_model(recipe)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the file and release the lock."""
        if self._lock is not None:
            with contextlib.suppress(sqlite3.Error):  # readers can keep SQLite from emptying the log
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._release()

    def _release(self) -> None:
        """Close the file, if it is open, and release the lock."""
        if hasattr(self, "_db"):
            self._db.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def refuse_journal(file: Path) -> None:
    """Refuse to write a store with a rollback journal: SQLite would write it into the file. A store never has one."""
    journal = Path(f"{file}-journal")
    if journal.exists() and journal.stat().st_size:
        raise StoreError(f"{journal} does not belong to {file}. Move it away.")
