"""Import: vectors made with other software -> store.

All rows are checked before anything is stored. An import that was interrupted continues when it is run again.
"""

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from embedx.datasets.manifests import (
    END_COLUMNS,
    START_COLUMNS,
    metadata,
    parse_label,
    parse_path,
    seconds,
    stored_names,
)
from embedx.datasets.text_tables import PATH_COLUMNS
from embedx.errors import NothingToDo, UsageError
from embedx.filesystem.paths import display_path
from embedx.formats.columns import parse_exported_row
from embedx.formats.table import CORRECT_ROW, IMPORTED_LAYER, IMPORTED_POOLING, Table
from embedx.formats.tables import open_table
from embedx.recipe import Recipe
from embedx.store.edits import identity
from embedx.store.records import Recording, Row, Vectors
from embedx.store.schema import DTYPES
from embedx.store.store import Store

COMMIT_ROWS = 4096  # a killed import loses at most this many; with 512 an import takes 1.2 times as long
COMMIT_BYTES = 4 << 20  # of the vectors in a commit, whose rows are in memory


@dataclass(frozen=True)
class ImportOptions:
    """The options of an import; `embedx.import_vectors` describes each."""

    format: str | None = None
    vectors: str | Sequence[str] | None = None
    metadata: Any = None
    name: str | None = None
    label: str | None = None
    group: str | None = None
    store_dtype: str = "float32"
    wait: bool = False


def import_into_store(source: Any, out: str | os.PathLike[str], options: ImportOptions) -> None:
    """Store vectors made with other software; see `embedx.import_vectors`.

    Args:
        source: a file or folder, an array [N, D], or a pandas frame.
        out: the folder of the collection.
        options: the options of the import.

    Raises:
        UsageError: the source cannot be read, or a row or vector is invalid; nothing is stored then.
        NothingToDo: the source has no rows.
        RecipeMismatch: the collection holds vectors of another recipe.
        LockedError, StoreError, DiskError: the collection cannot be written. What was committed stays.
    """
    if options.store_dtype not in DTYPES:
        raise UsageError(f"Unknown store_dtype {options.store_dtype!r}. Choose one of: {', '.join(DTYPES)}.")
    named = () if options.vectors is None else options.vectors
    vectors = named.split(",") if isinstance(named, str) else list(named)
    texts = [column for column in (options.label, options.group) if column is not None]
    table = open_table(source, options.format, vectors, options.metadata, texts)
    if table.recipe and options.name:
        raise UsageError(f"{table.name} contains its recipe. Remove --name (name=).")
    recordings = ImportedRecordings(table, options.label, options.group, options.store_dtype)
    if not len(recordings.row_counts):
        raise NothingToDo(f"{display_path(table.name)} has no rows.")
    recipe = table.recipe or imported_recipe(options.name or name_of(source))
    dim = next(iter(table.dims.values()))
    with Store.create(out, recipe, dim, options.store_dtype, wait=options.wait) as store:
        if store.views != dict(table.dims):
            raise UsageError(
                f"{out} holds {format_views(store.views)}, the source {format_views(table.dims)}. "
                "Choose another collection."
            )
        recordings.store_in(store)


class ImportedRecordings:
    """The rows of a table, grouped into recordings.

    The constructor reads the table once, raises UsageError for rows that cannot be stored, and counts the rows of each
    path in `row_counts`. A recording is stored when all its rows have been read, and its rows are in memory until then.
    """

    def __init__(self, table: Table, label: str | None, group: str | None, dtype: str) -> None:
        unknown = [column for column in (label, group) if column is not None and column not in table.columns]
        if unknown:
            raise UsageError(f"There is no column {unknown[0]!r}. Columns: {', '.join(table.columns) or 'none'}.")
        self.table, self.label, self.group, self.dtype = table, label, group, dtype
        self.names, self.shown = stored_names(table.columns), display_path(table.name)
        if len(set(table.dims.values())) > 1:
            raise UsageError(f"All views must have the same dimension. The views are {format_views(table.dims)}.")
        self.row_counts = RowCounts(row.path for row, _ in self._rows())

    def store_in(self, store: Store) -> None:
        """Store new and changed recordings; a commit has up to `COMMIT_ROWS` rows unless one recording has more."""
        self._store_edits(store)
        run = store.start_run({"imported": display_path(self.table.name)})
        next_id = store.next_id()
        for batch in self._batches():
            known = store.recordings([recording.path for recording, _ in batch])
            changed: list[tuple[Recording, list[tuple[Row, Vectors]]]] = []
            for recording, rows in batch:
                if recording.path in known and known[recording.path].content_hash == recording.content_hash:
                    continue
                numbered = []
                for position, (row, vectors) in enumerate(rows):
                    next_id = max(next_id, row.id)  # rows of an export keep their ids where these are free
                    numbered.append((replace(row, id=next_id, stretch=position), vectors))
                    next_id += 1
                changed.append((recording, numbered))
            if changed:
                store.add(changed, run)

    def _store_edits(self, store: Store) -> None:
        """Store the edits of an export that the store lacks; they are applied to the rows that follow."""
        known = {identity(edit) for edit in store.edits()}
        edits = [edit for edit in self.table.notes.edits if identity(edit) not in known]
        if edits:
            stored = store.recordings(list({edit.path for edit in edits}))
            bound = [
                replace(edit, content_hash=stored[edit.path].content_hash) if edit.path in stored else edit
                for edit in edits
            ]
            store.edit(bound, carry=True)

    def _batches(self) -> Iterator[list[tuple[Recording, list[tuple[Row, Vectors]]]]]:
        """Yield recordings with up to `COMMIT_ROWS` rows and `COMMIT_BYTES` together, or one recording with more."""
        batch: list[tuple[Recording, list[tuple[Row, Vectors]]]] = []
        count, row_bytes = 0, 4 * sum(self.table.dims.values())
        most = min(COMMIT_ROWS, max(1, COMMIT_BYTES // max(1, row_bytes)))
        for recording, rows in self._recordings():
            if batch and count + len(rows) > most:
                yield batch
                batch, count = [], 0
            batch.append((recording, rows))
            count += len(rows)
        if batch:
            yield batch

    def _recordings(self) -> Iterator[tuple[Recording, list[tuple[Row, Vectors]]]]:
        """Yield each recording with all its rows, once the last of them has been read."""
        incomplete: dict[str, list[tuple[Row, Vectors]]] = {}
        for row, vectors in self._rows():
            rows = incomplete.setdefault(row.path, [])
            rows.append((row, vectors))
            if len(rows) == self.row_counts[row.path]:
                yield make_recording(incomplete.pop(row.path)), rows
        for rows in incomplete.values():  # two paths had the same hash
            yield make_recording(rows), rows

    def _rows(self) -> Iterator[tuple[Row, Vectors]]:
        """Yield each row with its vectors."""
        number = 1
        for records, matrices in self.table.read():
            for view, matrix in matrices.items():
                with np.errstate(over="ignore"):
                    finite = np.isfinite(matrix.astype(self.dtype)).all(axis=1)
                if not finite.all():
                    row = number + int(np.argmin(finite))
                    raise UsageError(
                        f"Row {row} of {display_path(self.table.name)} has a vector ({view}) that is not finite in "
                        f"{self.dtype}. {CORRECT_ROW}"
                    )
            for i, values in enumerate(records):
                yield self._row(values, number), {view: matrix[i] for view, matrix in matrices.items()}
                number += 1

    def _row(self, values: Mapping[str, Any], number: int) -> Row:
        """Return a row of the table, with label and group from the columns that the user named."""
        row = parse_exported_row(values, number) if self.table.exported else self._foreign_row(values, number)
        if source_values := self.table.notes.source_values.get(row.id):
            row = replace(row, source_values=source_values)
        if self.label:
            row = replace(row, label=parse_label(values.get(self.label), f"Row {number}, column {self.label}"))
        if self.group:
            row = replace(row, group=parse_label(values.get(self.group), f"Row {number}, column {self.group}"))
        return row

    def _foreign_row(self, values: Mapping[str, Any], number: int) -> Row:
        """Return a row of a table that embedx did not write; missing times are 0."""
        place = f"Row {number} of {self.shown}"
        column = next((name for name in PATH_COLUMNS if values.get(name) not in (None, "")), None)
        path = f"imported:{self.table.name}#{number}"
        if column is not None:
            value = values[column]
            path = str(value) if type(value) is int else parse_path(value, f"{place}, column {column}", "")
        start_s = seconds(values, START_COLUMNS, place) or 0.0
        end_s = seconds(values, END_COLUMNS, place) or start_s
        if end_s < start_s:
            raise UsageError(f"{place} ends at {end_s:g} s, before its start at {start_s:g} s.")
        label, group, split = (
            parse_label(values.get(name), f"{place}, column {name}") for name in ("label", "group", "split")
        )
        try:
            os.fsencode(path)
            meta = metadata({name: value for name, value in values.items() if name != column}, self.names)
            return Row(0, path, start_s, end_s, label, group, split, (), meta)
        except UnicodeEncodeError as error:
            raise UsageError(f"{place} contains text that is not valid Unicode: {error}.") from error


class RowCounts:
    """The number of rows of each path, in 8 bytes for each row: the hashes of the paths are counted.

    Two paths with the same hash both get the number of their rows together.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        hashes = np.array(array("q", map(hash, paths)), np.int64)
        self._rows = len(hashes)
        unique, counts = np.unique(hashes, return_counts=True)
        self._hashes, self._counts = unique[counts > 1], counts[counts > 1]

    def __len__(self) -> int:
        """Return the number of all rows."""
        return self._rows

    def __getitem__(self, path: str) -> int:
        place = int(np.searchsorted(self._hashes, hash(path)))
        is_known = place < len(self._hashes) and self._hashes[place] == hash(path)
        return int(self._counts[place]) if is_known else 1


def make_recording(rows: Sequence[tuple[Row, Vectors]]) -> Recording:
    """Return the recording of the rows of one path. Its content hash covers the rows and their vectors."""
    content = hashlib.blake2b(digest_size=16)
    for row, vectors in rows:
        content.update(
            json.dumps([row.start_s, row.end_s, row.label, row.group, row.split, row.flags, row.meta]).encode()
        )
        for view in sorted(vectors):
            content.update(vectors[view].tobytes())
    first = rows[0][0]
    duration_s = max(row.end_s for row, _ in rows)
    return Recording(first.path, None, None, "[]", f"imported:{content.hexdigest()}", duration_s)


def imported_recipe(name: str) -> Recipe:
    """Return the recipe of vectors made with other software, of which only a name is known."""
    return Recipe("imported", name, name, sample_rate=0, layers=(IMPORTED_LAYER,), poolings=(IMPORTED_POOLING,))


def name_of(source: Any) -> str:
    """Return the name of a source: the file name without its suffix, or "array".

    >>> name_of("vectors/clap.npy")
    'clap'
    """
    if not isinstance(source, (str, os.PathLike)):
        return "array"
    return display_path(os.path.splitext(os.path.basename(os.path.abspath(source)))[0])


def format_views(views: Mapping[str, int]) -> str:
    """Return views and their dimensions as text.

    >>> format_views({"L0.mean": 256})
    'L0.mean (256)'
    """
    return ", ".join(f"{view} ({dim})" for view, dim in views.items())
