"""Items: what to embed."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from embedx.errors import AudioError
from embedx.filesystem.paths import display_path, is_inside, valid_text
from embedx.filesystem.urls import is_url


@dataclass(frozen=True, slots=True)
class Item:
    """A recording, or a part of one, to embed."""

    path: str  # absolute, or a URL; os.fsencode gives the bytes of the file name
    start_s: float = 0.0
    end_s: float | None = None  # None: to the end of the recording
    label: str | None = None
    group: str | None = None  # items of one group are never on both sides of a split
    split: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""  # why it cannot be opened, or must not be; empty if it may be
    reason: str = ""  # the class of the problem
    within: str = ""  # the folder that the file must not leave, links resolved; empty if any file is allowed
    label_origin: str = field(default="", compare=False)  # "folder names", "column species"; empty without a label
    status: tuple[int | None, int | None] | None = field(default=None, compare=False)  # size and version in a listing
    place: str = field(default="", compare=False)  # "Line 3 of clips.csv"; empty if no table names it


Stretch = tuple[str, float, float | None]  # the path to open, start_s, end_s


def path_to_open(item: Item) -> str:
    """Return the path at which the file of an item is opened; links are resolved if it must stay inside a folder.

    Raises:
        AudioError: the item has a problem, or its file lies outside of the folder.
    """
    if item.problem:
        raise AudioError(item.reason, item.problem)
    if not item.within:
        return item.path
    resolved = item.path if is_url(item.path) else os.path.realpath(item.path)
    climbs = is_url(item.path) and ".." in unquote(item.path).split("/")  # servers resolve it
    if climbs or not is_inside(resolved, item.within):
        detail = f"{display_path(item.path)} is outside of {display_path(item.within)}, and --confine refuses it."
        raise AudioError("outside", detail)
    return resolved


def stretch_to_open(item: Item) -> Stretch | AudioError:
    """Return what has to be opened for an item, or the error of an item that must not be opened."""
    try:
        return path_to_open(item), item.start_s, item.end_s
    except AudioError as error:
        return error


def locate(root: str, entry: str) -> Item:
    """Return the item of an entry in a list of a data set: a path relative to its folder.

    >>> locate("/data", "dog/../1.wav").path, locate("/data", "../1.wav").path
    ('/data/1.wav', '/1.wav')
    """
    return Item(os.path.normpath(os.path.join(root, entry)))


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
    return valid_text(str(value))
