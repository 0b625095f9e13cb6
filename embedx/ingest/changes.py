"""Changes: a corpus compared with a store -> what has to be embedded, and what is already there."""

import contextlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from embedx.audio.places import Status, file_status, file_statuses, is_gone, require_file
from embedx.datasets.items import Item, path_to_open
from embedx.datasets.walk import UNREADABLE_FOLDER, Survey
from embedx.errors import AudioError, UsageError
from embedx.filesystem.urls import absolute, common_folder, folder_of, is_url
from embedx.store.records import Recording
from embedx.store.store import Store

Hash = Callable[[str], str]  # path -> hash of the content; raises AudioError if the file cannot be read
Job = tuple[Recording, Sequence[Item]]

NETWORK = "network"  # the reason of a recording that the network did not bring; the next run tries it again
# Reasons that say nothing of the content: the rows of an earlier run stay.
UNREACHABLE = ("missing", "unreadable", NETWORK)


@dataclass
class Difference:
    """The differences between a corpus and a store.

    Attributes:
        new: recordings that the store does not hold.
        edited: recordings whose file or items have changed.
        retried: recordings that failed before.
        moved: old path -> the recording with its new path.
        touched: path -> the recording with its new time of change; its content is as stored.
        missing: paths in the store that came from these sources and are no longer in them.
        hidden: folder in which the search could not look -> number of stored recordings below it.
        resolved: folders that could not be listed in an earlier run and no longer fail.
        unreachable: errors of recordings that the store holds and that cannot be looked at now; their rows stay.
        present: number of recordings that need no work.
        failed: recordings that failed before and are not tried again.
    """

    new: list[Job] = field(default_factory=list)
    edited: list[Job] = field(default_factory=list)
    retried: list[Job] = field(default_factory=list)
    moved: dict[str, Recording] = field(default_factory=dict)
    touched: dict[str, Recording] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    hidden: Counter[str] = field(default_factory=Counter)
    resolved: list[str] = field(default_factory=list)
    unreachable: list[AudioError] = field(default_factory=list)
    present: int = 0
    failed: list[Recording] = field(default_factory=list)

    @property
    def todo(self) -> list[Job]:
        """Recordings that have to be embedded; within each kind in the order of the corpus."""
        return [*self.edited, *self.retried, *self.new]


def compare(
    store: Store,
    by_path: Mapping[str, Sequence[Item]],
    sources: Sequence[str],
    hash_content: Hash,
    *,
    survey: Survey | None = None,
    shard: tuple[int, int] = (1, 1),
    checksum: bool = False,
    retry_failed: bool = False,
) -> Difference:
    """Compare a corpus with a store.

    A file whose size and time of change are as stored counts as unchanged. A file with another time of change but the
    stored content is not embedded again. Neither is a moved file: one whose content the store holds under a path where
    there is no file any more, or another moved file. "Could not look" is not "is not there": a stored recording that
    cannot be looked at keeps its rows, and one in a folder that cannot be listed is not missing.

    Args:
        store: the collection.
        by_path: path -> items of the corpus.
        sources: the absolute paths of the sources of the corpus; see `name_sources`.
        hash_content: reads a file and returns the hash of its content.
        survey: where the search of the sources could not look.
        shard: (i, n): compare only the i-th of n parts of the corpus. `missing` is about the whole corpus.
        checksum: compare the content too when size and time of change are as stored.
        retry_failed: try recordings that failed before again.
    """
    result, survey = Difference(), survey or Survey()
    stored = store.recordings()
    shard_paths = in_shard(by_path, shard)
    statuses = look_up_statuses({path: items for path, items in by_path.items() if path in shard_paths})
    for path, items in by_path.items():
        if path in shard_paths:
            recording = describe(path, items, statuses)
            compare_recording(result, stored.get(path), recording, items, hash_content, checksum, retry_failed)
    absent = {path: recording for path, recording in stored.items() if path not in by_path}
    sizes = {recording.size for recording, _ in (*result.new, *result.edited)}  # of what may have been moved
    deleted = [
        recording
        for path, recording in absent.items()
        if recording.size in sizes and not recording.reason and survey.covers(path) is None and is_gone(path)
    ]
    changed = [known for one, _ in result.edited if (known := stored[one.path]).content_hash and not known.reason]
    find_moved(result, [*deleted, *changed], hash_content)
    left = [path for path in absent if path not in result.moved]
    origins = store.sources() if left else {}
    for path in left:
        if not is_from(path, origins.get(path, ()), sources):
            continue
        if (folder := survey.covers(path)) is not None:
            result.hidden[folder] += not absent[path].reason
        elif absent[path].reason == UNREADABLE_FOLDER:
            result.resolved.append(path)
        else:
            result.missing.append(path)
    return result


def compare_recording(
    result: Difference,
    known: Recording | None,
    recording: Recording,
    items: Sequence[Item],
    hash_content: Hash,
    checksum: bool,
    retry_failed: bool,
) -> None:
    """Add one recording of the corpus to the differences; `known` is what the store holds of it."""
    has_rows = known is not None and not known.reason
    error = why_unreachable(items) if has_rows and (recording.size is None or items[0].within) else None
    if known is None:
        result.new.append((recording, items))
    elif error is not None and known.size is not None:
        result.unreachable.append(error)
    elif not is_unchanged(known, recording, hash_content, checksum):
        result.edited.append((recording, items))
    elif known.reason and (retry_failed or known.reason == NETWORK):
        result.retried.append((recording, items))
    elif known.reason:
        result.failed.append(known)
    else:
        result.present += 1
        if known.mtime_ns != recording.mtime_ns:
            result.touched[recording.path] = replace(known, mtime_ns=recording.mtime_ns)


def why_unreachable(items: Sequence[Item]) -> AudioError | None:
    """Return why a recording cannot be looked at, or must not be; None if it can."""
    try:
        for item in items:
            require_file(path_to_open(item))
    except AudioError as error:
        if error.reason in (*UNREACHABLE, "outside"):
            return error
    return None


def is_unchanged(known: Recording, recording: Recording, hash_content: Hash, checksum: bool) -> bool:
    """Tell whether a recording is as it was when it was embedded."""
    if known.size != recording.size or known.stretches != recording.stretches:
        return False
    if known.mtime_ns == recording.mtime_ns and not checksum:
        return True
    if not known.content_hash:  # it failed before it was read to its end
        return known.mtime_ns == recording.mtime_ns
    try:
        return hash_content(recording.path) == known.content_hash
    except AudioError:
        return False


def find_moved(result: Difference, candidates: Sequence[Recording], hash_content: Hash) -> None:
    """Take the moved files out of the new and edited ones: those with the size, items and content of a candidate.

    Args:
        result: the differences so far.
        candidates: recordings whose path has no file any more, or another one. Such a path must itself get a moved
            file, or the file elsewhere must have the time of change of the recording; otherwise the recording was
            copied and then edited.
        hash_content: see `compare`.
    """
    by_size: dict[int | None, list[Recording]] = {}
    for recording in candidates:
        by_size.setdefault(recording.size, []).append(recording)
    moved: dict[str, Recording] = {}  # new path -> the recording that has moved there
    for recording, _ in (*result.new, *result.edited):
        others = [known for known in by_size.get(recording.size, []) if known.path != recording.path]
        match = find_same_content(recording, others, hash_content)
        if match is not None:
            by_size[recording.size].remove(match)
            moved[recording.path] = replace(match, path=recording.path, mtime_ns=recording.mtime_ns)
            result.moved[match.path] = moved[recording.path]
    edited = {recording.path for recording, _ in result.edited}
    times = {recording.path: recording.mtime_ns for recording in candidates}
    while unsure := [
        old for old, new in result.moved.items() if old in edited and old not in moved and new.mtime_ns != times[old]
    ]:
        for old in unsure:
            del moved[result.moved.pop(old).path]
    result.present += len(moved)
    left = [job for job in result.edited if job[0].path not in moved]
    result.edited = [job for job in left if job[0].path not in result.moved]
    result.new = [job for job in result.new if job[0].path not in moved]
    result.new += [job for job in left if job[0].path in result.moved]  # another file where one was moved away


def find_same_content(recording: Recording, candidates: Sequence[Recording], hash_content: Hash) -> Recording | None:
    """Return the first candidate with the same items and content as a recording, None if there is none."""
    if not candidates:
        return None
    try:
        content = hash_content(recording.path)
    except AudioError:
        return None
    same = (known for known in candidates if known.content_hash == content and known.stretches == recording.stretches)
    return next(same, None)


def is_from(path: str, origins: Sequence[str], sources: Sequence[str]) -> bool:
    """Tell whether a stored recording came from one of the sources, or lies in a folder among them."""
    return bool(set(origins) & set(sources)) or any(path.startswith(source + os.sep) for source in sources)


def look_up_statuses(by_path: Mapping[str, Sequence[Item]]) -> dict[str, Status]:
    """Return the status of the remote recordings, from their listing or their server; none of one that is refused."""
    statuses, asked = {}, []
    for path, items in by_path.items():
        status = items[0].status
        if status is not None:
            statuses[path] = status
        elif is_url(path):
            with contextlib.suppress(AudioError):
                asked.append(path_to_open(items[0]))
    return statuses | file_statuses(asked)


def describe(path: str, items: Sequence[Item], statuses: Mapping[str, Status]) -> Recording:
    """Return what is known of a recording before it is opened; size and time are None if the file cannot be found."""
    status = statuses.get(path, (None, None)) if is_url(path) else file_status(path)
    stretches = write_stretches(tuple((item.start_s, item.end_s) for item in items))
    return Recording(path, *status, stretches)  # if there is no file, reading it reports the reason


@lru_cache(4096)  # in most corpora all recordings have the same value: the whole file
def write_stretches(stretches: tuple[tuple[float, float | None], ...]) -> str:
    """Return the stretches of a recording as they are stored.

    >>> write_stretches(((0.0, None),))
    '[[0.0, null]]'
    """
    return json.dumps(stretches)


def name_sources(source: Any) -> list[str]:
    """Return the absolute paths of the folders, files and manifests of a source; a data frame has none."""
    sources = source if isinstance(source, (list, tuple)) else [source]
    names = [os.fspath(one) for one in sources if isinstance(one, (str, os.PathLike))]
    return [absolute(name) for name in names if name != "-"]


def parse_shard(text: str | None) -> tuple[int, int]:
    """Parse "i/n", the i-th of n parts.

    >>> parse_shard("2/3"), parse_shard(None)
    ((2, 3), (1, 1))

    Raises:
        UsageError: the text has another form, or i is not in 1 to n.
    """
    if text is None:
        return 1, 1
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise UsageError(f"shard must be i/n, the i-th of n parts, such as 1/4, not {text!r}.")
    return int(part), int(parts)


def in_shard(paths: Iterable[str], shard: tuple[int, int]) -> set[str]:
    """Return the paths of a shard, chosen by a hash of the path below the common folder.

    So every machine makes the same choice wherever the corpus is mounted, and new files do not move old ones to
    another shard.

    >>> a, b = (in_shard(["/a/1.wav", "/a/2.wav", "/a/3.wav"], (i, 2)) for i in (1, 2))
    >>> sorted(a | b), a & b
    (['/a/1.wav', '/a/2.wav', '/a/3.wav'], set())
    """
    every = list(paths)
    part, parts = shard
    if parts == 1 or not every:
        return set(every)
    root = len(common_folder([folder_of(path) for path in every]))
    return {path for path in every if zlib.crc32(os.fsencode(path[root:].lstrip(os.sep))) % parts == part - 1}
