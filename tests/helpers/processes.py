"""Look at child processes and their open files under /proc, and wait for a condition."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

linux = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks into /proc")


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    """Return the processes that any thread of a process has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended
            found += map(int, task.read_text().split())
    return found


def open_files(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    try:
        return [os.readlink(os.path.join(folder, one)) for one in os.listdir(folder)]
    except OSError:  # it closed one, or is gone
        return []


def has_open(pid: int, name: str) -> bool:
    return any(one.endswith(name) for one in open_files(pid))
