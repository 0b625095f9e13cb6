"""Files: a head as a folder with a description and its arrays, replaced in one step and read with numpy alone.

`head.json` describes the head and ends with a checksum of itself. It holds the SHA-256 of the arrays, which are in a
file named after this hash, `<16 digits>.safetensors`. So a new head is complete before `head.json` is renamed, and this
rename is the only step that replaces the old head. The files contain no code.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from embedx.errors import DiskError, StoreError, UsageError
from embedx.filesystem.atomic import make_folder, replace_file
from embedx.heads.content import check_content
from embedx.heads.preprocessing import Arrays
from embedx.heads.safetensors import Unreadable, read_tensors, write_tensors

DESCRIPTION, OLD_ARRAYS = "head.json", "head.safetensors"  # version 1 always had the same name for the arrays
FORMAT, VERSION = "embedx head", 2
SEAL = re.compile(rb',\n "checksum": "([0-9a-f]{64})"\n\}\n\Z')  # the end of head.json from version 2 on
SHA256 = re.compile(r"[0-9a-f]{64}")
OWN_FILE = re.compile(r"head\.(json|safetensors)(\.new)?|[0-9a-f]{16}\.safetensors(\.new)?")
NAME = re.compile(r"\w[\w.+-]*")
MAX_NAME_BYTES = 200  # file systems allow 255, and a folder of version 1 got a suffix while it was written
READ_ATTEMPTS = 100  # a reader starts again if the head is replaced between its two reads
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
        UsageError: the name of the folder is not allowed, or the head could not predict, for example because of NaN.
        DiskError: the files cannot be written. A head that was there before stays.
    """
    check_name(folder.name)
    check_content(fields, arrays)
    data = write_tensors(arrays)
    description = {"format": FORMAT, "version": VERSION, **fields, "arrays": digest(data)}
    try:
        make_folder(folder.parent)
        with locked(folder.parent):
            make_folder(folder)
            arrays_file = folder / arrays_name(digest(data))
            replace_file(arrays_file, data)
            replace_file(folder / DESCRIPTION, seal(description))
            for file in folder.iterdir():
                if file.name not in (DESCRIPTION, arrays_file.name) and OWN_FILE.fullmatch(file.name):
                    file.unlink()
    except OSError as error:
        raise DiskError(f"Cannot write the head {folder}: {error.strerror or error}.") from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time write heads in a folder; the lock ends with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def read_head(folder: Path, make: Callable[..., HeadType]) -> HeadType:
    """Return the head in a folder, made by `make` from its fields and arrays, after checking checksums and values.

    Raises:
        StoreError: a file is missing or damaged, is not a head, holds values that cannot be used, or has a newer
            version.
    """
    fields, file, data = read_files(folder)
    try:
        arrays = read_tensors(data)
        check_content(fields, arrays)
        head: Any = make(arrays=arrays, **fields)
        empty = head.logits(np.zeros((1, *head.settings["input"]), np.float32))
        if empty.shape != (1, len(head.classes)):
            raise ValueError("its arrays do not match its classes")
    except (Unreadable, UsageError, ValueError, TypeError, KeyError, IndexError, MemoryError) as error:
        raise StoreError(f"{file} cannot be used as a head: {error}.") from error
    result: HeadType = head
    return result


def read_files(folder: Path) -> tuple[dict[str, Any], Path, bytes]:
    """Return the fields of a head, the file of its arrays, and the bytes of this file; both were written together."""
    for _ in range(READ_ATTEMPTS):
        text = read(folder / DESCRIPTION)
        fields = parse_description(folder / DESCRIPTION, text)
        expected = str(fields.pop("arrays"))
        file = folder / (OLD_ARRAYS if fields.pop("version") == 1 else arrays_name(expected))
        try:
            data = read(file)
        except StoreError:
            if read(folder / DESCRIPTION) == text:
                raise
            continue  # the head was replaced between the two reads
        if digest(data) != expected:
            raise StoreError(f"{file} is damaged: its checksum differs from the one in {DESCRIPTION}. Train it again.")
        return fields, file, data
    raise StoreError(f"{folder} is replaced again and again by another program, so it cannot be read.")


def parse_description(file: Path, text: bytes) -> dict[str, Any]:
    """Return the fields in head.json with `version` and `arrays` (their SHA-256), after checking its checksum."""
    match = SEAL.search(text)
    body = text if match is None else text[: match.start()] + b"\n}"
    try:
        fields: dict[str, Any] = json.loads(body)
        format, version = fields.pop("format"), fields["version"]
        checksum = fields.pop("note") if match is None else match[1].decode()
        if match is None:
            fields["arrays"] = fields.pop("numbers", "")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise StoreError(f"{file} does not describe a head ({error!r}).") from error
    if format != FORMAT:
        raise StoreError(f"{file} has the format {format!r}; a head has {FORMAT!r}.")
    if version not in (1, VERSION):
        raise StoreError(f"{file} has version {version}; this embedx reads versions up to {VERSION}. Update embedx.")
    if match is None:
        numbers = {"numbers": fields["arrays"]} if fields["arrays"] else {}
        known = {name: value for name, value in fields.items() if name != "arrays"}
        body = json.dumps({"format": format, **known, **numbers}, sort_keys=True).encode()
    is_valid = match is None or SHA256.fullmatch(str(fields.get("arrays")))  # it becomes a part of a file name
    if digest(body) != checksum or (match is None) != (version == 1) or not is_valid:
        raise StoreError(f"{file} is damaged or was edited. Train the head again.")
    return fields


def seal(description: Mapping[str, Any]) -> bytes:
    """Return head.json: the description, and as its last entry the SHA-256 of all bytes before it."""
    body = json.dumps(description, indent=1, allow_nan=False)
    return f'{body[:-2]},\n "checksum": "{digest(body.encode())}"\n}}\n'.encode()


def arrays_name(checksum: str) -> str:
    """Return the name of the file that holds the arrays with this SHA-256.

    >>> arrays_name("0123456789abcdef" * 4)
    '0123456789abcdef.safetensors'
    """
    return f"{checksum[:16]}.safetensors"


def read(file: Path) -> bytes:
    """Return the bytes of a file of a head."""
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise StoreError(f"{file} is missing, so {file.parent} is not a head.") from error
    except OSError as error:
        raise DiskError(f"Cannot read {file}: {error.strerror}.") from error


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes as a hexadecimal number."""
    return hashlib.sha256(data).hexdigest()
