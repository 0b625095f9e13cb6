"""Tables: open a file, folder, array or frame that holds vectors."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from embedx.datasets.manifests import records
from embedx.errors import EmbedxError, UsageError
from embedx.formats import arrow, matrices, text
from embedx.formats.exporting import FORMATS, check_format
from embedx.formats.table import VIEW, Table, from_records, side_by_side


def open_table(source: Any, format: str | None, vectors: Sequence[str], metadata: Any) -> Table:
    """Open what holds vectors: a file or folder in one of the formats, an array [N, D], or a pandas frame.

    Raises:
        UsageError: it is not there, cannot be read, or holds no vectors.
    """
    if not isinstance(source, (str, os.PathLike)):
        return open_object(source, vectors, metadata)
    path = os.path.abspath(os.fspath(source))
    if not os.path.isfile(path) and not os.path.isdir(path):
        raise UsageError(f"There is no file or folder {os.fspath(source)}.")
    form = check_format(format) if format else guess_format(path)
    try:
        if form in ("npy", "faiss"):
            if vectors:
                raise UsageError(f"The format {form} has no columns: leave --vectors (vectors=) out.")
            return matrices.read_npy(path, metadata) if form == "npy" else matrices.read_faiss(path, metadata)
        if metadata is not None:
            raise UsageError(f"The format {form} holds its metadata: leave --metadata (metadata=) out.")
        readers = {"parquet": arrow.read_parquet, "hf": arrow.read_hf, "csv": text.read_csv, "jsonl": text.read_jsonl}
        return readers[form](path, vectors)
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, EmbedxError):
            raise
        raise UsageError(f"{os.fspath(source)} cannot be read as {form}: {error}") from error


def guess_format(path: str) -> str:
    """Return the format that a file has by its first bytes, or by its name where they say nothing."""
    if os.path.isdir(path):
        return "npy" if os.path.isfile(os.path.join(path, matrices.RECIPE)) else "hf"
    with open(path, "rb") as handle:
        first = handle.read(6)
    ending = os.path.splitext(path)[1].lower().removeprefix(".")
    if first[:4] == b"PAR1":
        return "parquet"
    if first == b"\x93NUMPY":
        return "npy"
    if ending in FORMATS:
        return ending
    return "jsonl" if first.startswith(b"{") else "faiss" if first[:1] == b"I" and ending in ("index", "bin") else "csv"


def open_object(source: Any, vectors: Sequence[str], metadata: Any) -> Table:
    """Open an array or a frame; its rows are named by its content, for want of a place."""
    if hasattr(source, "to_dict"):
        if metadata is not None:
            raise UsageError("A frame holds its metadata: leave metadata= out.")
        columns = [str(name) for name in source]
        table = from_records("frame", columns, lambda: iter(records(source)), vectors)
    else:
        try:
            matrix = np.asarray(source)
        except ValueError as error:
            raise UsageError(f"The vectors are no matrix [N, D]: {error}.") from error
        table = side_by_side("The array", {VIEW: matrix}, *matrices.rows_from(metadata))
    digest = hashlib.blake2b(digest_size=6)
    for _, batch in table.read():
        digest.update(batch[VIEW].tobytes())
    return Table(f"array-{digest.hexdigest()}", table.columns, table.widths, table.own, None, table.read)
