"""Items: what to embed, and the audio files of a folder."""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from embedx.audio.decode import SUFFIXES
from embedx.filesystem.paths import display_path


@dataclass(frozen=True, slots=True)
class Item:
    """A recording, or a part of one, to embed."""

    path: str  # absolute; os.fsencode gives the bytes of the file name
    start_s: float = 0.0
    end_s: float | None = None  # None: to the end of the recording
    label: str | None = None
    group: str | None = None  # items of one group are never on both sides of a split
    split: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""  # why the file must not be opened; empty if it may be
    label_origin: str = field(default="", compare=False)  # "folder names", "column species"; empty without a label


def walk(root: str) -> Iterator[Item]:
    """Yield the audio files below a folder in the order of their names, without hidden files and folders."""
    prefix = os.path.realpath(root) + os.sep
    for folder, folders, files in os.walk(root):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=os.fsencode)
        for name in sorted(files, key=os.fsencode):
            path = os.path.join(folder, name)
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith("."):
                outside = os.path.islink(path) and not os.path.realpath(path).startswith(prefix)
                problem = f"{display_path(path)} is a link to a file outside of the folder." if outside else ""
                yield Item(path, problem=problem)


def locate(root: str, entry: str) -> Item:
    """Return the item of an entry in a list of a data set.

    Args:
        root: the folder of the data set.
        entry: a path relative to it. If it leads out of the folder, the item has a problem.

    >>> locate("/data", "dog/../1.wav").path, locate("/data", "../1.wav").problem
    ('/data/1.wav', '../1.wav is outside of the folder of the data set.')
    """
    path = os.path.normpath(os.path.join(root, entry))
    outside = not path.startswith(root.rstrip(os.sep) + os.sep)
    return Item(path, problem=f"{display_path(entry)} is outside of the folder of the data set." if outside else "")


def describe_labels(items: Collection[Item]) -> str:
    """Return how many labels there are and where they come from; an empty text if there are none.

    >>> describe_labels([Item("/dog/1.wav", label="dog", label_origin="folder names"), Item("/2.wav")])
    '1, from folder names'
    """
    origins = dict.fromkeys(item.label_origin for item in items if item.label)
    labels = {item.label for item in items if item.label}
    return f"{len(labels)}, from {' and '.join(origins)}" if labels else ""


def text(value: Any) -> str | None:
    """Return a label as valid Unicode text; None, NaN and an empty text are None.

    >>> text("001"), text(7), text(float("nan")), text("")
    ('001', '7', None, None)
    """
    if value is None or value != value or value == "":
        return None
    return os.fsencode(str(value)).decode("utf-8", "backslashreplace")
