"""Blocks: ranges of row ids whose rows were compared with their checksums, recognised again by a hash of everything in
them.

To compare a row with its checksum takes some microseconds, to hash a block of rows much less. A block with a known hash
holds exactly what was compared before, in whatever state of the store, so only new and changed blocks are compared row
by row. A damaged block has another hash. The hashes of a large collection are also kept in the file `compared`, for the
next process. This file is not part of the truth: damage in it only causes comparisons.
"""

import contextlib
import json
import marshal
import operator
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedx.filesystem.atomic import replace_file
from embedx.store.record import Checksums, RunningTotal, Total

BLOCKS_NAME = "compared"
MIN_NEW = 200  # blocks that a file lacks when it is written again: 51 200 rows, a tenth of a second
MAX_FILE_BYTES = 1 << 26  # of the file: 90 bytes for a block, so 190 million rows; a stranger may have made it

BLOCK_IDS = 256  # row ids in a block: small, so that a few changed rows cause few comparisons
MAX_VALUE_BYTES = 100_000  # of a value in a block that is read at once; others have some hundred
MIN_ID, MAX_ID = -(1 << 63), (1 << 63) - 1  # of SQLite; only a damaged store has negative ids
MARSHAL_VERSION = 2  # numbers as their bytes, texts with their types; the same for equal values

Blocks = Mapping[bytes, Total]  # hash of a block -> the number of its rows and the sum of their checksums


class DamagedBlock(Exception):
    """A row of a block does not match its checksum, or cannot be read."""


@dataclass
class BlockReader:
    """Compares all rows of a table with their checksums, block by block, in the transaction of the connection.

    Attributes:
        db: the connection.
        table: a table whose key is `id`.
        columns: the columns in the checksum of a row, `id` first.
        types: the types that the values of each of these columns can have.
        checksums: of the store.
        known: blocks that were compared before.
        found: all blocks of the table, after `read`.
    """

    db: sqlite3.Connection
    table: str
    columns: str
    types: Sequence[tuple[type, ...]]
    checksums: Checksums
    known: Blocks
    found: dict[bytes, Total] = field(default_factory=dict)

    def read(self) -> Total:
        """Return the number of all rows and the sum of their checksums.

        Raises:
            DamagedBlock: a row does not match its checksum.
        """
        running = RunningTotal()
        for first, last in self._ranges():
            running.add_total(self._read_block(first, last))
        return running.total

    def _ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the first and last id of each block."""
        first: int | None = MIN_ID
        while first is not None:
            ((number,),) = self.db.execute(f"SELECT min(id) FROM {self.table} WHERE id >= ?", (first,)).fetchall()
            if number is None:
                return
            if not isinstance(number, int) or number < first:
                raise DamagedBlock
            last = min(number - number % BLOCK_IDS + BLOCK_IDS - 1, MAX_ID)
            yield number, last
            first = last + 1 if last < MAX_ID else None

    def _read_block(self, first: int, last: int) -> Total:
        """Return the number of rows in a range of ids, and the sum of their checksums."""
        query = f"SELECT checksum, {self.columns} FROM {self.table} WHERE id BETWEEN ? AND ? ORDER BY id"
        with self._plain_texts():
            try:
                with self._short_values():
                    rows = self.db.execute(query, (first, last)).fetchall()
            except sqlite3.DataError:  # a value is long: many of them may not fit into memory
                return self._compare(self.db.execute(query, (first, last)))
        name = self.checksums.block(self.table, marshal.dumps(rows, MARSHAL_VERSION))
        self.found[name] = self.known.get(name) or self._compare(rows)
        return self.found[name]

    @contextlib.contextmanager
    def _plain_texts(self) -> Iterator[None]:
        """Read texts as plain text, which is faster than the `TEXT` of other reads."""
        before, self.db.text_factory = self.db.text_factory, str
        try:
            yield
        except sqlite3.OperationalError as error:
            if hasattr(error, "sqlite_errorcode"):
                raise
            raise DamagedBlock from error  # a text is not valid UTF-8
        finally:
            self.db.text_factory = before

    @contextlib.contextmanager
    def _short_values(self) -> Iterator[None]:
        """Let SQLite refuse values that are longer than MAX_VALUE_BYTES."""
        before = self.db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        try:
            yield
        finally:
            self.db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)

    def _compare(self, rows: Iterable[tuple[Any, ...]]) -> Total:
        """Compare rows with their checksums, and the types of their values with the columns; return their total."""
        running = RunningTotal()
        for stored, *values in rows:
            has_types = all(map(operator.contains, self.types, map(type, values)))
            if not has_types or self.checksums.row(self.table, values) != stored:
                raise DamagedBlock
            running.add((stored,))
        return running.total


def load_blocks(folder: Path) -> dict[str, dict[bytes, Total]]:
    """Return table -> blocks from the file of a collection; nothing if it is missing or damaged."""
    file = folder / BLOCKS_NAME
    with contextlib.suppress(OSError, ArithmeticError, ValueError, TypeError, AttributeError, RecursionError):
        if file.is_file() and not file.is_symlink() and file.stat().st_size <= MAX_FILE_BYTES:
            tables = json.loads(file.read_text("ascii"))
            return {
                str(table): {bytes.fromhex(name): (int(rows), int(total)) for name, (rows, total) in blocks.items()}
                for table, blocks in tables.items()
            }
    return {}


def save_blocks(folder: Path, tables: Mapping[str, Blocks]) -> None:
    """Write the file of a collection, if that is possible: a reader may have no permission, or no room on the disk."""
    content = {table: {name.hex(): total for name, total in blocks.items()} for table, blocks in tables.items()}
    data = json.dumps(content).encode()
    if len(data) <= MAX_FILE_BYTES:
        with contextlib.suppress(OSError):
            replace_file(folder / BLOCKS_NAME, data)
