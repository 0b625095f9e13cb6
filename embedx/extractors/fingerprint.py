"""Stamp: what can be seen of a model without loading it, so that a run with nothing to do need not load it."""

import os
from pathlib import Path

from embedx.extractors.names import VARIABLES, resolve
from embedx.extractors.weight_files import find_weights

WEIGHTLESS = ("logmel", "mfcc")

Stamp = list[tuple[str, int, int]]


def stamp(model: str) -> Stamp | None:
    """Return path, size and time of change (ns) of every file that a model is read from.

    A model without weights has none. None where the files cannot be told: code from outside, weights that another
    library fetches, or files that are not there.

    >>> stamp("logmel"), stamp("some.module:factory")
    ([], None)

    Raises:
        ModelError: the name cannot be a model.
    """
    family, source = resolve(model)
    if family in WEIGHTLESS:
        return []
    if family in VARIABLES:  # an option behind the path may name other files, so that the path is none
        file = find_weights(family, source)
        return None if file is None else stamp_files([file])
    if family == "huggingface":
        folder = Path(source) if os.path.isdir(source) else find_snapshot(source)
        return None if folder is None else stamp_files(sorted(folder.iterdir()))
    return None


def stamp_files(files: list[Path]) -> Stamp:
    """Return path, size and time of change of files; what a link points to counts."""
    found = [(file, file.stat()) for file in files]
    return [(str(file), status.st_size, status.st_mtime_ns) for file, status in found]


def find_snapshot(source: str) -> Path | None:
    """Return the folder in the hub's cache that holds a checkpoint, by hub id (`name` or `name@revision`)."""
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = source.partition("@")
    found = try_to_load_from_cache(name, "config.json", revision=revision or None)
    return Path(found).parent if isinstance(found, str) else None
