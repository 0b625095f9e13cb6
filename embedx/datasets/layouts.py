"""Layouts of known data sets, with their official folds, splits and groups.

A recording that an official list or table names but the folder lacks is an item too. Reading it fails and is reported,
so that an incomplete data set is noticed. A listed recording is identified by its path without the suffix. Copies in
another audio format therefore stay in their part, and no test recording becomes a training recording.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from embedx.datasets.items import Item, locate, text
from embedx.datasets.manifests import metadata
from embedx.datasets.tables import Row, parse
from embedx.datasets.walk import Survey, walk
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path

COMMAND_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}  # all other clips are for training
COMMAND_NOISE = "_background_noise_"  # a folder of Speech Commands without words
COMMAND = re.compile(r"(?P<speaker>[0-9a-f]{8})_nohash_\d+")
GTZAN_LISTS = {"train": "train_filtered.txt", "validation": "valid_filtered.txt", "test": "test_filtered.txt"}
GENRE_FOLDERS = ("genres", "genres_original", ".")  # as published; as on Kaggle; the root itself
TRACK = re.compile(
    r"(?P<genre>blues|classical|country|disco|hiphop|jazz|metal|pop|reggae|rock)/(?P<track>(?P=genre)\.\d{5})\.\w+"
)
DIGIT = re.compile(r"(?P<digit>[0-9])_(?P<speaker>.+)_(?P<take>\d+)\.\w+", re.DOTALL)


@dataclass(frozen=True)
class Layout:
    """The folder structure of a known data set."""

    expects: str  # the files that must be there, for the error
    matches: Callable[[str], bool]  # root -> whether the folder holds this data set, for the layout "auto"
    read: Callable[[str, Survey], list[Item] | None]  # root -> items; None if it is not this data set


def recognise(root: str) -> str | None:
    """Return the name of the known data set in a folder; None if there is none."""
    return next((name for name, layout in KNOWN.items() if layout.matches(root)), None)


def table(file: str, audio: Callable[[Row], str], label: str, group: str) -> Layout:
    """Return the layout of a data set with a table.

    Start and end columns, if there are any, refer to the source of a clip and not to the clip.

    Args:
        file: the table, relative to the root.
        audio: row -> the path of its recording, relative to the root.
        label: the column with the label.
        group: the column with the group.
    """

    def read(root: str, survey: Survey) -> list[Item] | None:
        path = os.path.join(root, file)
        if not os.path.isfile(path):
            return None
        try:
            return [
                replace(locate(root, audio(row)), label=text(row[label]), group=text(row[group]), meta=metadata(row))
                for row in parse(survey.read_bytes(path, root), display_path(path), root, (label, group)).rows
            ]
        except KeyError as error:
            raise UsageError(f"{display_path(path)} has no column {error}.") from error

    return Layout(f"{file} (the table of its clips)", lambda root: os.path.isfile(os.path.join(root, file)), read)


def has_commands(root: str) -> bool:
    """Tell whether a folder contains the lists of Speech Commands."""
    return all(os.path.isfile(os.path.join(root, name)) for name in COMMAND_LISTS.values())


def read_commands(root: str, survey: Survey) -> list[Item] | None:
    """Read Speech Commands: the label is the folder, the group is the speaker, `split` comes from the two lists."""
    if not has_commands(root):
        return None
    listed = parts_of(
        {part: read_list(os.path.join(root, name), root, survey) for part, name in COMMAND_LISTS.items()},
        without_suffix,
    )
    items, present = [], set()
    for item in walk(root, survey):
        relative = os.path.relpath(item.path, root)
        if relative.startswith(COMMAND_NOISE + os.sep):
            continue
        key = without_suffix(relative)
        present.add(key)
        items.append(replace(item, split=listed[key][1] if key in listed else "train"))
    items += [replace(locate(root, entry), split=part) for key, (entry, part) in listed.items() if key not in present]
    return [name_command(item, root) for item in items]


def name_command(item: Item, root: str) -> Item:
    """Set the label and the speaker of a Speech Commands clip from its path; a clip in the root has no label."""
    *folders, name = os.path.relpath(item.path, root).split(os.sep)
    match = COMMAND.match(name)
    group = match["speaker"] if match else None
    return replace(item, label=text(folders[0]) if folders else None, group=group, meta={"speaker": group})


def find_tracks(root: str, survey: Survey) -> Iterator[tuple[Item, re.Match[str] | None]]:
    """Yield the audio files of GTZAN, each with the match of genre and track in its path."""
    folders = (os.path.normpath(os.path.join(root, name)) for name in GENRE_FOLDERS)
    folder = next(filter(os.path.isdir, folders), root)
    for item in walk(folder, survey):
        yield item, TRACK.fullmatch(os.path.relpath(item.path, folder))


def read_genres(root: str, survey: Survey) -> list[Item] | None:
    """Read GTZAN: the label is the folder, `split` comes from the fault-filtered lists and is None for other tracks."""
    found = list(find_tracks(root, survey))
    tracks = [(item, match) for item, match in found if match]
    if not tracks:
        return None
    listed = parts_of(
        filtered_lists(root, survey), lambda entry: re.sub(r"(\.\d{5})\.\w+$", r"\1", os.path.basename(entry))
    )
    items = [
        replace(item, label=text(match["genre"]), split=listed.get(match["track"], ("", None))[1])
        for item, match in tracks
    ]
    present = {match["track"] for _, match in tracks}
    folder, suffix = os.path.dirname(os.path.dirname(items[0].path)), os.path.splitext(items[0].path)[1]
    for track, (_, part) in listed.items():
        if track not in present:
            genre = track.rpartition(".")[0]
            items.append(replace(locate(folder, f"{genre}/{track}{suffix}"), label=text(genre), split=part))
    return items + [item for item, _ in found if item.problem]


def filtered_lists(root: str, survey: Survey) -> Mapping[str, Iterable[str]]:
    """Return part -> entries of GTZAN's fault-filtered lists (Kereliuk et al. 2015).

    The lists are the files next to the data, or those that torchaudio contains.
    """
    for folder in (root,) if survey.confine else (root, os.path.dirname(root)):
        files = {part: os.path.join(folder, name) for part, name in GTZAN_LISTS.items()}
        if all(os.path.isfile(path) for path in files.values()):
            return {part: read_list(path, folder, survey) for part, path in files.items()}
    try:
        from torchaudio.datasets.gtzan import filtered_test, filtered_train, filtered_valid
    except ImportError as error:
        raise UsageError(
            f"This torchaudio does not contain the lists of GTZAN ({error}). "
            f"Put {', '.join(GTZAN_LISTS.values())} next to the data."
        ) from error
    return {"train": filtered_train, "validation": filtered_valid, "test": filtered_test}


def find_digits(root: str, survey: Survey) -> Iterator[tuple[Item, re.Match[str] | None]]:
    """Yield the audio files of FSDD, each with the match of digit, speaker and take in its name."""
    recordings = os.path.join(root, "recordings")
    for item in walk(recordings if os.path.isdir(recordings) else root, survey):
        yield item, DIGIT.fullmatch(os.path.basename(item.path))


def has_digits(root: str) -> bool:
    """Tell whether a folder is FSDD: it, or a folder in it, is called recordings, and all file names match."""
    is_named = os.path.basename(root) == "recordings" or os.path.isdir(os.path.join(root, "recordings"))
    return is_named and all_match(find_digits(root, Survey()))


def read_digits(root: str, survey: Survey) -> list[Item] | None:
    """Read FSDD: the label is the digit, and the speaker is both group and fold."""
    items, problems = [], []
    for item, match in find_digits(root, survey):
        if item.problem:
            problems.append(item)
        elif match:
            speaker = text(match["speaker"])
            meta = {"fold": speaker, "speaker": speaker, "take": int(match["take"])}
            items.append(replace(item, label=match["digit"], group=speaker, meta=meta))
    return items + problems if items else None


def all_match(files: Iterator[tuple[Item, re.Match[str] | None]]) -> bool:
    """Tell whether there are files and the names of all of them match; stop at the first that does not.

    A folder that cannot be listed decides nothing.
    """
    matches = (match is not None for item, match in files if not item.problem)
    return next(matches, False) and all(matches)


def read_list(path: str, root: str, survey: Survey) -> list[str]:
    """Return the lines of a list of paths, without trailing spaces; paths may contain any bytes."""
    lines = survey.read_bytes(path, root).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [os.fsdecode(line.rstrip()) for line in lines if line.strip()]


def parts_of(lists: Mapping[str, Iterable[str]], key: Callable[[str], str]) -> dict[str, tuple[str, str]]:
    """Return key -> (entry, part) of all entries in the lists of a data set.

    Args:
        lists: part, such as "test" -> the paths in its list.
        key: path -> the key by which a recording is identified.

    Raises:
        UsageError: two parts contain the same recording.

    >>> parts_of({"test": ["dog/1.wav"], "train": ["dog/2.wav"]}, without_suffix)
    {'dog/1': ('dog/1.wav', 'test'), 'dog/2': ('dog/2.wav', 'train')}
    """
    listed: dict[str, tuple[str, str]] = {}
    for part, entries in lists.items():
        for entry in entries:
            other = listed.setdefault(key(entry), (entry, part))[1]
            if other != part:
                raise UsageError(
                    f"{display_path(entry)} is in two lists of this data set, {other} and {part}. Remove it from one."
                )
    return listed


def without_suffix(path: str) -> str:
    """Return the key of a listed recording: its relative path without the suffix, in Unicode normal form C.

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
        f"{' and '.join(COMMAND_LISTS.values())} next to the folders of words", has_commands, read_commands
    ),
    "gtzan": Layout(
        "genres/<genre>/<genre>.NNNNN.wav (or .au)", lambda root: all_match(find_tracks(root, Survey())), read_genres
    ),
    "fsdd": Layout("recordings/{digit}_{speaker}_{n}.wav", has_digits, read_digits),
}
