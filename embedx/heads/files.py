"""Files: a head as a folder of two files, written in one step and read with numpy alone.

`head.json` describes the head and holds checksums of itself and of `head.safetensors`, which holds the arrays. The
files contain no code.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from embedx.errors import DiskError, StoreError, UsageError
from embedx.filesystem.atomic import make_folder, whole_folder
from embedx.heads.preprocessing import Arrays
from embedx.heads.safetensors import Unreadable, read_tensors, write_tensors

NOTE, ARRAYS = "head.json", "head.safetensors"
FORMAT, VERSION = "embedx head", 1
NAME = re.compile(r"\w[\w.+-]*")
MAX_NAME_BYTES = 200  # file systems allow 255, and a folder gets a suffix while it is written
HeadType = TypeVar("HeadType")


def check_name(name: str) -> None:
    r"""Check that the name of a head is safe as the name of a folder.

    Raises:
        UsageError: it is empty, too long, or has characters other than letters, digits and - + _ .
    """
    if not NAME.fullmatch(name) or len(name.encode()) > MAX_NAME_BYTES or name.endswith((".new", ".old", ".")):
        raise UsageError(
            f"{name!r} is not allowed as the name of a head. Use only letters, digits and - + _ . ; start with a "
            f"letter or a digit, do not end in .new or .old, and use at most {MAX_NAME_BYTES} bytes."
        )


def write_head(folder: Path, fields: Mapping[str, Any], arrays: Arrays) -> None:
    """Write the fields of a head (plain values) and its arrays.

    Raises:
        UsageError: the name of the folder is not allowed.
        DiskError: the files cannot be written.
    """
    check_name(folder.name)
    data = write_tensors(arrays)
    note = {"format": FORMAT, "version": VERSION, **fields, "numbers": _digest(data)}
    text = json.dumps(note | {"note": _digest(_canonical(note))}, indent=1, allow_nan=False)
    try:
        make_folder(folder.parent)
        with whole_folder(folder) as new:
            (new / ARRAYS).write_bytes(data)
            (new / NOTE).write_bytes(text.encode())
    except OSError as error:
        raise DiskError(f"Cannot write the head {folder}: {error.strerror or error}.") from error


def read_head(folder: Path, make: Callable[..., HeadType]) -> HeadType:
    """Return the head in a folder, made by `make` from its fields and arrays, after checking checksums.

    Raises:
        StoreError: a file is missing or damaged, is not a head, or has a newer version.
    """
    note = _read_note(folder / NOTE)
    file = folder / ARRAYS
    data = _read(file)
    if _digest(data) != note.pop("numbers", None):
        raise StoreError(f"{file} is damaged: its checksum differs from the one in {NOTE}. Train the head again.")
    try:
        head: Any = make(arrays=read_tensors(data), **note)
        empty = head.logits(np.zeros((1, *head.settings["input"]), np.float32))
        if empty.shape != (1, len(head.classes)):
            raise ValueError("its arrays do not match its classes")
    except (Unreadable, UsageError, ValueError, TypeError, KeyError, IndexError, MemoryError) as error:
        raise StoreError(f"{file} cannot be used as a head: {error}.") from error
    result: HeadType = head
    return result


def _read_note(file: Path) -> dict[str, Any]:
    """Return the fields in head.json, without its format and checksum."""
    try:
        note = json.loads(_read(file))
        format, version, digest = note.pop("format"), note.pop("version"), note.pop("note")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise StoreError(f"{file} does not describe a head ({error!r}).") from error
    if format != FORMAT:
        raise StoreError(f"{file} has the format {format!r}; a head has {FORMAT!r}.")
    if version != VERSION:
        raise StoreError(f"{file} has version {version}; this embedx reads version {VERSION}. Update embedx.")
    if _digest(_canonical({"format": format, "version": version, **note})) != digest:
        raise StoreError(f"{file} is damaged or was edited. Train the head again.")
    fields: dict[str, Any] = note
    return fields


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise StoreError(f"{file} is missing, so {file.parent} is not a head.") from error
    except OSError as error:
        raise DiskError(f"Cannot read {file}: {error.strerror}.") from error


def _canonical(note: Mapping[str, Any]) -> bytes:
    return json.dumps(note, sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
