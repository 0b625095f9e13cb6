"""Export: rows and vectors of a store -> a file or folder of another tool."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedx.errors import DiskError, EmbedxError, NothingToDo, UsageError
from embedx.formats.arrow import PARQUET
from embedx.formats.format import Format
from embedx.formats.picture_columns import Pictures
from embedx.formats.registry import WRITTEN, get_format
from embedx.formats.selection import NO_PICTURES, Selection
from embedx.store.filters import TIMEOUT_S
from embedx.store.store import Store


@dataclass(frozen=True)
class ExportOptions:
    """How to export.

    Attributes:
        format: a name from `WRITTEN`; None takes the suffix of the file.
        views: view -> dimension of the views to write.
        where: an SQL condition on the rows; None writes all rows.
        timeout: seconds that the condition can take.
        overwrite: replace an existing export of the same format.
        root: CSV (and the CSV next to a FAISS index) holds paths relative to this folder; None for full paths.
        pictures: audio and coordinates to write next to the vectors; Parquet only.
    """

    format: str | None
    views: Mapping[str, int]
    where: str | None = None
    timeout: float = TIMEOUT_S
    overwrite: bool = False
    root: str | None = None
    pictures: Pictures = NO_PICTURES


def export(store: Store, out: str | os.PathLike[str], options: ExportOptions) -> int:
    """Write rows and vectors of a store, completely or not at all; see `embedx.Collection.export`.

    Args:
        store: the store.
        out: the file, or the folder for npy, hf and tensorboard.
        options: which rows, views and columns, and how.

    Returns:
        The number of rows.

    Raises:
        UsageError: the format is unknown or holds one view only, or `out` cannot be written or replaced.
        NothingToDo: no row matches.
        LockedError: another process changed the store during the export.
        DiskError: writing failed; nothing is left at `out`.
    """
    path, where = Path(out), options.where
    name = options.format or path.suffix.lower().removeprefix(".")
    if not options.format and name not in WRITTEN:
        raise UsageError(f"The format of {out} is unknown. Choose --format (format=): {', '.join(WRITTEN)}.")
    form = get_format(name, WRITTEN)
    if len(options.views) > 1 and form.single_view:
        raise UsageError(f"The format {name} holds one view. Choose --view (view=): {', '.join(options.views)}.")
    if form is not PARQUET:
        options.pictures.require_parquet(name)
    check_destination(path, form, options.overwrite)
    with store.snapshot():
        ids = store.ids() if where is None else store.filter(where, options.timeout)
        store.require_rows()
        if not len(ids):
            raise NothingToDo(f"{store.folder} has no rows that match {where} to export.")
        pictures = options.pictures.with_map(store, next(iter(options.views)))
        try:
            form.write(path, Selection(store, ids, options.views, options.root, pictures))
        except OSError as error:
            if isinstance(error, EmbedxError):
                raise
            raise DiskError(f"{path} cannot be written: {error.strerror or error}. Nothing was written.") from error
    return len(ids)


def check_destination(out: Path, form: Format, overwrite: bool) -> None:
    """Raise UsageError if the folder is missing, or if `out` exists and must not or cannot be replaced."""
    if not out.parent.is_dir():
        raise UsageError(f"There is no folder {out.parent}. Create it, or choose another place for {out.name}.")
    existing = [file for file in form.files(out) if os.path.lexists(file)]
    if not existing:
        return
    if not overwrite:
        raise UsageError(f"{existing[0]} exists. Choose another name, or use --overwrite (overwrite=True).")
    if form.folder_file:
        replaceable = (out / form.folder_file).is_file()
    else:
        replaceable = not any(file.is_dir() for file in existing)
    if not replaceable:
        raise UsageError(f"{existing[0]} is not an export in the format {form.name}. Choose another name.")
