"""Fingerprint of a model: the state of its files, without loading it, so that a run with nothing to do is fast."""

import os
from pathlib import Path

from embedx.errors import ModelError
from embedx.extractors.names import FINETUNED_FILE, VARIABLES, resolve, split_onnx, split_option
from embedx.extractors.weight_files import find_weights

WITHOUT_WEIGHTS = ("logmel", "mfcc")

Fingerprint = list[tuple[str, int, int]]  # path, size in bytes and modification time in ns of each file


def fingerprint_model(model: str) -> Fingerprint | None:
    """Return the state of every file from which a model is loaded.

    Args:
        model: the name of the model as a user types it.

    Returns:
        Path, size and modification time of each file; an empty list for a model without weights. None if the files are
        not known: code outside embedx, weights that another library downloads, or missing files.

    Raises:
        ModelError: the name is not a valid model name.

    >>> fingerprint_model("logmel"), fingerprint_model("some.module:factory")
    ([], None)
    """
    family, source = resolve(model)
    if family in WITHOUT_WEIGHTS:
        return []
    if family in VARIABLES:  # a source with an option ("PATH?pca") is not a path, because it may need other files too
        file = find_weights(family, source)
        return None if file is None else fingerprint_files([file])
    if family == "onnx":
        from embedx.extractors.onnx_file import list_files

        try:
            return fingerprint_files(list(list_files(Path(split_onnx(source)[0]))))
        except ModelError:  # said when the model is loaded
            return None
    if family == "finetuned":
        written = Path(split_option(source)[0])
        return fingerprint_files(sorted(written.iterdir())) if written.is_dir() else None
    if family in ("huggingface", "ctranslate2"):
        folder = Path(source) if os.path.isdir(source) else find_snapshot(split_option(source)[0])
        return None if folder is None else fingerprint_files(sorted(folder.iterdir()))
    return None


def fingerprint_files(files: list[Path]) -> Fingerprint:
    """Return path, size and modification time of files; links are followed."""
    states = [(file, file.stat()) for file in files]
    return [(str(file), state.st_size, state.st_mtime_ns) for file, state in states]


def find_snapshot(source: str) -> Path | None:
    """Return the folder of a checkpoint in the hub's cache, by hub id (`name` or `name@revision`)."""
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = source.partition("@")
    for file in ("config.json", FINETUNED_FILE):  # a model from scratch has the second one only
        path = try_to_load_from_cache(name, file, revision=revision or None)
        if isinstance(path, str):
            return Path(path).parent
    return None


def pin_revision(model: str) -> tuple[str, str]:
    """Return family and source of a model (see `resolve`); a hub id has the commit that is in the hub's cache.

    So a recipe names the files that its vectors were made with, also when the repository has changed meanwhile.
    """
    family, source = resolve(model)
    place, option = split_option(source)
    if family != "huggingface" or os.path.isdir(place):
        return family, source
    snapshot = find_snapshot(place)
    return family, source if snapshot is None else f"{place.partition('@')[0]}@{snapshot.name}{option}"
