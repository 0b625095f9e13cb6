"""Parquet tables of users: rows as plain values, without the bytes of recordings, in bounded memory."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from embedx.audio.embedded import audio_column, file_columns
from embedx.datasets.text_tables import MAX_DEPTH
from embedx.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 1024
MAX_ROWS = 10_000_000  # a row takes about 1 kB as Python objects; a file of some kB can declare far more
MAX_BYTES = 2 << 30  # of the columns that are read, decompressed; a file of some MB can hold far more
MAX_TEXT = 131_072  # characters in a cell, as in a CSV; a dictionary can give a long text to many rows
PANDAS_INDEX = re.compile(r"__index_level_\d+__")  # the index of a frame without a name


def open_parquet_rows(
    source: str | BinaryIO, name: str
) -> tuple[list[str], Callable[[], Iterator[dict[str, Any]]], str | None]:
    """Return the columns and the rows of a Parquet file, and the column with the bytes of recordings.

    Args:
        source: a path, or an open file.
        name: the name of the table, for errors.

    Returns:
        The columns, a function that reads the rows from the first one on, and the column {bytes, path} with audio if
        there is one. Of such columns only the path is read.

    Raises:
        UsageError: the file is damaged or too large; while reading: a value cannot be read.
    """
    import pyarrow.parquet as pq

    with wrap_parquet_errors(name), pq.ParquetFile(source, pre_buffer=False) as file:
        schema = file.schema_arrow
        columns = [column for column in schema.names if not PANDAS_INDEX.fullmatch(column)]
        refuse_twice(columns, name)
        for field in schema:
            if depth_of(field.type) > MAX_DEPTH:
                raise UsageError(f"{name}, column {field.name}: the values are nested deeper than {MAX_DEPTH} levels.")
        audio, files = audio_column(schema, name), file_columns(schema)
        leaves = [f"{column}.path" if column in files else column for column in columns]
        check_size(file, leaves, name)
    texts = [field.name for field in schema if is_text(field.type)]
    classes = class_names(schema)

    def rows() -> Iterator[dict[str, Any]]:
        with wrap_parquet_errors(name), pq.ParquetFile(source, pre_buffer=False, read_dictionary=texts) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=leaves):
                yield from to_rows(batch, classes, name)

    return columns, rows, audio


def refuse_twice(columns: Sequence[str], name: str) -> None:
    """Refuse a table in which two columns have the same name."""
    if twice := {column for column in columns if columns.count(column) > 1}:
        raise UsageError(f"{name} has several columns with the name {twice.pop()!r}. Rename them.")


def to_rows(batch: "pa.RecordBatch", classes: Mapping[str, Sequence[str]], name: str) -> list[dict[str, Any]]:
    """Return the rows of a batch as plain values.

    Args:
        batch: a part of a table.
        classes: see `class_names`.
        name: the name of the table, for errors.

    Raises:
        UsageError: a value cannot be read.
    """
    names = batch.schema.names
    if not names:
        return [{} for _ in range(batch.num_rows)]
    values = [to_values(batch.column(i), column, name) for i, column in enumerate(names)]
    for i, column in enumerate(names):
        if column in classes:
            values[i] = [class_name(value, classes[column]) for value in values[i]]
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def class_names(schema: "pa.Schema") -> dict[str, list[str]]:
    """Return the names of the classes of the columns that Hugging Face `datasets` stores as numbers (ClassLabel)."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"].items()
        named = {column: feature["names"] for column, feature in features if feature.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # another program wrote this entry
        return {}
    return {
        column: names
        for column, names in named.items()
        if isinstance(names, list) and all(isinstance(name, str) for name in names)
    }


def class_name(value: Any, names: Sequence[str]) -> Any:
    """Return the name of a class; None for -1, which `datasets` writes where there is no class.

    >>> class_name(1, ["cat", "dog"]), class_name(-1, ["cat", "dog"]), class_name(7, ["cat", "dog"])
    ('dog', None, 7)
    """
    if not isinstance(value, int) or not -1 <= value < len(names):
        return value
    return None if value == -1 else names[value]


def check_size(file: "pq.ParquetFile", leaves: Sequence[str], name: str) -> None:
    """Refuse a file whose footer declares more rows or bytes than a table of recordings has."""
    metadata = file.metadata
    if metadata.num_rows > MAX_ROWS:
        raise UsageError(f"{name} has {metadata.num_rows} rows; allowed are {MAX_ROWS}. Divide it.")
    size = 0
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        for j in range(group.num_columns):
            column = group.column(j)
            if any(column.path_in_schema == leaf or column.path_in_schema.startswith(f"{leaf}.") for leaf in leaves):
                size += column.total_uncompressed_size
    if size > MAX_BYTES:
        raise UsageError(f"{name} holds {size} bytes of text and numbers; allowed are {MAX_BYTES}. Divide it.")


def to_values(column: "pa.Array", column_name: str, name: str) -> list[Any]:
    """Return a column as plain values; a text in a dictionary is kept in memory once."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        texts = [os.fsdecode(text) if isinstance(text, bytes) else text for text in column.dictionary.to_pylist()]
        if long := [text for text in texts if text and len(text) > MAX_TEXT]:
            raise UsageError(
                f"{name}, column {column_name}: a text has {len(long[0])} characters; allowed are {MAX_TEXT}."
            )
        return [None if index is None else texts[index] for index in column.indices.to_pylist()]
    try:
        values = column.to_pylist()
    except (ValueError, ArithmeticError) as error:  # a time that Python does not have, such as the year 10000
        try:
            values = column.cast(pa.string()).to_pylist()
        except pa.ArrowException:
            raise UsageError(
                f"{name}, column {column_name}: a value cannot be read ({error}). Store the column as text."
            ) from error
    return [missing_as_none(value) for value in values]


def missing_as_none(value: Any) -> Any:
    """Return None for NaN and NaT, with which pandas and Parquet mark a missing number or time."""
    return None if value is not None and value != value else value


def is_text(kind: "pa.DataType") -> bool:
    """Tell whether a type is text or bytes."""
    import pyarrow as pa

    tests = (pa.types.is_string, pa.types.is_binary, pa.types.is_large_string, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def depth_of(kind: "pa.DataType") -> int:
    """Return how deep a type is nested: 0 for numbers and text."""
    level, depth = [kind], 0
    while level := [part.field(i).type for part in level for i in range(part.num_fields)]:
        depth += 1
        if depth > MAX_DEPTH:
            break
    return depth


@contextlib.contextmanager
def wrap_parquet_errors(name: str) -> Iterator[None]:
    """Raise UsageError for what Arrow raises about a damaged file or a value that Python does not have."""
    import pyarrow as pa

    try:
        yield
    except UsageError:
        raise
    except (ValueError, TypeError, KeyError, OSError, ArithmeticError, MemoryError, pa.ArrowException) as error:
        raise UsageError(f"{name} cannot be read as a table: {error}") from error
