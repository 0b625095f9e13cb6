"""Corpus: a folder, files, a manifest, a pandas frame or a known layout -> items.

An item is what is asked to be embedded: a recording or a stretch of it, with its label, group, split and every other
column of its table. Text stays text ("001", "NA" and "1e5" are kept as they are).
"""

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedx.audio import SUFFIXES, show
from embedx.errors import NothingToDo, UsageError

if TYPE_CHECKING:
    import pandas as pd

MANIFEST_SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "file_path", "audio", "audio_path")
START_COLUMNS, END_COLUMNS = ("start_s", "start"), ("end_s", "end")
FIELDS = ("path", "start_s", "end_s", "label", "group", "split")  # columns that become fields of the item
RESERVED = (*FIELDS, "id", "duration_s", "flags")
STDIN = "-"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """A recording, or a stretch of it in seconds, that is to be embedded."""

    path: str  # absolute; os.fsencode gives the bytes of its name
    start_s: float = 0.0
    end_s: float | None = None  # None: to the end of the recording
    label: str | None = None
    group: str | None = None  # clips of one group are never on both sides of a split
    split: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""  # why it will not be opened, where that is known beforehand


@dataclass(frozen=True)
class Layout:
    """A data set with a table: where the table lies, and which columns mean what."""

    table: str
    audio: Callable[[Row], str]  # row -> path under the root
    label: str
    group: str


TABLES = {
    "esc50": Layout("meta/esc50.csv", lambda row: f"audio/{row['filename']}", "category", "src_file"),
    "urbansound8k": Layout(
        "metadata/UrbanSound8K.csv", lambda row: f"audio/fold{row['fold']}/{row['slice_file_name']}", "class", "fsID"
    ),
}
LAYOUTS = ("auto", *TABLES, "folders", "files")


def read_corpus(source: Any, layout: str = "auto", label: str | None = None, group: str | None = None) -> list[Item]:
    r"""List what a source holds, each recording or stretch once.

    Args:
        source: a folder (searched recursively), an audio file, a manifest (CSV, TSV, Parquet or JSON lines; "-" reads
            standard input), a pandas frame, or a list of these.
        layout: how a folder is read: "esc50", "urbansound8k", "folders" (a folder per class), "files" (no labels),
            or "auto", which recognises them.
        label, group: the column that gives the label or the group; or a regular expression with one (group) that is
            searched in the path, such as `(\d)_`.

    Raises:
        UsageError: a source, column or layout that does not exist.
        NothingToDo: no audio was found.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"Unknown layout {layout!r}. Layouts: {', '.join(LAYOUTS)}.")
    sources = source if isinstance(source, (list, tuple)) else [source]
    unique: dict[tuple[str, float, float | None], Item] = {}
    for one in sources:
        for item in read_source(one, layout, label, group):
            unique.setdefault((item.path, item.start_s, item.end_s), item)
    if not unique:
        names = ", ".join(
            show(os.fspath(one)) if isinstance(one, (str, os.PathLike)) else "the frame" for one in sources
        )
        raise NothingToDo(f"No audio was found in {names}. Files ending in {' '.join(sorted(SUFFIXES))} are taken.")
    return list(unique.values())


def read_source(source: Any, layout: str, label: str | None, group: str | None) -> Iterable[Item]:
    """List the items of one source."""
    if hasattr(source, "to_dict"):
        return read_rows(records(source), os.getcwd(), label, group, trusted=True)
    if not isinstance(source, (str, os.PathLike)):
        raise UsageError(f"A source is a path, a list of paths or a pandas frame, not {type(source).__name__}.")
    name = os.fspath(source)
    if name == STDIN:
        return read_rows(parse(sys.stdin.buffer.read(), "standard input"), os.getcwd(), label, group, trusted=True)
    if os.path.isdir(name):
        return read_folder(os.path.abspath(name), layout, label, group)
    if not os.path.exists(name):
        raise UsageError(f"There is no file or folder {show(name)}.")
    if name.lower().endswith(MANIFEST_SUFFIXES):
        path = os.path.abspath(name)
        if not os.path.isfile(path):  # a FIFO would block for ever
            raise UsageError(
                f"{show(name)} is no regular file; a manifest from a pipe is read from standard input, as -."
            )
        return read_rows(parse(Path(path).read_bytes(), show(name)), os.path.dirname(path), label, group)
    return name_columns([Item(os.path.abspath(name))], label, group, os.path.dirname(os.path.abspath(name)))


def read_folder(root: str, layout: str, label: str | None, group: str | None) -> Iterable[Item]:
    """Read a folder in the given layout, or in the one that it is seen to have."""
    if layout == "auto":
        layout = next((name for name, table in TABLES.items() if os.path.isfile(os.path.join(root, table.table))), "")
    if layout in TABLES:
        return read_table(root, TABLES[layout], label, group)
    items = list(walk(root))
    classes = [os.path.relpath(os.path.dirname(item.path), root).split(os.sep)[0] for item in items]
    one_per_class = len(set(classes)) > 1 and os.curdir not in classes
    if layout == "folders" or (not layout and one_per_class):
        items = [replace(item, label=text(name)) for item, name in zip(items, classes, strict=True)]
    return name_columns(items, label, group, root)


def walk(root: str) -> Iterable[Item]:
    """Yield the audio files below a folder in the order of their names; hidden ones are not read."""
    inside = os.path.realpath(root) + os.sep
    for folder, folders, files in os.walk(root):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=os.fsencode)
        for name in sorted(files, key=os.fsencode):
            path = os.path.join(folder, name)
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):
                leaves = os.path.islink(path) and not os.path.realpath(path).startswith(inside)
                yield Item(path, problem=f"{show(path)} is a link that leaves the folder." if leaves else "")


def read_table(root: str, layout: Layout, label: str | None, group: str | None) -> Iterable[Item]:
    """Read a known data set by its own table. Its start and end columns, if any, are about the source, not the clip."""
    table = os.path.join(root, layout.table)
    if not os.path.isfile(table):
        raise UsageError(f"{show(root)} has no {layout.table}, so it is not in this layout. Try --layout auto.")
    rows = parse(Path(table).read_bytes(), show(table))
    try:
        items = [Item(os.path.join(root, layout.audio(row)), meta=metadata(row)) for row in rows]
    except KeyError as error:
        raise UsageError(f"{show(table)} has no column {error}.") from error
    return name_columns(items, label or layout.label, group or layout.group, root)


def read_rows(
    rows: Sequence[Row], root: str, label: str | None, group: str | None, trusted: bool = False
) -> Iterable[Item]:
    """Read the rows of a manifest. A relative path is taken from `root`, and may leave it only when `trusted`."""
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    path_column = next((name for name in PATH_COLUMNS if name in columns), None)
    if path_column is None:
        raise UsageError(
            f"The manifest has no column with paths (one of {', '.join(PATH_COLUMNS)}). Columns: {', '.join(columns)}."
        )
    items = []
    for number, row in enumerate(rows, start=1):
        if not row.get(path_column):
            raise UsageError(f"Row {number} of the manifest has no {path_column}.")
        given = os.fspath(row[path_column])
        path = os.path.normpath(os.path.join(root, given))
        leaves = not trusted and not os.path.isabs(given) and os.path.relpath(path, root).startswith(os.pardir + os.sep)
        items.append(
            Item(
                path,
                start_s=seconds(row, START_COLUMNS, number) or 0.0,
                end_s=seconds(row, END_COLUMNS, number),
                label=text(row.get("label")),
                group=text(row.get("group")),
                split=text(row.get("split")),
                meta=metadata(row),
                problem=f"{show(given)} leaves the folder of the manifest; an absolute path may." if leaves else "",
            )
        )
    return name_columns(items, label, group, root)


def parse(data: bytes, name: str) -> list[dict[str, Any]]:
    """Read a table from its bytes: Parquet, JSON lines, CSV, TSV, or a plain list of paths, told apart by content."""
    import pandas as pd

    try:
        if data[:4] == b"PAR1":
            return records(pd.read_parquet(io.BytesIO(data)))
        content = data.decode("utf-8-sig", "surrogateescape")
        first = content.lstrip().split("\n", 1)[0].rstrip("\r")
        if first.startswith("{"):
            return [json.loads(line) for line in content.split("\n") if line.strip()]
        if first and os.path.isfile(first):  # what `find` prints
            return [{"path": line.rstrip("\r")} for line in content.split("\n") if line.strip()]
        separator = "\t" if "\t" in first else ","
        frame = pd.read_csv(io.StringIO(content), sep=separator, dtype=object, keep_default_na=False)
    except (ValueError, OSError) as error:  # pandas, pyarrow and json raise kinds of ValueError
        raise UsageError(f"{name} cannot be read as a table: {error}") from error
    columns = {str(column): typed([str(value) for value in frame[column]]) for column in frame}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the rows of a frame, None where a value is missing."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def typed(values: list[str]) -> list[Any]:
    """Turn a column of text into numbers where nothing is lost by it, and empty cells into None.

    >>> typed(["1", "-2", ""]), typed(["1", "02"]), typed(["0.5", "2.50"]), typed(["1.1", "1.10"]), typed(["1e5"])
    ([1, -2, None], ['1', '02'], [0.5, 2.5], ['1.1', '1.10'], ['1e5'])
    """
    present = {value for value in values if value}
    for pattern, convert in ((r"0|-?[1-9]\d{0,17}", int), (r"-?(0|[1-9]\d{0,7})(\.\d{1,7})?", float)):
        if present and all(re.fullmatch(pattern, value) for value in present):
            numbers = {value: convert(value) for value in present}
            if len(set(numbers.values())) == len(present):
                return [numbers.get(value) for value in values]
    return [value or None for value in values]


def name_columns(items: Sequence[Item], label: str | None, group: str | None, root: str) -> list[Item]:
    """Fill label and group from the column, or by the regular expression, that the user named."""
    values: dict[str, list[str | None]] = {}
    for target, rule in (("label", label), ("group", group)):
        values[target] = [look_up(item, rule, root) if rule else getattr(item, target) for item in items]
        if rule and items and not any(value is not None for value in values[target]):
            columns = sorted({name for item in items for name in item.meta} | {"label", "group", "split"})
            raise UsageError(
                f"{rule!r} gives no {target}: it is no column (columns: {', '.join(columns)}), nor a regular "
                "expression with one (group) that is found in the paths."
            )
    return [
        replace(item, label=one, group=other)
        for item, one, other in zip(items, values["label"], values["group"], strict=True)
    ]


def look_up(item: Item, rule: str, root: str) -> str | None:
    """Return the value of a column of the item, or what a regular expression finds in its path below the root."""
    if rule in ("label", "group", "split"):
        return text(getattr(item, rule))
    if renamed(rule) in item.meta or "(" not in rule:
        return text(item.meta.get(renamed(rule)))
    try:
        found = re.search(rule, os.path.relpath(item.path, root))
        return text(found.group(1)) if found else None
    except (re.error, IndexError) as error:
        raise UsageError(f"{rule!r} is no regular expression with one (group): {error}") from error


def seconds(row: Row, names: Sequence[str], number: int) -> float | None:
    """Return the time in the first of these columns that is filled."""
    given = next((row[name] for name in names if row.get(name) is not None), None)
    try:
        value = None if given is None or given != given else float(given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"Row {number} of the manifest: {given!r} is no time in seconds.") from error
    if value is not None and not 0 <= value < float("inf"):
        raise UsageError(f"Row {number} of the manifest: {given!r} is no time in seconds.")
    return value


def text(value: Any) -> str | None:
    """Return a label as clean text; a missing one is None.

    >>> text("001"), text(7), text(float("nan")), text("")
    ('001', '7', None, None)
    """
    if value is None or value != value or value == "":
        return None
    return os.fsencode(str(value)).decode("utf-8", "backslashreplace")


def metadata(row: Row) -> dict[str, Any]:
    """Keep every column that is no field of the item, as values that JSON knows."""
    return {renamed(str(name)): plain(value) for name, value in row.items() if name not in FIELDS}


def renamed(column: str) -> str:
    """Return the name under which a column is kept: one that rows() has already gets an underscore.

    >>> renamed("site"), renamed("id"), renamed("Label")
    ('site', 'id_', 'Label_')
    """
    return column + "_" if column.lower() in RESERVED and column not in FIELDS else column


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: numbers, text, lists; dates become ISO text, missing ones None."""
    if hasattr(value, "tolist"):  # numpy
        value = value.tolist()
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    return text(value.isoformat() if hasattr(value, "isoformat") else value)
