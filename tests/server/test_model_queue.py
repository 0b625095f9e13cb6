"""The queue of the models: batches of several requests, turns, several batches at a time, and threads of torch."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from embedx import extractors
from embedx.audio.windows import Window
from embedx.server.batched_embedder import BatchedEmbedder, make_queue
from embedx.server.errors import Cancelled
from embedx.server.metrics import Metrics
from embedx.server.settings import Limits
from tests.helpers.embedding import recipe_of
from tests.helpers.processes import wait_until

RATE = 16_000
HELD = 3.0  # a batch with a window that begins with this sample waits until the test lets it go
BROKEN = 5.0  # one that begins with this fails


class Held:
    """The extractor logmel, which waits where a test says so, and remembers its batches and their threads."""

    backend = "fast"  # workers share it

    def __init__(self) -> None:
        self.inner: Any = extractors.load("logmel")
        self.go = threading.Semaphore(0)
        self.batches: list[tuple[int, int]] = []  # windows, threads of torch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def to(self, device: str) -> "Held":
        return self

    def frames(self, waves: torch.Tensor, *others: Any) -> Iterator[Any]:
        self.batches.append((len(waves), torch.get_num_threads()))
        if (waves[:, 0] == BROKEN).any():
            raise ArithmeticError("broken")
        if (waves[:, 0] == HELD).any():
            assert self.go.acquire(timeout=60)
        yield from self.inner.frames(waves, *others)


@pytest.fixture
def embedder() -> Iterator[BatchedEmbedder]:
    """An embedder with two workers, whose batches have up to 4 s."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    extractor: Any = Held()
    made = BatchedEmbedder(extractor, recipe_of(extractor.inner, "logmel"), batch_seconds=4)
    made.serve(make_queue(Metrics()), Limits())
    yield made
    extractor.go.release(100)
    made.queue.close()
    torch.set_num_threads(before)


def window(first: float, seconds: float = 1.0) -> Window:
    samples = np.random.default_rng(0).standard_normal(round(seconds * RATE)).astype(np.float32) * 0.1
    samples[0] = first
    return Window(0.0, seconds, samples)


def ask(embedder: BatchedEmbedder, *windows: Window) -> tuple[threading.Thread, list[Any]]:
    """Embed windows in a thread; return it, and the list that gets its results."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.extend(embedder.embed(enumerate(windows)))
        except Exception as error:  # the test compares it with what was expected
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_others_are_computed_while_a_batch_takes_long(embedder: BatchedEmbedder) -> None:
    held: Any = embedder.extractor
    first = ask(embedder, window(HELD))[0]  # it may use all threads, and then nothing else begins
    wait_until(lambda: len(held.batches) == 1)
    slow, slow_results = ask(embedder, *[window(HELD)] * 4)
    other = ask(embedder, window(0.5))[0]
    wait_until(lambda: len(embedder.queue.jobs) == 2)
    held.go.release()
    for thread in (first, other):
        thread.join(60)
    for _ in range(3):
        thread, results = ask(embedder, window(0.5))
        thread.join(60)
        assert len(results) == 1
    assert slow_results == []
    held.go.release()
    slow.join(60)
    assert len(slow_results) == 4


def test_batches_beside_others_share_the_threads_of_torch(embedder: BatchedEmbedder) -> None:
    held: Any = embedder.extractor
    first = ask(embedder, window(HELD))[0]
    wait_until(lambda: len(held.batches) == 1)
    second = ask(embedder, *[window(0.0)] * 8)[0]
    wait_until(lambda: sum(len(job.waiting) for job in embedder.queue.jobs) == 8)
    held.go.release()
    for thread in (first, second):
        thread.join(60)
    assert held.batches == [(1, 2), (4, 1), (4, 1)], "a batch without others has all threads"
    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert (found, torch.get_num_threads()) == ([2], 2), "the workers change no other thread"


def test_long_recording_lets_short_ones_take_turns(embedder: BatchedEmbedder) -> None:
    held: Any = embedder.extractor
    first = ask(embedder, window(HELD))[0]
    wait_until(lambda: len(held.batches) == 1)
    long, results = ask(embedder, *[window(0.0)] * 40)
    wait_until(lambda: sum(len(job.waiting) for job in embedder.queue.jobs) == 32)
    ended: list[str] = []
    short = ask(embedder, *[window(0.25)] * 2)[0]
    wait_until(lambda: len(embedder.queue.jobs) == 2)

    def watch(thread: threading.Thread, name: str) -> None:
        thread.join(60)
        ended.append(name)

    watchers = [threading.Thread(target=watch, args=pair) for pair in ((long, "long"), (short, "short"))]
    for thread in watchers:
        thread.start()
    held.go.release()
    for thread in (first, long, short, *watchers):
        thread.join(60)
    assert ended == ["short", "long"]
    assert len(results) == 40


def test_windows_of_similar_length_are_a_batch_and_vectors_do_not_depend_on_it(embedder: BatchedEmbedder) -> None:
    lengths = [1.9, 1.0, 1.85, 0.99, 1.9, 1.3]
    windows = [window(0.1 * n, seconds) for n, seconds in enumerate(lengths)]
    alone = [next(iter(embedder.embed([(0, one)])))[1] for one in windows]
    assert embedder.pick(windows) == ([0, 2], False)
    assert embedder.pick(windows[1:]) == ([0, 2], True)
    assert embedder.pick([windows[1]] * 7) == ([0, 1, 2, 3], False)
    for key, vectors, _ in embedder.embed(enumerate(windows)):
        for view, vector in vectors.items():
            np.testing.assert_allclose(vector, alone[key][view], rtol=1e-5, atol=1e-5)


def test_failing_batch_is_an_error_of_its_requests_only(embedder: BatchedEmbedder) -> None:
    thread, results = ask(embedder, window(BROKEN))
    thread.join(60)
    assert [str(result) for result in results] == ["broken"]
    thread, results = ask(embedder, window(0.0))
    thread.join(60)
    assert len(results) == 1
    assert not isinstance(results[0], Exception)
    assert len(embedder.workers) == 2
    with pytest.raises(ZeroDivisionError):
        embedder.queue.call(embedder, lambda: 1 / 0)


def test_queue_that_ends_finishes_what_waits_and_takes_no_more(embedder: BatchedEmbedder) -> None:
    held: Any = embedder.extractor
    thread, results = ask(embedder, *[window(HELD)] * 12)  # two workers take eight at most, so four or more wait

    def all_have_come() -> bool:
        waiting = sum(len(job.waiting) for job in embedder.queue.jobs)
        return bool(sum(windows for windows, _ in held.batches) + waiting == 12)

    wait_until(all_have_come)
    embedder.queue.close()
    with pytest.raises(Cancelled):
        embedder.queue.call(embedder, lambda: 1)
    with pytest.raises(Cancelled):
        list(embedder.embed([(0, window(0.0))]))
    held.go.release(12)  # enough for any number of batches
    thread.join(60)
    assert len(results) == 12
