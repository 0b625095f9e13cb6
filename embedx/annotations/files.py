"""Annotation files: a file or a folder -> annotations, and annotations -> a file, or one for each recording."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from embedx.annotations.audacity import AUDACITY
from embedx.annotations.base import Annotation, AnnotationFormat, decode
from embedx.annotations.birdnet import BIRDNET
from embedx.annotations.label_studio import LABEL_STUDIO
from embedx.annotations.plain import PLAIN, names_rows
from embedx.annotations.raven import RAVEN
from embedx.annotations.textgrid import TEXTGRID
from embedx.errors import NothingToDo, UsageError
from embedx.filesystem.atomic import replace_file
from embedx.filesystem.paths import display_path, safe_stem

READ = (TEXTGRID, LABEL_STUDIO, RAVEN, BIRDNET, AUDACITY, PLAIN)  # in the order in which a file is tried
WRITTEN: dict[str, AnnotationFormat] = {form.name: form for form in READ if form.write is not None}
SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".textgrid")  # of the files of a folder that are read
MAX_BYTES = 1 << 30  # of a file; a million lines have some 100 MB


def read_annotations(place: str | os.PathLike[str]) -> list[tuple[str, list[Annotation]]]:
    """Return the files of annotations at a place, each with its annotations.

    Args:
        place: a file, or a folder, which is searched with all folders in it; files of other kinds are passed over.

    Raises:
        UsageError: a file does not exist or cannot be read. The message names the file, and the line if there is one.
        NothingToDo: the folder has no file of annotations.
    """
    path, shown = os.fspath(place), display_path(os.fspath(place))
    if os.path.isfile(path):
        return [(os.path.abspath(path), read_file(path))]
    if not os.path.isdir(path):
        raise UsageError(f"{shown} does not exist, or is neither a regular file nor a folder.")
    names = sorted(
        os.path.join(folder, name)
        for folder, _, files in os.walk(path)
        for name in files
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    )
    texts = ((name, read_text(name)) for name in names if os.path.isfile(name))
    found = [
        (os.path.abspath(name), form.read(text, display_path(name))) for name, text in texts if (form := form_of(text))
    ]
    if not found:
        raise NothingToDo(f"There are no annotations in {shown}. Their files end in {' '.join(SUFFIXES)}.")
    return found


def read_file(path: str) -> list[Annotation]:
    """Return the annotations of a file, whose content tells its format."""
    name, text = display_path(path), read_text(path)
    if not text.strip():
        return []  # a label track without labels
    form = form_of(text)
    if form is None:
        raise UsageError(
            f"{name} is not a file of annotations. embedx reads selection tables of Raven, label tracks of Audacity, "
            "JSON of Label Studio, CSV of BirdNET, TextGrids of Praat, and CSV with columns start_s and end_s."
        )
    return form.read(text, name)


def read_text(path: str) -> str:
    """Return the text of a file.

    Raises:
        UsageError: it is too large, or not text.
    """
    name = display_path(path)
    if os.path.getsize(path) > MAX_BYTES:
        raise UsageError(f"{name} has more than {MAX_BYTES >> 20} MB. Divide it.")
    return decode(Path(path).read_bytes(), name)


def form_of(text: str) -> AnnotationFormat | None:
    """Return the format of a text; None if it is none."""
    return next((form for form in READ if form.matches(text)), None)


def is_annotations(place: str | os.PathLike[str]) -> bool:
    """Tell whether a place holds annotations: a folder, or a file that is no table of rows or recordings."""
    path = os.fspath(place)
    if not os.path.isfile(path):
        return os.path.isdir(path)
    if not path.lower().endswith(SUFFIXES):
        return False
    try:
        text = decode(Path(path).read_bytes(), "")
    except UsageError:
        return False
    form = form_of(text)
    return form is not None and (form is not PLAIN or not names_rows(text))


def needs_folder(output: str | None) -> bool:
    """Tell whether annotations go to a folder: it exists, or its name ends with a slash."""
    return output is not None and (os.path.isdir(output) or output.endswith(os.sep))


def as_text(form: AnnotationFormat, annotations: Sequence[Annotation]) -> str:
    """Return annotations as one file.

    Raises:
        UsageError: there are several recordings, and the format holds one.
    """
    count = len({one.path for one in annotations})
    if form.is_single and count > 1:
        kind = "An Audacity label track" if form is AUDACITY else "A TextGrid"
        raise UsageError(
            f"{kind} belongs to one recording, and there are {count}. Use --output FOLDER/ (of `embedx export`: --out)."
        )
    assert form.write is not None
    return form.write([replace(one, path=display_path(one.path)) for one in annotations])


def write_folder(
    form: AnnotationFormat, annotations: Sequence[Annotation], folder: str, paths: Iterable[str] = ()
) -> None:
    """Write a file for each recording, also for these without annotations, into a folder, which is created."""
    os.makedirs(folder, exist_ok=True)
    by_path: dict[str, list[Annotation]] = {path: [] for path in paths}
    for one in annotations:
        by_path.setdefault(one.path, []).append(one)
    for number, (path, members) in enumerate(by_path.items(), start=1):
        target = Path(folder, f"{number:04d}_{safe_stem(path)}{form.suffix}")
        replace_file(target, as_text(form, members).encode("utf-8", "backslashreplace"))
