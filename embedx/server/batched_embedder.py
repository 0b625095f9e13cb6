"""BatchedEmbedder: an embedder for many requests at a time. It decodes in their threads, and computes in a queue."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from queue import Empty
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedx.audio.clip import Clip
from embedx.audio.windows import Window
from embedx.embedding.embedder import Embedder
from embedx.embedding.forward import Vectors, exact_float32
from embedx.embedding.workers import Worker, count_workers, start_threads
from embedx.errors import AudioError
from embedx.filesystem.paths import display_path
from embedx.processes.memory import release_memory
from embedx.server.metrics import Metrics
from embedx.server.model_queue import Job, ModelQueue, Result
from embedx.server.settings import Limits
from embedx.server.work import Work, current_work

Key = TypeVar("Key")
MAX_WAITING = 32  # windows of a request that wait for the model: it bounds the memory of a request
TICK_S = 0.1  # seconds between two checks whether the client is still there

Times = tuple[float, float]  # start and end of a window in seconds


def added_s(window: Times, before: Times | None) -> float:
    """Return the seconds of audio that a window adds to the one before it, which it can overlap.

    >>> added_s((0.0, 1.0), None), added_s((0.25, 1.25), (0.0, 1.0)), added_s((0.0, 2.0), (0.0, 1.0))
    (1.0, 0.25, 2.0)
    """
    start_s, end_s = window
    if before is not None and start_s > before[0]:  # else it is the first one of the next recording or channel
        start_s = max(start_s, before[1])
    return max(0.0, end_s - start_s)


def make_queue(metrics: Metrics) -> ModelQueue:
    """Return a queue that computes several batches at the same time."""
    return ModelQueue(metrics, start_threads(), release_memory)


class BatchedEmbedder(Embedder):
    """An embedder whose `embed` may be called by many threads; their windows are computed together."""

    queue: ModelQueue
    limits: Limits
    workers: deque[Any]
    prefers_all_threads: bool

    def serve(self, queue: ModelQueue, limits: Limits) -> None:
        """Compute in this queue, and refuse audio that exceeds the limits."""
        self.queue = queue
        self.limits = limits
        self.workers = deque(self.make_workers(count_workers()))
        self.prefers_all_threads = self.device == "cpu"  # a GPU copies a batch while it computes another one

    def check_clip(self, clip: Clip) -> None:
        """Refuse a recording by its header and its first window.

        Raises:
            AudioError: its rate, its channels or its length exceed the limits.
        """
        limits, shown = self.limits, display_path(clip.path)
        if clip.rate > limits.rate:
            raise AudioError("too-large", f"{shown} has a sampling rate of {clip.rate} Hz; {limits.rate} are allowed.")
        if clip.channels > limits.channels:
            raise AudioError("too-large", f"{shown} has {clip.channels} channels; {limits.channels} are allowed.")

    def embed(
        self,
        windows: Iterable[tuple[Key, Window]],
        threads: int = 1,
        on_wait: Callable[[], None] | None = None,
    ) -> Generator[tuple[Key, Vectors, tuple[str, ...]]]:
        """Yield (key, vectors, flags) for every window, in the order in which they are computed; see `Embedder.embed`.

        Raises:
            AudioError: "too-long": the windows have more seconds than a request may have.
            Cancelled: the client has gone, or its deadline has passed.
        """
        job, work, stream = Job(self), current_work(), iter(windows)
        keys: dict[int, Key] = {}
        sent, seconds, is_read = 0, 0.0, False
        before: Times | None = None
        try:
            while not is_read or keys:
                while not is_read and len(keys) < MAX_WAITING:
                    work.check()
                    pair = self._next(stream)
                    if pair is None:
                        is_read = True
                        break
                    keys[sent], window = pair
                    seconds += added_s((window.start_s, window.end_s), before)
                    before = window.start_s, window.end_s
                    if seconds > self.limits.audio_s:
                        raise AudioError("too-long", f"A request may have {self.limits.audio_s:g} s of audio.")
                    self.queue.put(job, sent, window)
                    sent += 1
                if keys:
                    number, vectors, flags = self._result(job, work)
                    yield keys.pop(number), vectors, flags
        finally:
            self.queue.close_job(job)

    def _next(self, stream: Iterable[tuple[Key, Window]]) -> tuple[Key, Window] | None:
        """Return the next window, and measure how long it takes to decode it."""
        start = time.monotonic()
        pair = next(iter(stream), None)
        self.queue.metrics.stage("decode", time.monotonic() - start)
        return pair

    def _result(self, job: Job, work: Work) -> tuple[int, Vectors, tuple[str, ...]]:
        """Wait for the next result of a job."""
        while True:
            work.check()
            try:
                result = job.results.get(timeout=TICK_S)
            except Empty:
                continue
            if isinstance(result, Exception):
                raise result
            number, vectors, flags = result
            return number, vectors, flags

    def pick(self, windows: Sequence[Window]) -> tuple[list[int], bool]:
        """Return the numbers of the windows that make a batch with the first one, and whether it has room for more."""
        picked: list[int] = []
        shortest = longest = self._cost(windows[0])
        for number, window in enumerate(windows):
            low, high = min(shortest, self._cost(window)), max(longest, self._cost(window))
            if not picked or (high * (len(picked) + 1) <= self.budget and low >= self.min_length_ratio * high):
                picked.append(number)
                shortest, longest = low, high
        return picked, longest * (len(picked) + 1) <= self.budget

    def compute(self, worker: Worker, windows: Sequence[Window]) -> list[Result]:
        """Return the vectors and flags of a batch of windows."""
        with exact_float32:
            return [(vectors, flags) for _, vectors, flags in self.run_batch(worker, [(None, one) for one in windows])]

    def embed_text(self, text: str, view: str) -> NDArray[np.float32]:
        """Return the vector of a sentence; see `Embedder.embed_text`."""
        embed = super().embed_text
        vector: NDArray[np.float32] = self.queue.call(self, lambda: embed(text, view))
        return vector
