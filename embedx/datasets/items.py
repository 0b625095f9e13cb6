"""Items: what is asked to be embedded, and the audio files of a folder."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from embedx.audio.decode import SUFFIXES
from embedx.filesystem.paths import display_path


@dataclass(frozen=True, slots=True)
class Item:
    """A recording, or a stretch of it in seconds, that is to be embedded."""

    path: str  # absolute; os.fsencode gives the bytes of its name
    start_s: float = 0.0
    end_s: float | None = None  # None: to the end of the recording
    label: str | None = None
    group: str | None = None  # clips of one group are never on both sides of a split
    split: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""  # why it will not be opened, where that is known beforehand


def walk(root: str) -> Iterator[Item]:
    """Yield the audio files below a folder in the order of their names; hidden ones are not read."""
    inside = os.path.realpath(root) + os.sep
    for folder, folders, files in os.walk(root):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=os.fsencode)
        for name in sorted(files, key=os.fsencode):
            path = os.path.join(folder, name)
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):
                leaves = os.path.islink(path) and not os.path.realpath(path).startswith(inside)
                yield Item(path, problem=f"{display_path(path)} is a link that leaves the folder." if leaves else "")


def locate(root: str, entry: str) -> Item:
    """Return the item of an entry in a list of a data set: a path from the root on, which it must not leave.

    >>> locate("/data", "dog/../1.wav").path, locate("/data", "../1.wav").problem
    ('/data/1.wav', '../1.wav leaves the folder of the data set.')
    """
    path = os.path.normpath(os.path.join(root, entry))
    leaves = not path.startswith(root.rstrip(os.sep) + os.sep)
    return Item(path, problem=f"{display_path(entry)} leaves the folder of the data set." if leaves else "")


def text(value: Any) -> str | None:
    """Return a label as clean text; a missing one is None.

    >>> text("001"), text(7), text(float("nan")), text("")
    ('001', '7', None, None)
    """
    if value is None or value != value or value == "":
        return None
    return os.fsencode(str(value)).decode("utf-8", "backslashreplace")
