"""Watch what Python imports, opens, starts and connects to, with an audit hook."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request")
PROCESSES = ("os.system", "os.exec", "os.posix_spawn", "os.spawn")


@dataclass
class Seen:
    """What happened while a block ran."""

    imports: set[str] = field(default_factory=set)
    opened: set[str] = field(default_factory=set)
    network: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)


ACTIVE: list[Seen] = []


def note(event: str, arguments: tuple[Any, ...]) -> None:
    """Record an event of Python; an audit hook, which stays for the life of the process."""
    for seen in ACTIVE:
        if event == "import":
            seen.imports.add(str(arguments[0]))
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            seen.opened.add(os.path.realpath(os.fsdecode(arguments[0])))
        elif event in NETWORK and not str(arguments[-1]).startswith(("/", "b'", "''")):  # sockets of the own machine
            seen.network.append(f"{event} {arguments[1:]}")
        elif event in PROCESSES:
            seen.processes.append(f"{event} {arguments}")


HOOKED: list[bool] = []


@contextmanager
def watched() -> Iterator[Seen]:
    """Watch this process in the block."""
    if not HOOKED:
        HOOKED.append(True)
        sys.addaudithook(note)
    seen = Seen()
    ACTIVE.append(seen)
    try:
        yield seen
    finally:
        ACTIVE.remove(seen)
