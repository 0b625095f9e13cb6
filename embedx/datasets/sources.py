"""Corpus: a folder, files, a manifest, a pandas frame or a known layout -> items.

An item is what is asked to be embedded: a recording or a stretch of it, with its label, group, split and every other
column of its table. Text stays text ("001", "NA" and "1e5" are kept as they are).
"""

import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from embedx.audio.decode import SUFFIXES
from embedx.datasets.items import Item, text, walk
from embedx.datasets.layouts import KNOWN, recognise
from embedx.datasets.manifests import (
    MANIFEST_SUFFIXES,
    parse,
    read_rows,
    records,
    renamed,
)
from embedx.errors import NothingToDo, UsageError
from embedx.filesystem.paths import display_path

LAYOUTS = ("auto", *KNOWN, "folders", "files")
STDIN = "-"


def read_corpus(source: Any, layout: str = "auto", label: str | None = None, group: str | None = None) -> list[Item]:
    r"""List what a source holds, each recording or stretch once.

    Args:
        source: a folder (searched recursively), an audio file, a manifest (CSV, TSV, Parquet or JSON lines; "-" reads
            standard input), a pandas frame, or a list of these.
        layout: how a folder is read: a known data set ("esc50", "urbansound8k", "speech-commands", "gtzan", "fsdd"; see
            `embedx.datasets.layouts`), "folders" (a folder per class), "files" (no labels), or "auto", which recognises
            them.
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
            display_path(os.fspath(one)) if isinstance(one, (str, os.PathLike)) else "the frame" for one in sources
        )
        raise NothingToDo(f"No audio was found in {names}. Files ending in {' '.join(sorted(SUFFIXES))} are taken.")
    return list(unique.values())


def read_source(source: Any, layout: str, label: str | None, group: str | None) -> Iterable[Item]:
    """List the items of one source."""
    here = os.getcwd()
    if hasattr(source, "to_dict"):
        return name_columns(read_rows(records(source), here, trusted=True), label, group, here)
    if not isinstance(source, (str, os.PathLike)):
        raise UsageError(f"A source is a path, a list of paths or a pandas frame, not {type(source).__name__}.")
    name = os.fspath(source)
    if name == STDIN:
        rows = parse(sys.stdin.buffer.read(), "standard input")
        return name_columns(read_rows(rows, here, trusted=True), label, group, here)
    path = os.path.abspath(name)
    if os.path.isdir(name):
        return name_columns(read_folder(path, layout), label, group, path)
    if not os.path.exists(name):
        raise UsageError(f"There is no file or folder {display_path(name)}.")
    root = os.path.dirname(path)
    if name.lower().endswith(MANIFEST_SUFFIXES):
        if not os.path.isfile(path):  # a FIFO would block for ever
            raise UsageError(
                f"{display_path(name)} is no regular file; a manifest from a pipe is read from standard input, as -."
            )
        return name_columns(read_rows(parse(Path(path).read_bytes(), display_path(name)), root), label, group, root)
    return name_columns([Item(path)], label, group, root)


def read_folder(root: str, layout: str) -> list[Item]:
    """Read a folder in the given layout, or in the one that it is seen to have."""
    if layout == "auto":
        layout = recognise(root) or "auto"
    if layout in KNOWN:
        items = KNOWN[layout].read(root)
        if items is None:
            raise UsageError(
                f"{display_path(root)} is not in the layout {layout}: there is no {KNOWN[layout].expects}. "
                "Try --layout auto."
            )
        return items
    items = list(walk(root))
    below = len(os.path.join(root, ""))
    classes = [item.path[below:].rpartition(os.sep)[0].partition(os.sep)[0] for item in items]  # empty: in the root
    one_per_class = len(set(classes)) > 1 and "" not in classes
    if layout == "folders" or (layout == "auto" and one_per_class):
        items = [replace(item, label=text(name)) for item, name in zip(items, classes, strict=True)]
    return items


def name_columns(items: Sequence[Item], label: str | None, group: str | None, root: str) -> list[Item]:
    """Fill label and group from the column, or by the regular expression, that the user named."""
    if label is None and group is None:
        return list(items)
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
