"""Damage to the files of a collection, as disks, partial copies and other programs cause it."""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PAGE = 32_768  # of the store; its first bytes say the most, and few random places would hit them
BLOCKS = (512, 4096, PAGE)  # what disks and file systems lose or exchange as a whole
SMALL = 64  # bytes; the headers of a page and of a frame of the log, and the first pointers after them

Files = Mapping[str, bytes]  # name in the folder -> content


@dataclass(frozen=True)
class Damage:
    """A damage to a file; `content` is None if the file is removed."""

    kind: str
    name: str
    detail: str
    content: bytes | None

    def __str__(self) -> str:
        return f"{self.kind} of {self.name} {self.detail}"


@dataclass(frozen=True)
class Victim:
    """The files of a collection, and the other contents that may replace them."""

    now: Files
    before: Files  # the same collection before its last change
    other: Files  # another collection with the same recipe


def read(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder that hold data; SQLite creates -shm and an empty log again."""
    files = {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}
    return {name: data for name, data in files.items() if not name.endswith("-shm") and not (is_log(name) and not data)}


def write(files: Files, folder: Path) -> None:
    """Write files into a new folder."""
    for name, data in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def is_log(name: str) -> bool:
    """Tell whether a file is the write-ahead log."""
    return name.endswith("-wal")


def draw(victim: Victim, chance: random.Random) -> Damage:
    """Return a random damage that changes something."""
    while True:
        name = chance.choice(list(victim.now))
        kind = chance.choices(list(KINDS), weights=[weight for weight, _ in KINDS.values()])[0]
        found = KINDS[kind][1](victim, name, chance)
        if found is not None and found != (name, victim.now.get(name)):
            where, content = found
            return Damage(kind, where, changes(victim.now.get(where), content), content)


def changes(old: bytes | None, new: bytes | None) -> str:
    """Describe where and how two contents differ."""
    if old is None or new is None:
        return ""
    if len(old) != len(new):
        return f"({len(old)} -> {len(new)} bytes)"
    places = np.flatnonzero(np.frombuffer(old, np.uint8) != np.frombuffer(new, np.uint8))
    at = int(places[0])
    return f"({len(places)} bytes from {at} on, {old[at]:#04x} -> {new[at]:#04x})"


Found = tuple[str, bytes | None] | None


def place(size: int, chance: random.Random) -> int:
    """Return a random offset in a file, every second one near the start of a page."""
    if chance.random() < 0.5:
        return min(chance.randrange(0, size, PAGE) + chance.randrange(SMALL), size - 1)
    return chance.randrange(size)


def flip(victim: Victim, name: str, chance: random.Random) -> Found:
    """Flip one bit."""
    data = bytearray(victim.now[name])
    data[place(len(data), chance)] ^= 1 << chance.randrange(8)
    return name, bytes(data)


def truncate(victim: Victim, name: str, chance: random.Random) -> Found:
    """Cut the end off, every second time at a block boundary."""
    data = victim.now[name]
    size = chance.randrange(len(data))
    return name, data[: size // 512 * 512 if chance.random() < 0.5 else size]


def swap(victim: Victim, name: str, chance: random.Random) -> Found:
    """Swap two byte ranges of equal length."""
    data = victim.now[name]
    size = chance.choice((1, 2, 4, 8, 64))
    return exchange(name, data, size, sorted((place(len(data), chance), place(len(data), chance))))


def swap_blocks(victim: Victim, name: str, chance: random.Random) -> Found:
    """Swap two blocks or pages."""
    data = victim.now[name]
    size = chance.choice(BLOCKS)
    if len(data) < 2 * size:
        return None
    return exchange(name, data, size, sorted(chance.sample(range(0, len(data) - size + 1, size), 2)))


def exchange(name: str, data: bytes, size: int, places: list[int]) -> Found:
    """Return a file with the bytes at two offsets swapped."""
    first, second = places
    if second - first < size or second + size > len(data):
        return None
    one, two = data[first : first + size], data[second : second + size]
    return name, data[:first] + two + data[first + size : second] + one + data[second + size :]


def zero(victim: Victim, name: str, chance: random.Random) -> Found:
    """Fill a block with zeros, as if it had never been written."""
    data = victim.now[name]
    size = chance.choice(BLOCKS)
    start = chance.randrange(0, len(data), size)
    return name, data[:start] + bytes(len(data[start : start + size])) + data[start + size :]


def older(victim: Victim, name: str, _chance: random.Random) -> Found:
    """Return the file as it was before the last change."""
    return counterpart(victim.before, name)


def older_block(victim: Victim, name: str, chance: random.Random) -> Found:
    """Return a block as it was before the last change."""
    found = counterpart(victim.before, name)
    if found is None or found[1] is None:
        return None
    data, size = victim.now[name], chance.choice(BLOCKS)
    start = chance.randrange(0, len(data), size)
    piece = found[1][start : start + size]
    return name, data[:start] + piece + data[start + len(piece) :]


def of_another(victim: Victim, name: str, _chance: random.Random) -> Found:
    """Replace the file by that of another collection with the same recipe."""
    return counterpart(victim.other, name)


def counterpart(files: Files, name: str) -> Found:
    """Find the corresponding file in another folder; index files have random names."""
    pattern = re.compile(re.sub("-[0-9a-f]{8}", "-[0-9a-f]{8}", re.escape(name).replace(r"\-", "-")))
    return next(((name, data) for other, data in files.items() if pattern.fullmatch(other)), None)


def missing(_victim: Victim, name: str, _chance: random.Random) -> Found:
    """Remove the file."""
    return name, None


def extra(victim: Victim, name: str, chance: random.Random) -> Found:
    """Add an unknown file with the bytes of a known one, or an old write-ahead log."""
    logs = [data for files in (victim.before, victim.other) for one, data in files.items() if is_log(one)]
    if logs and not any(map(is_log, victim.now)) and chance.random() < 0.5:
        return "store.db-wal", chance.choice(logs)
    names = ("notes.txt", "store (copy).db", "store.db-journal", "index/vectors.npy", "index/cat.json", "old/store.db")
    return chance.choice(names), victim.now[name]


KINDS: dict[str, tuple[int, Callable[[Victim, str, random.Random], Found]]] = {
    "flip": (12, flip),  # with a weight
    "truncation": (3, truncate),
    "swap": (3, swap),
    "swapped blocks": (3, swap_blocks),
    "zeros": (2, zero),
    "older copy": (1, older),
    "older block": (2, older_block),
    "file of another": (1, of_another),
    "loss": (1, missing),
    "stranger": (1, extra),
}
