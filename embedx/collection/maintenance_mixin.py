"""MaintenanceMixin: the methods of `Collection` that change, check and export it."""

import os
from collections.abc import Mapping
from typing import Any

from embedx.collection.base import CollectionBase
from embedx.collection.maintenance import LabelUpdate, compact, label, remove
from embedx.collection.verify import VerifyReport, check


class MaintenanceMixin(CollectionBase):
    """Remove, label, compact, verify and export a collection."""

    def remove(self, where: str, *, wait: bool = False) -> int:
        """Delete the rows that meet a condition, and return how many; see `embedx.collection.maintenance.remove`."""
        return remove(self.folder, where, wait=wait)

    def label(
        self,
        table: Any = None,
        *,
        set: Mapping[str, Any] | None = None,
        where: str | None = None,
        wait: bool = False,
    ) -> LabelUpdate:
        """Set labels and metadata of rows, from a table or to given values.

        See `embedx.collection.maintenance.label`.
        """
        return label(self.folder, table, set=set, where=where, wait=wait)

    def compact(self, *, wait: bool = False) -> tuple[int, int]:
        """Give the space of deleted rows back; return the size in bytes before and after."""
        return compact(self.folder, wait=wait)

    def verify(self, *, repair: bool = False, wait: bool = False) -> VerifyReport:
        """Find what is damaged, and mend it if `repair` is set; see `embedx.collection.verify.check`."""
        return check(self.folder, repair=repair, model=self.model, allow_pickle=self.allow_pickle, wait=wait)

    def export(
        self,
        out: str | os.PathLike[str],
        *,
        format: str | None = None,
        view: str | None = None,
        where: str | None = None,
        overwrite: bool = False,
    ) -> int:
        """Write rows with their vectors and metadata to a file that other tools open, and return how many there are.

        Args:
            out: the file, or the folder for "npy" and "hf"; it appears whole or not at all.
            format: "parquet", "npy", "csv", "jsonl", "faiss" or "hf"; told from the ending of `out` if not given.
            view: which vectors; "all" writes every view where the format holds several (not csv and faiss).
            where: an SQL condition on the rows; see `search`.
            overwrite: replace an `out` that is there.

        Raises:
            UsageError: an argument cannot be meant, or `out` is there.
            NothingToDo: no row meets the condition.
            DiskError: the disk is full or refuses.
        """
        from embedx.formats.exporting import export

        views = self.views if view == "all" else {self._resolve_view(view): self.views[self._resolve_view(view)]}
        return export(self.store, out, format=format, views=views, where=where, overwrite=overwrite)
