"""Lanes: batches go through the model on several threads at once, and come out in the order in which they went in.

On a CPU a lane is a thread with a core of its own: torch leaves Python's lock while it computes, so that lanes keep
every core busy from one process, share the weights and start at no cost. One batch on all cores waits for the slowest
core after every operation instead. A GPU gets two lanes with a stream each: one copies while the other computes.
"""

import contextlib
import copy
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

from embedx.extractors.base import Extractor

Job = TypeVar("Job")
Result = TypeVar("Result")

MOST_LANES = 8  # on a CPU, because each holds a batch of its own; with more cores than that a lane has several
LANES_PER_GPU = 2
AHEAD = 2  # batches for each lane that are on their way


@dataclass(frozen=True)
class Lane:
    """Where a batch runs: an extractor, the device that it is on, and a stream of that device if it is a GPU."""

    extractor: Extractor
    device: str
    stream: torch.cuda.Stream | None = None

    def open(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which work is put on the stream."""
        return contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def fetch(self, found: Tensor) -> NDArray[np.float32]:
        """Return a result as an array, in one copy, for which the stream is waited; the other one goes on."""
        if self.stream is None:
            return found.cpu().numpy()
        here = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
        here.copy_(found, non_blocking=True)
        self.stream.synchronize()
        return here.numpy()


def make_lanes(extractor: Extractor, devices: Sequence[str], threads: int) -> list[Lane]:
    """Return the lanes of devices, the first of which the extractor is on.

    A CPU gets `threads` of them, but no more than torch has threads.
    """
    if devices[0] == "cpu":
        return [Lane(extractor, "cpu")] * max(1, min(threads, torch.get_num_threads(), MOST_LANES))
    copies = [extractor, *(copy.deepcopy(extractor).to(device) for device in devices[1:])]
    return [
        Lane(one, device, torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
        for _ in range(LANES_PER_GPU)
        for one, device in zip(copies, devices, strict=True)
    ]


def run_in_order(
    lanes: Sequence[Lane], work: Callable[[Lane, Job], Result], jobs: Iterable[Job]
) -> Generator[tuple[Job, Result]]:
    """Yield every job with its result, in order. What the work raises is raised where its result would come.

    With one lane nothing runs but in the thread of the caller. Otherwise jobs are taken as lanes need them, and each
    lane computes with its share of torch's threads.
    """
    if len(lanes) == 1:
        for job in jobs:
            yield job, work(lanes[0], job)
        return
    free: SimpleQueue[Lane] = SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def run(job: Job) -> Result:
        lane = free.get()
        try:
            return work(lane, job)
        finally:
            free.put(lane)

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
