"""Exports: what a page shows, as a file to download once."""

import csv
import io
import secrets
import threading
import time
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from embedx.audio.excerpts import wav_bytes
from embedx.collection.collection import Collection
from embedx.server.answers import Paths
from embedx.server.errors import ApiError
from embedx.server.row_audio import read_audio
from embedx.server.work import current_work
from embedx.store.records import Row

Kind = Literal["csv", "raven", "audacity", "clips"]

KEEP_S = 300.0  # until an export is forgotten
MAX_BYTES = 256 << 20  # of all exports; the oldest is forgotten first
MAX_CLIPS = 1000  # rows of an export with their sounds
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # begin a cell that a spreadsheet would compute


@dataclass(frozen=True)
class Export:
    """A file to download."""

    data: bytes
    name: str
    media_type: str
    made: float


class Exports:
    """The exports that wait for their download, by names that cannot be guessed."""

    def __init__(self) -> None:
        self._exports: OrderedDict[str, Export] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, data: bytes, name: str, media_type: str) -> str:
        """Keep a file, and return the name of its export.

        Raises:
            ApiError: it is too large.
        """
        if len(data) > MAX_BYTES:
            raise ApiError(413, "export_too_large", f"An export may have {MAX_BYTES >> 20} MB.", "Choose fewer rows.")
        key = f"e_{secrets.token_hex(8)}"
        with self._lock:
            self._exports[key] = Export(data, name, media_type, time.monotonic())
            while sum(len(one.data) for one in self._exports.values()) > MAX_BYTES:
                self._exports.popitem(last=False)
        return key

    def take(self, key: str) -> Export:
        """Return an export, and forget it.

        Raises:
            ApiError: it was downloaded before, or is too old.
        """
        with self._lock:
            export = self._exports.pop(key, None)
        if export is None or time.monotonic() - export.made > KEEP_S:
            raise ApiError(410, "export_gone", "The export was downloaded before, or is too old.", "Export again.")
        return export


def make_export(collection: Collection, rows: Sequence[Row], kind: Kind) -> tuple[bytes, str, str]:
    """Return rows as a file, its name and its media type."""
    if kind == "clips":
        return clips(collection, rows), "clips.zip", "application/zip"
    lines = {"csv": table, "raven": raven, "audacity": audacity}[kind](Paths(collection), rows)
    text = io.StringIO()
    csv.writer(text, delimiter="," if kind == "csv" else "\t", lineterminator="\n").writerows(
        [defused(cell) for cell in line] for line in lines
    )
    name, media_type = {
        "csv": ("rows.csv", "text/csv; charset=utf-8"),
        "raven": ("selections.txt", "text/plain; charset=utf-8"),
        "audacity": ("labels.txt", "text/plain; charset=utf-8"),
    }[kind]
    return text.getvalue().encode("utf-8", "backslashreplace"), name, media_type


def defused(cell: Any) -> Any:
    """Return a cell that no spreadsheet computes.

    >>> defused("=cmd()"), defused(-1.5), defused("owl")
    ("'=cmd()", -1.5, 'owl')
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def table(paths: Paths, rows: Sequence[Row]) -> list[list[Any]]:
    """Return the lines of a CSV file with all columns."""
    columns = sorted({name for row in rows for name in row.meta})
    head: list[Any] = ["id", "path", "start_s", "end_s", "label", "group", "split", "flags", *columns]
    return [
        head,
        *(
            [row.id, paths.shown(row.path), row.start_s, row.end_s, row.label, row.group, row.split,
             " ".join(row.flags), *(row.meta.get(name) for name in columns)]
            for row in rows
        ),
    ]  # fmt: skip


def raven(paths: Paths, rows: Sequence[Row]) -> list[list[Any]]:
    """Return the lines of a selection table of Raven; frequencies are not known."""
    head: list[Any] = ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Begin File", "Annotation"]
    return [
        head,
        *(
            [number, "Spectrogram 1", (row.meta.get("channel") or 0) + 1, row.start_s, row.end_s,
             paths.shown(row.path), row.label or ""]
            for number, row in enumerate(rows, start=1)
        ),
    ]  # fmt: skip


def audacity(paths: Paths, rows: Sequence[Row]) -> list[list[Any]]:
    """Return the lines of a label track of Audacity, which has no header."""
    return [[row.start_s, row.end_s, row.label or ""] for row in rows]


def clips(collection: Collection, rows: Sequence[Row]) -> bytes:
    """Return a ZIP file with the sound of every row, and a table that names those that cannot be read."""
    if len(rows) > MAX_CLIPS:
        raise ApiError(413, "export_too_large", f"An export of clips may have {MAX_CLIPS} rows.", "Choose fewer rows.")
    file, failures, size = io.BytesIO(), [], 0
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for row in rows:
            current_work().check()
            try:
                data = wav_bytes(*read_audio(row, 0.0))
            except ApiError as error:
                failures.append(f"row {row.id}: {error.message}")
                continue
            size += len(data)
            if size > MAX_BYTES:
                raise ApiError(413, "export_too_large", f"An export may have {MAX_BYTES >> 20} MB.")
            archive.writestr(f"row{row.id}.wav", data)
        archive.writestr("rows.csv", make_export(collection, rows, "csv")[0])
        if failures:
            archive.writestr("failures.txt", "\n".join(failures))
    return file.getvalue()
