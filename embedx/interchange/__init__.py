"""Interchange: store -> files of other tools, and their files -> tables of rows with vectors.

Six formats, each written and read in one place: Parquet and Hugging Face `datasets` in `arrow`, CSV and JSON lines in
`text`, .npy and FAISS in `matrices`. `layout` says what a row looks like outside; a `Selection` is what goes out, a
`Table` what comes in.
"""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedx.corpus import records
from embedx.errors import DiskError, EmbedxError, NothingToDo, UsageError
from embedx.interchange import arrow, matrices, text
from embedx.interchange.selection import Selection
from embedx.interchange.table import VIEW, Table, from_records, side_by_side
from embedx.store import Store

__all__ = ["FORMATS", "Table", "export", "open_table"]

WRITERS: dict[str, Callable[[Path, Selection], None]] = {
    "parquet": arrow.write_parquet,
    "npy": matrices.write_npy,
    "csv": text.write_csv,
    "jsonl": text.write_jsonl,
    "faiss": matrices.write_faiss,
    "hf": arrow.write_hf,
}
FORMATS = tuple(WRITERS)
ONE_VIEW = ("csv", "faiss")  # formats that hold the vectors of one view
FOLDERS = {"npy": matrices.RECIPE, "hf": arrow.NOTE_FILE}  # formats that are a folder -> a file that each has


def export(
    store: Store,
    out: str | os.PathLike[str],
    *,
    format: str | None,
    views: Mapping[str, int],
    where: str | None,
    overwrite: bool,
) -> int:
    """Write rows and views of a store; see `Collection.export`."""
    path = Path(out)
    form = check_format(format) if format else path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise UsageError(f"{out} does not tell its format. Say --format (format=): {', '.join(FORMATS)}.")
    if len(views) > 1 and form in ONE_VIEW:
        raise UsageError(f"The format {form} holds one view: name it with --view (view=). Views: {', '.join(views)}.")
    check_place(path, form, overwrite)
    with store.snapshot():
        ids = store.ids() if where is None else store.filter(where)
        if not len(ids):
            raise NothingToDo(f"{store.folder} holds no rows{'' if where is None else f' with {where}'} to export.")
        try:
            WRITERS[form](path, Selection(store, ids, views))
        except OSError as error:
            if isinstance(error, EmbedxError):
                raise
            raise DiskError(f"{path} cannot be written: {error.strerror or error}. Nothing was left there.") from error
    return len(ids)


def check_format(format: str) -> str:
    """Refuse a format that there is not."""
    if format not in FORMATS:
        raise UsageError(f"Unknown format {format!r}. Formats: {', '.join(FORMATS)}.")
    return format


def check_place(out: Path, form: str, overwrite: bool) -> None:
    """Refuse a place in no folder, and one that is taken: only a file or an export of this kind is ever replaced."""
    if not out.parent.is_dir():
        raise UsageError(f"There is no folder {out.parent} to write {out.name} into.")
    taken = [one for one in (out, matrices.rows_of(out)) if os.path.lexists(one) and (one == out or form == "faiss")]
    if taken and not overwrite:
        raise UsageError(f"{taken[0]} is there already. Name another place, or say --overwrite (overwrite=True).")
    if not taken:
        return
    replaceable = (out / FOLDERS[form]).is_file() if form in FOLDERS else not any(one.is_dir() for one in taken)
    if not replaceable:
        raise UsageError(f"{taken[0]} is no export in the format {form}, so it is not replaced. Name another place.")


# reading ----------------------------------------------------------------------------------------------------------


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
