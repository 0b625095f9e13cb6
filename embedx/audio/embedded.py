"""Recordings inside a Parquet file: a column of {bytes, path}, as Hugging Face `datasets` stores audio.

Such a recording has the path FILE.parquet/NAME, where NAME is its path in the column. `AudioTable` writes it to a
temporary file for as long as it is needed. A table is read from its start to its end, one recording at a time, so that
memory is bounded by the largest recording; recordings that were read ahead stay in temporary files.
"""

import contextlib
import functools
import os
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from embedx.errors import AudioError, UsageError
from embedx.filesystem.paths import display_path

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".parquet"
MAX_SPOOL_BYTES = 64 << 20  # of temporary files of a table that no one uses; decoders read some recordings ahead
READ_AHEAD = 64  # rows before the one that is asked for that are kept: more than there are decoders
MAX_TABLES = 4  # that are open at a time
NAME_COLUMNS = ("audio", "file", "path")  # columns that are preferred if several hold bytes


def file_columns(schema: "pa.Schema") -> list[str]:
    """Return the columns {bytes, path}."""
    import pyarrow as pa

    def holds_bytes(kind: "pa.DataType") -> bool:
        if not pa.types.is_struct(kind):
            return False
        fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        inner = fields.get("bytes")
        return inner is not None and (pa.types.is_binary(inner) or pa.types.is_large_binary(inner))

    return [field.name for field in schema if holds_bytes(field.type)]


def audio_column(schema: "pa.Schema", name: str) -> str | None:
    """Return the column with the bytes of recordings, {bytes, path}; None if there is none.

    Raises:
        UsageError: several columns hold bytes, and none has a usual name.
    """
    columns = file_columns(schema)
    preferred = [name for name in NAME_COLUMNS if name in columns]
    if len(columns) > 1 and not preferred:
        raise UsageError(
            f"Several columns of {name} hold files: {', '.join(columns)}. Rename the one with the audio to audio."
        )
    return next(iter(preferred or columns), None)


def recording_names(file: str | BinaryIO) -> list[str | None]:
    """Return the name of the recording in each row of a Parquet file; None where the row has no bytes.

    A row without a path is called row1, row2 and so on. The second recording with a name gets #2, the third #3.
    """
    names: list[str | None] = []
    used: dict[str, int] = {}
    for path, has_bytes in audio_paths(file):
        if not has_bytes:
            names.append(None)
            continue
        name = os.path.normpath(os.path.join(os.sep, path or f"row{len(names) + 1}"))[1:]
        used[name] = used.get(name, 0) + 1
        names.append(name if used[name] == 1 else f"{name}#{used[name]}")
    return names


def audio_paths(file: str | BinaryIO) -> Iterator[tuple[str | None, bool]]:
    """Yield the path of the recording in each row, and whether the row has its bytes."""
    import pyarrow.compute as pc

    for batch in audio_batches(file, 64):
        column = batch.column(0)
        has_path = column.type.get_field_index("path") >= 0
        paths = pc.struct_field(column, "path").to_pylist() if has_path else [None] * len(column)
        yield from zip(paths, pc.is_valid(pc.struct_field(column, "bytes")).to_pylist(), strict=True)


def audio_batches(file: str | BinaryIO, rows: int, groups: Sequence[int] | None = None) -> "Iterator[pa.RecordBatch]":
    """Yield the column with audio of a Parquet file in batches of rows."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20) as parquet:
        column = audio_column(parquet.schema_arrow, "the table")
        for group in range(parquet.num_row_groups) if groups is None else groups:
            yield from parquet.iter_batches(rows, row_groups=[group], columns=[column], use_threads=False)


def table_of(path: str) -> str | None:
    """Return the Parquet file that a path leads into; None if the path is that of an ordinary file."""
    end = path.lower().find(SUFFIX + os.sep)
    file = path[: end + len(SUFFIX)]
    return file if end >= 0 and os.path.isfile(file) else None


class AudioTable:
    """The recordings of a Parquet file. Threads may share it.

    Attributes:
        names, rows: the name of the recording in each row, and the number of the row of each name.
        spool: row -> temporary file and its size, in the order of use.
        users: row -> number of callers that use its file.
    """

    def __init__(self, file: str) -> None:
        import pyarrow.parquet as pq

        self.file = file
        self.names = recording_names(file)
        self.rows = {name: row for row, name in enumerate(self.names) if name is not None}
        metadata = pq.read_metadata(file)
        self.group_rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self.spool: OrderedDict[int, tuple[str, int]] = OrderedDict()
        self.users: dict[int, int] = {}
        self._go_to(0)
        self.lock = threading.Lock()
        self.folder = tempfile.mkdtemp(prefix="embedx-")
        weakref.finalize(self, remove_folder, self.folder, os.getpid())

    @staticmethod
    def open(file: str) -> "AudioTable":
        """Return the table of a file; it is kept as long as the file does not change.

        Raises:
            AudioError: the file cannot be read as Parquet.
        """
        try:
            status = os.stat(file)
            return open_audio_table(file, status.st_mtime_ns, status.st_size)
        except (ValueError, TypeError, KeyError, OSError, UsageError) as error:  # pyarrow raises subclasses of these
            raise AudioError("unreadable", f"{display_path(file)} cannot be read as Parquet: {error}") from error

    @contextlib.contextmanager
    def lend(self, name: str) -> Iterator[str]:
        """Lend a file with the recording of this name."""
        row = self.rows.get(name)
        if row is None:
            raise AudioError("missing", f"{display_path(self.file)} has no recording {display_path(name)}.")
        with self.lock:
            file = self._spooled(row)
            self.users[row] = self.users.get(row, 0) + 1
        try:
            yield file
        finally:
            with self.lock:
                self.users[row] -= 1
                self._shrink()

    def _spooled(self, row: int) -> str:
        """Return the temporary file of a row, and read the table up to this row if it is not there yet."""
        if row not in self.spool:
            if row < self.next_row:
                self._go_to(self._group_start(row))
            try:
                while self.next_row <= row:
                    data = next(self.values)
                    if data is not None and self.next_row > row - READ_AHEAD and self.next_row not in self.spool:
                        self._write(self.next_row, data)
                    self.next_row += 1
                    self._shrink(keep=row)
            except (ValueError, OSError, StopIteration) as error:  # pyarrow raises subclasses of these
                self._go_to(self._group_start(row))
                place = f"Row {row + 1} of {display_path(self.file)}"
                raise AudioError("unreadable", f"{place} cannot be read: {error or 'the table has changed'}") from error
        self.spool.move_to_end(row)
        return self.spool[row][0]

    def _go_to(self, start: int) -> None:
        """Read on from the first row of a row group."""
        self.next_row, self.values = start, read_values(self.file, self.group_rows, start)

    def _write(self, row: int, data: bytes) -> None:
        """Write the bytes of a row to a temporary file with the suffix of its name."""
        suffix = os.path.splitext(self.names[row] or "")[1]
        file = os.path.join(self.folder, f"{row}{suffix}")
        with open(file, "wb") as handle:
            handle.write(data)
        self.spool[row] = (file, len(data))

    def _shrink(self, keep: int | None = None) -> None:
        """Remove the files that were not used for the longest time while they are larger than the limit together."""
        unused = [row for row in self.spool if not self.users.get(row) and row != keep]
        total = sum(self.spool[row][1] for row in unused)
        for row in unused:
            if total <= MAX_SPOOL_BYTES:
                return
            file, size = self.spool.pop(row)
            os.unlink(file)
            total -= size

    def _group_start(self, row: int) -> int:
        """Return the first row of the row group that holds a row."""
        start = 0
        for count in self.group_rows:
            if row < start + count:
                break
            start += count
        return start


def read_values(file: str, group_rows: Sequence[int], start: int) -> Iterator[bytes | None]:
    """Yield the bytes of each row from the first row of a row group on."""
    first, skipped = 0, 0
    while skipped < start:
        skipped += group_rows[first]
        first += 1
    for batch in audio_batches(file, 1, range(first, len(group_rows))):
        value: Any = batch.column(0)[0].as_py()
        yield value and value["bytes"]


def remove_folder(folder: str, process: int) -> None:
    """Remove the temporary files of a table, in the process that made them."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


@functools.lru_cache(MAX_TABLES)
def open_audio_table(file: str, mtime_ns: int, size: int) -> AudioTable:
    """Return the table of a file; a file with another time of change or size is read again."""
    return AudioTable(file)
