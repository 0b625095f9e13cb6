"""DecoderPool: all decoder processes of this process. Every file of a user is decoded through it.

Threads may share a pool. A fork of the process has its own copy, whose decoders start processes of their own.
"""

import atexit
import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import TypeVar

from embedx.audio.clip import Clip, Frames
from embedx.audio.decoder_process import Decoder
from embedx.audio.windows import Window
from embedx.errors import DecoderDied, EmbedxError
from embedx.processes.channels import no_action
from embedx.processes.cores import count_cores
from embedx.recipe import Recipe

ATTEMPTS = 2  # a decoder may also die because the machine is short of memory, not because of the file
MIN_IDLE, IDLE_PER_CORE = 4, 2  # idle processes that are kept; each has some 50 MB
UNUSED_S = 60.0  # seconds after which those beyond MIN_IDLE end

Result = TypeVar("Result")


class DecoderPool:
    """Lends decoders, one user at a time each, and keeps those that come back for the next user.

    Idle processes are kept because a start takes 0.3 s. The list of idle processes needs no lock, because `list.append`
    and `list.pop` are atomic. (A fork could copy a lock while another thread holds it.)
    """

    def __init__(self, max_idle: int | None = None) -> None:
        """Create an empty pool.

        Args:
            max_idle: the number of idle processes that are kept; None: twice the number of cores, at least 4.
        """
        self.max_idle = max(MIN_IDLE, IDLE_PER_CORE * count_cores()) if max_idle is None else max_idle
        self.idle: list[Decoder] = []
        self.is_closed = False

    @contextlib.contextmanager
    def borrow(self) -> Iterator[Decoder]:
        """Lend a decoder for the length of a `with` block.

        Raises:
            EmbedxError: the pool is closed.
        """
        if self.is_closed:
            raise EmbedxError("The decoder pool is closed.")
        try:
            decoder = self.idle.pop()
        except IndexError:
            decoder = Decoder()
        try:
            yield decoder
        finally:
            decoder.returned = time.monotonic()
            self.idle.append(decoder)
            self.stop_idle(0 if self.is_closed else self.max_idle)
            self.stop_unused()

    def close(self) -> None:
        """End all idle processes; a borrowed one ends when it is given back."""
        self.is_closed = True
        self.stop_idle()

    def stop_idle(self, kept: int = 0) -> None:
        """End idle processes until at most `kept` are left."""
        with contextlib.suppress(IndexError):  # another thread has taken the last one
            while len(self.idle) > kept:
                self.idle.pop(0).stop()

    def stop_unused(self) -> None:
        """End processes that nobody has needed for a minute; the last that came back is the next that is lent."""
        with contextlib.suppress(IndexError):  # another thread has taken it
            while len(self.idle) > MIN_IDLE and self.idle[0].returned < time.monotonic() - UNUSED_S:
                self.idle.pop(0).stop()

    def read(
        self, path: str, recipe: Recipe, start_s: float = 0.0, end_s: float | None = None
    ) -> Generator[tuple[Clip, int | None, Window]]:
        """Yield the windows of a recording; see `Decoder.read`."""
        yield from self._resume(lambda decoder: decoder.read(path, recipe, start_s, end_s))

    def read_blocks(
        self, path: str, start_s: float, end_s: float, on_wait: Callable[[], None] = no_action
    ) -> Generator[tuple[Frames, int]]:
        """Yield the frames between two times in blocks [S, channels], and their rate; see `Decoder.read_blocks`."""
        yield from self._resume(lambda decoder: decoder.read_blocks(path, start_s, end_s, on_wait))

    def _resume(self, start: Callable[[Decoder], Generator[Result]]) -> Generator[Result]:
        """Yield the results of a decoder; one that dies is replaced once, and what it has yielded is skipped."""
        done = 0
        with self.borrow() as decoder:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    with contextlib.closing(start(decoder)) as results:
                        for result in islice(results, done, None):
                            done += 1
                            yield result
                    return
                except DecoderDied:
                    if attempt == ATTEMPTS:
                        raise

    def read_excerpt(self, path: str, start_s: float, end_s: float) -> tuple[Frames, int]:
        """Return the frames [S, channels] between two times, and their rate; see `Decoder.read_excerpt`."""
        return self._try_twice(lambda decoder: decoder.read_excerpt(path, start_s, end_s))

    def hash_content(self, path: str) -> str:
        """Return the hash of a file's bytes; see `Decoder.hash_content`."""
        return self._try_twice(lambda decoder: decoder.hash_content(path))

    def _try_twice(self, call: Callable[[Decoder], Result]) -> Result:
        """Call with a decoder, and once more if that decoder dies."""
        with self.borrow() as decoder:
            try:
                return call(decoder)
            except DecoderDied:
                return call(decoder)


DECODERS = DecoderPool()  # the pool of this process
atexit.register(DECODERS.close)
