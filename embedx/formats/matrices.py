"""Matrices with rows next to them: a folder of .npy files, and a FAISS index. Export and import."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.datasets.tables import frame_columns, records
from embedx.datasets.text_tables import is_export
from embedx.errors import UsageError
from embedx.filesystem.atomic import whole_file, whole_folder
from embedx.formats.columns import name_columns, to_record
from embedx.formats.edit_notes import NO_EDITS, note_edits, read_notes
from embedx.formats.format import Format
from embedx.formats.selection import Selection
from embedx.formats.table import IMPORTED_VIEW, Record, Table, TableSource, parse_recipe, table_from_matrices
from embedx.formats.text import csv_rows, open_rows, to_cells
from embedx.index.faiss_files import open_flat, write_flat

ID_COLUMN = "faiss_id"  # the ids of an imported IndexIDMap
ROWS_FILE, RECIPE_FILE, EDITS_FILE = "rows.csv", "recipe.json", "edits.json"  # in the folder of an npy export


# writing ----------------------------------------------------------------------------------------------------------


def write_npy(out: Path, selection: Selection) -> None:
    """Write a folder with a matrix [N, D] per view, the rows in the same order, and the recipe."""
    columns = name_columns(selection.kinds(), ())
    with whole_folder(out) as folder, contextlib.ExitStack() as files:
        (folder / RECIPE_FILE).write_text(selection.recipe.to_json())
        if notes := note_edits(selection):
            (folder / EDITS_FILE).write_text(json.dumps(notes))
        rows_handle = files.enter_context(open(folder / ROWS_FILE, "wb"))
        write_row = files.enter_context(csv_rows(rows_handle, list(columns.values())))
        handles = {view: files.enter_context(open(folder / f"{view}.npy", "wb")) for view in selection.views}
        for view, dim in selection.views.items():
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(selection), dim)}
            np.lib.format.write_array_header_1_0(handles[view], header)
        for rows, matrices in selection.read():
            for row in rows:
                write_row(to_cells(to_record(row, columns)))
            for view, handle in handles.items():
                handle.write(matrices[view].astype("<f4", copy=False).tobytes())
        files.close()  # before the folder is flushed


def write_faiss(out: Path, selection: Selection) -> None:
    """Write an index of vectors scaled to length 1, with the row ids, and the rows as OUT.csv."""
    (view,) = selection.views
    columns = name_columns(selection.kinds(), ())
    dim = selection.views[view]
    with whole_file(rows_file(out)) as handle, csv_rows(handle, list(columns.values())) as write_row:

        def blocks() -> Iterator[NDArray[np.float32]]:
            for rows, matrices in selection.read():
                yield matrices[view]
                for row in rows:
                    write_row(to_cells(to_record(row, columns, selection.root)))

        with whole_file(out) as index:
            write_flat(index, selection.ids, dim, blocks())


def rows_file(out: Path) -> Path:
    """Return the file with the rows of an index.

    >>> rows_file(Path("birds.faiss")).name
    'birds.faiss.csv'
    """
    return out.with_name(out.name + ".csv")


# reading ----------------------------------------------------------------------------------------------------------


def read_npy(source: TableSource) -> Table:
    """Open a .npy file with its metadata in another file, or a folder that was exported.

    Raises:
        UsageError: an array, the rows or the recipe cannot be read, or metadata is given for a folder.
    """
    path = Path(source.path)
    if not path.is_dir():
        return table_from_matrices(
            source.path, {IMPORTED_VIEW: open_npy(path)}, *open_metadata(source.metadata, source.texts)
        )
    if source.metadata is not None:
        raise UsageError(f"{path} contains its rows. Remove --metadata (metadata=).")
    try:
        recipe = parse_recipe((path / RECIPE_FILE).read_text("utf-8"))
        edits = path / EDITS_FILE
        notes = read_notes(json.loads(edits.read_text("utf-8"))) if edits.is_file() else NO_EDITS
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a folder from `embedx export --format npy`: {error}.") from error
    matrices = {view: open_npy(path / f"{view}.npy") for view in recipe.views}
    return table_from_matrices(source.path, matrices, *open_rows(path / ROWS_FILE), recipe, notes)


def open_npy(file: Path) -> NDArray[Any]:
    """Map a .npy file into memory. Python objects in it are not unpickled.

    Raises:
        UsageError: the file is missing, truncated, or not an array of numbers.
    """
    try:
        matrix: NDArray[Any] = np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # numpy parses the header with Python's tokenizer, which raises many types
        raise UsageError(f"{file} cannot be read as a .npy file of numbers: {error}") from error
    return matrix


def read_faiss(source: TableSource) -> Table:
    """Open a flat index. Without metadata, the rows come from OUT.csv if that file exists.

    Raises:
        UsageError: the index is damaged or not flat, or its ids differ from those of the exported rows.
    """
    path, metadata = Path(source.path), source.metadata
    try:
        ids, matrix = open_flat(path)
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as a FAISS index: {error}") from error
    if metadata is None and rows_file(path).is_file():
        metadata = rows_file(path)
    columns, rows = open_metadata(metadata, source.texts)
    if not is_export(columns) and ids is not None:
        return table_from_matrices(source.path, {IMPORTED_VIEW: matrix}, *with_ids(ids, columns, rows))
    table = table_from_matrices(source.path, {IMPORTED_VIEW: matrix}, columns, rows)
    if table.exported and (ids is None or not has_ids(table, ids)):
        raise UsageError(f"{path} and {metadata} do not belong together: their ids differ.")
    return table


def has_ids(table: Table, ids: NDArray[np.int64]) -> bool:
    """Tell whether the rows of a table have these ids."""
    start = 0
    for rows, _ in table.read():
        if [row["id"] for row in rows] != ids[start : start + len(rows)].tolist():
            return False
        start += len(rows)
    return True


def with_ids(
    ids: NDArray[np.int64], columns: Sequence[str], rows: Callable[[], Iterator[Record]] | None
) -> tuple[list[str], Callable[[], Iterator[Record]]]:
    """Return columns and rows with the ids of an index in one more column, `faiss_id`; rows without an id get none."""
    column = ID_COLUMN
    while column in columns:
        column += "_"

    def numbered() -> Iterator[Record]:
        numbers = map(int, ids)
        pairs = zip(numbers, repeat({})) if rows is None else zip_longest(numbers, rows(), fillvalue=None)
        for number, row in pairs:
            if row is None:
                return
            yield row if number is None else {**row, column: number}

    return [*columns, column], numbered


def open_metadata(
    metadata: Any, texts: Sequence[str] = ()
) -> tuple[Sequence[str], Callable[[], Iterator[Record]] | None]:
    """Return the columns and rows of a metadata file or a pandas frame; no columns and None without metadata."""
    if metadata is None:
        return [], None
    if hasattr(metadata, "to_dict"):
        return frame_columns(metadata), lambda: records(metadata)
    return open_rows(metadata, texts)


def faiss_files(out: Path) -> tuple[Path, ...]:
    """Return the files that an export as FAISS writes."""
    return out, rows_file(out)


NPY = Format("npy", write_npy, read_npy, is_matrix=True, folder_file=RECIPE_FILE, magic=b"\x93NUMPY")
FAISS = Format("faiss", write_faiss, read_faiss, is_matrix=True, single_view=True, files=faiss_files)
