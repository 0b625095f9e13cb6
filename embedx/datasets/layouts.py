"""Layouts: known data sets, read with the folds, splits and groups that their makers gave them.

What an official list or table names and the folder lacks is an item as well: reading it fails and is counted, so that
nobody takes a part of a data set for the whole. A clip that lists name is known by its path without the suffix, so
copies that were converted to another format keep their part, and none slips from the test part into training.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from embedx.datasets.items import Item, locate, text, walk
from embedx.datasets.manifests import Row, metadata, parse
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path

LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}  # of Speech Commands; the rest trains
NOISE = "_background_noise_"
COMMAND = re.compile(r"(?P<speaker>[0-9a-f]{8})_nohash_\d+")
FILTERED = {"train": "train_filtered.txt", "validation": "valid_filtered.txt", "test": "test_filtered.txt"}
GENRES = ("genres", "genres_original", ".")  # where the genres lie: as published, as on Kaggle, or in the root itself
TRACK = re.compile(
    r"(?P<genre>blues|classical|country|disco|hiphop|jazz|metal|pop|reggae|rock)/(?P<track>(?P=genre)\.\d{5})\.\w+"
)
DIGIT = re.compile(r"(?P<digit>[0-9])_(?P<speaker>.+)_(?P<take>\d+)\.\w+", re.DOTALL)


@dataclass(frozen=True)
class Layout:
    """How a known data set lies in its folder."""

    expects: str  # what must be there, to be said where it is not
    seen: Callable[[str], bool]  # root -> whether a folder that nobody named a layout for is this data set
    read: Callable[[str], list[Item] | None]  # root -> items, None if it is not this data set


def recognise(root: str) -> str | None:
    """Return the name of the known data set that lies in a folder, None if there is none."""
    return next((name for name, layout in KNOWN.items() if layout.seen(root)), None)


def table(file: str, audio: Callable[[Row], str], label: str, group: str) -> Layout:
    """Return the layout of a data set with a table; `audio` gives a row's path from the root on.

    Start and end columns, if any, are about the source, not about the clip.
    """

    def read(root: str) -> list[Item] | None:
        path = Path(root, file)
        if not path.is_file():
            return None
        try:
            return [
                replace(locate(root, audio(row)), label=text(row[label]), group=text(row[group]), meta=metadata(row))
                for row in parse(path.read_bytes(), display_path(str(path)))
            ]
        except KeyError as error:
            raise UsageError(f"{display_path(str(path))} has no column {error}.") from error

    return Layout(f"{file}, the table of its clips", lambda root: Path(root, file).is_file(), read)


def has_commands(root: str) -> bool:
    """Tell whether a folder has the lists of Speech Commands."""
    return all(os.path.isfile(os.path.join(root, name)) for name in LISTS.values())


def read_commands(root: str) -> list[Item] | None:
    """Read Speech Commands: the label is the folder, the group the speaker, `split` what the two lists say."""
    if not has_commands(root):
        return None
    listed = parts_of({part: read_list(os.path.join(root, name)) for part, name in LISTS.items()}, without_suffix)
    items, found = [], set()
    for item in walk(root):
        inside = os.path.relpath(item.path, root)
        if inside.startswith(NOISE + os.sep):
            continue
        key = without_suffix(inside)
        found.add(key)
        items.append(replace(item, split=listed[key][1] if key in listed else "train"))
    items += [replace(locate(root, entry), split=part) for key, (entry, part) in listed.items() if key not in found]
    return [name_command(item, root) for item in items]


def name_command(item: Item, root: str) -> Item:
    """Fill the word and the speaker of a clip of Speech Commands from its path; one beside the folders has no word."""
    *folders, name = os.path.relpath(item.path, root).split(os.sep)
    speaker = COMMAND.match(name)
    group = speaker["speaker"] if speaker else None
    return replace(item, label=text(folders[0]) if folders else None, group=group, meta={"speaker": group})


def find_tracks(root: str) -> Iterator[tuple[Item, re.Match[str] | None]]:
    """Yield the audio files of GTZAN, each with the genre and the track that its path names, if it names some."""
    folder = next(path for name in GENRES if os.path.isdir(path := os.path.normpath(os.path.join(root, name))))
    for item in walk(folder):
        yield item, TRACK.fullmatch(os.path.relpath(item.path, folder))


def read_genres(root: str) -> list[Item] | None:
    """Read GTZAN: the label is the folder, `split` what the fault-filtered lists say, empty for what they leave out."""
    tracks = [(item, named) for item, named in find_tracks(root) if named]
    if not tracks:
        return None
    listed = parts_of(filtered_lists(root), lambda entry: re.sub(r"(\.\d{5})\.\w+$", r"\1", os.path.basename(entry)))
    items = [
        replace(item, label=text(named["genre"]), split=listed.get(named["track"], ("", None))[1])
        for item, named in tracks
    ]
    found = {named["track"] for _, named in tracks}
    folder, suffix = os.path.dirname(os.path.dirname(items[0].path)), os.path.splitext(items[0].path)[1]
    for track, (_, part) in listed.items():
        if track not in found:
            genre = track.rpartition(".")[0]
            items.append(replace(locate(folder, f"{genre}/{track}{suffix}"), label=text(genre), split=part))
    return items


def filtered_lists(root: str) -> Mapping[str, Iterable[str]]:
    """Return the entries of GTZAN's fault-filtered lists (Kereliuk et al. 2015) by part: those beside the data, or
    those that torchaudio brings.
    """
    for folder in (root, os.path.dirname(root)):
        files = {part: os.path.join(folder, name) for part, name in FILTERED.items()}
        if all(os.path.isfile(path) for path in files.values()):
            return {part: read_list(path) for part, path in files.items()}
    try:
        from torchaudio.datasets.gtzan import filtered_test, filtered_train, filtered_valid
    except ImportError as error:
        raise UsageError(
            f"This torchaudio has no lists of GTZAN ({error}). Put {', '.join(FILTERED.values())} beside the data."
        ) from error
    return {"train": filtered_train, "validation": filtered_valid, "test": filtered_test}


def find_digits(root: str) -> Iterator[tuple[Item, re.Match[str] | None]]:
    """Yield the audio files of FSDD, each with the digit, speaker and take that its name says, if it says some."""
    recordings = os.path.join(root, "recordings")
    for item in walk(recordings if os.path.isdir(recordings) else root):
        yield item, DIGIT.fullmatch(os.path.basename(item.path))


def has_digits(root: str) -> bool:
    """Tell whether a folder is FSDD: called, or with a folder called, recordings, and all names as they should be."""
    named = os.path.basename(root) == "recordings" or os.path.isdir(os.path.join(root, "recordings"))
    return named and all_named(find_digits(root))


def read_digits(root: str) -> list[Item] | None:
    """Read FSDD: the label is the digit; group and fold are the speaker."""
    items = []
    for item, named in find_digits(root):
        if named:
            speaker = text(named["speaker"])
            meta = {"fold": speaker, "speaker": speaker, "take": int(named["take"])}
            items.append(replace(item, label=named["digit"], group=speaker, meta=meta))
    return items or None


def all_named(files: Iterator[tuple[Item, re.Match[str] | None]]) -> bool:
    """Tell whether there are files, and all of them have a name of their data set; ends at the first that has not."""
    first = next(files, None)
    return first is not None and first[1] is not None and all(named for _, named in files)


def read_list(path: str) -> list[str]:
    """Return the lines of a list of paths of any bytes, without the space and the carriage returns behind them."""
    lines = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [os.fsdecode(line.rstrip()) for line in lines if line.strip()]


def parts_of(lists: Mapping[str, Iterable[str]], key: Callable[[str], str]) -> dict[str, tuple[str, str]]:
    """Return key -> (entry, part) of all entries in the lists of a data set's parts.

    >>> parts_of({"test": ["dog/1.wav"], "train": ["dog/2.wav"]}, without_suffix)
    {'dog/1': ('dog/1.wav', 'test'), 'dog/2': ('dog/2.wav', 'train')}

    Raises:
        UsageError: two parts have the same entry.
    """
    listed: dict[str, tuple[str, str]] = {}
    for part, entries in lists.items():
        for entry in entries:
            other = listed.setdefault(key(entry), (entry, part))[1]
            if other != part:
                raise UsageError(
                    f"{display_path(entry)} is in two lists of this data set, {other} and {part}; it may be in one."
                )
    return listed


def without_suffix(path: str) -> str:
    """Return a relative path by which a listed clip is known, whatever its format and its form of Unicode.

    >>> without_suffix("./bed/0a_nohash_0.wav")
    'bed/0a_nohash_0'
    """
    return unicodedata.normalize("NFC", os.path.splitext(os.path.normpath(path))[0])


KNOWN = {
    "esc50": table("meta/esc50.csv", lambda row: f"audio/{row['filename']}", "category", "src_file"),
    "urbansound8k": table(
        "metadata/UrbanSound8K.csv", lambda row: f"audio/fold{row['fold']}/{row['slice_file_name']}", "class", "fsID"
    ),
    "speech-commands": Layout(
        f"{' and '.join(LISTS.values())} beside the folders of words", has_commands, read_commands
    ),
    "gtzan": Layout(
        "genres/<genre>/<genre>.NNNNN.wav (or .au)", lambda root: all_named(find_tracks(root)), read_genres
    ),
    "fsdd": Layout("recordings/{digit}_{speaker}_{n}.wav", has_digits, read_digits),
}
