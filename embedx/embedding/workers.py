"""Workers: several batches are computed at the same time, and the results come out in the order of the batches.

On a CPU each worker is a thread that uses one core. torch releases Python's global lock while it computes, so the
workers keep all cores busy in one process and share the weights. A single batch on all cores is slower, because all
cores wait for the slowest one after every operation. A GPU has two workers with a stream each: one copies data while
the other computes. With several GPUs each GPU has its own process (`gpu_process`), and two threads send it batches.
"""

import contextlib
import copy
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedx import timing
from embedx.embedding.forward import Forward, Samples, Vectors, backend_of, inference_precision
from embedx.embedding.pooling import POOLINGS
from embedx.errors import ModelError
from embedx.extractors.base import Extractor, batch_cost
from embedx.extractors.checkpoints import Checkpoint
from embedx.recipe import view_name
from embedx.timing import timed, timed_each

AnyWorker = TypeVar("AnyWorker")  # a Worker, or a RemoteWorker
Job = TypeVar("Job")
Result = TypeVar("Result")

MAX_WORKERS = 8  # on a CPU, since each holds a batch in memory; with more cores, each worker uses several of them
WORKERS_PER_GPU = 2  # one copies while the other computes
JOBS_PER_WORKER = 2  # one is computed, one waits, so that no worker is idle
SWITCH_INTERVAL_S = 1e-4  # for a GPU: a thread that launches kernels waits so long for a busy thread; Python's is 5e-3
TICK_S = 0.1  # seconds between two calls of `on_wait`
CLOSE_S = 2.0  # seconds that running jobs get when their results are not wanted any more


class Room:
    """The memory of a device, which its workers share: a batch that finds no room is computed again without others."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running, self._is_reserved = 0, False

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Enter beside other workers; wait while one of them computes alone."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_reserved)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until the other workers have finished their batches, and let none begin another."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_reserved)
            self._is_reserved = True
            self._changed.wait_for(lambda: self._running == 0)
        try:
            yield
        finally:
            with self._changed:
                self._is_reserved = False
                self._changed.notify_all()


@dataclass(frozen=True)
class Worker:
    """An extractor, its device, the room on it, and a stream of the device if it is a GPU."""

    extractor: Extractor
    device: str
    room: Room
    stream: torch.cuda.Stream | None = None

    def run(self, forward: Forward, clips: Sequence[Samples]) -> Vectors:
        """Compute the vectors of a batch; one that does not fit into memory is halved, down to single clips.

        A smaller budget is kept in `forward`, so that later batches fit at once. A single clip is tried once more when
        the other workers of the device have finished their batches.

        Args:
            forward: the layers, poolings and precision.
            clips: B arrays of samples [S] at the rate of the extractor.

        Returns:
            view -> vectors [B, D], float32.

        Raises:
            ModelError: a single clip does not fit into memory.
        """
        clips = [pad(clip, self.extractor.min_samples) for clip in clips]
        prepare = getattr(self.extractor, "prepare", None)  # on the CPU, and only once if the batch is halved
        if prepare is None:
            return self._run(forward, clips, clips)
        with timed("model"):
            inputs = prepare(clips)
        return self._run(forward, clips, inputs)

    def _run(self, forward: Forward, clips: Sequence[Samples], inputs: Sequence[Any]) -> Vectors:
        """Compute clips from what the model takes of each of them: its samples, or what `prepare` made of them."""
        size = batch_cost(self.extractor, max(map(len, clips))) * len(clips)
        if len(clips) == 1 or size <= forward.budget:
            with contextlib.suppress(torch.OutOfMemoryError), self.room.shared():
                vectors = self._compute(forward, inputs)
                forward.accept()
                return vectors
            if len(clips) == 1:
                return self._compute_alone(forward, clips[0], inputs)
            forward.refuse(size)
            if self.stream is not None:
                torch.cuda.empty_cache()  # free blocks that are too small for the next batch
        half = len(clips) // 2
        parts = [self._run(forward, clips[part], inputs[part]) for part in (slice(half), slice(half, None))]
        return {view: np.concatenate([part[view] for part in parts]) for view in parts[0]}

    def _compute_alone(self, forward: Forward, clip: Samples, inputs: Sequence[Any]) -> Vectors:
        """Compute a single clip while no other worker uses the memory of the device."""
        with self.room.alone():
            if self.stream is not None:
                torch.cuda.empty_cache()
            try:
                return self._compute(forward, inputs)
            except torch.OutOfMemoryError as error:
                seconds = len(clip) / self.extractor.sample_rate
                raise ModelError(
                    f"A window of {seconds:.1f} s does not fit into the memory of {self.device}. Cut the recordings "
                    "into shorter windows (--window), use --precision bfloat16, or --device cpu."
                ) from error

    @torch.inference_mode()
    def frames(self, forward: Forward, clip: Samples) -> dict[int, NDArray[np.float32]]:
        """Return layer -> frames [T, D] of one clip [S]."""
        clip = pad(clip, self.extractor.min_samples)
        prepare = getattr(self.extractor, "prepare", None)
        inputs = [clip] if prepare is None else prepare([clip])
        with self.open(), inference_precision(forward.precision, self.device):
            return {
                layer: self._download(frames[0, : int(counts[0])].float())
                for layer, frames, counts in self._frames(inputs, forward.layers)
            }

    def open(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which operations are queued on the stream."""
        return contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def finish(self) -> None:
        """Wait until the stream has done all queued operations."""
        if self.stream is not None:
            self.stream.synchronize()

    @torch.inference_mode()
    def _compute(self, forward: Forward, inputs: Sequence[Any]) -> Vectors:
        views, vectors = [], []
        with self.open(), inference_precision(forward.precision, self.device):
            for layer, frames, counts in timed_each("model", self._frames(inputs, forward.layers), self.finish):
                with timed("pooling", self.finish):
                    for pooling in forward.poolings:
                        views.append(view_name(layer, pooling))
                        vectors.append(POOLINGS[pooling](frames, counts).float())  # [B, D]
            with timed("copy"):
                return dict(zip(views, self._download(torch.stack(vectors)), strict=True))

    def _frames(self, inputs: Sequence[Any], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield (layer, frames, frame lengths); see `Extractor.frames`."""
        if getattr(self.extractor, "prepare", None) is None:
            return self.extractor.frames(*self._upload(inputs), layers)
        encode: Callable[..., Iterator[tuple[int, Tensor, Tensor]]] = getattr(self.extractor, "encode")  # noqa: B009
        return encode(inputs, layers)

    def _upload(self, clips: Sequence[Samples]) -> tuple[Tensor, Tensor]:
        """Pad clips with zeros to one length, and return them as waves [B, S] and lengths [B] on the device."""
        with timed("copy", self.finish):
            pinned = self.stream is not None
            lengths = torch.tensor([len(clip) for clip in clips])
            lengths = lengths.pin_memory() if pinned else lengths
            waves = torch.empty(len(clips), max(map(len, clips)), pin_memory=pinned)  # [B, S]
            for row, clip in zip(waves.numpy(), clips, strict=True):
                row[: len(clip)] = clip
                row[len(clip) :] = 0.0
            waves = waves.to(self.device, non_blocking=True)
            if not getattr(self.extractor, "reads_lengths", False):
                lengths = lengths.to(self.device, non_blocking=True)
            return waves, lengths

    def _download(self, result: Tensor) -> NDArray[np.float32]:
        """Return a tensor as an array in one copy; only this worker's stream is waited for."""
        if self.stream is None:
            return result.cpu().numpy()
        pinned = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
        pinned.copy_(result, non_blocking=True)
        self.stream.synchronize()
        return pinned.numpy()


def pad(clip: Samples, length: int) -> Samples:
    """Return a clip with zeros up to a length [max(S, length)]."""
    return clip if len(clip) >= length else np.pad(clip, (0, length - len(clip)))


def make_workers(extractor: Extractor, device: str, threads: int) -> list[Worker]:
    """Return the workers of a device.

    Args:
        extractor: it is on the device.
        device: "cpu", or a GPU such as "cuda:0".
        threads: the largest number of workers. A CPU has at most as many as torch has threads, a GPU at most two.
    """
    room = Room()
    if device == "cpu":
        count = min(threads, torch.get_num_threads(), MAX_WORKERS)
        return [Worker(replica, "cpu", room) for replica in replicate(extractor, count)]
    return [
        Worker(replica, device, room, torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
        for replica in replicate(extractor, min(threads, WORKERS_PER_GPU))
    ]


def count_workers() -> int:
    """Return the largest number of workers that a device of this machine has."""
    return max(WORKERS_PER_GPU, min(torch.get_num_threads(), MAX_WORKERS))


def start_threads() -> ThreadPoolExecutor:
    """Return threads for all workers of a device, which share the threads of torch.

    Two threads of torch that share a batch wait for each other, which took eight times the processor time on two busy
    cores (YAMNet).
    """
    count, default = count_workers(), torch.get_num_threads()
    return ThreadPoolExecutor(count, "worker", limit_threads, (max(1, default // count), default))


def limit_threads(own: int, default: int) -> None:
    """Let torch use some threads when this thread calls it, and the default number in all later ones."""
    torch.set_num_threads(own)
    torch.get_num_threads()  # from now on this thread has its number, whatever the default is
    other = threading.Thread(target=torch.set_num_threads, args=(default,))  # it sets the default, too
    other.start()
    other.join()


def replicate(extractor: Extractor, count: int) -> list[Extractor]:
    """Return one extractor for each of `count` threads; they share the weights but no other state.

    Some modules of transformers keep values of the current batch, such as the positions of a conformer, and two threads
    must not share these. The fast backend keeps no such state.
    """
    if backend_of(extractor) == "fast":
        return [extractor] * count
    modules = modules_of(extractor)
    weights = {id(tensor): tensor for module in modules for tensor in (*module.parameters(), *module.buffers())}
    return [extractor, *(copy.deepcopy(extractor, weights.copy()) for _ in range(1, count))]


def modules_of(model: Any) -> Iterator[torch.nn.Module]:
    """Yield the modules of an extractor, and of the extractors, classifiers and checkpoints in it."""
    for value in vars(model).values():
        if isinstance(value, torch.nn.Module):
            yield value
        elif hasattr(value, "__dict__") and (hasattr(value, "to") or isinstance(value, Checkpoint)):
            yield from modules_of(value)


@contextlib.contextmanager
def short_switch_interval(device: str) -> Iterator[None]:
    """Let threads of Python take turns more often while a GPU gets its operations from them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before if device == "cpu" else min(before, SWITCH_INTERVAL_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def run_in_order(
    workers: Sequence[AnyWorker],
    work: Callable[[AnyWorker, Job], Result],
    jobs: Iterable[Job],
    on_wait: Callable[[], None] | None = None,
) -> Generator[tuple[Job, Result]]:
    """Run jobs on workers and yield (job, result) in the order of the jobs.

    An error of a job is raised where its result would be yielded. With a single worker and no `on_wait` everything runs
    in the thread of the caller. Otherwise jobs are taken from the iterable when workers need them, and torch's threads
    are divided among the workers. If the generator ends early, jobs that run longer than `CLOSE_S` are left behind:
    their threads end with the job.

    Args:
        workers: what runs the jobs, one job at a time each.
        work: called with a worker and a job, in a thread.
        jobs: taken in the thread of the caller, at most two ahead for each of several workers.
        on_wait: called in the thread of the caller while it waits for a result; an error that it raises ends the run.
    """
    if len(workers) == 1 and on_wait is None:
        for job in timing.timed_each("wait", jobs):
            yield job, work(workers[0], job)
        return
    idle: SimpleQueue[tuple[AnyWorker, float]] = SimpleQueue()  # with the time since when each is idle
    for worker in workers:
        idle.put((worker, time.perf_counter()))

    def run(job: Job) -> Result:
        worker, since = idle.get()
        timing.add("wait", time.perf_counter() - since)
        try:
            return work(worker, job)
        finally:
            idle.put((worker, time.perf_counter()))

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(len(workers), "worker", torch.set_num_threads, (max(1, threads // len(workers)),))
    running: deque[tuple[Job, Future[Result]]] = deque()
    most = 1 if len(workers) == 1 else JOBS_PER_WORKER * len(workers)

    def finish_first() -> tuple[Job, Result]:
        future = running[0][1]
        while on_wait is not None and not wait([future], TICK_S).done:
            on_wait()
        return running.popleft()[0], future.result()

    try:
        for job in jobs:
            running.append((job, pool.submit(run, job)))
            if len(running) == most:
                yield finish_first()
        while running:
            yield finish_first()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if not wait([future for _, future in running], CLOSE_S).not_done:
            pool.shutdown()  # waits for the threads, which have nothing left to do
        torch.set_num_threads(threads)  # set_num_threads in a worker also set the default of new threads
