"""Annotations: label tracks of Audacity and selection tables of Raven, from hits and from predictions."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from embedx.errors import UsageError
from embedx.filesystem.atomic import replace_file
from embedx.filesystem.paths import display_path, safe_stem

RAVEN_COLUMNS = (  # with Begin Path and File Offset, Raven opens the recordings by itself
    "Selection,View,Channel,Begin Time (s),End Time (s),Low Freq (Hz),High Freq (Hz),Begin Path,File Offset (s),Score,"
    "label,id"
).split(",")


class Label(NamedTuple):
    """A label of a part of a recording."""

    start_s: float
    end_s: float
    text: str


Tracks = Mapping[str, Sequence[Label]]  # path of a recording -> its labels


def label_track(labels: Iterable[Label]) -> str:
    r"""Return an Audacity label track.

    >>> label_track([Label(0.5, 2.0, "dog")])
    '0.500000\t2.000000\tdog\n'
    """
    return "".join(f"{start_s:.6f}\t{end_s:.6f}\t{display_path(text)}\n" for start_s, end_s, text in labels)


def needs_folder(output: str | None) -> bool:
    """Tell whether label tracks go to a folder: it exists, or its name ends with a slash."""
    return output is not None and (os.path.isdir(output) or output.endswith(os.sep))


def one_label_track(tracks: Tracks) -> str:
    """Return the label track of one recording, empty if there is none.

    Raises:
        UsageError: there are several recordings.
    """
    if len(tracks) > 1:
        raise UsageError(
            f"An Audacity label track belongs to one recording, and there are {len(tracks)}. Use --output FOLDER/."
        )
    return "".join(map(label_track, tracks.values()))


def write_label_tracks(tracks: Tracks, folder: str) -> None:
    """Write a label track for each recording into a folder, which is created if it does not exist."""
    os.makedirs(folder, exist_ok=True)
    for number, (path, labels) in enumerate(tracks.items(), start=1):
        replace_file(Path(folder, f"{number:04d}_{safe_stem(path)}.txt"), label_track(labels).encode())


def selection_table(rows: Iterable[Mapping[str, Any]], max_hz: float, extra: Sequence[str] = ()) -> str:
    """Return a selection table for Raven.

    Args:
        rows: hits with id, score, path, start_s, end_s, label, meta and the extra columns.
        max_hz: the upper end of the frequencies of each selection.
        extra: further columns with text.
    """
    lines = ["\t".join([*RAVEN_COLUMNS, *extra])]
    for number, row in enumerate(rows, start=1):
        channel = row["meta"].get("channel")
        cells = (number, "Spectrogram 1", channel + 1 if isinstance(channel, int) else 1,
                 f"{row['start_s']:.6f}", f"{row['end_s']:.6f}", "0.0", f"{max_hz:.1f}",
                 display_path(row["path"]),
                 f"{row['start_s']:.6f}", f"{row['score']:.6f}", display_path(row["label"] or ""), row["id"],
                 *(display_path(row[name]) for name in extra))  # fmt: skip
        lines.append("\t".join(map(str, cells)))
    return "\n".join(lines) + "\n"
