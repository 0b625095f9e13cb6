"""Manifest: the JSON file that describes an index. It is written last, so that an index is complete or absent."""

import json
import zlib
from pathlib import Path
from typing import Any

from embedx.errors import DiskError
from embedx.filesystem.atomic import replace_file
from embedx.index.matrix import CorruptIndex


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
        CorruptIndex: the manifest is damaged.
    """
    try:
        written = json.loads((folder / f"{name}.json").read_bytes())
        manifest: dict[str, Any] = written["note"]
        if zlib.crc32(json.dumps(manifest).encode()) == written["sum"]:
            return manifest
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptIndex(f"its manifest cannot be read: {error}") from error
    raise CorruptIndex("the checksum of its manifest differs")
