"""ModelQueue: the one place in which models run.

Windows of requests that come at the same time are computed together: a batch begins when it is full, or 10 ms after its
first window has come. Requests take turns, so that a long recording does not keep short ones waiting. Each worker of a
model gets its next batch when it is free.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from embedx.server.errors import Cancelled
from embedx.server.metrics import Metrics

if TYPE_CHECKING:
    from embedx.audio.windows import Window

log = logging.getLogger("embedx.server")

GATHER_S = 0.01  # time to wait for windows of other requests
MAX_LOOKED_AT = 256  # waiting windows among which those of a batch are looked for
QUIET_S = 1.0  # time without a window after which memory is given back

Result = tuple[Any, tuple[str, ...]]  # vectors and flags of a window


class Model(Protocol):
    """What the queue needs of an embedder."""

    workers: deque[Any]  # those that are free
    prefers_all_threads: bool  # whether a batch without others is faster with all threads

    def pick(self, windows: "Sequence[Window]") -> tuple[list[int], bool]:
        """Return the numbers of the windows that make a batch with the first one, and whether it has room for more."""

    def compute(self, worker: Any, windows: "Sequence[Window]") -> Sequence[Result]:
        """Return the result of each window."""


class Job:
    """The windows of a request that wait for a model, and their results."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.waiting: deque[Part] = deque()
        self.results: SimpleQueue[Any] = SimpleQueue()


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A window of a job that waits, its number in the job, and when it has come."""

    job: Job
    number: int
    window: "Window"
    since: float


@dataclass(frozen=True)
class Step:
    """A batch or a call that begins, the worker for it, and whether it has all of the processor."""

    model: Model
    worker: Any
    work: Callable[[Any], None]
    is_alone: bool


class ModelQueue:
    """The one place in which models run.

    Args:
        metrics: where the time of each stage is counted.
        threads: run several batches at the same time, each with a part of the processor.
        on_quiet: called when nothing has been computed for a while.
    """

    def __init__(self, metrics: Metrics, threads: Executor, on_quiet: Callable[[], object]) -> None:
        self.metrics = metrics
        self.threads = threads
        self.on_quiet = on_quiet
        self.jobs: deque[Job] = deque()  # those with windows that wait
        self.calls: deque[tuple[Model, Callable[[Any], None]]] = deque()
        self.running = 0  # batches and calls
        self.is_closed = False
        self.changed = threading.Condition()
        metrics.queue.set_function(lambda: sum(len(job.waiting) for job in list(self.jobs)))
        threading.Thread(target=self._run, name="embedx-model", daemon=True).start()

    def put(self, job: Job, number: int, window: "Window") -> None:
        """Add a window of a job."""
        with self.changed:
            self._check_open()
            if not job.waiting:
                self.jobs.append(job)
            job.waiting.append(Part(job, number, window, time.monotonic()))
            self.changed.notify()

    def close_job(self, job: Job) -> None:
        """Drop what still waits."""
        with self.changed:
            if job.waiting:
                job.waiting.clear()
                self.jobs.remove(job)

    def call(self, model: Model, function: Callable[[], Any]) -> Any:
        """Call a function in the place of a batch of a model, and return its result or raise its error."""
        answer: SimpleQueue[Any] = SimpleQueue()

        def run(_: Any) -> None:
            try:
                answer.put((function(), None))
            except Exception as error:  # raised again in the thread that asked
                answer.put((None, error))

        with self.changed:
            self._check_open()
            self.calls.append((model, run))
            self.changed.notify()
        result, error = answer.get()
        if error is not None:
            raise error
        return result

    def _check_open(self) -> None:
        """Refuse what comes after the end."""
        if self.is_closed:
            raise Cancelled

    def close(self) -> None:
        """End when all that waits is done."""
        with self.changed:
            self.is_closed = True
            self.changed.notify()

    def _run(self) -> None:
        """Begin calls and batches until the end, each when a worker is free for it."""
        while step := self._wait():
            if step.is_alone or self.is_closed:  # a process that ends takes no more work for its threads
                self._do(step)
            else:
                self.threads.submit(self._do, step)
        self.threads.shutdown(wait=False)

    def _do(self, step: Step) -> None:
        """Do what a worker has to do; afterwards it is free."""
        step.work(step.worker)
        with self.changed:
            step.model.workers.append(step.worker)
            self.running -= 1
            self.changed.notify()

    def _wait(self) -> Step | None:
        """Wait until a call or a batch can begin; None is the end."""
        is_used = True  # since memory was given back
        with self.changed:
            while not self.is_closed or self.jobs or self.calls:
                if call := next((call for call in self.calls if call[0].workers), None):
                    self.calls.remove(call)
                    return self._step(*call, is_alone=False)
                batch, due_s = self._batch()
                if due_s <= 0:
                    self._take(batch)
                    return self._step(batch[0].job.model, partial(self._compute, batch), is_alone=True)
                if not self.changed.wait(min(due_s, QUIET_S)) and is_used and not (self.running or self.jobs):
                    self.threads.submit(self.on_quiet)
                    is_used = False
        return None

    def _step(self, model: Model, work: Callable[[Any], None], *, is_alone: bool) -> Step:
        """Give work to a worker; it is alone if it may be, and no other worker computes or could begin."""
        worker = model.workers.popleft()
        others = self.running or any(job.model.workers for job in self.jobs)
        self.running += 1
        return Step(model, worker, work, is_alone and model.prefers_all_threads and not others)

    def _batch(self) -> tuple[list[Part], float]:
        """Return the next batch for which a worker is free, and the seconds until it begins if nothing else comes."""
        model = next((job.model for job in self.jobs if job.model.workers), None)
        if model is None:
            return [], math.inf
        waiting = (part for job in self.jobs if job.model is model for part in job.waiting)
        parts = list(islice(waiting, MAX_LOOKED_AT))
        numbers, has_room = model.pick([part.window for part in parts])
        since = min(part.since for part in parts)
        return [parts[number] for number in numbers], since + GATHER_S - time.monotonic() if has_room else 0.0

    def _take(self, batch: Sequence[Part]) -> None:
        """Remove the parts of a batch; a job that has more is the last one in turn."""
        for job in dict.fromkeys(part.job for part in batch):
            taken = {part.number for part in batch if part.job is job}
            job.waiting = deque(part for part in job.waiting if part.number not in taken)
            self.jobs.remove(job)
            if job.waiting:
                self.jobs.append(job)

    def _compute(self, batch: Sequence[Part], worker: Any) -> None:
        """Compute a batch, and give every job its results; an error goes to all jobs of the batch."""
        start = time.monotonic()
        for part in batch:
            self.metrics.stage("queue", start - part.since)
        try:
            results = batch[0].job.model.compute(worker, [part.window for part in batch])
            for part, (vectors, flags) in zip(batch, results, strict=True):
                part.job.results.put((part.number, vectors, flags))
        except Exception as error:  # raised again in each request of the batch
            log.exception("The model has failed.")
            for job in {part.job for part in batch}:
                job.results.put(error)
        self.metrics.stage("embed", time.monotonic() - start)
