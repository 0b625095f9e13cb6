"""The system calls of a command, and the files that a power cut would leave.

The model is stricter than any file system: until its fsync, each write may be present, absent or partial; until the
fsync of its folder, a created, renamed or deleted name may be old or new.
"""

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512  # bytes that a disk writes whole
UNSEEN = "-shm"  # written through a memory map, and created again by SQLite after a crash


@dataclass(frozen=True)
class Call:
    """A call as fault.c logs it. `say` is printed text; its `offset` is the handle."""

    name: str
    error: int
    offset: int
    path: str
    other: str  # what a rename moves to
    data: bytes


def read_log(file: Path) -> Iterator[Call]:
    """Yield the calls in order."""
    with open(file, "rb") as log:
        for head in log:
            name, error, offset, length, path, other = head.decode().rstrip("\n").split("\t")
            yield Call(name, int(error), int(offset), path, other, log.read(int(length)))


@dataclass
class Inode:
    """A file: flushed content, and later writes in order as (offset, data); without data: cut to offset."""

    safe: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    folder: bool = False

    def content(self, dice: random.Random | None) -> bytes:
        """Return the content after a power cut: what was flushed, and with dice a random part of the rest."""
        content = bytearray(self.safe)
        for offset, data in self.pending if dice else ():
            assert dice is not None
            fate = dice.random()
            if data is None:
                if fate < 0.5:
                    put(content, offset, None)
            elif fate < 0.4:
                put(content, offset, data)
            elif fate < 0.6:
                put(content, offset, data[: dice.randrange(len(data) // SECTOR + 1) * SECTOR])
        return bytes(content)

    def settle(self) -> None:
        """Flush what was written."""
        content = bytearray(self.safe)
        for offset, data in self.pending:
            put(content, offset, data)
        self.safe, self.pending = bytes(content), []


def put(content: bytearray, offset: int, data: bytes | None) -> None:
    """Write data at an offset, or without data cut or extend the content to the offset."""
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


Names = dict[str, Inode | None]  # path -> file or folder; None: no longer there


class Disk:
    """The files below a folder, as a process sees them and as a power cut would leave them."""

    def __init__(self, root: Path, start: Path) -> None:
        self.root = str(root)
        self.safe: Names = {}
        self.pending: list[Names] = []  # changes of names, in order
        for place in start.rglob("*"):
            inode = Inode(folder=True) if place.is_dir() else Inode(place.read_bytes())
            self.safe[str(root / place.relative_to(start))] = inode
        self.now = dict(self.safe)

    def apply(self, call: Call) -> None:
        """Apply a call."""
        if call.error or call.name == "say":
            return
        inode = self.now.get(call.path)
        if call.name == "create":
            self._change({call.path: Inode()})
        elif call.name == "mkdir":
            self._change({call.path: Inode(folder=True)})
        elif call.name in ("unlink", "rmdir"):
            self._change({call.path: None})
        elif call.name == "rename":
            self._change({call.path: None, call.other: inode})
        elif call.name == "fsync" and (call.path == self.root or (inode and inode.folder)):
            self._sync_folder(call.path)
        elif inode is None:
            assert call.path.endswith(" (deleted)"), f"{call.name} of an unknown file {call.path}"
        elif call.name == "write":
            inode.pending.append((call.offset, call.data))
        elif call.name == "truncate":
            inode.pending.append((call.offset, None))
        else:
            assert call.name == "fsync", call.name
            inode.settle()

    def unsafe(self) -> list[str]:
        """Return the paths of files whose name or content is not fully flushed."""
        found = []
        for path, inode in self.now.items():
            written = inode and any(data is not None for _, data in inode.pending)
            unnamed = inode and inode.safe and self.safe.get(path) is not inode
            if (written or unnamed) and not path.endswith(UNSEEN):
                found.append(path)
        return found

    def cut_power(self, folder: Path, dice: random.Random | None = None) -> None:
        """Write the state after a power cut into a folder: flushed data, and with dice a random part of the rest."""
        names = dict(self.safe)
        for change in self.pending[: dice.randrange(len(self.pending) + 1)] if dice else ():
            names.update(change)
        folder.mkdir()
        for path, inode in sorted(names.items()):
            place = folder / os.path.relpath(path, self.root)
            if inode is None or path.endswith(UNSEEN) or not place.parent.is_dir():
                continue  # what lies in a folder that is lost is lost
            if inode.folder:
                place.mkdir()
            else:
                place.write_bytes(inode.content(dice))

    def _change(self, change: Names) -> None:
        self.pending.append(change)
        self.now.update(change)

    def _sync_folder(self, folder: str) -> None:
        here = [change for change in self.pending if os.path.dirname(list(change)[-1]) == folder]
        for change in here:
            self.safe.update(change)
        self.pending = [change for change in self.pending if not any(change is one for one in here)]


def acknowledged(call: Call) -> int:
    """Return the number of recordings that a call acknowledges (progress lines on stderr), 0 for other calls."""
    if call.name != "say" or not call.data.startswith(b'{"event"'):
        return 0
    event = json.loads(call.data.splitlines()[0])
    return int(event["recordings"]) if event["event"] in ("progress", "summary") else 0
