"""The commit record: what a store contains after its last commit.

Every row of every table has a checksum. The record holds, for every table, the number of rows and the sum of their
checksums modulo 2^128. A change adds and subtracts the checksums of the rows that it changes, as they stand in the
file: a row that was lost or replaced outside of embedx keeps the sum wrong for ever. Each record also holds the hash of
the record before it. `lock` holds the hash of the newest record, so that a store that has lost commits is noticed.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

SIZE = 16  # bytes of a checksum: two different rows never have the same one by chance
MODULUS = 1 << 8 * SIZE
NO_SUM = bytes(SIZE)  # the checksum of a row that was damaged before checksums had this format
NUMBERS = ("change", "generation", "rewritten", "next_id")  # fields of a record

Total = tuple[int, int]  # number of rows, sum of their checksums


@dataclass(frozen=True)
class Copy:
    """What `lock` holds of a commit record: the store, the number of the commit, and the hash of the record."""

    store: str
    change: int
    sum: str


@dataclass(frozen=True)
class Record:
    """The state of a store after a commit."""

    store: str  # random id of the store; the key of its checksums
    change: int = 0  # number of commits
    generation: int = 0  # number of commits that changed rows or vectors
    rewritten: int = 0  # the last generation that replaced vectors of existing rows
    next_id: int = 1  # higher than all ids of rows that were ever used
    token: str = field(default_factory=lambda: secrets.token_hex(8))  # random: no other state has it
    before: str = ""  # the hash of the record before this one
    tables: dict[str, Total] = field(default_factory=dict)

    @cached_property
    def sum(self) -> str:
        """The hash of this record."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=SIZE).hexdigest()

    @property
    def copy(self) -> Copy:
        """What `lock` holds of this record."""
        return Copy(self.store, self.change, self.sum)

    def next(self) -> "Record":
        """Return the record of the next commit, which has changed nothing yet."""
        return replace(
            self, change=self.change + 1, token=secrets.token_hex(8), before=self.sum, tables=dict(self.tables)
        )

    def is_at(self, copy: Copy) -> bool:
        """Tell whether a copy is of this state, or of the one before: a kill can prevent the copy of one commit."""
        return copy.store == self.store and copy.sum in (self.sum, self.before)

    def count(self, table: str, checksums: Iterable[Any], sign: int = 1) -> None:
        """Add the checksums of rows that came, or with `sign` -1 subtract those of rows that went."""
        rows, total = self.tables.get(table, (0, 0))
        number, added = total_of(checksums)
        self.tables[table] = rows + sign * number, (total + sign * added) % MODULUS

    def to_json(self) -> str:
        """Return the record as JSON; see `from_json`."""
        return json.dumps({each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Return the record that `to_json` wrote.

        Raises:
            ValueError: the text is not a record.
        """
        try:
            values = json.loads(text)
            tables = {str(name): (int(rows), int(total)) for name, (rows, total) in values["tables"].items()}
            change, generation, rewritten, next_id = (int(values[name]) for name in NUMBERS)
            store, token, before = (str(values[name]) for name in ("store", "token", "before"))
            return cls(store, change, generation, rewritten, next_id, token, before, tables)
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a commit record: {error}") from error


class Checksums:
    """Computes the checksums of rows: BLAKE2b with a key of the store and the table.

    Args:
        store: the id of the store.
    """

    def __init__(self, store: str) -> None:
        self._store = store.encode()
        self._keys: dict[str, bytes] = {}

    def row(self, table: str, values: Sequence[Any]) -> bytes:
        """Return the checksum of the values of a row as SQLite returns them; 1, 1.0, "1" and None differ."""
        text = repr(tuple(values)).encode()
        return hashlib.blake2b(text, digest_size=SIZE, key=self._key(table)).digest()

    def vector(self, table: str, row_id: int, vector: bytes) -> bytes:
        """Return the checksum of the bytes of a vector and its row id."""
        salt = row_id.to_bytes(SIZE, "little", signed=True)
        return hashlib.blake2b(vector, digest_size=SIZE, key=self._key(table), salt=salt).digest()

    def block(self, table: str, content: bytes) -> bytes:
        """Return a hash of rows with their checksums; see blocks.py."""
        return hashlib.blake2b(content, digest_size=SIZE, key=self._key(table), person=b"block").digest()

    def _key(self, table: str) -> bytes:
        """Return the key of a table."""
        if table not in self._keys:
            self._keys[table] = hashlib.blake2b(table.encode(), key=self._store[:64], digest_size=32).digest()
        return self._keys[table]


def total_of(checksums: Iterable[Any]) -> Total:
    """Return the number of stored checksums and their sum; a damaged one may be any value."""
    rows = total = 0
    for one in checksums:
        rows += 1
        total += int.from_bytes(one, "little") if isinstance(one, bytes) else 0
    return rows, total % MODULUS


class RunningTotal:
    """The total of the checksums that were added so far; no checksum is kept.

    >>> running = RunningTotal()
    >>> running.add([b"\2", b"\3"])
    >>> running.add([None])
    >>> running.total
    (3, 5)
    """

    def __init__(self) -> None:
        self.total: Total = (0, 0)

    def add(self, checksums: Iterable[Any]) -> None:
        """Add stored checksums."""
        self.add_total(total_of(checksums))

    def add_total(self, total: Total) -> None:
        """Add the total of other checksums."""
        self.total = self.total[0] + total[0], (self.total[1] + total[1]) % MODULUS
