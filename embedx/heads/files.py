"""Saving: a head as a folder of two files, whole or not at all, and read back with numpy alone.

`head.json` says what the head is and holds checksums of itself and of `head.safetensors`, which holds the numbers.
There is nothing in it that runs.
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

NOTE, NUMBERS = "head.json", "head.safetensors"
FORMAT, VERSION = "embedx head", 1
NAME = re.compile(r"\w[\w.+-]*")
LONGEST = 200  # bytes: systems take 255, and a folder gets an ending while it is written
HeadType = TypeVar("HeadType")


def check_name(name: str) -> None:
    r"""Refuse what is not safe as the name of a folder.

    Raises:
        UsageError: it is empty, too long, or has something but letters, digits and - + _ . in it.
    """
    if not NAME.fullmatch(name) or len(name.encode()) > LONGEST or name.endswith((".new", ".old", ".")):
        raise UsageError(
            f"{name!r} is no name for a head. A name has letters, digits and - + _ . only, begins with a letter or a "
            f"digit, does not end in .new or .old, and takes {LONGEST} bytes at most."
        )


def write_head(folder: Path, fields: Mapping[str, Any], arrays: Arrays) -> None:
    """Write the fields of a head, plain values all, and its arrays."""
    check_name(folder.name)
    data = write_tensors(arrays)
    note = {"format": FORMAT, "version": VERSION, **fields, "numbers": _digest(data)}
    text = json.dumps(note | {"note": _digest(_canonical(note))}, indent=1, allow_nan=False)
    try:
        make_folder(folder.parent)
        with whole_folder(folder) as new:
            (new / NUMBERS).write_bytes(data)
            (new / NOTE).write_bytes(text.encode())
    except OSError as error:
        raise DiskError(f"The head {folder} cannot be written: {error.strerror or error}.") from error


def read_head(folder: Path, make: Callable[..., HeadType]) -> HeadType:
    """Return what `make` makes of the fields and arrays in a folder, once all checksums agree and it can predict.

    Raises:
        StoreError: something is missing, damaged, foreign or of a newer version.
    """
    note = _read_note(folder / NOTE)
    file = folder / NUMBERS
    data = _read(file)
    if _digest(data) != note.pop("numbers", None):
        raise StoreError(f"{file} is damaged: it is not what {NOTE} says. Train the head again.")
    try:
        head: Any = make(arrays=read_tensors(data), **note)
        empty = head.logits(np.zeros((1, *head.settings["input"]), np.float32))
        if empty.shape != (1, len(head.classes)):
            raise ValueError("its numbers are of other classes")
    except (Unreadable, UsageError, ValueError, TypeError, KeyError, IndexError, MemoryError) as error:
        raise StoreError(f"{file} holds no head that can be used: {error}.") from error
    result: HeadType = head
    return result


def _read_note(file: Path) -> dict[str, Any]:
    """Return the fields in a note, without its format and its own checksum."""
    try:
        note = json.loads(_read(file))
        format, version, digest = note.pop("format"), note.pop("version"), note.pop("note")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise StoreError(f"{file} is no note of a head ({error!r}).") from error
    if format != FORMAT:
        raise StoreError(f"{file} is of the format {format!r}; a head has {FORMAT!r}.")
    if version != VERSION:
        raise StoreError(f"{file} is of version {version}; this embedx reads {VERSION}. Update embedx.")
    if _digest(_canonical({"format": format, "version": version, **note})) != digest:
        raise StoreError(f"{file} is damaged, or was changed by hand. Train the head again.")
    fields: dict[str, Any] = note
    return fields


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise StoreError(f"{file} is missing, so {file.parent} is no head.") from error
    except OSError as error:
        raise DiskError(f"{file} cannot be read: {error.strerror}.") from error


def _canonical(note: Mapping[str, Any]) -> bytes:
    return json.dumps(note, sort_keys=True).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
