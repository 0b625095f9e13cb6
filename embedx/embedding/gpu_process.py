"""GpuProcess: with several GPUs, each GPU computes in its own process, which loads the model by its name.

A GPU gets its operations one by one from Python, and a process runs Python code in one thread at a time. So one process
cannot keep several GPUs busy.

    parent                                              process of a GPU
    {"model": ..., "device": ..., ...}          -->     on the first channel
                                                <--     {"ready": true}, or {"error": ...}, on every channel
    {} + the clips of a batch                   -->     on the channel of a worker
                                                <--     {"views": [...]} + their vectors [B, D], or {"error": ...}
"""

import contextlib
import threading
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from embedx import extractors
from embedx.embedding.forward import Forward, Samples, Vectors, exact_float32
from embedx.embedding.workers import Worker, make_workers, short_switch_interval
from embedx.errors import RecipeMismatch
from embedx.processes import spawn
from embedx.processes.channels import READY, SharedMemoryChannel, error_message, raise_reported
from embedx.processes.spawn import Child, start_child
from embedx.timing import timed


@dataclass(frozen=True)
class Model:
    """What a process loads: the arguments of `embedx.extractors.load`, and the expected hash of the weights."""

    name: str
    allow_pickle: bool
    backend: str
    weights: str
    trusted: bool = True


class GpuProcess:
    """The process of a GPU, as its parent sees it; it ends when this object is garbage-collected."""

    def __init__(self, device: str, model: Model, forward: Forward, count: int) -> None:
        """Start the process; it does not wait for the model.

        Args:
            device: the GPU.
            model: what the process loads.
            forward: the settings of every batch.
            count: the number of workers in the process.

        Raises:
            EmbedxError: the process cannot be started.
        """
        child = start_child(f"computes on {device}", "embedx.embedding.gpu_process", SharedMemoryChannel, count)
        self.process = child.process
        self.workers = [RemoteWorker(child, channel, device) for channel in child.channels]
        with contextlib.suppress(OSError):  # the first batch reports a process that has ended
            child.channels[0].send({"model": asdict(model), "forward": asdict(forward), "device": device})
        weakref.finalize(self, child.stop)


class RemoteWorker:
    """A worker of another process; it has the same `run` as `Worker`."""

    def __init__(self, child: "Child[SharedMemoryChannel]", channel: SharedMemoryChannel, device: str) -> None:
        self.child, self.channel, self.device = child, channel, device
        self.is_ready = False
        self.in_use = threading.Lock()

    def run(self, forward: Forward, clips: Sequence[Samples]) -> Vectors:
        """Compute the vectors of a batch; `forward` is the one that the process was started with.

        Returns:
            view -> vectors [B, D], float32.

        Raises:
            RuntimeError: the process raised an unexpected error.
            EmbedxError: the process raised this error, or has ended.
        """
        prefix = f"On {self.device}: "
        with self.in_use:
            try:
                if not self.is_ready:
                    self.child.wait_until_ready(self.channel, prefix=prefix)
                    self.is_ready = True
                with timed("copy"):
                    self.channel.send({}, clips)
                with timed("model"):
                    message, arrays = self.channel.receive()
                    raise_reported(message, prefix)
                return {view: array.copy() for view, array in zip(message["views"], arrays, strict=True)}
            except (EOFError, OSError) as error:
                advice = " Committed data is safe; run the same command again to continue."
                raise self.child.failure("ended", advice) from error


def serve(*handles: int) -> None:
    """Run the child process: load the model, and compute the batches that arrive on the channels.

    Args:
        handles: the descriptors of the channels: for each its socket and its memory.
    """
    spawn.ignore_signals()
    channels = [SharedMemoryChannel.from_handles(*pair) for pair in zip(handles[::2], handles[1::2], strict=True)]
    job, _ = channels[0].receive()
    torch.set_num_threads(len(channels))
    try:
        model, forward = Model(**job["model"]), Forward(**job["forward"])
        extractor = extractors.load(
            model.name, allow_pickle=model.allow_pickle, backend=model.backend, trusted=model.trusted
        )
        if extractor.weights != model.weights:
            raise RecipeMismatch(f"The weights of {model.name} have changed since this run started. Run it again.")
        workers = make_workers(extractor.to(job["device"]), job["device"], len(channels))
    except Exception as error:  # any error is raised in the parent
        for channel in channels:
            channel.send(error_message(error))
        return
    with exact_float32, short_switch_interval(job["device"]):
        threads = [
            threading.Thread(target=compute_batches, args=(worker, channel, forward))
            for worker, channel in zip(workers, channels, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def compute_batches(worker: Worker, channel: SharedMemoryChannel, forward: Forward) -> None:
    """Compute batch after batch until the channel closes; close it on any failure, so that the parent does not wait."""
    with contextlib.suppress(EOFError, OSError), contextlib.closing(channel):  # the parent has closed its end
        channel.send(READY)
        while True:
            _, clips = channel.receive()
            try:
                vectors = worker.run(forward, clips)
            except Exception as error:  # any error is raised in the parent
                channel.send(error_message(error))
            else:
                channel.send({"views": list(vectors)}, list(vectors.values()))
