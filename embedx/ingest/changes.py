"""Difference: a corpus beside a store -> what a run has to do, and what it finds done."""

import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from embedx.datasets.items import Item
from embedx.errors import AudioError, UsageError
from embedx.store.records import Recording
from embedx.store.store import Store

Hash = Callable[[str], str]  # path -> hash of the file's content; AudioError where it cannot be read


@dataclass
class Difference:
    """What a corpus and a store do not have in common."""

    new: list[tuple[Recording, Sequence[Item]]] = field(default_factory=list)
    edited: list[tuple[Recording, Sequence[Item]]] = field(default_factory=list)  # or asked for otherwise
    retried: list[tuple[Recording, Sequence[Item]]] = field(default_factory=list)  # that failed before
    moved: dict[str, Recording] = field(default_factory=dict)  # old path -> what it is now
    vanished: list[str] = field(default_factory=list)  # known from these sources, and in them no more
    present: int = 0
    failed: Counter[str] = field(default_factory=Counter)  # reason -> recordings that are not tried again

    @property
    def todo(self) -> list[tuple[Recording, Sequence[Item]]]:
        """Recordings that have to be embedded, in the order of the corpus within each kind."""
        return [*self.edited, *self.retried, *self.new]


def compare(
    store: Store,
    by_path: Mapping[str, Sequence[Item]],
    sources: Sequence[str],
    hash_content: Hash,
    *,
    shard: tuple[int, int] = (1, 1),
    checksum: bool = False,
    retry_failed: bool = False,
) -> Difference:
    """Find what of a corpus a store lacks.

    A file with the size and time of change that are stored is taken to be the same; `checksum` compares the content as
    well. One with another time and the old content is not embedded again, nor is one that moved: that is, whose content
    the store knows from a path where there is no file any more. `shard` (i, n) looks at the i-th of n parts of the
    corpus alone; `vanished` is about the whole of it.
    """
    found = Difference()
    known = store.recordings()
    mine = in_shard(by_path, shard)
    for path, items in by_path.items():
        if path not in mine:
            continue
        wanted, there = describe(path, items), known.get(path)
        if there is None:
            found.new.append((wanted, items))
        elif not same(there, wanted, hash_content, checksum):
            found.edited.append((wanted, items))
        elif there.reason and retry_failed:
            found.retried.append((wanted, items))
        elif there.reason:
            found.failed[there.reason] += 1
        else:
            found.present += 1
            if there.mtime_ns != wanted.mtime_ns:
                found.moved[path] = replace(there, mtime_ns=wanted.mtime_ns)
    lost = [one for path, one in known.items() if path not in by_path and not one.reason and not os.path.lexists(path)]
    find_moved(found, lost, hash_content)
    gone = [path for path in known if path not in by_path and path not in found.moved]
    origins = store.sources() if gone else {}
    found.vanished = [path for path in gone if belongs(path, origins.get(path, ()), sources)]
    return found


def same(there: Recording, wanted: Recording, hash_content: Hash, checksum: bool) -> bool:
    """Tell whether a recording is still what was embedded."""
    if there.size != wanted.size or there.stretches != wanted.stretches:
        return False
    if there.mtime_ns == wanted.mtime_ns and not checksum:
        return True
    if not there.content_hash:  # it failed before it was read to its end
        return there.mtime_ns == wanted.mtime_ns
    try:
        return hash_content(wanted.path) == there.content_hash
    except AudioError:
        return False


def find_moved(found: Difference, lost: Iterable[Recording], hash_content: Hash) -> None:
    """Take files that were moved out of those that are new: of equal size, equal stretches and equal content."""
    by_size: dict[int, list[Recording]] = {}
    for one in lost:
        by_size.setdefault(one.size, []).append(one)
    new = []
    for wanted, items in found.new:
        match = None
        if candidates := by_size.get(wanted.size):
            try:
                content = hash_content(wanted.path)
                match = next(
                    (one for one in candidates if (one.content_hash, one.stretches) == (content, wanted.stretches)),
                    None,
                )
            except AudioError:
                pass
        if match is None:
            new.append((wanted, items))
        else:
            by_size[wanted.size].remove(match)
            found.moved[match.path] = replace(match, path=wanted.path, mtime_ns=wanted.mtime_ns)
            found.present += 1
    found.new = new


def belongs(path: str, origins: Sequence[str], sources: Sequence[str]) -> bool:
    """Tell whether a stored recording came from one of these sources, or lies in a folder among them."""
    return bool(set(origins) & set(sources)) or any(path.startswith(one + os.sep) for one in sources)


def describe(path: str, items: Sequence[Item]) -> Recording:
    """Return what is known of a recording before it is opened."""
    stretches = write_stretches(tuple((item.start_s, item.end_s) for item in items))
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return Recording(path, -1, -1, stretches)  # reading it will say why
    return Recording(path, status.st_size, status.st_mtime_ns, stretches)


@lru_cache(4096)  # most corpora know one only: every recording whole
def write_stretches(stretches: tuple[tuple[float, float | None], ...]) -> str:
    """Return the stretches of a recording as they are stored.

    >>> write_stretches(((0.0, None),))
    '[[0.0, null]]'
    """
    return json.dumps(stretches)


def name_sources(source: Any) -> list[str]:
    """Return the absolute names of the folders, files and manifests of a source; a frame has none."""
    several = source if isinstance(source, (list, tuple)) else [source]
    return [os.path.abspath(one) for one in several if isinstance(one, (str, os.PathLike)) and os.fspath(one) != "-"]


def parse_shard(text: str | None) -> tuple[int, int]:
    """Read "i/n", the i-th of n parts.

    >>> parse_shard("2/3"), parse_shard(None)
    ((2, 3), (1, 1))

    Raises:
        UsageError: it is no such part.
    """
    if text is None:
        return 1, 1
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise UsageError(f"shard is i/n, the i-th of n parts, such as 1/4 to 4/4, not {text!r}.")
    return int(part), int(parts)


def in_shard(paths: Iterable[str], shard: tuple[int, int]) -> set[str]:
    """Return the paths that fall into a shard, by a hash of what they do not have in common.

    So that every machine cuts alike wherever the corpus is mounted, and new files do not move the old ones.

    >>> a, b = (in_shard(["/a/1.wav", "/a/2.wav", "/a/3.wav"], (i, 2)) for i in (1, 2))
    >>> sorted(a | b), a & b
    (['/a/1.wav', '/a/2.wav', '/a/3.wav'], set())
    """
    every = list(paths)
    part, parts = shard
    if parts == 1 or not every:
        return set(every)
    root = len(os.path.commonpath([os.path.dirname(one) for one in every]))
    return {one for one in every if zlib.crc32(os.fsencode(one[root:].lstrip(os.sep))) % parts == part - 1}
