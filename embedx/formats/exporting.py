"""Export: rows and vectors of a store -> a file or folder of another tool."""

import os
from collections.abc import Mapping
from pathlib import Path

from embedx.errors import DiskError, EmbedxError, NothingToDo, UsageError
from embedx.formats.format import Format
from embedx.formats.registry import FORMATS, get_format
from embedx.formats.selection import Selection
from embedx.store.filters import TIMEOUT_S
from embedx.store.store import Store


def export(
    store: Store,
    out: str | os.PathLike[str],
    *,
    format: str | None,
    views: Mapping[str, int],
    where: str | None,
    timeout: float = TIMEOUT_S,
    overwrite: bool,
    root: str | None = None,
) -> int:
    """Write rows and vectors of a store, completely or not at all; see `embedx.Collection.export`.

    Args:
        store: the store.
        out: the file, or the folder for npy and hf.
        format: a name from `FORMATS`; None takes the suffix of `out`.
        views: view -> dimension of the views to write.
        where: an SQL condition on the rows; None writes all rows.
        timeout: seconds that the condition can take.
        overwrite: replace an existing export of the same format.
        root: CSV (and the CSV next to a FAISS index) holds paths relative to this folder; None for full paths.

    Returns:
        The number of rows.

    Raises:
        UsageError: the format is unknown or holds one view only, or `out` cannot be written or replaced.
        NothingToDo: no row matches.
        LockedError: another process changed the store during the export.
        DiskError: writing failed; nothing is left at `out`.
    """
    path = Path(out)
    name = format or path.suffix.lower().removeprefix(".")
    if not format and name not in FORMATS:
        raise UsageError(f"The format of {out} is unknown. Choose --format (format=): {', '.join(FORMATS)}.")
    form = get_format(name)
    if len(views) > 1 and form.single_view:
        raise UsageError(f"The format {name} holds one view. Choose --view (view=): {', '.join(views)}.")
    check_destination(path, form, overwrite)
    with store.snapshot():
        ids = store.ids() if where is None else store.filter(where, timeout)
        store.require_rows()
        if not len(ids):
            raise NothingToDo(f"{store.folder} has no rows that match {where} to export.")
        try:
            form.write(path, Selection(store, ids, views, root))
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
