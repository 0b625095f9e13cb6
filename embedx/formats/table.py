"""Table: rows with vectors to import, in batches that can be read several times."""

import itertools
import mmap
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.datasets.text_tables import is_export
from embedx.errors import StoreError, UsageError
from embedx.extractors.names import check_stored_family
from embedx.filesystem.paths import display_path
from embedx.formats.edit_notes import NO_EDITS, EditNotes
from embedx.recipe import Recipe, view_name

BATCH_ROWS = 512  # that are read at a time
IMPORTED_LAYER, IMPORTED_POOLING = 0, "given"  # in the recipe of vectors made with other software
IMPORTED_VIEW = view_name(IMPORTED_LAYER, IMPORTED_POOLING)
PREFERRED_NAMES = ("vector", "embedding", "embeddings")  # usual names of a column with vectors
CORRECT_ROW = "Nothing was imported. Correct or remove the row."  # all rows are checked before one is stored
NUMBERED = re.compile(r"v(\d+)")  # a column with one number of the vector

Record = Mapping[str, Any]
Matrices = Mapping[str, NDArray[np.float32]]  # view -> vectors [N, D]
Batch = tuple[list[Record], Matrices]


@dataclass(frozen=True)
class TableSource:
    """A file or folder to import, and what the user said about it."""

    path: str  # absolute
    vectors: Sequence[str] = ()  # columns with the vectors; empty: detect them
    metadata: Any = None  # for a matrix: a file or a pandas frame with the rows in the same order
    texts: Sequence[str] = ()  # columns that stay text, also if all values look like numbers


@dataclass(frozen=True)
class Table:
    """Rows to import."""

    name: str  # the absolute path of the file, or a name made from the content of an array
    columns: Sequence[str]  # without the vectors
    dims: Mapping[str, int]  # view -> dimension
    exported: bool  # written by embedx
    recipe: Recipe | None  # contained in the file
    read: Callable[[], Iterator[Batch]]  # starts at the first row each time
    notes: EditNotes = NO_EDITS  # edits of the user, if it was written by embedx


def choose_vector_columns(columns: Sequence[str], lists: Sequence[str], vectors: Sequence[str]) -> list[str]:
    """Return the columns that hold the vectors: one column of lists, or several columns of numbers.

    Args:
        columns: all columns of the table.
        lists: the columns that hold lists of numbers.
        vectors: the columns that the user named; empty to detect them.

    Returns:
        One name from `lists`, or several names of columns with one number each.

    Raises:
        UsageError: a named column does not exist.
        UsageError: no column, or more than one, can be the vectors.

    >>> choose_vector_columns(["site", "embedding", "box"], ["embedding", "box"], [])
    ['embedding']
    >>> choose_vector_columns(["site", "v1", "v0"], [], [])
    ['v0', 'v1']
    """
    missing = [name for name in vectors if name not in columns]
    if missing:
        raise UsageError(f"There is no column {', '.join(missing)}. Columns: {', '.join(columns)}.")
    if len(vectors) > 1 and (whole := [name for name in vectors if name in lists and not NUMBERED.fullmatch(name)]):
        raise UsageError(
            f"Column {whole[0]} holds whole vectors. Name it alone, or name several columns with one number each."
        )
    if vectors:
        return list(vectors)
    preferred = [name for name in PREFERRED_NAMES if name in lists]
    if preferred or len(lists) == 1:
        return [(preferred or list(lists))[0]]
    if lists:
        raise UsageError(
            f"Several columns hold lists of numbers: {', '.join(lists)}. Choose with --vectors (vectors=)."
        )
    numbered = [f"v{i}" for i in range(sum(NUMBERED.fullmatch(name) is not None for name in columns))]
    if numbered and set(numbered) <= set(columns):
        return numbered
    raise UsageError(
        "No column holds vectors (lists of numbers of equal length, or columns v0, v1, ...). Name the column with "
        f"lists, or the columns with one number each, with --vectors (vectors=). Columns: {', '.join(columns)}."
    )


def stack_vectors(vectors: Sequence[Any], dim: int, first: int, name: str) -> NDArray[np.float32]:
    """Return lists of numbers as a matrix [N, D].

    Args:
        vectors: N lists of numbers.
        dim: D.
        first: the number of the first row in the table, from 1, for the error.
        name: the name of the table, for the error.

    Raises:
        UsageError: a row has no vector, or a vector of another length.

    >>> stack_vectors([[1, 2], [3, 4.5]], 2, 1, "a.jsonl").tolist()
    [[1.0, 2.0], [3.0, 4.5]]
    """
    matrix = np.empty((len(vectors), dim), np.float32)
    for i, vector in enumerate(vectors):
        try:
            row = np.asarray(vector, np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"Row {first + i} of {name} has no vector of numbers: {error}. {CORRECT_ROW}") from error
        if row.shape != (dim,):
            raise UsageError(
                f"Row {first + i} of {name} has a vector of shape {list(row.shape)}; the first row has [{dim}]. "
                f"{CORRECT_ROW}"
            )
        with np.errstate(over="ignore"):  # too large numbers become infinite, which the import refuses
            matrix[i] = row
    return matrix


def is_vector(value: Any) -> bool:
    """Tell whether a value is a list of at least one number.

    >>> is_vector([1, 2.5]), is_vector([]), is_vector(["a"]), is_vector([[1]]), is_vector(None)
    (True, False, False, False, False)
    """
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.size > 0 and value.dtype.kind in "fiu"
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(number, (int, float, np.number)) and not isinstance(number, bool) for number in value)
    )


def find_list_columns(rows: Sequence[Record], columns: Sequence[str]) -> list[str]:
    """Return the columns with lists of numbers, either of equal length or under one of `PREFERRED_NAMES`."""
    lists = []
    for name in columns:
        values = [row[name] for row in rows if row.get(name) is not None]
        if not values or not all(map(is_vector, values)):
            continue
        if name in PREFERRED_NAMES or len({len(value) for value in values}) == 1:
            lists.append(name)
    return lists


def exported_vector_columns(columns: Sequence[str]) -> list[str]:
    """Return the columns at the end of an exported table that hold its vectors.

    >>> exported_vector_columns(["v9", "v0", "v1"]), exported_vector_columns(["site", "vector"])
    (['v0', 'v1'], ['vector'])
    >>> exported_vector_columns(["site", "L0.mean", "L1.mean"])
    ['L0.mean', 'L1.mean']
    """
    if numbered := NUMBERED.fullmatch(columns[-1]):
        return list(columns[-1 - int(numbered[1]) :])
    if columns[-1] == "vector":
        return ["vector"]
    views = list(itertools.takewhile(re.compile(r"L\d+\.\w+").fullmatch, reversed(columns)))
    return views[::-1]


def table_from_records(
    name: str, columns: Sequence[str], records: Callable[[], Iterator[Record]], vectors: Sequence[str]
) -> Table:
    """Return a table of records whose vectors are among their values.

    Args:
        name: the name of the table, see `Table.name`.
        columns: all columns.
        records: starts at the first record each time it is called.
        vectors: the columns with the vectors; empty to detect them.

    Raises:
        UsageError: the columns with the vectors are missing or ambiguous; while reading: a vector is invalid.
    """
    first = list(itertools.islice(records(), BATCH_ROWS))
    exported = exported_vector_columns(columns) if is_export(columns) else []
    if exported and not vectors and (len(exported) == 1 or NUMBERED.fullmatch(exported[-1])):
        vectors = exported
    chosen = choose_vector_columns(columns, exported or find_list_columns(first, columns), vectors)
    example: Any = next((row[chosen[0]] for row in first if row.get(chosen[0]) is not None), None)
    in_lists = len(chosen) == 1 and is_vector(example)
    dim = len(example) if in_lists else len(chosen)
    excluded = {*chosen, *exported}

    def read() -> Iterator[Batch]:
        number = 1
        rows = records()
        while batch := list(itertools.islice(rows, BATCH_ROWS)):
            values = [row.get(chosen[0]) if in_lists else [row.get(column) for column in chosen] for row in batch]
            rest: list[Record] = [{column: row[column] for column in row if column not in excluded} for row in batch]
            yield rest, {IMPORTED_VIEW: stack_vectors(values, dim, number, display_path(name))}
            number += len(batch)

    others = [column for column in columns if column not in excluded]
    return Table(name, others, {IMPORTED_VIEW: dim}, is_export(columns), None, read)


def table_from_matrices(
    name: str,
    matrices: Mapping[str, NDArray[Any]],
    columns: Sequence[str],
    rows: Callable[[], Iterator[Record]] | None,
    recipe: Recipe | None = None,
    notes: EditNotes = NO_EDITS,
) -> Table:
    """Return a table of matrices and rows in the same order.

    Args:
        name: the name of the table, see `Table.name`.
        matrices: view -> vectors [N, D]; may be mapped from disk.
        columns: the columns of the rows.
        rows: starts at the first row each time it is called; None if there are no rows.
        recipe: the recipe of the vectors, if known.
        notes: edits of the user, if embedx has written the table.

    Raises:
        UsageError: an array is not a matrix of numbers; while reading: the numbers of rows and vectors differ.
    """
    for matrix in matrices.values():
        if matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or not matrix.shape[1]:
            raise UsageError(
                f"{name} holds an array of shape {list(matrix.shape)} and type {matrix.dtype}. Vectors must be a "
                "matrix [N, D] of numbers."
            )
    count = min(len(matrix) for matrix in matrices.values())

    def read() -> Iterator[Batch]:
        records = itertools.repeat({}, count) if rows is None else rows()
        for start in range(0, count, BATCH_ROWS):
            stop = min(start + BATCH_ROWS, count)
            batch = list(itertools.islice(records, stop - start))
            with np.errstate(over="ignore"):  # too large numbers become infinite, which the import refuses
                yield batch, {view: np.asarray(matrix[start:stop], np.float32) for view, matrix in matrices.items()}
            for matrix in matrices.values():
                release(matrix)
            if len(batch) < stop - start:
                raise UsageError(f"{name} has {count} vectors but only {start + len(batch)} rows of metadata.")
        if next(records, None) is not None or any(len(matrix) > count for matrix in matrices.values()):
            raise UsageError(f"{name} has {count} vectors but more rows of metadata, or more vectors of another view.")

    dims = {view: matrix.shape[1] for view, matrix in matrices.items()}
    return Table(name, columns, dims, rows is not None and is_export(columns), recipe, read, notes)


def release(matrix: NDArray[Any]) -> None:
    """Let go of the memory of a matrix that is mapped for reading; what is read again comes from the file."""
    owner: Any = matrix.base
    if isinstance(owner, mmap.mmap) and isinstance(matrix, np.memmap) and matrix.mode == "r":
        owner.madvise(mmap.MADV_DONTNEED)


def parse_recipe(text: str) -> Recipe:
    """Parse the recipe in an export.

    Args:
        text: JSON.

    Raises:
        UsageError: it is not a recipe, or has values that no collection can have.
    """
    try:
        recipe = Recipe.from_json(text)
        check_stored_family(recipe.extractor)
    except StoreError as error:
        raise UsageError(f"The recipe in the file is invalid: {error}") from error
    return recipe
