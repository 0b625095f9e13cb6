"""Arrow tables: a Parquet file, a folder of Hugging Face `datasets`; both ways."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.filesystem.atomic import whole_file, whole_folder
from embedx.formats.columns import is_own, name_columns, record
from embedx.formats.selection import Selection
from embedx.formats.table import BATCH, VIEW, Batch, Table, check_recipe, choose

if TYPE_CHECKING:
    import pyarrow as pa

NOTE, JSON_COLUMNS = "embedx", "embedx.json_columns"  # keys of the schema: the recipe; columns that hold JSON
NOTE_FILE = "embedx.json"  # the same in a folder of `datasets`, which keeps no keys


# writing ----------------------------------------------------------------------------------------------------------


def write_parquet(out: Path, selection: Selection) -> None:
    """Write one file with a column for every view, a row group for every piece that is read."""
    import pyarrow.parquet as pq

    layout = Layout(selection)
    views = set(selection.views)
    words = [name for name in layout.schema.names if name not in views]  # a dictionary of floats would be in vain
    with whole_file(out) as handle, pq.ParquetWriter(handle, layout.schema, use_dictionary=words) as writer:
        for batch in layout.batches():
            writer.write_batch(batch, row_group_size=batch.num_rows)


def write_hf(out: Path, selection: Selection) -> None:
    """Write a folder that `datasets.load_from_disk` opens, with the recipe in a file beside."""
    import pyarrow as pa

    datasets = load_datasets()
    layout = Layout(selection)
    with whole_folder(out) as folder:
        stream = folder / "stream" / "all.arrow"
        stream.parent.mkdir()  # datasets refuses to save beside what it reads
        with open(stream, "wb") as handle, pa.ipc.new_stream(handle, layout.schema.remove_metadata()) as writer:
            for batch in layout.batches():
                writer.write_batch(batch.replace_schema_metadata(None))
        datasets.Dataset.from_file(str(stream)).save_to_disk(str(folder))
        shutil.rmtree(stream.parent)
        (folder / NOTE_FILE).write_text(json.dumps(layout.note))


class Layout:
    """The Arrow schema of a selection, and its rows in that schema."""

    def __init__(self, selection: Selection) -> None:
        import pyarrow as pa

        kinds = selection.kinds()
        self.selection = selection
        self.columns = name_columns(kinds, selection.views)
        self.json = [self.columns[name] for name, kind in kinds.items() if kind == "json"]
        self.note = {NOTE: json.loads(selection.recipe.to_json()), JSON_COLUMNS: self.json}
        types = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "text": pa.string(), "json": pa.string()}
        fields = [("id", pa.int64()), ("path", pa.string())]
        fields += [(name, pa.float64()) for name in ("start_s", "end_s", "duration_s")]
        fields += [(name, pa.string()) for name in ("label", "group", "split", "flags")]
        fields += [(self.columns[name], types[kind]) for name, kind in kinds.items()]
        fields += [(view, pa.list_(pa.float32(), dim)) for view, dim in selection.views.items()]
        self.schema = pa.schema(fields).with_metadata({key: json.dumps(value) for key, value in self.note.items()})

    def batches(self) -> "Iterator[pa.RecordBatch]":
        """Yield the rows in pieces."""
        import pyarrow as pa

        for rows, matrices in self.selection.read():
            records = [record(row, self.columns) for row in rows]
            arrays: list[Any] = []
            for field in self.schema:
                if field.name in matrices:
                    flat = pa.array(matrices[field.name].ravel())
                    arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
                    continue
                values = [one[field.name] for one in records]
                if field.name in self.json:
                    values = [None if value is None else json.dumps(value) for value in values]
                arrays.append(pa.array(values, field.type))
            yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)


# reading ----------------------------------------------------------------------------------------------------------


def parquet_of(columns: Mapping[str, Sequence[Any]], kinds: Mapping[str, str]) -> bytes:
    """Return columns as a Parquet file, of the kinds given; another of values that do not go together becomes JSON."""
    import pyarrow as pa
    import pyarrow.parquet

    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values, kinds.get(name))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            arrays[name] = pa.array([None if value is None else json.dumps(value) for value in values])
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(arrays), file)
    return file.getvalue()


def read_parquet(path: str, asked: Sequence[str]) -> Table:
    """Read a Parquet file with the vectors in a column of lists, or in columns of numbers."""
    import pyarrow.parquet as pq

    def batches() -> "Iterator[pa.RecordBatch]":
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield from file.iter_batches(BATCH)

    with explained(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    keys = schema.metadata or {}
    note = {key: json_of(keys[key.encode()]) for key in (NOTE, JSON_COLUMNS) if key.encode() in keys}
    return arrow_table(path, schema, batches, note, asked)


def read_hf(path: str, asked: Sequence[str]) -> Table:
    """Read a folder that `datasets` saved."""
    datasets = load_datasets()
    with explained(path):
        dataset = datasets.load_from_disk(path)
    if not isinstance(dataset, datasets.Dataset):
        raise UsageError(f"{path} holds several splits: {', '.join(dataset)}. Name the folder of one.")
    file = Path(path) / NOTE_FILE
    note = json_of(file.read_bytes()) if file.is_file() else {}

    def batches() -> "Iterator[pa.RecordBatch]":
        for table in dataset.with_format("arrow").iter(BATCH):
            yield from table.combine_chunks().to_batches()

    return arrow_table(path, dataset.features.arrow_schema, batches, note, asked)


def arrow_table(
    path: str,
    schema: "pa.Schema",
    batches: "Callable[[], Iterator[pa.RecordBatch]]",
    note: Any,
    asked: Sequence[str],
) -> Table:
    """Return what Arrow batches hold; `note` is what an export says of itself."""
    recipe = check_recipe(json.dumps(note[NOTE])) if isinstance(note, dict) and NOTE in note else None
    in_json = set(note.get(JSON_COLUMNS) or ()) if recipe else set()
    names = list(schema.names)
    if recipe:
        chosen = {view: [view] for view in recipe.views}
        if missing := [view for view in recipe.views if view not in names]:
            raise UsageError(f"{path} was exported by embedx, and has lost its view {', '.join(missing)}.")
    else:
        with explained(path):
            first = next(batches(), None)
        lists = [name for name in names if first is not None and width_of(first.column(name))]
        chosen = {VIEW: choose(names, lists, asked)}
    with explained(path):
        first = next(batches(), None)
    widths = {
        view: matrix_of(first.slice(0, 1), columns, 1, 0).shape[1] if first else 0 for view, columns in chosen.items()
    }
    used = {name for columns in chosen.values() for name in columns}
    rest = [name for name in names if name not in used]

    def read() -> Iterator[Batch]:
        number = 1
        with explained(path):
            for batch in batches():
                matrices = {view: matrix_of(batch, chosen[view], number, widths[view]) for view in chosen}
                rows = batch.select(rest).to_pylist()
                for row in rows:
                    row.update({name: json_of(row[name]) for name in in_json & row.keys() if row[name] is not None})
                yield rows, matrices
                number += len(rows)

    return Table(path, rest, widths, is_own(names), recipe, read)


def width_of(column: "pa.Array") -> int:
    """Return the length of the lists of numbers in a column; 0 where it holds others, or of several lengths."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return 0
    if not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        return 0
    lengths = set(pc.list_value_length(column).to_pylist()) - {None}
    return int(lengths.pop()) if len(lengths) == 1 else 0


def matrix_of(batch: "pa.RecordBatch", columns: Sequence[str], first: int, width: int) -> NDArray[np.float32]:
    """Return the vectors [N, D] in a column of lists, or in columns of numbers; a width of 0 takes what comes.

    Raises:
        UsageError: a row has no vector, or one of another length.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = batch.column(columns[0])
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = pc.list_value_length(column).to_pylist()
        width = width or lengths[0] or 0
        wrong = next((i for i, length in enumerate(lengths) if length != width or not width), None)
        if wrong is not None:
            found = "no vector" if lengths[wrong] is None else f"a vector of length {lengths[wrong]}"
            raise UsageError(f"Row {first + wrong} has {found}; the first one has {width}.")
        parts = [pc.list_flatten(column)]
    else:
        width, parts = 1, [batch.column(name) for name in columns]
    arrays = []
    for part in parts:
        if not (pa.types.is_floating(part.type) or pa.types.is_integer(part.type)):
            raise UsageError(f"Column {columns[0]} holds {part.type}, no numbers. Choose with --vectors (vectors=).")
        if part.null_count:
            gap = int(np.flatnonzero(np.asarray(part.is_null()))[0]) // width
            raise UsageError(f"Row {first + gap} has a vector with a number missing.")
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused later
            arrays.append(part.to_numpy(zero_copy_only=False).astype(np.float32))
    return arrays[0].reshape(-1, width) if len(parts) == 1 else np.stack(arrays, axis=1)


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn what Arrow says of a damaged file into a sentence."""
    try:
        yield
    except UsageError:
        raise
    except (ValueError, TypeError, KeyError, OSError) as error:  # pyarrow raises kinds of these
        raise UsageError(f"{path} cannot be read: {error}") from error


def json_of(text: bytes | str) -> Any:
    """Read the JSON in an export."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The export holds JSON that cannot be read: {error}.") from error


def load_datasets() -> Any:
    """Return the library of Hugging Face, which is an extra."""
    try:
        import datasets
    except ImportError as error:
        raise UsageError("The format hf needs the library datasets: pip install 'embedx[hf]'.") from error
    datasets.disable_progress_bars()
    return datasets
