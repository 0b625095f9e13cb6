"""Sources: a folder, files, a manifest, a pandas frame or a known data set -> items."""

import os
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from embedx.audio.decode import SUFFIXES
from embedx.datasets.buckets import list_bucket
from embedx.datasets.conflicts import merge_items
from embedx.datasets.items import Item, text
from embedx.datasets.layouts import KNOWN, recognise
from embedx.datasets.manifests import MANIFEST_SUFFIXES, parse_label, read_rows, renamed
from embedx.datasets.name_columns import NameRules, add_name_columns
from embedx.datasets.tables import UserTable, frame_table, parse, read_table
from embedx.datasets.walk import Survey, describe_passed_over, unreadable, walk
from embedx.errors import DiskError, NothingToDo, StoreError, UsageError
from embedx.filesystem.paths import common_root, display_path, relative_path
from embedx.filesystem.remote import read_bytes
from embedx.filesystem.urls import WEB, absolute, folder_of, is_url, split_pattern
from embedx.processes.patterns import first_groups
from embedx.store.store import Store

LAYOUTS = ("auto", *KNOWN, "folders", "files")
STDIN = "-"
NO_RULES = NameRules()
EMPTY_TABLE = "tables without a row below the header"
# Files that are read as tables, or refused with what to do; as recordings they would only be failures.
OTHER_TABLES = tuple(".json .txt .psv .xlsx .xls .ods .gz .zst .xz .bz2 .zip .arrow .feather".split())


def read_corpus(
    source: Any,
    layout: str = "auto",
    label: str | None = None,
    group: str | None = None,
    survey: Survey | None = None,
    rules: NameRules = NO_RULES,
) -> list[Item]:
    r"""List the items of a source, each recording or part of a recording once.

    Args:
        source: a folder (searched recursively), an audio file, a manifest (CSV, TSV, Parquet or JSON lines; "-" is
            standard input), a pandas frame, or a list of these. Folders, files and manifests can be URLs.
        layout: how to read a folder: a known data set ("esc50", "urbansound8k", "speech-commands", "gtzan", "fsdd"; see
            `embedx.datasets.layouts`), "folders" (one folder per class), "files" (no labels), or "auto", which
            recognises the layout.
        label: the column with the label, or a regular expression with one (group) that is searched in the path, such as
            `(\d)_`. None keeps the label that the source gives.
        group: the same for the group.
        survey: receives what the search of folders passed over; its `confine` refuses files outside of their source.
        rules: the columns that come from the names of files and folders.

    Returns:
        The items, in the order of the source. A folder that cannot be listed is an item with a problem.

    Raises:
        UsageError: a source, column or layout does not exist, a manifest cannot be read, or two entries for the same
            recording differ in their label or metadata.
        NothingToDo: there is no audio.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"Unknown layout {layout!r}. Layouts: {', '.join(LAYOUTS)}.")
    sources = as_list(source)
    survey = survey or Survey()
    read = [(root_of_source(part), list(read_source(part, layout, label, group, survey))) for part in sources]
    items = merge_items(add_name_columns(read, rules))
    if not items:
        names = ", ".join(
            display_path(os.fspath(part)) if isinstance(part, (str, os.PathLike)) else "the frame" for part in sources
        )
        others = f" Passed over: {describe_passed_over(survey.passed_over)}." if survey.passed_over else ""
        if set(survey.passed_over) != {EMPTY_TABLE}:
            others += f" Audio files end in {' '.join(sorted(SUFFIXES))}."
        raise NothingToDo(f"There is no audio in {names}.{others}")
    return items


def as_list(source: Any) -> list[Any]:
    """Return the parts of a source: those of a list, another sequence, or a column of names; else the source itself."""
    is_list = isinstance(source, Sequence) and not isinstance(source, (str, bytes, bytearray))
    return list(source) if is_list or holds_names(source) else [source]


def holds_names(source: Any) -> bool:
    """Tell whether a source is a column of a pandas frame or an array, and holds names (or objects), not numbers."""
    return hasattr(source, "tolist") and getattr(source, "ndim", 0) == 1 and getattr(source.dtype, "kind", "") in "OUT"


def is_frame(source: Any) -> bool:
    """Tell whether a source is a data frame."""
    return hasattr(source, "to_dict") and hasattr(source, "columns")


def root_of_source(source: Any) -> str:
    """Return the folder at which the paths of a source begin."""
    if not isinstance(source, (str, os.PathLike)) or os.fspath(source) == STDIN:
        return os.getcwd()
    path = os.path.abspath(source)
    return path if os.path.isdir(path) else os.path.dirname(path)


def read_source(source: Any, layout: str, label: str | None, group: str | None, survey: Survey) -> Iterable[Item]:
    """List the items of a folder, a file or a frame."""
    root, texts = os.getcwd(), [name for name in (label, group) if name]
    if is_frame(source):
        table = frame_table(source)
    elif not isinstance(source, (str, os.PathLike)):
        raise UsageError(f"A source is a path, a pandas frame or a list of these, not {type(source).__name__}.")
    elif os.fspath(source) == STDIN:
        table = parse(read_standard_input(), "standard input", root, texts)
    else:
        return read_path(os.fspath(source), layout, label, group, survey)
    return read_manifest(table, label, group, root, survey)


def read_path(name: str, layout: str, label: str | None, group: str | None, survey: Survey) -> list[Item]:
    """List the items of a folder, a manifest or a recording."""
    path = absolute(name)
    if is_url(path):
        return read_url(path, layout, label, group, survey)
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise UsageError(f"There is no file or folder {display_path(name)}.") from error
    except OSError as error:
        survey.explain(path, "cannot be looked at")
        return [unreadable(path, error)]
    if stat.S_ISDIR(mode):
        items = read_folder(path, layout, survey)
        if not items:
            survey.explain(path, "holds no audio")
        return set_columns(confined(items, path, survey), label, group, path)
    root = os.path.dirname(path)
    if name.lower().endswith((*MANIFEST_SUFFIXES, *OTHER_TABLES)):
        if not stat.S_ISREG(mode):  # opening a named pipe would block
            raise UsageError(f"{display_path(name)} is not a regular file. Send a manifest through standard input (-).")
        table = read_table(name, [column for column in (label, group) if column])
        return read_manifest(table, label, group, root, survey)
    return set_columns([Item(path)], label, group, root)


def read_url(url: str, layout: str, label: str | None, group: str | None, survey: Survey) -> list[Item]:
    """List the items of a place in a bucket, or of a manifest or recording at a URL."""
    name = url.partition("?")[0].lower()
    is_pattern = split_pattern(url)[1] is not None
    if not is_pattern and name.endswith((*MANIFEST_SUFFIXES, *OTHER_TABLES)):
        try:
            data = read_bytes(url)
        except OSError as error:
            raise DiskError(f"{error.strerror}.") from error
        texts = [column for column in (label, group) if column]
        return read_manifest(
            parse(data, display_path(url), folder_of(url), texts), label, group, folder_of(url), survey
        )
    if not is_pattern and (name.endswith(tuple(SUFFIXES)) or url.partition("://")[0] in WEB):
        return set_columns([Item(url)], label, group, folder_of(url))
    if layout in KNOWN:
        raise UsageError(
            f"The layout {layout} is read from a local folder only. Give {display_path(url)} as a manifest."
        )
    place = split_pattern(url)[0]
    items = label_by_folder(list(list_bucket(url, survey)), place, layout)
    if not items:
        survey.explain(place, "holds no audio")
    return set_columns(confined(items, place, survey), label, group, place)


def read_standard_input() -> bytes:
    """Return all bytes of standard input.

    Raises:
        UsageError: it is closed.
    """
    if sys.stdin is None:
        raise UsageError("The source - is standard input, which is closed.")
    return sys.stdin.buffer.read()


def confined(items: list[Item], root: str, survey: Survey) -> list[Item]:
    """Return items whose files must not leave a folder, if the survey says so."""
    within = root if is_url(root) else os.path.realpath(root)
    return [replace(item, within=within) for item in items] if survey.confine else items


def read_manifest(table: UserTable, label: str | None, group: str | None, root: str, survey: Survey) -> list[Item]:
    """List the items of a table, with label and group from the columns that the user named."""
    if not table.rows:
        survey.passed_over[EMPTY_TABLE] += 1
    return set_columns(confined(read_rows(table, root), root, survey), label, group, root, table)


def read_folder(root: str, layout: str, survey: Survey) -> list[Item]:
    """List the items of a folder in this layout; "auto" recognises it."""
    if layout == "auto":
        layout = recognise(root) or "auto"
    if layout in KNOWN:
        items = KNOWN[layout].read(root, survey)
        if items is None:
            raise UsageError(
                f"{display_path(root)} is not in the layout {layout}: it has no {KNOWN[layout].expects}. "
                "Try --layout auto."
            )
        return [replace(item, label_origin=f"the data set {layout}") if item.label else item for item in items]
    return label_by_folder(list(walk(root, survey)), root, layout)


def label_by_folder(items: list[Item], root: str, layout: str) -> list[Item]:
    """Label the items below a folder by its subfolders, if the layout says so, or if there is one for each class."""
    prefix = len(os.path.join(root, ""))
    classes = [
        item.path[prefix:].rpartition(os.sep)[0].partition(os.sep)[0] for item in items
    ]  # "" next to the folders
    known = {name for item, name in zip(items, classes, strict=True) if not item.problem}
    one_per_class = len(known) > 1 and "" not in known
    if layout == "folders" or (layout == "auto" and one_per_class):
        items = [
            replace(item, label=text(name), label_origin="folder names" if name else "")
            for item, name in zip(items, classes, strict=True)
        ]
    return items


def set_columns(
    items: Sequence[Item], label: str | None, group: str | None, root: str, table: UserTable | None = None
) -> list[Item]:
    """Set label and group from the column or the regular expression that the user named; see `read_corpus`.

    Args:
        items: the items.
        label, group: the column or the expression; None keeps the values that the items have.
        root: the folder below which an expression is searched in the paths.
        table: the table of the items, row by row.
    """
    labels = look_up_all(items, "label", label, root, table) if label else None
    groups = look_up_all(items, "group", group, root, table) if group else None
    if labels:
        columns = table.columns if table else {name for item in items for name in item.meta}
        is_pattern = "(" in str(label) and not {label, renamed(str(label))} & set(columns)
        origin = "file paths" if is_pattern else f"column {label}"
        items = [
            replace(item, label=value, label_origin=origin if value else "")
            for item, value in zip(items, labels, strict=True)
        ]
    if groups:
        items = [replace(item, group=value) for item, value in zip(items, groups, strict=True)]
    return list(items)


def look_up_all(items: Sequence[Item], target: str, rule: str, root: str, table: UserTable | None) -> list[str | None]:
    """Return the value of each item for a rule; raise UsageError if no item has one."""
    if table and rule in table.columns:
        places = (f"{table.place(i)}, column {rule}" for i in range(len(items)))
        values = [parse_label(row.get(rule), place) for row, place in zip(table.rows, places, strict=True)]
    else:
        values = look_up_each(items, rule, root)
    if items and not any(value is not None for value in values):
        columns = sorted({name for item in items for name in item.meta} | {"label", "group", "split"})
        raise UsageError(
            f"{rule!r} gives no {target}. It is neither a column (columns: {', '.join(columns)}) nor a regular "
            "expression with one (group) that matches the paths."
        )
    return values


def look_up_each(items: Sequence[Item], rule: str, root: str) -> list[str | None]:
    """Return the value of each item for a column, or the match of a regular expression in its path below the root."""
    values = [look_up(item, rule) for item in items]
    if "(" in rule and rule not in ("label", "group", "split"):
        without = [number for number, item in enumerate(items) if renamed(rule) not in item.meta]
        found = first_groups(rule, [below(items[number].path, root) for number in without])
        for number, group in zip(without, found, strict=True):
            values[number] = text(group)
    return values


def below(path: str, root: str) -> str:
    """Return a path relative to a folder."""
    return relative_path(path, root) if is_url(path) else os.path.relpath(path, root)


def look_up(item: Item, rule: str) -> str | None:
    """Return the value of a column of the item; None if it has none."""
    if rule in ("label", "group", "split"):
        return text(getattr(item, rule))
    return text(item.meta.get(renamed(rule)))


def source_root(store: Store) -> str | None:
    """Return the folder that holds all sources of a store; None if there is none, or if the store has lost them."""
    try:
        return root_of(store.source_names())
    except StoreError:  # `embedx verify` reports the damage
        return None


def root_of(sources: Iterable[str]) -> str | None:
    """Return the folder that holds all sources, given by absolute names; None if there is none.

    >>> root_of(["/data/a", "/data/b.csv"]), root_of(["/data/a/1.wav"]), root_of([])
    ('/data', '/data/a', None)
    """
    suffixes = (*SUFFIXES, *MANIFEST_SUFFIXES)
    folders = (split_pattern(name)[0] for name in sources)
    return common_root(folder_of(name) if name.lower().endswith(suffixes) else name for name in folders)
