"""Open a file, folder, array or frame with vectors as a table."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from embedx.datasets.tables import frame_columns, records
from embedx.datasets.text_tables import PROBE_BYTES, refuse_other_file
from embedx.errors import EmbedxError, UsageError
from embedx.filesystem.file_state import FileState, state_of_file
from embedx.filesystem.paths import display_path
from embedx.filesystem.urls import is_url
from embedx.formats import matrices
from embedx.formats.registry import FORMATS, get_format
from embedx.formats.table import IMPORTED_VIEW, Batch, Table, TableSource, table_from_matrices, table_from_records
from embedx.store.schema import FILE_NAME

FILES_OF_DATASETS = ("state.json", "dataset_info.json", "dataset_dict.json")  # in a folder that `datasets` saved


def open_table(
    source: Any, format: str | None, vectors: Sequence[str], metadata: Any, texts: Sequence[str] = ()
) -> Table:
    """Open vectors and their rows.

    Args:
        source: a file or folder in one of the formats, an array [N, D], or a pandas frame.
        format: a name from `FORMATS`; None detects it.
        vectors: the column with the vectors, or the columns with one number each; empty to detect them.
        metadata: for a matrix: a file or a pandas frame with the rows in the same order.
        texts: columns that stay text, also if all values look like numbers.

    Raises:
        UsageError: the source does not exist, cannot be read, or holds no vectors; while reading: a file has changed.
    """
    for place in (source, metadata):
        if isinstance(place, str) and is_url(place):
            raise UsageError(
                f"An import reads files of this machine, not the URL {display_path(place)}. Download the file first."
            )
    if not isinstance(source, (str, os.PathLike)):
        return open_object(source, vectors, metadata)
    path = os.path.abspath(os.fspath(source))
    if not os.path.isfile(path) and not os.path.isdir(path):
        raise UsageError(f"There is no file or folder {os.fspath(source)}.")
    if os.path.isfile(os.path.join(path, FILE_NAME)):
        raise UsageError(
            f"{display_path(path)} is a collection. `embedx merge` combines collections, `embedx backup` copies one."
        )
    form = get_format(format or guess_format(path))
    if form.is_matrix and vectors:
        raise UsageError(f"The format {form.name} has no columns. Remove --vectors (vectors=).")
    if not form.is_matrix and metadata is not None:
        raise UsageError(f"The format {form.name} contains its metadata. Remove --metadata (metadata=).")
    try:
        before = states_of(path, metadata)
        return unchanged_table(form.read(TableSource(path, vectors, metadata, texts)), metadata, before)
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, EmbedxError):
            raise
        raise UsageError(f"{os.fspath(source)} cannot be read as {form.name}: {error}") from error


def states_of(path: str, metadata: Any) -> dict[str, FileState]:
    """Return the states of the files that a table is read from: a file, or those of a folder, and the metadata."""
    files = [os.path.join(path, name) for name in os.listdir(path)] if os.path.isdir(path) else [path]
    files.append(f"{path}.csv")  # the rows of an index
    if isinstance(metadata, (str, os.PathLike)):
        files.append(os.fspath(metadata))
    return {file: state_of_file(file) for file in files}


def unchanged_table(table: Table, metadata: Any, before: dict[str, FileState]) -> Table:
    """Return a table that refuses a batch if its files have other states than before: it is read several times."""

    def check() -> None:
        after = states_of(table.name, metadata)
        if changed := [file for file in sorted(before | after) if before.get(file) != after.get(file)]:
            raise UsageError(
                f"{display_path(changed[0])} was changed while it was imported. Run the import again when the file is "
                "complete: it replaces what was stored of the earlier content."
            )

    def read() -> Iterator[Batch]:
        try:
            for batch in table.read():
                check()
                yield batch
        except (UsageError, OSError):
            check()
            raise
        check()

    return replace(table, read=read)


def guess_format(path: str) -> str:
    """Return the format of a file or folder, from its first bytes or its suffix."""
    if os.path.isdir(path):
        if os.path.isfile(os.path.join(path, matrices.RECIPE_FILE)):
            return "npy"
        if any(os.path.isfile(os.path.join(path, name)) for name in FILES_OF_DATASETS):
            return "hf"
        raise UsageError(
            f"{display_path(path)} is a folder without an export of embedx or a data set that Hugging Face `datasets` "
            "saved. Give the file with the vectors; `embedx extract` embeds a folder of recordings."
        )
    with open(path, "rb") as handle:
        first = handle.read(PROBE_BYTES)
    for name, form in FORMATS.items():
        if form.magic and first.startswith(form.magic):
            return name
    refuse_other_file(first, display_path(path))
    suffix = os.path.splitext(path)[1].lower().removeprefix(".")
    if suffix in FORMATS:
        return suffix
    if first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return "jsonl"
    return "faiss" if first[:1] == b"I" and suffix in ("index", "bin") else "csv"


def open_object(source: Any, vectors: Sequence[str], metadata: Any) -> Table:
    """Open an array or a frame. The table is named after its content, because it has no path."""
    if hasattr(source, "to_dict"):
        if metadata is not None:
            raise UsageError("A frame contains its metadata. Remove metadata=.")
        columns = frame_columns(source)
        table = table_from_records("frame", columns, lambda: records(source), vectors)
    else:
        try:
            matrix = np.asarray(source)
        except ValueError as error:
            raise UsageError(f"The vectors are not a matrix [N, D]: {error}.") from error
        table = table_from_matrices("The array", {IMPORTED_VIEW: matrix}, *matrices.open_metadata(metadata))
    digest = hashlib.blake2b(digest_size=6)
    for _, batch in table.read():
        digest.update(batch[IMPORTED_VIEW].tobytes())
    return replace(table, name=f"array-{digest.hexdigest()}", recipe=None)
