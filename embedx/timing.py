"""Stopwatch: the seconds that the stages of a run take, over all threads; off unless somebody measures.

What is to be measured says so where it happens, `with timed("model"):`, and pays nothing for it while nobody measures.
A stage that several threads are in at once takes the sum of their times.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

One = TypeVar("One")

LOCK = threading.Lock()
OFF = contextlib.nullcontext()
running: dict[str, float] | None = None  # stage -> seconds, while somebody measures


@contextlib.contextmanager
def measure() -> Iterator[dict[str, float]]:
    """Measure as long as the context lasts, in all threads; what is lent is stage -> seconds, and grows.

    >>> with measure() as seconds:
    ...     with timed("nothing"):
    ...         pass
    >>> list(seconds)
    ['nothing']
    """
    global running
    before, running = running, {}
    try:
        yield running
    finally:
        running = before


def add(stage: str, seconds: float) -> None:
    """Add to a stage, if somebody measures."""
    with LOCK:
        if running is not None:
            running[stage] = running.get(stage, 0.0) + seconds


def timed(stage: str, finish: Callable[[], None] | None = None) -> contextlib.AbstractContextManager[None]:
    """Return a context whose time goes to a stage.

    A device that works by itself is waited for with `finish`, or its work would be counted where its result is asked
    for. Nobody waits while nobody measures.
    """
    return OFF if running is None else time_it(stage, finish)


@contextlib.contextmanager
def time_it(stage: str, finish: Callable[[], None] | None) -> Iterator[None]:
    """Be the context of `timed` while somebody measures."""
    begun = time.perf_counter()
    try:
        yield
        if finish is not None:
            finish()
    finally:
        add(stage, time.perf_counter() - begun)


def timed_each(stage: str, items: Iterable[One], finish: Callable[[], None] | None = None) -> Iterator[One]:
    """Yield what an iterable yields; the time that it takes to make each goes to a stage.

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
