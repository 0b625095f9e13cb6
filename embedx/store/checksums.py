"""Checked reading: rows are compared with their checksums, whole tables and the store with the commit record."""

import contextlib
import json
import operator
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedx.errors import LockedError, StoreError
from embedx.filesystem.file_state import state_of_file
from embedx.store.blocks import MIN_NEW, BlockReader, Blocks, DamagedBlock, load_blocks, save_blocks
from embedx.store.connections import UnlockedConnection, connect, wrap_errors, wrap_sqlite_errors
from embedx.store.forks import FORKS
from embedx.store.lock import LockContent, read_lock
from embedx.store.record import Checksums, Record, RunningTotal, Total, total_of
from embedx.store.schema import SUMMED, all_of, read_record, types_of

Value = TypeVar("Value")
KEPT_STATES = 8  # per table: threads that began to read at different times know different states
BLOCK = 2048  # rows that are read at a time: 6 MB of vectors of 768 float32
ATTEMPTS = 1000  # to read `lock` and the store between two commits; one attempt takes less than a millisecond


State = tuple[object, ...]


class Compared:
    """What was compared; the threads that read a collection share it, so that each state is compared once."""

    def __init__(self) -> None:
        self._locks: dict[str, threading.RLock] = {}
        self._states: dict[str, tuple[State, ...]] = {}
        self.blocks: dict[str, dict[bytes, Total]] | None = None  # table -> its blocks when they were compared last

    def lock(self, what: str) -> threading.RLock:
        """Return the lock of the thread that compares something; other things are compared meanwhile."""
        return self._locks.setdefault(what, threading.RLock())

    def has(self, what: str, state: State) -> bool:
        """Tell whether something was compared in a state."""
        return state in self._states.get(what, ())

    def add(self, what: str, state: State) -> None:
        """Remember that something was compared in a state."""
        self._states[what] = (*self._states.get(what, ()), state)[-KEPT_STATES:]

    def carry(self, token: str, state: State) -> None:
        """Remember that what was compared in the state with a token needs no new comparison in the next state."""
        for what, known in list(self._states.items()):
            if any(one[0] in (token, state[0]) for one in known):
                self.add(what, state)


class OlderState(StoreError):
    """The store is an older state than the commit record in `lock`."""


class Checked:
    """Read the tables of a store; raise for values that differ from their checksum, and for missing rows."""

    folder: Path
    file: Path
    _db: sqlite3.Connection
    _opened: LockContent  # when the connection was made
    _record: Record  # of the state that is read, or that the transaction makes
    _checksums: Checksums
    _compared: Compared
    _files: State | None  # of the files when the transaction began; None: not looked at yet
    _known: dict[str, tuple[State, Any]]  # what -> the state that it was read in, and the value
    _is_changing = False  # a transaction of this store changes it; all tables were compared when it began

    @property
    def record(self) -> Record:
        """The commit record of the state that is read."""
        with self.snapshot():
            return self._record

    @property
    def state(self) -> State:
        """What is equal only while neither the store nor its files change, as the key of what is kept in memory."""
        with self.snapshot():
            return self._state()

    @property
    def generation(self) -> int:
        """A number that grows with every change of rows or vectors: an index of another generation is out of date."""
        return self.record.generation

    @property
    def rewritten(self) -> int:
        """The last generation that replaced vectors of existing rows; 0 if none did."""
        return self.record.rewritten

    def next_id(self) -> int:
        """Return an id that is higher than all ids that were ever used."""
        return self.record.next_id

    def count(self) -> int:
        """Return the number of rows."""
        return self.record.tables["rows"][0]

    def interrupt(self) -> None:
        """Stop what another thread reads with this connection: its query fails."""
        self._db.interrupt()

    def ids(self) -> NDArray[np.int64]:
        """Return the ids of all rows, ascending.

        Raises:
            StoreError: rows are missing.
        """
        blocks, running = [np.zeros(0, np.int64)], RunningTotal()
        with self.snapshot():
            cursor = self._db.execute("SELECT id, checksum FROM rows ORDER BY id")
            while rows := cursor.fetchmany(BLOCK):
                blocks.append(np.array([row_id for row_id, _ in rows], np.int64))
                running.add(checksum for _, checksum in rows)
            self._require_total("rows", running.total)
        ids = np.concatenate(blocks)
        if (np.diff(ids) <= 0).any():
            raise StoreError(f"{self.file} is damaged: the table rows is not in order.")
        return ids

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Within this context, read one state of the store, whatever other processes commit meanwhile.

        Raises:
            StoreError: the store is not in the state of its last commit.
        """
        if self._db.in_transaction:
            with wrap_sqlite_errors(self.file):
                yield
            return
        with FORKS.hold_off():
            with wrap_errors(self.file):
                content = self._begin()
            with wrap_sqlite_errors(self.file):  # errors of the system inside this context are those of other files
                try:
                    yield
                finally:
                    self._files = None
                    self._db.execute("COMMIT")
        with wrap_errors(self.file):
            if isinstance(self._db, UnlockedConnection) and read_lock(self.folder) != content:
                raise LockedError(f"{self.file} was changed while it was read without locks. Run the command again.")

    def _begin(self) -> LockContent:
        """Begin to read, compare the commit record of the store with its copy in `lock`, and return the lock."""
        content = read_lock(self.folder)
        if isinstance(self._db, UnlockedConnection) and content != self._opened:
            self._db.close()  # a writer has started since it was opened, and SQLite would not notice the changes
            self._db, self._opened = connect(self.file, "ro"), content
        for _ in range(ATTEMPTS):
            self._db.execute("BEGIN")
            try:
                self._load_record()
                if self._is_current(content):
                    return content
            except BaseException:
                self._db.execute("COMMIT")
                raise
            self._db.execute("COMMIT")
            before, content = content, read_lock(self.folder)
            if before == content:  # else a writer has committed meanwhile
                raise self._mismatch(content)
        raise LockedError(f"{self.file} changes all the time. Run the command again.")

    def _load_record(self) -> None:
        """Read the commit record of the current transaction."""
        self._record, self._files = read_record(self._db, self.file), None
        self._checksums = Checksums(self._record.store)

    def _is_current(self, content: LockContent) -> bool:
        """Tell whether the store is in the state that the newest copy of its commit record describes.

        A folder may have been copied without `lock`, and a lock of an older embedx has no copies.
        """
        return self._record.is_at(content.copies[-1]) if content.copies else not content.has_sectors

    def _mismatch(self, content: LockContent) -> StoreError:
        """Return the error for a store that does not match `lock`."""
        lock, log = self.folder / "lock", Path(f"{self.file}-wal")
        if not content.copies:
            return StoreError(f"{lock} is damaged. `embedx verify {self.folder} --repair` writes it again.")
        newest = content.copies[-1]
        if newest.store != self._record.store:
            return StoreError(
                f"{self.file} and {lock} belong to two collections. Restore the right file, or copy the whole folder."
            )
        has_log = log.exists() and log.stat().st_size > 0
        reason = f"{log} is damaged or of another time" if has_log else f"the file is old, or {log.name} is missing"
        return OlderState(
            f"{self.file} is in the state of commit {self._record.change}, but the last one was {newest.change}: "
            f"{reason}. Restore both files, or accept this state with `embedx verify {self.folder} --repair`."
        )

    def _query(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Return the rows of a query; checksums are not compared."""
        with wrap_errors(self.file):
            return self._db.execute(sql, values).fetchall()

    def _checked(self, table: str, which: str = "", values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Return rows of a table, after their checksums were compared; refuse a damaged row by name."""
        return list(self._stream(table, which, values))

    def _stream(self, table: str, which: str = "", values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield what `_checked` returns, row by row.

        A whole table is compared with the commit record at the end. So is a table of which a few rows are read, before:
        a stale page has none that is wrong.
        """
        running = RunningTotal()
        known: set[tuple[type, ...]] = set()  # types of the values of rows, which were compared with the columns
        is_whole = not which.startswith("WHERE")
        with self.snapshot():
            if not is_whole:
                self._compare(table)
            for stored, *rest in self._db.execute(f"SELECT checksum, {SUMMED[table]} FROM {table} {which}", values):
                if self._checksums.row(table, rest) != stored:
                    raise StoreError(
                        f"{describe(table, rest)} in {self.file} is damaged (its checksum differs). `embedx verify "
                        f"{self.folder}` lists all damage."
                    )
                if (types := tuple(map(type, rest))) not in known:
                    if not all(map(operator.contains, types_of(table), types)):
                        raise StoreError(
                            f"{self.file} is damaged: {describe(table, rest)} has a value of a wrong type."
                        )
                    known.add(types)
                running.add((stored,))
                yield tuple(rest)
            if is_whole:
                self._require_total(table, running.total)

    def _check_all(self, table: str) -> None:
        """Compare all rows of a table with their checksums, and the table with the commit record."""
        for _ in self._stream(table):
            pass

    def _check_blocks(self, *tables: str) -> None:
        """Do what `_check_all` does; blocks of rows that were compared before, in any state, are only hashed."""
        if self._compared.blocks is None:
            self._compared.blocks = load_blocks(self.folder)
        blocks, new = self._compared.blocks, 0
        with self.snapshot():
            for table in tables:
                known = blocks.get(table, {})
                found = self._read_blocks(table, known)
                if found is None and known:  # the file can be wrong
                    found = self._read_blocks(table, {})
                if found is None:
                    self._check_all(table)  # it names what is damaged
                blocks[table] = found or {}
                new += len(blocks[table].items() - known.items())
                self._compared.add(table, self._state())
        if new >= MIN_NEW:
            save_blocks(self.folder, blocks)

    def _read_blocks(self, table: str, known: Blocks) -> dict[bytes, Total] | None:
        """Return the blocks of a table, after its rows were compared with the commit record; None if they differ."""
        reader = BlockReader(self._db, table, SUMMED[table], types_of(table), self._checksums, known)
        with contextlib.suppress(DamagedBlock):
            if reader.read() == self._record.tables.get(table, (0, 0)):
                return reader.found
        return None

    def _require_total(self, table: str, total: Total) -> None:
        """Check that the checksums of all rows of a table add up: a stale or lost page has none that is wrong."""
        expected = self._record.tables.get(table, (0, 0))
        if total != expected:
            raise StoreError(
                f"{self.file} is damaged: the table {table} should hold {expected[0]} entries, but it holds "
                f"{total[0]}, or others. `embedx verify {self.folder}` lists all damage."
            )

    def _stored_total(self, table: str) -> Total:
        """Return the number of rows in a table and the sum of the checksums that are stored in it."""
        with wrap_errors(self.file):
            return total_of(checksum for (checksum,) in self._db.execute(f"SELECT checksum FROM {all_of(table)}"))

    def _compare(self, *tables: str, keys: bool = False) -> None:
        """Compare the checksums in tables with the commit record, once for every state, and with `keys` their keys."""
        if self._is_changing:
            return
        with self.snapshot():
            for table in tables:
                with self._compared.lock(table):
                    if not self._is_compared(table):
                        self._require_total(table, self._stored_total(table))
                        self._compared.add(table, self._state())
                if keys:
                    self._compare_keys(table)

    def _compare_keys(self, table: str) -> None:
        """Let SQLite compare the keys of a table with its rows, once for every state."""
        what = f"keys of {table}"
        with self._compared.lock(what):
            if not self._is_compared(what):
                [problem] = self._query(f"PRAGMA integrity_check({table})")[0]
                if problem != "ok":
                    raise StoreError(f"{self.file} is damaged: {problem}.")
                self._compared.add(what, self._state())

    def _state(self) -> State:
        """Return the state of the store and of its files, as they were when the transaction began."""
        if self._files is None:
            self._files = state_of_file(self.file), state_of_file(f"{self.file}-wal")
        return (self._record.token, *self._files)

    def _once(self, what: str, read: Callable[[], Value]) -> Value:
        """Return what a function reads; it is called once for every state of the store and of its files."""
        if self._is_changing:
            return read()
        with self.snapshot():
            if what not in self._known or self._known[what][0] != self._state():
                self._known[what] = self._state(), read()
            value: Value = self._known[what][1]
        return value

    def _is_compared(self, what: str) -> bool:
        """Tell whether something was compared in this state; if not, empty the cache, which can hide damage."""
        if self._compared.has(what, self._state()):
            return True
        self._query("PRAGMA shrink_memory")
        return False


def describe(table: str, values: Sequence[Any]) -> str:
    """Return the name of a damaged row of a table for a message.

    >>> describe("rows", [3, b"a.wav", 0])
    'Row 3'
    """
    if table == "rows":
        return f"Row {values[0]}"
    return f"The entry {values[0]} of the table {table}"


def with_ids(ids: Iterable[int], column: str = "id") -> tuple[str, tuple[str, ...]]:
    """Return the SQL condition for rows with any number of ids in a column, and its only value."""
    return f"WHERE {column} IN (SELECT value FROM json_each(?))", (json.dumps([int(number) for number in ids]),)
