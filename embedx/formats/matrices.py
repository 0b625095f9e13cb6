"""Matrices with rows beside them: a folder of .npy files, a FAISS index; both ways."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.datasets.manifests import records
from embedx.errors import UsageError
from embedx.filesystem.atomic import replace_file, whole_file, whole_folder
from embedx.formats.columns import name_columns, record
from embedx.formats.selection import Selection
from embedx.formats.table import VIEW, Record, Table, check_recipe, side_by_side
from embedx.formats.text import cells, csv_rows, open_rows
from embedx.index.faiss_files import read_flat, write_flat

ROWS, RECIPE = "rows.csv", "recipe.json"


# writing ----------------------------------------------------------------------------------------------------------


def write_npy(out: Path, selection: Selection) -> None:
    """Write a folder with a matrix [N, D] for every view, the rows in the same order, and the recipe."""
    columns = name_columns(selection.kinds(), ())
    with whole_folder(out) as folder, contextlib.ExitStack() as files:
        (folder / RECIPE).write_text(selection.recipe.to_json())
        write_row = files.enter_context(
            csv_rows(files.enter_context(open(folder / ROWS, "wb")), list(columns.values()))
        )
        handles = {view: files.enter_context(open(folder / f"{view}.npy", "wb")) for view in selection.views}
        for view, dim in selection.views.items():
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(selection), dim)}
            np.lib.format.write_array_header_1_0(handles[view], header)
        for rows, matrices in selection.read():
            for row in rows:
                write_row(cells(record(row, columns)))
            for view, handle in handles.items():
                handle.write(matrices[view].astype("<f4", copy=False).tobytes())
        files.close()  # before the folder is flushed


def write_faiss(out: Path, selection: Selection) -> None:
    """Write an index of unit vectors under the ids of their rows, and the rows as OUT.csv."""
    (view,) = selection.views
    columns = name_columns(selection.kinds(), ())
    pieces = []
    with whole_file(rows_of(out)) as handle, csv_rows(handle, list(columns.values())) as write_row:
        for rows, matrices in selection.read():
            pieces.append(matrices[view])
            for row in rows:
                write_row(cells(record(row, columns)))
        replace_file(out, write_flat(selection.ids, np.concatenate(pieces)))


def rows_of(out: Path) -> Path:
    """Return the file with the rows of an index.

    >>> rows_of(Path("birds.faiss")).name
    'birds.faiss.csv'
    """
    return out.with_name(out.name + ".csv")


# reading ----------------------------------------------------------------------------------------------------------


def read_npy(path: str, metadata: Any) -> Table:
    """Read a matrix from a .npy file, with metadata in a file of its own; or a folder that was exported."""
    if not Path(path).is_dir():
        return side_by_side(path, {VIEW: open_npy(Path(path))}, *rows_from(metadata))
    if metadata is not None:
        raise UsageError(f"{path} has its rows inside: leave --metadata (metadata=) out.")
    try:
        recipe = check_recipe((Path(path) / RECIPE).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no folder that `embedx export --format npy` made: {error}.") from error
    matrices = {view: open_npy(Path(path) / f"{view}.npy") for view in recipe.views}
    return side_by_side(path, matrices, *open_rows(Path(path) / ROWS), recipe)


def open_npy(file: Path) -> NDArray[Any]:
    """Map a .npy file into memory; what holds Python objects is refused, not unpickled.

    Raises:
        UsageError: it is missing, cut off, or no array of numbers.
    """
    try:
        matrix: NDArray[Any] = np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # numpy reads the header with Python's tokenizer, which raises all kinds
        raise UsageError(f"{file} cannot be read as a .npy file of numbers: {error}") from error
    return matrix


def read_faiss(path: str, metadata: Any) -> Table:
    """Read a flat index, with metadata in a file of its own: OUT.csv if none is named and that is there.

    Raises:
        UsageError: the index is damaged or no flat one; its ids are not those of the exported rows.
    """
    try:
        ids, matrix = read_flat(Path(path).read_bytes())
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as a FAISS index: {error}") from error
    if metadata is None and rows_of(Path(path)).is_file():
        metadata = rows_of(Path(path))
    table = side_by_side(path, {VIEW: matrix}, *rows_from(metadata))
    if table.own:
        listed = [row["id"] for rows, _ in table.read() for row in rows]
        if listed != ids.tolist():
            raise UsageError(f"{path} and {metadata} do not belong together: their ids differ.")
    return table


def rows_from(metadata: Any) -> tuple[list[str], Callable[[], Iterator[Record]] | None]:
    """Return columns and rows of a metadata file or a pandas frame; none where there is none."""
    if metadata is None:
        return [], None
    if hasattr(metadata, "to_dict"):
        rows = records(metadata)
        return [str(name) for name in metadata], lambda: iter(rows)
    return open_rows(metadata)
