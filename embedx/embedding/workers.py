"""Lanes: batches go through the model on several threads at once, and come out in the order in which they went in.

On a CPU a lane is a thread with a core of its own: torch leaves Python's lock while it computes, so that lanes keep
every core busy from one process, share the weights and start at no cost. One batch on all cores waits for the slowest
core after every operation instead. A GPU gets two lanes with a stream each: one copies while the other computes. Of
several GPUs each has a process of its own (`process`), and two threads here that give it batches.
"""

import contextlib
import copy
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedx import timing
from embedx.embedding.forward import Forward, Samples, Vectors
from embedx.extractors.base import Extractor

AnyLane = TypeVar("AnyLane")  # here, or in another process
Job = TypeVar("Job")
Result = TypeVar("Result")

MOST_LANES = 8  # on a CPU, because each holds a batch of its own; with more cores than that a lane has several
LANES_PER_GPU = 2
AHEAD = 2  # batches for each lane that are on their way


@dataclass(frozen=True)
class Worker:
    """Where a batch runs: an extractor, the device that it is on, and a stream of that device if it is a GPU."""

    extractor: Extractor
    device: str
    stream: torch.cuda.Stream | None = None

    def run(self, forward: Forward, clips: Sequence[Samples]) -> Vectors:
        """Map clips to view -> vectors [B, D]."""
        with self.open():
            return forward.run(self, clips)

    def open(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which work is put on the stream."""
        return contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def finish(self) -> None:
        """Wait until all is done that was put on the stream."""
        if self.stream is not None:
            self.stream.synchronize()

    def fetch(self, found: Tensor) -> NDArray[np.float32]:
        """Return a result as an array, in one copy, for which the stream is waited; the other one goes on."""
        if self.stream is None:
            return found.cpu().numpy()
        here = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
        here.copy_(found, non_blocking=True)
        self.stream.synchronize()
        return here.numpy()


def make_workers(extractor: Extractor, device: str, threads: int) -> list[Worker]:
    """Return the lanes of the device that the extractor is on.

    A CPU gets `threads` of them, but no more than torch has threads, and a GPU two, if as many are asked for.
    """
    if device == "cpu":
        return [Worker(one, "cpu") for one in replicate(extractor, min(threads, torch.get_num_threads(), MOST_LANES))]
    return [
        Worker(one, device, torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
        for one in replicate(extractor, min(threads, LANES_PER_GPU))
    ]


def replicate(extractor: Extractor, count: int) -> list[Extractor]:
    """Return an extractor for each of so many threads: the same weights in modules of their own.

    Some modules of transformers keep what they have computed for a batch, as the positions of a conformer, and another
    thread would take it for its own. The fast backend keeps nothing.
    """
    if getattr(extractor, "backend", "reference") == "fast":
        return [extractor] * count
    modules = [one for one in vars(extractor).values() if isinstance(one, torch.nn.Module)]
    weights = {id(one): one for module in modules for one in (*module.parameters(), *module.buffers())}
    return [extractor, *(copy.deepcopy(extractor, weights.copy()) for _ in range(1, count))]


def run_in_order(
    lanes: Sequence[AnyLane], work: Callable[[AnyLane, Job], Result], jobs: Iterable[Job]
) -> Generator[tuple[Job, Result]]:
    """Yield every job with its result, in order. What the work raises is raised where its result would come.

    With one lane nothing runs but in the thread of the caller. Otherwise jobs are taken as lanes need them, and each
    lane computes with its share of torch's threads.
    """
    if len(lanes) == 1:
        for job in timing.timed_each("wait", jobs):
            yield job, work(lanes[0], job)
        return
    free: SimpleQueue[tuple[AnyLane, float]] = SimpleQueue()  # and since when
    for lane in lanes:
        free.put((lane, time.perf_counter()))

    def run(job: Job) -> Result:
        lane, since = free.get()
        timing.add("wait", time.perf_counter() - since)
        try:
            return work(lane, job)
        finally:
            free.put((lane, time.perf_counter()))

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(len(lanes), "lane", torch.set_num_threads, (max(1, threads // len(lanes)),))
    under_way: deque[tuple[Job, Future[Result]]] = deque()
    try:
        for job in jobs:
            under_way.append((job, pool.submit(run, job)))
            if len(under_way) == AHEAD * len(lanes):
                first, future = under_way.popleft()
                yield first, future.result()
        while under_way:
            first, future = under_way.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # of this thread, and of those to come
