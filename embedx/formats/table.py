"""Table: vectors with metadata from elsewhere, in batches that can be read more than once."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import StoreError, UsageError
from embedx.formats.columns import is_own
from embedx.recipe import Recipe, view_name

BATCH = 512  # rows, as many as may be at risk before a commit
LAYER, POOLING = 0, "given"  # what stands in the recipe for vectors of which nobody says how they were pooled
VIEW = view_name(LAYER, POOLING)
PREFERRED = ("vector", "embedding", "embeddings")  # what a column of vectors is mostly called
NUMBERED = re.compile(r"v(\d+)")  # a column with one number of the vector

Record = Mapping[str, Any]
Matrices = Mapping[str, NDArray[np.float32]]  # view -> vectors [N, D]
Batch = tuple[list[Record], Matrices]


@dataclass(frozen=True)
class Table:
    """Rows that are to be imported."""

    place: str  # where they lie: the absolute path of a file, or a name made from the content of an array
    columns: Sequence[str]  # without the vectors
    widths: Mapping[str, int]  # view -> dimension
    own: bool  # it was exported by embedx
    recipe: Recipe | None  # that it carries
    read: Callable[[], Iterator[Batch]]  # from its beginning, every time


def choose(columns: Sequence[str], lists: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Return the columns that hold the vectors: one of `lists`, or several with one number each.

    >>> choose(["site", "embedding", "box"], ["embedding", "box"], [])
    ['embedding']
    >>> choose(["site", "v1", "v0"], [], [])
    ['v0', 'v1']

    Raises:
        UsageError: it cannot be told, or what was asked for is not there.
    """
    missing = [name for name in asked if name not in columns]
    if missing:
        raise UsageError(f"There is no column {', '.join(missing)}. Columns: {', '.join(columns)}.")
    if len(asked) > 1 and (mixed := [name for name in asked if name in lists and not NUMBERED.fullmatch(name)]):
        raise UsageError(f"{mixed[0]} holds whole vectors: name it alone, or several columns with one number each.")
    if asked:
        return list(asked)
    preferred = [name for name in PREFERRED if name in lists]
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
        "No column holds vectors: lists of numbers of one length, or v0, v1 and so on. Name it, or the columns with "
        f"one number each, with --vectors (vectors=). Columns: {', '.join(columns)}."
    )


def stack(vectors: Sequence[Any], width: int, first: int) -> NDArray[np.float32]:
    """Return lists of numbers as a matrix [N, width]; `first` is the number of the first row, for messages.

    >>> stack([[1, 2], [3, 4.5]], 2, 1).tolist()
    [[1.0, 2.0], [3.0, 4.5]]

    Raises:
        UsageError: a row has no vector, or one of another length.
    """
    matrix = np.empty((len(vectors), width), np.float32)
    for i, vector in enumerate(vectors):
        try:
            row = np.asarray(vector, np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"Row {first + i} has no vector of numbers: {error}.") from error
        if row.shape != (width,):
            raise UsageError(f"Row {first + i} has a vector of shape {list(row.shape)}; the first one has [{width}].")
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused later
            matrix[i] = row
    return matrix


def is_vector(value: Any) -> bool:
    """Tell whether a value can be a vector: a list of numbers, of one at least.

    >>> is_vector([1, 2.5]), is_vector([]), is_vector(["a"]), is_vector([[1]]), is_vector(None)
    (True, False, False, False, False)
    """
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.size > 0 and value.dtype.kind in "fiu"
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(one, (int, float, np.number)) and not isinstance(one, bool) for one in value)
    )


def vector_columns(rows: Sequence[Record], columns: Sequence[str]) -> list[str]:
    """Return the columns that hold lists of numbers in these rows, of one length or under a name that says so."""
    found = []
    for name in columns:
        values = [row[name] for row in rows if row.get(name) is not None]
        if values and all(map(is_vector, values)) and (name in PREFERRED or len({len(one) for one in values}) == 1):
            found.append(name)
    return found


def own_vectors(columns: Sequence[str]) -> list[str]:
    """Return the columns at the end of an exported table that hold its vectors.

    >>> own_vectors(["v9", "v0", "v1"]), own_vectors(["site", "vector"]), own_vectors(["site", "L0.mean", "L1.mean"])
    (['v0', 'v1'], ['vector'], ['L0.mean', 'L1.mean'])
    """
    if numbered := NUMBERED.fullmatch(columns[-1]):
        return list(columns[-1 - int(numbered[1]) :])
    if columns[-1] == "vector":
        return ["vector"]
    views = list(itertools.takewhile(re.compile(r"L\d+\.\w+").fullmatch, reversed(columns)))
    return views[::-1]


def from_records(
    place: str, columns: Sequence[str], records: Callable[[], Iterator[Record]], asked: Sequence[str]
) -> Table:
    """Return a table of records that hold their vectors among the other values."""
    first = list(itertools.islice(records(), BATCH))
    own = own_vectors(columns) if is_own(columns) else []
    if own and not asked and (len(own) == 1 or NUMBERED.fullmatch(own[-1])):
        asked = own
    chosen = choose(columns, own or vector_columns(first, columns), asked)
    example: Any = next((row[chosen[0]] for row in first if row.get(chosen[0]) is not None), None)
    whole = len(chosen) == 1 and is_vector(example)
    width = len(example) if whole else len(chosen)
    others = {*chosen, *own}

    def read() -> Iterator[Batch]:
        number = 1
        rows = records()
        while batch := list(itertools.islice(rows, BATCH)):
            vectors = [row.get(chosen[0]) if whole else [row.get(name) for name in chosen] for row in batch]
            rest: list[Record] = [{name: row[name] for name in row if name not in others} for row in batch]
            yield rest, {VIEW: stack(vectors, width, number)}
            number += len(batch)

    return Table(place, [name for name in columns if name not in others], {VIEW: width}, is_own(columns), None, read)


def side_by_side(
    place: str,
    matrices: Mapping[str, NDArray[Any]],
    columns: Sequence[str],
    rows: Callable[[], Iterator[Record]] | None,
    recipe: Recipe | None = None,
) -> Table:
    """Return a table of matrices [N, D], which may lie on the disk, and rows in the same order (None: there are none).

    Raises:
        UsageError: what is given is no matrix of numbers; and, while it is read: there are more of one than the other.
    """
    for matrix in matrices.values():
        if matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or not matrix.shape[1]:
            raise UsageError(
                f"{place} holds an array of shape {list(matrix.shape)} and type {matrix.dtype}; vectors are a matrix "
                "[N, D] of numbers."
            )
    count = min(len(matrix) for matrix in matrices.values())

    def read() -> Iterator[Batch]:
        found = itertools.repeat({}, count) if rows is None else rows()
        for start in range(0, count, BATCH):
            stop = min(start + BATCH, count)
            batch = list(itertools.islice(found, stop - start))
            with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused later
                yield batch, {view: np.asarray(one[start:stop], np.float32) for view, one in matrices.items()}
            if len(batch) < stop - start:
                raise UsageError(f"{place} has {count} vectors, and {start + len(batch)} rows of metadata.")
        if next(found, None) is not None or any(len(matrix) > count for matrix in matrices.values()):
            raise UsageError(f"{place} has {count} vectors, and more rows of metadata, or of another view.")

    widths = {view: matrix.shape[1] for view, matrix in matrices.items()}
    return Table(place, columns, widths, rows is not None and is_own(columns), recipe, read)


def check_recipe(text: str) -> Recipe:
    """Read the recipe that an export carries.

    Raises:
        UsageError: it is none, or names what no collection can have.
    """
    try:
        recipe = Recipe.from_json(text)
        if not recipe.layers or not all(type(layer) is int and layer >= 0 for layer in recipe.layers):
            raise ValueError(f"layers {recipe.layers!r}")
        if not recipe.poolings or not all(re.fullmatch(r"[a-z_]{1,40}", pooling) for pooling in recipe.poolings):
            raise ValueError(f"poolings {recipe.poolings!r}")
        if not all(isinstance(one, str) for one in (recipe.extractor, recipe.source, recipe.weights)):
            raise ValueError("its extractor, source and weights are no text")
    except (StoreError, ValueError, TypeError) as error:
        raise UsageError(f"The recipe in the file cannot be used: {error}") from error
    return recipe
