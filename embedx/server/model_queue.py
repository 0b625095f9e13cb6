"""ModelQueue: the one thread in which models run.

Requests that come at the same time are computed together: the thread waits until 10 ms after the first window, then
takes windows of all requests in turn, so that a long recording does not keep short ones waiting.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from embedx.server.metrics import Metrics

if TYPE_CHECKING:
    from embedx.audio.windows import Window

log = logging.getLogger("embedx.server")

GATHER_S = 0.01  # time to wait for windows of other requests
TURN = 16  # windows of a request in one round
MAX_ROUND = 256  # windows in one round, of all requests

Compute = Callable[[Iterator[tuple[Any, "Window"]]], Iterable[tuple[Any, Any, tuple[str, ...]]]]


class Job:
    """The windows of a request that wait for the model, and their results; jobs of one model have one `compute`."""

    def __init__(self, compute: Compute) -> None:
        self.compute = compute
        self.waiting: deque[tuple[int, Window, float]] = deque()
        self.results: SimpleQueue[Any] = SimpleQueue()
        self.is_closed = False


class ModelQueue:
    """The one thread in which models run."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.jobs: deque[Job] = deque()
        self.calls: deque[tuple[Callable[[], Any], SimpleQueue[Any]]] = deque()
        self.changed = threading.Condition()
        self.on_idle: Callable[[], object] = lambda: None  # called when all that waited is computed
        metrics.queue.set_function(lambda: sum(len(job.waiting) for job in list(self.jobs)))
        threading.Thread(target=self._run, name="embedx-model", daemon=True).start()

    def put(self, job: Job, number: int, window: "Window") -> None:
        """Add a window of a job."""
        with self.changed:
            if not job.waiting and job not in self.jobs:
                self.jobs.append(job)
            job.waiting.append((number, window, time.monotonic()))
            self.changed.notify()

    def close_job(self, job: Job) -> None:
        """Drop what still waits."""
        with self.changed:
            job.is_closed = True
            job.waiting.clear()
            if job in self.jobs:
                self.jobs.remove(job)

    def call(self, function: Callable[[], Any]) -> Any:
        """Call a function in the thread of the models, and return its result or raise its error."""
        answer: SimpleQueue[Any] = SimpleQueue()
        with self.changed:
            self.calls.append((function, answer))
            self.changed.notify()
        result, error = answer.get()
        if error is not None:
            raise error
        return result

    def _run(self) -> None:
        """Compute rounds for ever."""
        while True:
            if not self.jobs and not self.calls:
                self.on_idle()
            with self.changed:
                while not self.jobs and not self.calls:
                    self.changed.wait()
                calls = list(self.calls)
                self.calls.clear()
            for function, answer in calls:
                try:
                    answer.put((function(), None))
                except Exception as error:  # raised again in the thread that asked
                    answer.put((None, error))
            if self.jobs:
                self._gather()
                self._compute(self._take())

    def _gather(self) -> None:
        """Wait until 10 ms after the first window has come; those that came during the last round wait no longer."""
        with self.changed:
            first = min((job.waiting[0][2] for job in self.jobs if job.waiting), default=0.0)
        time.sleep(max(0.0, first + GATHER_S - time.monotonic()))

    def _take(self) -> list[tuple[Job, int, "Window", float]]:
        """Take windows of all jobs of one model in turn; the job that waits longest chooses it."""
        batch: list[tuple[Job, int, Window, float]] = []
        with self.changed:
            first = next(iter(self.jobs), None)
            for job in list(self.jobs) if first else ():
                if first is None or job.compute != first.compute or len(batch) >= MAX_ROUND:
                    continue
                batch += [(job, *job.waiting.popleft()) for _ in range(min(TURN, len(job.waiting)))]
                self.jobs.remove(job)
                if job.waiting:
                    self.jobs.append(job)
        return batch

    def _compute(self, batch: list[tuple[Job, int, "Window", float]]) -> None:
        """Embed a round, and give every job its results; an error goes to all jobs of the round."""
        if not batch:
            return
        start = time.monotonic()
        for *_, since in batch:
            self.metrics.stage("queue", start - since)
        windows = [((job, number), window) for job, number, window, _ in batch if not job.is_closed]
        try:
            for (job, number), vectors, flags in batch[0][0].compute(iter(windows)):
                job.results.put((number, vectors, flags))
        except Exception as error:  # raised again in each request of the batch
            log.exception("The model has failed.")
            for job in {id(job): job for job, *_ in batch}.values():
                job.results.put(error)
        self.metrics.stage("embed", time.monotonic() - start)
