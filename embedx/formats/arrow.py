"""Arrow tables: a Parquet file, and a folder of Hugging Face `datasets`. Export and import."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedx.audio.embedded import file_columns
from embedx.datasets.parquet import class_names, refuse_twice, to_rows
from embedx.datasets.text_tables import is_export
from embedx.errors import UsageError
from embedx.filesystem.atomic import whole_file, whole_folder
from embedx.formats.columns import name_columns, to_record
from embedx.formats.edit_notes import EDITS_KEY, NO_EDITS, note_edits, read_notes
from embedx.formats.format import Format
from embedx.formats.picture_columns import AUDIO, FEATURES_KEY, PictureColumns, features_of
from embedx.formats.selection import Matrices, Selection
from embedx.formats.table import (
    BATCH_ROWS,
    CORRECT_ROW,
    IMPORTED_VIEW,
    Batch,
    Table,
    TableSource,
    choose_vector_columns,
    parse_recipe,
)
from embedx.store.records import Row

if TYPE_CHECKING:
    import pyarrow as pa

RECIPE_KEY, JSON_COLUMNS = "embedx", "embedx.json_columns"  # schema keys: the recipe; the columns that hold JSON
ADDED_KEY = "embedx.added"  # schema key: columns for other tools, which an import leaves out
NOTE_FILE = "embedx.json"  # the same keys in a folder of `datasets`, which does not keep schema keys


# writing ----------------------------------------------------------------------------------------------------------


def write_parquet(out: Path, selection: Selection) -> None:
    """Write one file with a column per view, and a row group per batch."""
    import pyarrow.parquet as pq

    layout = ArrowLayout(selection)
    views = set(selection.views)
    views |= set(layout.pictures.names.values())
    others = [name for name in layout.schema.names if name not in views]  # a dictionary of vectors would save nothing
    with whole_file(out) as handle, pq.ParquetWriter(handle, layout.schema, use_dictionary=others) as writer:
        for batch in layout.batches():
            writer.write_batch(batch, row_group_size=batch.num_rows)


def write_hf(out: Path, selection: Selection) -> None:
    """Write a folder for `datasets.load_from_disk`, with the recipe in a file of its own."""
    import pyarrow as pa

    datasets = load_datasets()
    layout = ArrowLayout(selection)
    with whole_folder(out) as folder:
        stream = folder / "stream" / "all.arrow"
        stream.parent.mkdir()  # datasets does not save into the folder that it reads from
        with open(stream, "wb") as handle, pa.ipc.new_stream(handle, layout.schema.remove_metadata()) as writer:
            for batch in layout.batches():
                writer.write_batch(batch.replace_schema_metadata(None))
        datasets.Dataset.from_file(str(stream)).save_to_disk(str(folder))
        shutil.rmtree(stream.parent)
        (folder / NOTE_FILE).write_text(json.dumps(layout.note))


class ArrowLayout:
    """The Arrow schema of a selection, and its rows in that schema."""

    def __init__(self, selection: Selection) -> None:
        import pyarrow as pa

        kinds = selection.kinds()
        self.selection = selection
        self.columns = name_columns(kinds, selection.views)
        self.json = [self.columns[name] for name, kind in kinds.items() if kind == "json"]
        self.note = {
            RECIPE_KEY: json.loads(selection.recipe.to_json()),
            JSON_COLUMNS: self.json,
            EDITS_KEY: note_edits(selection),
        }
        types = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": pa.string(), "json": pa.string()}
        fields = [("id", pa.int64()), ("path", pa.string())]
        fields += [(name, pa.float64()) for name in ("start_s", "end_s", "duration_s")]
        fields += [(name, pa.string()) for name in ("label", "group", "split", "flags")]
        fields += [(self.columns[name], types[kind]) for name, kind in kinds.items()]
        fields += [(view, pa.list_(pa.float32(), dim)) for view, dim in selection.views.items()]
        self.pictures = PictureColumns(selection.pictures, [name for name, _ in fields])
        schema = pa.schema([*fields, *self.pictures.fields()])
        keys = {key: json.dumps(value) for key, value in self.note.items()}
        if added := self.pictures.names:
            keys |= {ADDED_KEY: json.dumps(list(added.values())), FEATURES_KEY: features_of(schema, added.get(AUDIO))}
        self.schema = schema.with_metadata(keys)

    def batches(self) -> "Iterator[pa.RecordBatch]":
        """Yield the rows in batches."""
        for rows, matrices in self.selection.read():
            for part, added in self.pictures.parts(rows):
                yield self.batch(rows[part], {view: matrix[part] for view, matrix in matrices.items()}, added)

    def batch(self, rows: Sequence[Row], matrices: Matrices, added: Mapping[str, "pa.Array"]) -> "pa.RecordBatch":
        """Return rows with their vectors and the columns for other tools as a batch."""
        import pyarrow as pa

        records = [to_record(row, self.columns) for row in rows]
        arrays: list[Any] = []
        for field in self.schema:
            if field.name in added:
                arrays.append(added[field.name])
                continue
            if field.name in matrices:
                flat = pa.array(matrices[field.name].ravel())
                arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
                continue
            values = [record[field.name] for record in records]
            if field.name in self.json:
                values = [None if value is None else json.dumps(value) for value in values]
            arrays.append(pa.array(values, field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def parquet_bytes(columns: Mapping[str, Sequence[Any]], types: Mapping[str, str]) -> bytes:
    """Return columns as a Parquet file.

    Args:
        columns: column -> values.
        types: column -> Arrow type, such as "float64". The type of any other column is inferred; if its values have no
            common type, they are written as JSON.
    """
    import pyarrow as pa
    import pyarrow.parquet

    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values, types.get(name))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            arrays[name] = pa.array([None if value is None else json.dumps(value) for value in values])
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(arrays), file)
    return file.getvalue()


# reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArrowSource:
    """Arrow batches to import."""

    path: str
    schema: "pa.Schema"
    batches: "Callable[[], Iterator[pa.RecordBatch]]"  # starts at the first row each time
    note: Any  # what an export says about itself: RECIPE_KEY, JSON_COLUMNS and EDITS_KEY


def read_parquet(source: TableSource) -> Table:
    """Open a Parquet file with its vectors in a column of lists, or in columns of numbers.

    Raises:
        UsageError: the file is damaged, or has no vectors.
    """
    import pyarrow.parquet as pq

    def batches() -> "Iterator[pa.RecordBatch]":
        with pq.ParquetFile(source.path, pre_buffer=False) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=schema.names)

    with wrap_arrow_errors(source.path), pq.ParquetFile(source.path) as file:
        schema = file.schema_arrow
    keys = schema.metadata or {}
    known = (RECIPE_KEY, JSON_COLUMNS, EDITS_KEY, ADDED_KEY)
    note = {key: parse_json(keys[key.encode()]) for key in known if key.encode() in keys}
    for name in note.get(ADDED_KEY) or ():
        if name in schema.names:
            schema = schema.remove(schema.get_field_index(name))
    return arrow_table(ArrowSource(source.path, schema, batches, note), source.vectors)


def read_hf(source: TableSource) -> Table:
    """Open a folder that `datasets` saved.

    Raises:
        UsageError: the folder is damaged, holds several splits, or has no vectors.
    """
    datasets = load_datasets()
    check_file_names(Path(source.path))
    with wrap_arrow_errors(source.path):
        dataset = datasets.load_from_disk(source.path)
    if not isinstance(dataset, datasets.Dataset):
        raise UsageError(f"{source.path} holds several splits: {', '.join(dataset)}. Give the folder of one split.")
    file = Path(source.path) / NOTE_FILE
    note = parse_json(file.read_bytes()) if file.is_file() else {}

    def batches() -> "Iterator[pa.RecordBatch]":
        for table in dataset.with_format("arrow").iter(BATCH_ROWS):
            yield from table.combine_chunks().to_batches()

    return arrow_table(ArrowSource(source.path, dataset.features.arrow_schema, batches, note), source.vectors)


def check_file_names(folder: Path) -> None:
    """Refuse a folder whose state.json names files outside of the folder; the library would read them."""
    file = folder / "state.json"
    state = parse_json(file.read_bytes()) if file.is_file() else {}
    files = state.get("_data_files") if isinstance(state, dict) else None
    for entry in files if isinstance(files, list) else []:
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name != os.path.basename(name) or name in ("", ".", ".."):
            raise UsageError(f"{file} names a file outside of its folder: {name!r}.")


def arrow_table(source: ArrowSource, vectors: Sequence[str]) -> Table:
    """Return Arrow batches as a table; `vectors` are the columns that the user named."""
    note, names = source.note, list(source.schema.names)
    refuse_twice(names, source.path)
    classes = class_names(source.schema)
    recipe = parse_recipe(json.dumps(note[RECIPE_KEY])) if isinstance(note, dict) and RECIPE_KEY in note else None
    json_columns = set(note.get(JSON_COLUMNS) or ()) if recipe else set()
    with wrap_arrow_errors(source.path):
        first = next(source.batches(), None)
    if recipe:
        chosen = {view: [view] for view in recipe.views}
        if missing := [view for view in recipe.views if view not in names]:
            raise UsageError(f"{source.path} is an export of embedx without its view {', '.join(missing)}.")
    else:
        lists = [
            field.name
            for field in source.schema
            if is_vector_type(field.type) and (first is None or list_length(first.column(field.name)))
        ]
        chosen = {IMPORTED_VIEW: choose_vector_columns(names, lists, vectors)}
    dims = {
        view: to_matrix(first.slice(0, 1), columns, 1, None, source.path).shape[1] if first else 0
        for view, columns in chosen.items()
    }
    excluded = {name for columns in chosen.values() for name in columns}
    others = [name for name in names if name not in excluded]

    def read() -> Iterator[Batch]:
        number = 1
        with wrap_arrow_errors(source.path):
            for batch in source.batches():
                matrices = {view: to_matrix(batch, chosen[view], number, dims[view], source.path) for view in chosen}
                rows = to_rows(without_bytes(batch.select(others)), classes, source.path)
                for row in rows:
                    texts = {name: row[name] for name in json_columns & row.keys() if row[name] is not None}
                    row.update({name: parse_json(text) for name, text in texts.items()})
                yield list[Mapping[str, Any]](rows), matrices
                number += len(rows)

    notes = read_notes(note.get(EDITS_KEY)) if recipe else NO_EDITS
    return Table(source.path, others, dims, is_export(names), recipe, read, notes)


def without_bytes(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """Return a batch with the paths in place of columns {bytes, path}: the bytes of files are no metadata."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in file_columns(batch.schema):
        column = batch.column(name)
        has_path = column.type.get_field_index("path") >= 0
        paths = pc.struct_field(column, "path") if has_path else pa.nulls(len(column), pa.string())
        batch = batch.set_column(batch.schema.get_field_index(name), name, paths)
    return batch


def is_list_type(kind: "pa.DataType") -> bool:
    """Tell whether a type is one of the list types of Arrow."""
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_number_type(kind: "pa.DataType") -> bool:
    """Tell whether a type is an integer or a float."""
    import pyarrow as pa

    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def is_vector_type(kind: "pa.DataType") -> bool:
    """Tell whether a type is that of lists of numbers."""
    return is_list_type(kind) and is_number_type(kind.value_type)


def list_length(column: "pa.Array") -> int | None:
    """Return the length of the lists of numbers in a column; None if they have several lengths."""
    import pyarrow.compute as pc

    lengths = set(pc.list_value_length(column).to_pylist()) - {None}
    return int(lengths.pop()) if len(lengths) == 1 else None


def to_matrix(
    batch: "pa.RecordBatch", columns: Sequence[str], number: int, dim: int | None, name: str
) -> NDArray[np.float32]:
    """Return the vectors of a batch.

    Args:
        batch: N rows.
        columns: one column of lists, or D columns of numbers.
        number: the number of the first row in the table, from 1, for the error.
        dim: D; None takes the length of the first vector.
        name: the name of the table, for the error.

    Returns:
        A matrix [N, D].

    Raises:
        UsageError: a row has no vector, or a vector of another length, or a column does not hold numbers.
    """
    import pyarrow.compute as pc

    column = batch.column(columns[0])
    if is_list_type(column.type):
        dim = check_lengths(pc.list_value_length(column).to_pylist(), number, dim, name)
        parts = [pc.list_flatten(column)]
    else:
        dim, parts = 1, [batch.column(name) for name in columns]
    arrays = []
    for part in parts:
        if not is_number_type(part.type):
            raise UsageError(
                f"Column {columns[0]} holds {part.type} instead of numbers. Choose with --vectors (vectors=)."
            )
        if part.null_count:
            gap = int(np.flatnonzero(np.asarray(part.is_null()))[0]) // dim
            raise UsageError(f"Row {number + gap} of {name} has a vector without one of its numbers. {CORRECT_ROW}")
        with np.errstate(over="ignore"):  # too large numbers become infinite, which the import refuses
            arrays.append(part.to_numpy(zero_copy_only=False).astype(np.float32))
    return arrays[0].reshape(-1, dim) if len(parts) == 1 else np.stack(arrays, axis=1)


def check_lengths(lengths: Sequence[int | None], number: int, dim: int | None, name: str) -> int:
    """Return the length of all vectors of a batch; None in `lengths` is a row without a vector."""
    dim = dim or lengths[0] or 0
    for i, length in enumerate(lengths):
        if length != dim or not dim:
            problem = "no vector" if length is None else f"a vector of length {length}"
            raise UsageError(
                f"Row {number + i} of {name} has {problem}; the first row has a vector of length {dim}. {CORRECT_ROW}"
            )
    return dim


@contextlib.contextmanager
def wrap_arrow_errors(path: str) -> Iterator[None]:
    """Raise UsageError for what Arrow raises about a damaged file."""
    try:
        yield
    except UsageError:
        raise
    except (ValueError, TypeError, KeyError, OSError) as error:  # pyarrow raises subclasses of these
        raise UsageError(f"{path} cannot be read: {error}") from error


def parse_json(text: bytes | str) -> Any:
    """Parse JSON in an export."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The export contains invalid JSON: {error}.") from error


def load_datasets() -> Any:
    """Import the library `datasets`, which is optional."""
    try:
        import datasets
    except ImportError as error:
        raise UsageError("The format hf needs the library datasets: pip install 'embedx[hf]'.") from error
    datasets.disable_progress_bars()
    return datasets


PARQUET = Format("parquet", write_parquet, read_parquet, magic=b"PAR1")
HF = Format("hf", write_hf, read_hf, folder_file=NOTE_FILE)
