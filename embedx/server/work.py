"""Work: run what a request needs in a thread, until it is done, its deadline has passed or its client has gone."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

from embedx.server.errors import Cancelled

Answer = TypeVar("Answer")
LIGHT_THREADS = max(4, 2 * (os.cpu_count() or 1))  # for searches; each has a connection to every store it uses
AUDIO_THREADS = 16  # for requests with audio, which mostly wait for a decoder or for the model


class Work:
    """What a request does in threads. `cancel` stops it at its next step, also inside SQLite."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self.running: set[Future[Any]] = set()
        self._interrupts: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Stop the work of this request."""
        with self._lock:
            self.is_cancelled = True
            for interrupt in self._interrupts:
                interrupt()

    def check(self) -> None:
        """Raise Cancelled if the work was cancelled."""
        if self.is_cancelled:
            raise Cancelled

    @contextlib.contextmanager
    def interruptible(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Within this context, `cancel` also calls a function."""
        with self._lock:
            self._interrupts.append(interrupt)
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)


WORK: ContextVar[Work | None] = ContextVar("WORK", default=None)


def current_work() -> Work:
    """Return the work of the current request; one of its own outside of a request."""
    return WORK.get() or Work()


class Threads:
    """The threads of the service: some for searches, and others for audio, so that a busy model stops no search."""

    def __init__(self) -> None:
        self.light = ThreadPoolExecutor(LIGHT_THREADS, "embedx-search")
        self.audio = ThreadPoolExecutor(AUDIO_THREADS, "embedx-audio")

    async def run(self, function: Callable[[], Answer], *, audio: bool = False) -> Answer:
        """Run a function in a thread, as a part of the work of the current request."""
        work, pool = current_work(), self.audio if audio else self.light

        def step() -> Answer:
            work.check()
            return function()

        future = pool.submit(copy_context().run, step)
        work.running.add(future)
        future.add_done_callback(work.running.discard)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Take no more work; what runs is not waited for."""
        self.light.shutdown(wait=False, cancel_futures=True)
        self.audio.shutdown(wait=False, cancel_futures=True)
