"""MaintenanceMixin: the methods of `Collection` that change, check and export it."""

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from embedx.collection.backup import backup
from embedx.collection.base import CollectionBase
from embedx.collection.labelling import LabelChange, label, read_log, undo_label
from embedx.collection.maintenance import compact, remove
from embedx.collection.searching import from_one_state
from embedx.collection.verify import VerifyReport, verify_collection
from embedx.errors import UsageError
from embedx.filesystem.urls import is_url
from embedx.store.edits import MIN_OVERLAP, LabelUpdate
from embedx.store.filters import TIMEOUT_S

if TYPE_CHECKING:
    from embedx.collection.pushing import Pushed
    from embedx.formats.picture_columns import Pictures


class MaintenanceMixin(CollectionBase):
    """Remove, label, compact, verify and export a collection."""

    def remove(self, where: str, *, timeout: float = TIMEOUT_S, wait: bool = False) -> int:
        """Delete the rows that meet a condition. A recording is deleted with its last row.

        Args:
            where: an SQL condition on the rows, such as "label = 'noise'".
            timeout: seconds that the condition can take; default 30.
            wait: wait while another process writes the collection, instead of raising LockedError.

        Returns:
            The number of deleted rows.

        Raises:
            UsageError: the condition is invalid.
            LockedError: another process writes the collection, and `wait` is not set.
        """
        return remove(self.folder, where, timeout=timeout, wait=wait)

    def label(
        self,
        table: Any = None,
        *,
        set: Mapping[str, Any] | None = None,
        where: str | None = None,
        timeout: float = TIMEOUT_S,
        overlap: float = MIN_OVERLAP,
        wait: bool = False,
    ) -> LabelUpdate:
        """Set label, group, split or metadata of rows, from a table or to given values.

        What is set wins over the source, also when `extract` runs again or the file changes.

        Args:
            table: a CSV, TSV, Parquet or JSON lines file, or a data frame, with a column `id` or `path`; see
                `embedx.collection.labelling.label`.
            set: instead, column -> value for all selected rows; None or "" deletes the value.
            where: an SQL condition: only these rows are changed; default: all rows.
            timeout: seconds that the condition can take; default 30.
            overlap: the part, from 0 to 1, of the shorter of an entry with start_s and end_s and a window that must
                overlap; default 0.5.
            wait: wait while another process writes the collection, instead of raising LockedError.

        Returns:
            The number of changed rows, the number of rows that each entry met, and the entries that met no row.

        Raises:
            UsageError: a column cannot be set, the table has no column id or path, or the condition is invalid.
            NothingToDo: no entry of the table matches a row.
            LockedError: another process writes the collection, and `wait` is not set.
        """
        return label(self.folder, table, set=set, where=where, timeout=timeout, overlap=overlap, wait=wait)

    def label_log(self) -> list[LabelChange]:
        """Return all changes of labels and metadata that users have made, the oldest first.

        Raises:
            StoreError: an edit is damaged.
        """
        return read_log(self.folder)

    def undo_label(self, change: int | None = None, *, wait: bool = False) -> LabelUpdate:
        """Undo a change of labels: its rows get the value of the change before, or that of the source.

        Undoing an undo sets the values again.

        Args:
            change: the number of the change in `label_log`; default: the last one that was not undone.
            wait: wait while another process writes the collection, instead of raising LockedError.

        Returns:
            The number of changed rows, and the number of the new change.

        Raises:
            UsageError: there is no such change, or it was undone before.
            NothingToDo: there is nothing to undo.
            LockedError: another process writes the collection, and `wait` is not set.
        """
        return undo_label(self.folder, change, wait=wait)

    def backup(self, out: str | os.PathLike[str]) -> int:
        """Copy the collection with its heads and indexes into a new folder; a writer may be active.

        Args:
            out: the new folder, or a new place in a bucket such as s3://bucket/name; it appears complete or not at
                all. `embedx.open` reads both.

        Returns:
            The size of the copy in bytes.

        Raises:
            UsageError: `out` exists.
            StoreError: the collection is damaged.
            DiskError: the disk is full or cannot be written.
        """
        if is_url(out):
            from embedx.collection.pushing import push

            return push(self.folder, str(out), is_new=True).bytes
        return backup(self.folder, out)

    def push(self, url: str) -> "Pushed":
        """Copy the collection with its heads and indexes to a bucket; `embedx.open(url)` reads it.

        Push it again to send only what has changed. A push that is stopped leaves the collection that was there before.

        Args:
            url: the place, such as s3://bucket/name or gs://bucket/name; it holds a pushed collection or nothing.

        Returns:
            The sizes of the collection and of what was sent, in bytes and in parts.

        Raises:
            UsageError: the place holds other files.
            StoreError: the collection is damaged.
            DiskError: the bucket cannot be written, or the disk is full.
        """
        from embedx.collection.pushing import push

        return push(self.folder, url)

    def compact(self, *, wait: bool = False) -> tuple[int, int]:
        """Give the space of deleted rows back to the disk.

        Args:
            wait: wait while another process writes the collection, instead of raising LockedError.

        Returns:
            The size of the store in bytes, before and after.

        Raises:
            DiskError: the disk has no room for the temporary copy; nothing has changed.
            LockedError: another process writes the collection, and `wait` is not set.
        """
        return compact(self.folder, wait=wait)

    def verify(self, *, repair: bool = False, wait: bool = False) -> VerifyReport:
        """Find damage in the store and its indexes, and repair it on request.

        Args:
            repair: repair what can be repaired; see `embedx.collection.verify.verify_collection`.
            wait: wait while another process writes the collection, instead of raising LockedError.

        Returns:
            The issues that were found, what was repaired, and the issues that are left.

        Raises:
            ModelError: vectors are damaged, and the model that made them cannot be loaded.
            LockedError: another process writes the collection, and `wait` is not set.
        """
        return verify_collection(
            self.folder, repair=repair, model=self.model, allow_pickle=self.allow_pickle, wait=wait
        )

    @from_one_state
    def export(
        self,
        out: str | os.PathLike[str],
        *,
        format: str | None = None,
        view: str | None = None,
        where: str | None = None,
        timeout: float = TIMEOUT_S,
        overwrite: bool = False,
        absolute_paths: bool = False,
        merge: bool = False,
        with_audio: str | None = None,
        url: str | None = None,
        xy: str | None = None,
        failures: list[str] | None = None,
    ) -> int:
        """Write rows with their vectors and metadata to a file for other tools.

        Args:
            out: the file, or for "npy", "hf" and "tensorboard" the folder; it appears complete or not at all. It can be
                a URL of a bucket, where each file of a folder appears complete or not at all.
            format: "parquet", "npy", "csv", "jsonl", "faiss", "hf" or "tensorboard"; default: by the suffix of `out`.
                Or annotations, without vectors: "raven", "audacity", "labelstudio", "birdnet" or "textgrid".
            view: the view, or "all" in parquet, npy, jsonl and hf; default: last layer, first pooling.
            where: an SQL condition on the rows; default: all rows.
            timeout: seconds that the condition can take; default 30.
            overwrite: replace `out` if it exists.
            absolute_paths: write full paths to CSV and the rows of a faiss index too; default: relative to `root`.
            merge: for annotations: rows of one recording and label that touch or overlap are one.
            with_audio: for parquet: a column `audio` of {bytes, path}, as Hugging Face `datasets` has it: "clip" (the
                sound of each row as FLAC), "path" (the file of its recording) or "url" (its sound in a service).
            url: for "url": the address of the collection in `embedx serve`, such as "http://localhost:8000/field".
            xy: for parquet: columns x and y, the map of all rows by "pca" or "umap".
            failures: receives a sentence for each clip that cannot be read; its audio is empty then.

        Returns:
            The number of exported rows or annotations.

        Raises:
            UsageError: an invalid argument, or `out` exists.
            NothingToDo: no row meets the condition.
            DiskError: the disk is full or cannot be written.
        """
        from embedx.formats.picture_columns import Pictures

        pictures = Pictures(with_audio, url, xy, [] if failures is None else failures)
        write = partial(self._write_export, format, view, where, timeout, absolute_paths, merge, pictures)
        if is_url(out):
            from embedx.formats.uploading import export_to_url

            return export_to_url(str(out), partial(write, False), overwrite=overwrite)
        return write(overwrite, out)

    def _write_export(
        self,
        format: str | None,
        view: str | None,
        where: str | None,
        timeout: float,
        absolute_paths: bool,
        merge: bool,
        pictures: "Pictures",
        overwrite: bool,
        out: str | os.PathLike[str],
    ) -> int:
        """Write an export to a path of this machine; see `export`."""
        from embedx.annotations.files import WRITTEN
        from embedx.formats.annotations import export_annotations
        from embedx.formats.exporting import ExportOptions, export

        if format in WRITTEN:
            pictures.require_parquet(format)
            ids = self._select_ids(where, timeout)
            return export_annotations(self.store, out, WRITTEN[format], ids, merge=merge, overwrite=overwrite)
        if merge:
            raise UsageError(f"merge is for annotations. Choose one of the formats {', '.join(WRITTEN)}.")
        name = self._resolve_view(None if view == "all" else view)
        views = self.views if view == "all" else {name: self.views[name]}
        root = None if absolute_paths else self.root
        return export(self.store, out, ExportOptions(format, views, where, timeout, overwrite, root, pictures))
