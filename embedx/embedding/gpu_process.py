"""GpuProcess: each of several GPUs computes in a process of its own, which loads the model by its name.

What tells a GPU what to do is Python, one call after the other, and one process has one Python for all its GPUs.

    parent                                              process of a GPU
    {"model": ..., "device": ..., ...}          -->     on the first line
                                                <--     {"ready": true}, or {"error": ...}, on every line
    {} + the clips of a batch                   -->     on the line of a lane
                                                <--     {"views": [...]} + their vectors [B, D], or {"error": ...}
"""

import contextlib
import mmap
import os
import socket
import subprocess
import threading
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedx import extractors
from embedx.embedding.forward import Forward, Samples, Vectors, exact_for_all
from embedx.embedding.workers import Worker, make_workers
from embedx.errors import EmbedxError, RecipeMismatch
from embedx.processes import spawn
from embedx.processes.channels import Line
from embedx.timing import timed

END_S = 1.0  # for a process whose line is closed to be gone


@dataclass(frozen=True)
class Model:
    """What a process loads: the arguments of `embedx.extractors.load`, and the hash of the weights that are meant."""

    name: str
    allow_pickle: bool
    backend: str
    weights: str


class GpuProcess:
    """The process of a GPU, as its parent has it; it ends when nobody knows this object any more."""

    def __init__(self, device: str, model: Model, forward: Forward, count: int) -> None:
        lines, theirs = [], []
        for number in range(count):
            mine, its = socket.socketpair()
            memory = os.memfd_create(f"embedx-{device}-{number}")
            os.ftruncate(memory, mmap.PAGESIZE)
            lines.append(Line(mine.detach(), memory))
            theirs += [its.detach(), memory]
        try:
            self.process = spawn.start("embedx.embedding.gpu_process", theirs)
        except OSError as error:
            raise EmbedxError(f"The process that computes on {device} cannot be started: {error}") from error
        finally:
            for handle in theirs[::2]:
                os.close(handle)
        job = {"model": asdict(model), "forward": asdict(forward), "device": device}
        self.lanes = [RemoteWorker(self.process, line, device) for line in lines]
        with contextlib.suppress(OSError):  # whoever asks it for something hears that it is gone
            lines[0].send(job)
        weakref.finalize(self, end, self.process, lines)


class RemoteWorker:
    """A lane of a process, which takes one batch at a time; the same as a `Worker` to those who give it batches."""

    def __init__(self, process: "subprocess.Popen[bytes]", line: Line, device: str) -> None:
        self.process, self.line, self.device = process, line, device
        self.is_ready = False
        self.in_use = threading.Lock()

    def run(self, forward: Forward, clips: Sequence[Samples]) -> Vectors:
        """Map clips to view -> vectors [B, D], by the forward that the process was given.

        Raises:
            RuntimeError: what was raised there.
            EmbedxError: the process is gone.
        """
        with self.in_use:
            try:
                if not self.is_ready:
                    self._answer()
                    self.is_ready = True
                with timed("copy"):
                    self.line.send({}, clips)
                with timed("model"):
                    message, arrays = self._answer()
                return {view: array.copy() for view, array in zip(message["views"], arrays, strict=True)}
            except (EOFError, OSError) as error:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(END_S)
                how = spawn.describe_end(self.process.poll())
                raise EmbedxError(
                    f"The process that computes on {self.device} is gone ({how}). EMBEDX_DEBUG=1 shows what it says. "
                    "What was committed is safe; the same command goes on from there."
                ) from error

    def _answer(self) -> tuple[dict[str, Any], list[NDArray[np.float32]]]:
        message, arrays = self.line.receive()
        if "error" in message:
            raise understood(message, self.device)
        return message, arrays


def end(process: "subprocess.Popen[bytes]", lines: Sequence[Line]) -> None:
    """End a process, whatever it is doing."""
    for line in lines:
        line.wire.close()
        os.close(line.memory)
    process.kill()
    process.wait()


def serve(*handles: int) -> None:
    """Be the process: load the model, and compute what comes over the lines, each a socket and its memory."""
    spawn.ignore_signals()
    lines = [Line(sock, memory) for sock, memory in zip(handles[::2], handles[1::2], strict=True)]
    job, _ = lines[0].receive()
    torch.set_num_threads(len(lines))
    try:
        model, forward = Model(**job["model"]), Forward(**job["forward"])
        extractor = extractors.load(model.name, allow_pickle=model.allow_pickle, backend=model.backend)
        if extractor.weights != model.weights:
            raise RecipeMismatch(f"The weights of {model.name} are not what they were a moment ago.")
        lanes = make_workers(extractor.to(job["device"]), job["device"], len(lines))
    except Exception as error:  # whatever it is, it is raised in the parent
        for line in lines:
            line.send(complaint(error))
        return
    with exact_for_all(forward.precision):
        threads = [
            threading.Thread(target=work, args=(lane, line, forward)) for lane, line in zip(lanes, lines, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def work(lane: Worker, line: Line, forward: Forward) -> None:
    """Compute batch after batch, until the line is closed."""
    with contextlib.suppress(EOFError, OSError), contextlib.closing(line.wire):  # or the parent would wait for ever
        line.send({"ready": True})
        while True:
            _, clips = line.receive()
            try:
                vectors = lane.run(forward, clips)
            except Exception as error:  # as above
                line.send(complaint(error))
            else:
                line.send({"views": list(vectors)}, list(vectors.values()))


def complaint(error: Exception) -> dict[str, Any]:
    """Return the message that says what went wrong."""
    if isinstance(error, EmbedxError):
        return {"error": str(error), "code": error.exit_code}
    return {"error": f"{type(error).__name__}: {error}"}


def understood(message: dict[str, Any], device: str) -> Exception:
    """Return what is raised for a complaint."""
    text = f"On {device}: {message['error']}"
    if "code" not in message:
        return RuntimeError(text)
    error = EmbedxError(text)
    error.exit_code = message["code"]
    return error
