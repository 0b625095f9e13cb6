"""Format: what embedx needs to know about a file format to export and import it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embedx.formats.selection import Selection
from embedx.formats.table import Table, TableSource


def single_file(out: Path) -> tuple[Path, ...]:
    """Return the files of a format that writes one file."""
    return (out,)


@dataclass(frozen=True)
class Format:
    """A file format. Its module defines one, and `embedx.formats.registry` lists it.

    `write` writes a selection to a path, completely or not at all. `read` opens a file or folder as a table.
    """

    name: str  # value of --format, and the suffix of a file
    write: Callable[[Path, Selection], None]
    read: Callable[[TableSource], Table]
    is_matrix: bool = False  # vectors are a matrix, with the metadata in another file; else they are columns
    single_view: bool = False  # holds the vectors of one view only
    folder_file: str | None = None  # for a format that is a folder: a file that every such folder contains
    files: Callable[[Path], tuple[Path, ...]] = single_file  # all files that an export to a path writes
    magic: bytes | None = None  # first bytes of a file
