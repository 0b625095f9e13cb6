"""Interchange: store -> files of other tools, and their files -> tables of rows with vectors.

Six formats, each written and read in one place: Parquet and Hugging Face `datasets` in `arrow`, CSV and JSON lines in
`text`, .npy and FAISS in `matrices`. `layout` says what a row looks like outside; a `Selection` is what goes out, a
`Table` what comes in.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from embedx.errors import DiskError, EmbedxError, NothingToDo, UsageError
from embedx.formats import arrow, matrices, text
from embedx.formats.selection import Selection
from embedx.store.store import Store

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
