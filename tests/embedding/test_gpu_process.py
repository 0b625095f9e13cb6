"""Several devices with a process each: equal vectors, errors by name, no process left over. Here a device is a CPU."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedx import extractors
from embedx.audio.windows import Window
from embedx.embedding.embedder import Embedder
from embedx.embedding.forward import Forward
from embedx.embedding.gpu_process import GpuProcess, Model, RemoteWorker, compute_batches
from embedx.embedding.workers import make_workers, run_in_order
from embedx.errors import EmbedxError
from embedx.processes.channels import SharedMemoryChannel
from tests.helpers.embedding import recipe_of
from tests.helpers.paths import ROOT
from tests.helpers.processes import is_alive, wait_until

Clips = list[NDArray[np.float32]]


@pytest.fixture(scope="module")
def model(checkpoint: Callable[[str], Path]) -> Model:
    name = str(checkpoint("hubert"))
    return Model(name, False, "fast", extractors.load(name, backend="fast").weights)


@pytest.fixture(scope="module")
def forward() -> Forward:
    return Forward((0, 1, 2), ("mean", "max"), "float32", 10 * 16_000)


@pytest.fixture(scope="module")
def two(model: Model, forward: Forward) -> Iterator[list[GpuProcess]]:
    """Two processes for all tests of this file; the test that kills one of them is the last to use them."""
    processes = [GpuProcess("cpu", model, forward, 2) for _ in range(2)]
    yield processes
    for process in processes:
        process.process.kill()


def batches(count: int = 12) -> list[Clips]:
    """From a few samples to a million: the shared memory grows, and smaller messages follow larger ones."""
    random = np.random.default_rng(0)
    sizes = random.integers(1, 5, count)
    lengths = [np.exp(random.uniform(np.log(5), np.log(200_000), size)).astype(int) for size in sizes]
    return [[random.uniform(-0.5, 0.5, n).astype(np.float32) for n in some] for some in lengths]


def workers_of(processes: list[GpuProcess]) -> list[RemoteWorker]:
    return [worker for process in processes for worker in process.workers]


@pytest.mark.long
def test_two_processes_equal_one_process(model: Model, forward: Forward, two: list[GpuProcess]) -> None:
    worker = make_workers(extractors.load(model.name, backend=model.backend), "cpu", 1)[0]
    answered: set[int] = set()

    def work(distant: RemoteWorker, clips: Clips) -> dict[str, NDArray[np.float32]]:
        found = distant.run(forward, clips)
        answered.add(distant.child.process.pid)
        return found

    jobs = batches(40)
    for number, (clips, found) in enumerate(run_in_order(workers_of(two), work, jobs)):
        assert clips is jobs[number]
        expected = worker.run(forward, clips)
        assert list(found) == list(expected) == ["L0.mean", "L0.max", "L1.mean", "L1.max", "L2.mean", "L2.max"]
        for view, vectors in expected.items():
            np.testing.assert_allclose(found[view], vectors, atol=2e-6)
    assert answered == {process.process.pid for process in two}


@pytest.mark.long
def test_error_in_process_is_raised_here_and_process_continues(forward: Forward, two: list[GpuProcess]) -> None:
    worker, clips = two[0].workers[0], batches(1)[0]
    before = worker.run(forward, clips)
    with pytest.raises(RuntimeError, match=r"On cpu: ValueError: max\(\)"):
        worker.run(forward, [])
    after = worker.run(forward, clips)
    assert all(np.array_equal(before[view], after[view]) for view in before)


@pytest.mark.long
def test_killed_process_is_named_and_does_not_block(forward: Forward, two: list[GpuProcess]) -> None:
    def work(worker: RemoteWorker, clips: Clips) -> None:
        worker.run(forward, clips)

    results = run_in_order(workers_of(two), work, batches())
    next(results)
    two[1].process.kill()
    with pytest.raises(EmbedxError, match=r"computes on cpu ended \(killed by SIGKILL\).* run the same command again"):
        for _ in results:
            pass
    two[0].workers[0].run(forward, batches(1)[0])


def test_worker_that_cannot_answer_is_reported(forward: Forward, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process lives on, but it has no memory for its answer; the caller must not wait for it."""
    here, there = SharedMemoryChannel.pair()
    worker = make_workers(extractors.load("logmel"), "cpu", 1)[0]
    thread = threading.Thread(target=compute_batches, args=(worker, there, replace(forward, layers=(0,))))
    thread.start()
    assert here.receive()[0] == {"ready": True}
    monkeypatch.setattr(there, "send", lambda *_: os.ftruncate(there.memory, -1))
    here.send({}, batches(1)[0])
    with pytest.raises(EOFError):
        here.receive()
    here.close()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("change", "message", "code"),
    [
        ({"name": "logmell"}, "On cpu: Unknown model 'logmell'. Did you mean 'logmel'", 7),
        pytest.param({"weights": "others"}, "have changed since this run started", 7, marks=pytest.mark.long),
        pytest.param({"backend": "quick"}, "Unknown backend 'quick'", 2, marks=pytest.mark.long),
    ],
)
def test_model_that_process_cannot_load_is_an_error_here(
    change: dict[str, Any], message: str, code: int, forward: Forward
) -> None:
    model = Model("logmel", False, "auto", extractors.load("logmel").weights)
    process = GpuProcess("cpu", replace(model, **change), forward, 2)
    for worker in process.workers:
        with pytest.raises(EmbedxError, match=message) as raised:
            worker.run(forward, batches(1)[0])
        assert raised.value.exit_code == code
    assert process.process.wait(60) == 0


@pytest.mark.long
def test_embedder_of_several_devices_starts_processes() -> None:
    extractor = extractors.load("logmel")
    windows = [(i, Window(0.0, 1.0, clips[0])) for i, clips in enumerate(batches())]

    def embed(embedder: Embedder, threads: int) -> NDArray[np.float32]:
        found = {key: vectors["L0.mean"] for key, vectors, _ in embedder.embed(windows, threads)}
        return np.stack([found[key] for key, _ in windows])

    embedder = Embedder(extractor, recipe_of(extractor, "logmel"), device="cpu", batch_seconds=3.0)
    expected = embed(embedder, 1)
    embedder.devices = ("cpu", "cpu")  # which only GPUs may be
    np.testing.assert_array_equal(embed(embedder, 1), expected)
    assert embedder.processes == []
    np.testing.assert_allclose(embed(embedder, 2), expected, atol=2e-6)
    started = [process.process for process in embedder.processes]
    assert len(started) == 2
    np.testing.assert_allclose(embed(embedder, 2), expected, atol=2e-6)
    assert [process.process for process in embedder.processes] == started, "they are kept"
    del embedder
    assert [process.wait(20) for process in started] == [-signal.SIGKILL] * 2


@pytest.mark.long
def test_gpu_process_ends_with_its_parent() -> None:
    weights = extractors.load("logmel").weights
    script = f"""
import os, signal
from embedx.embedding.forward import Forward
from embedx.embedding.gpu_process import Model, GpuProcess
forward = Forward((0,), ("mean",), "float32", 16_000)
process = GpuProcess("cpu", Model("logmel", False, "auto", {weights!r}), forward, 2)
import numpy as np
process.workers[0].run(forward, [np.zeros(16_000, np.float32)])
print(process.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    parent = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True)
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    pid = int(parent.stdout)
    wait_until(lambda: not is_alive(pid))
