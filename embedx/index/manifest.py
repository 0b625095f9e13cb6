"""Manifest: the JSON file that says what an index consists of; it is written last."""

import json
import zlib
from pathlib import Path
from typing import Any

from embedx.errors import DiskError
from embedx.filesystem.atomic import replace_file
from embedx.index.matrix import CorruptIndex


def write_manifest(folder: Path, name: str, note: dict[str, Any]) -> None:
    """Write the note of an index, with a checksum of its own.

    Raises:
        DiskError: the disk is full or refuses.
    """
    text = json.dumps({"note": note, "sum": zlib.crc32(json.dumps(note).encode())})
    try:
        replace_file(folder / f"{name}.json", text.encode())
    except OSError as error:
        raise DiskError(f"The index in {folder} cannot be written: {error.strerror}.") from error


def read_manifest(folder: Path, name: str) -> dict[str, Any] | None:
    """Read the note of an index; None where there is none.

    Raises:
        CorruptIndex: it is not what was written.
    """
    try:
        written = json.loads((folder / f"{name}.json").read_bytes())
        note: dict[str, Any] = written["note"]
        if zlib.crc32(json.dumps(note).encode()) == written["sum"]:
            return note
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptIndex(f"its note cannot be read: {error}") from error
    raise CorruptIndex("its note is not what was written")
