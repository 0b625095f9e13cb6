"""Intake: vectors from elsewhere -> store. Everything is checked before anything is stored; a killed run goes on."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from embedx.datasets.items import text
from embedx.datasets.manifests import END_COLUMNS, PATH_COLUMNS, START_COLUMNS, seconds
from embedx.datasets.manifests import metadata as keep
from embedx.errors import NothingToDo, UsageError
from embedx.filesystem.paths import display_path
from embedx.formats.columns import own_row
from embedx.formats.table import BATCH, LAYER, POOLING, Table
from embedx.formats.tables import open_table
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row, Vectors
from embedx.store.store import Store

DTYPES = ("float32", "float16")


def import_into_store(
    source: Any,
    *,
    out: str | os.PathLike[str],
    format: str | None = None,
    vectors: str | Sequence[str] | None = None,
    metadata: Any = None,
    name: str | None = None,
    label: str | None = None,
    group: str | None = None,
    store_dtype: str = "float32",
    wait: bool = False,
) -> None:
    """Put vectors that were made elsewhere into a store; see `embedx.import_vectors`."""
    if store_dtype not in DTYPES:
        raise UsageError(f"Unknown store_dtype {store_dtype!r}. It is one of: {', '.join(DTYPES)}.")
    asked = vectors.split(",") if isinstance(vectors, str) else list(vectors or ())
    table = open_table(source, format, asked, metadata)
    if table.recipe and name:
        raise UsageError(f"{table.place} says by itself what made its vectors: leave --name (name=) out.")
    arrivals = Arrivals(table, label, group, store_dtype)
    if not arrivals.expected:
        raise NothingToDo(f"{display_path(table.place)} holds no rows.")
    recipe = table.recipe or imported_recipe(name or name_of(source))
    with Store.create(out, recipe, next(iter(table.widths.values())), store_dtype, wait=wait) as store:
        if store.views != dict(table.widths):
            raise UsageError(f"{out} holds {sizes(store.views)}, the source {sizes(table.widths)}: name another place.")
        arrivals.store_in(store)


class Arrivals:
    """The rows of a table as recordings, after a first reading that refuses what cannot be stored.

    `expected` counts the rows of every path, so that a recording is stored when its last row has been read.
    """

    def __init__(self, table: Table, label: str | None, group: str | None, dtype: str) -> None:
        unknown = [one for one in (label, group) if one is not None and one not in table.columns]
        if unknown:
            raise UsageError(f"There is no column {unknown[0]!r}. Columns: {', '.join(table.columns) or 'none'}.")
        self.table, self.label, self.group, self.dtype = table, label, group, dtype
        if len(set(table.widths.values())) > 1:
            raise UsageError(f"All views of a collection are of one width; these are {sizes(table.widths)}.")
        self.expected = Counter(row.path for row, _ in self._rows())

    def store_in(self, store: Store) -> None:
        """Store what is not there yet or has changed, up to 512 rows to a commit unless one recording has more."""
        known = {path: one.content_hash for path, one in store.recordings().items()}
        run = store.start_run({"imported": display_path(self.table.place)})
        number = store.next_id()
        batch: list[tuple[Recording, list[tuple[Row, Vectors]]]] = []
        rows = 0
        for recording, arrived in self._recordings():
            if known.get(recording.path) == recording.content_hash:
                continue
            placed = []
            for row, vectors in arrived:
                number = max(number, row.id)  # an export keeps its ids where they are free
                placed.append((replace(row, id=number), vectors))
                number += 1
            if rows and rows + len(placed) > BATCH:
                store.add(batch, run)
                batch, rows = [], 0
            batch.append((recording, placed))
            rows += len(placed)
        if batch:
            store.add(batch, run)

    def _recordings(self) -> Iterator[tuple[Recording, list[tuple[Row, Vectors]]]]:
        """Yield every path with all its rows, when the last of them has been read."""
        waiting: dict[str, list[tuple[Row, Vectors]]] = {}
        for row, vectors in self._rows():
            rows = waiting.setdefault(row.path, [])
            rows.append((row, vectors))
            if len(rows) == self.expected[row.path]:
                yield recording_of(waiting.pop(row.path)), rows

    def _rows(self) -> Iterator[tuple[Row, Vectors]]:
        number = 1
        for records, matrices in self.table.read():
            for view, matrix in matrices.items():
                with np.errstate(over="ignore"):
                    bad = np.flatnonzero(~np.isfinite(matrix.astype(self.dtype)).all(axis=1))
                if len(bad):
                    raise UsageError(
                        f"Row {number + int(bad[0])} of {display_path(self.table.place)} has a vector ({view}) that is "
                        "not "
                        f"finite in {self.dtype}. Nothing was imported: mend the row, or leave it out."
                    )
            for i, values in enumerate(records):
                row = own_row(values, number) if self.table.own else self._foreign_row(values, number)
                if self.label or self.group:
                    row = replace(
                        row,
                        label=text(values.get(self.label)) if self.label else row.label,
                        group=text(values.get(self.group)) if self.group else row.group,
                    )
                yield row, {view: matrix[i] for view, matrix in matrices.items()}
                number += 1

    def _foreign_row(self, values: Mapping[str, Any], number: int) -> Row:
        """Return a row of a table that embedx did not write; times that are not there are 0."""
        column = next((name for name in PATH_COLUMNS if values.get(name) not in (None, "")), None)
        path = f"imported:{self.table.place}#{number}" if column is None else str(values[column])
        start_s = seconds(values, START_COLUMNS, number) or 0.0
        end_s = seconds(values, END_COLUMNS, number) or start_s
        if end_s < start_s:
            raise UsageError(f"Row {number} ends at {end_s:g} s, before it starts at {start_s:g} s.")
        try:
            os.fsencode(path)
            label, group, split = (text(values.get(name)) for name in ("label", "group", "split"))
            meta = {name: one for name, one in keep(values).items() if name != column}
            return Row(0, path, start_s, end_s, label, group, split, (), meta)
        except UnicodeEncodeError as error:
            raise UsageError(f"Row {number} holds text that is no Unicode: {error}.") from error


def recording_of(rows: Sequence[tuple[Row, Vectors]]) -> Recording:
    """Return the recording that rows of one path make; its content hash is that of the rows and their vectors."""
    content = hashlib.blake2b(digest_size=16)
    for row, vectors in rows:
        content.update(
            json.dumps([row.start_s, row.end_s, row.label, row.group, row.split, row.flags, row.meta]).encode()
        )
        for view in sorted(vectors):
            content.update(vectors[view].tobytes())
    first = rows[0][0]
    duration_s = max(row.end_s for row, _ in rows)
    return Recording(first.path, -1, -1, "[]", f"imported:{content.hexdigest()}", duration_s)


def imported_recipe(name: str) -> Recipe:
    """Return the recipe of vectors of which nothing is known but what somebody calls that which made them."""
    return Recipe("imported", name, name, sample_rate=0, layers=(LAYER,), poolings=(POOLING,))


def name_of(source: Any) -> str:
    """Return the name of a source without one of its own.

    >>> name_of("vectors/clap.npy")
    'clap'
    """
    if not isinstance(source, (str, os.PathLike)):
        return "array"
    return display_path(os.path.splitext(os.path.basename(os.path.abspath(source)))[0])


def sizes(views: Mapping[str, int]) -> str:
    """Return views and their dimensions as words.

    >>> sizes({"L0.mean": 256})
    'L0.mean (256)'
    """
    return ", ".join(f"{view} ({dim})" for view, dim in views.items())
