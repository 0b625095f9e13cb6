"""Timing: the seconds that each stage of a run takes, summed over all threads; off by default.

Code marks a stage with `with timed("model"):`, which costs nearly nothing unless `measure` is active. If several
threads are in a stage at the same time, their times are added.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

LOCK = threading.Lock()
OFF = contextlib.nullcontext()
active: dict[str, float] | None = None  # stage -> seconds of the current measurement; it includes all threads


@contextlib.contextmanager
def measure() -> Iterator[dict[str, float]]:
    """Measure all threads for the length of a `with` block; return stage -> seconds, which is updated all the time.

    >>> with measure() as seconds:
    ...     with timed("nothing"):
    ...         pass
    >>> list(seconds)
    ['nothing']
    """
    global active
    before, active = active, {}
    try:
        yield active
    finally:
        active = before


def add(stage: str, seconds: float) -> None:
    """Add seconds to a stage, if a measurement is active."""
    with LOCK:
        if active is not None:
            active[stage] = active.get(stage, 0.0) + seconds


def timed(stage: str, finish: Callable[[], None] | None = None) -> contextlib.AbstractContextManager[None]:
    """Return a context that adds its time to a stage.

    Args:
        stage: the name of the stage.
        finish: waits for a device that works asynchronously, so that its work counts for this stage and not for the
            one that reads the result. It is called only while a measurement is active.
    """
    return OFF if active is None else measure_block(stage, finish)


@contextlib.contextmanager
def measure_block(stage: str, finish: Callable[[], None] | None) -> Iterator[None]:
    """Add the time of a `with` block to a stage."""
    start = time.perf_counter()
    try:
        yield
        if finish is not None:
            finish()
    finally:
        add(stage, time.perf_counter() - start)


def timed_each(stage: str, items: Iterable[Item], finish: Callable[[], None] | None = None) -> Iterator[Item]:
    """Yield the items of an iterable, and add the time that it takes to produce each one to a stage.

    >>> with measure() as seconds:
    ...     print(sum(timed_each("count", range(4))), list(seconds))
    6 ['count']
    """
    iterator = iter(items)
    while True:
        with timed(stage, finish):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
