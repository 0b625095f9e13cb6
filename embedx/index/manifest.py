"""Manifest: the JSON file that describes an index. It is written last, so that an index is complete or absent."""

import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedx.errors import DiskError
from embedx.filesystem.atomic import replace_file
from embedx.filesystem.file_state import FileState, state_of_file
from embedx.index.matrix import CorruptIndex

FILES = ("vectors", "ids", "structure")  # entries with the name of a file in the folder of the manifest
TYPES: dict[str, type] = {
    **dict.fromkeys(("view", "metric", "kind", "token", "remark", *FILES), str),
    **dict.fromkeys(("rows", "dim", "generation", "ids_sum"), int),
    **dict.fromkeys(("structure_bytes", "structure_sum", "structure_rows"), int),
    **dict.fromkeys(("asked", "settings"), dict),
    "sums": list,
}
ASKED = {"kind": "auto", "recall": 0.99, "max_memory": None}  # the options that an index was built with


def write_manifest(folder: Path, name: str, manifest: dict[str, Any]) -> None:
    """Write the manifest of an index, with a checksum.

    Raises:
        DiskError: the disk is full or cannot be written.
    """
    text = json.dumps({"note": manifest, "sum": zlib.crc32(json.dumps(manifest).encode())})
    try:
        replace_file(folder / f"{name}.json", text.encode())
    except OSError as error:
        raise DiskError(f"The index in {folder} cannot be written: {error.strerror}.") from error


def read_manifest(folder: Path, name: str) -> dict[str, Any] | None:
    """Read the manifest of an index; None if there is none.

    Raises:
        CorruptIndex: the manifest is damaged, or names a file that does not belong to the index.
    """
    try:
        written = json.loads((folder / f"{name}.json").read_bytes())
        manifest: dict[str, Any] = written["note"]
        is_intact = zlib.crc32(json.dumps(manifest).encode()) == written["sum"]
        wrong = [key for key, kind in TYPES.items() if key in manifest and not isinstance(manifest[key], kind)]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptIndex(f"its manifest cannot be read: {error}") from error
    if not is_intact:
        raise CorruptIndex("the checksum of its manifest differs")
    settings = () if wrong else manifest.get("settings", {}).values()
    if wrong or not holds_options(manifest.get("asked", ASKED)) or not all(isinstance(one, dict) for one in settings):
        raise CorruptIndex(f"its manifest has an entry that is not valid ({', '.join(wrong) or 'asked or settings'})")
    files = [manifest[key] for key in FILES if key in manifest]
    if any(not file.startswith(f"{name}-") or set("/\\\0") & set(file) for file in files):
        raise CorruptIndex("its manifest names a file that is not its own")
    return manifest


def holds_options(asked: dict[str, Any]) -> bool:
    """Tell whether the entry `asked` of a manifest holds the options that `IndexManager.build` takes."""
    return asked.keys() == ASKED.keys() and isinstance(asked["kind"], str) and isinstance(asked["recall"], int | float)


class IndexFiles:
    """The files of an index as they are now; later it can be seen whether they are still the same.

    Args:
        folder: the folder of the index.
        name: the name of the index.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._states: dict[str, FileState] = {}
        self._look([f"{name}.json"])

    def add(self, manifest: dict[str, Any]) -> None:
        """Add the files that a manifest names."""
        self._look([manifest[key] for key in FILES if key in manifest])

    def are_unchanged(self) -> bool:
        """Tell whether no file was replaced, changed or deleted."""
        return all(state_of_file(path) == state for path, state in self._states.items())

    def _look(self, names: Sequence[str]) -> None:
        """Remember the state of files."""
        paths = [os.path.join(self._folder, name) for name in names]
        self._states |= {path: state_of_file(path) for path in paths}
