"""Walk: the audio files below a folder, what a search passes over, and where it cannot look.

Links to files and folders are followed. A link to a file is a recording under its own name, as a copy would be. Each
real folder is searched once, under its real name if it lies below the root, so links that lead back do no harm.
"""

import errno
import os
import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from embedx.audio.decode import SUFFIXES
from embedx.datasets.items import Item
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path, is_inside

UNREADABLE_FOLDER = "unreadable-folder"  # the reason of a folder that cannot be listed
COMMON_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{0,7}")  # other endings of names are not counted one by one


@dataclass
class Survey:
    """What a search of folders met besides audio files.

    Attributes:
        confine: refuse what lies outside of the folder that is searched.
        passed_over: what -> how many; the suffix of files that are not audio, or a few words.
        hidden_below: folders in which files may exist that the search could not see: they cannot be listed, are links
            that lead nowhere, or are empty, as a mount point is without its disk.
    """

    confine: bool = False
    passed_over: Counter[str] = field(default_factory=Counter)
    hidden_below: dict[str, str] = field(default_factory=dict)

    def explain(self, path: str, why: str) -> None:
        """Note that there may be files below a path, and why they cannot be seen."""
        self.hidden_below.setdefault(path, f"{display_path(path)} {why}")

    def covers(self, path: str) -> str | None:
        """Return the folder above a path in which the search could not look; None if there is none.

        >>> survey = Survey()
        >>> survey.explain("/data/b", "is empty")
        >>> survey.covers("/data/b/c/1.wav"), survey.covers("/data/a/1.wav")
        ('/data/b', None)
        """
        while self.hidden_below and path not in self.hidden_below:
            parent = os.path.dirname(path)
            if parent == path:
                return None
            path = parent
        return path if self.hidden_below else None

    def read_bytes(self, path: str, root: str) -> bytes:
        """Return the bytes of a list or table of a data set.

        Raises:
            UsageError: it lies outside of the folder, and `confine` is set.
        """
        if self.confine and not is_inside(os.path.realpath(path), os.path.realpath(root)):
            raise UsageError(
                f"{display_path(path)} leads out of {display_path(root)}, and --confine refuses it. Use --layout files."
            )
        with open(path, "rb") as file:
            return file.read()


def walk(root: str, survey: Survey) -> Iterator[Item]:
    """Yield the audio files below a folder in the order of their names; folders behind links come last.

    A folder that cannot be listed is an item with a problem, so it becomes a failure by name. Hidden files and folders
    are passed over.
    """
    seen: set[tuple[int, int]] = set()
    linked: deque[str] = deque()
    waiting = [root]
    while waiting or linked:
        folder = waiting.pop() if waiting else linked.popleft()
        problem = None
        entries: list[os.DirEntry[str]] = []
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                survey.passed_over["folders found twice"] += 1
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries.extend(listing)  # what was listed before an error is kept
        except OSError as error:
            problem = unreadable(folder, error)
            survey.explain(folder, "cannot be listed")
            yield problem
        if not entries and problem is None:
            survey.explain(folder, "is empty")
        folders: list[str] = []
        for entry in sorted(entries, key=lambda entry: os.fsencode(entry.name)):
            if not is_folder_to_search(entry, root, survey, folders, linked):
                yield from file_item(entry, survey)
        waiting += reversed(folders)


def is_folder_to_search(
    entry: os.DirEntry[str], root: str, survey: Survey, folders: list[str], linked: deque[str]
) -> bool:
    """Tell whether an entry is a folder, and add it to those that have to be searched."""
    try:
        if entry.name.startswith(".") or not entry.is_dir():
            return False
        is_link = entry.is_symlink()
    except OSError:  # `file_item` says why
        return False
    if not is_link:
        folders.append(entry.path)
    elif survey.confine and not is_inside(os.path.join(os.path.realpath(entry.path), ""), os.path.realpath(root)):
        return False
    else:
        linked.append(entry.path)
    return True


def file_item(entry: os.DirEntry[str], survey: Survey) -> Iterator[Item]:
    """Yield the item of an entry that is audio by its name or cannot be looked at, and count any other entry."""
    if entry.name.startswith("."):
        survey.passed_over["hidden"] += 1
        return
    suffix = os.path.splitext(entry.name)[1].lower()
    try:
        if entry.is_dir():  # only a link is left here
            detail = f"{display_path(entry.path)} is a link to a folder outside of the source; --confine refuses it."
            yield Item(entry.path, problem=detail, reason="outside")
            survey.explain(entry.path, "leads out of the source")
        elif suffix in SUFFIXES:  # reading it reports a link that leads nowhere, and a special file
            yield Item(entry.path)
        elif entry.is_file():
            survey.passed_over[suffix if COMMON_SUFFIX.fullmatch(suffix) else "other files"] += 1
        elif entry.is_symlink() and not os.path.exists(entry.path):
            note_dangling(entry.path, survey)
        else:
            survey.passed_over["special files"] += 1
    except OSError as error:
        if suffix in SUFFIXES:
            yield Item(entry.path)
        elif error.errno == errno.ELOOP:
            note_dangling(entry.path, survey)
        else:
            yield unreadable(entry.path, error)
            survey.explain(entry.path, "cannot be looked at")


def note_dangling(path: str, survey: Survey) -> None:
    """Count a link that leads nowhere; it may be a link to a folder whose disk is not there."""
    survey.passed_over["dangling links"] += 1
    survey.explain(path, "is a link that leads nowhere")


def unreadable(path: str, error: OSError) -> Item:
    """Return the item of a folder, or of something else, that cannot be looked at."""
    detail = f"{display_path(path)} cannot be searched: {error.strerror or error}."
    return Item(path, problem=detail, reason=UNREADABLE_FOLDER)


def describe_passed_over(passed_over: Counter[str], most: int = 8) -> str:
    """Return what was passed over in words, the most frequent first.

    >>> describe_passed_over(Counter({".txt": 3, "dangling links": 1}))
    '.txt (3), dangling links (1)'
    """
    parts = [f"{what} ({count})" for what, count in passed_over.most_common(most)]
    rest = passed_over.total() - sum(count for _, count in passed_over.most_common(most))
    return ", ".join([*parts, *([f"others ({rest})"] if rest else [])])
