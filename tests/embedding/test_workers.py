"""Workers that share the memory of a device, and inputs that are prepared on the CPU."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embedx import extractors
from embedx.audio.windows import Window
from embedx.embedding.embedder import Embedder
from embedx.embedding.workers import Room, Worker, modules_of, replicate
from embedx.errors import ModelError
from embedx.extractors import hub_classifiers
from embedx.extractors.base import Extractor
from embedx.extractors.classifier import ScoringExtractor
from embedx.extractors.spectrogram import Prepared, Spectrogram
from tests.helpers.embedding import recipe_of, windows
from tests.helpers.hub_classifiers import make_classifier
from tests.helpers.processes import wait_until

CLIP = np.full(16_000, 0.1, np.float32)


class Crowded:
    """A model with room for one batch at a time: a second one at the same time is refused."""

    def __init__(self) -> None:
        self.inner: Any = extractors.load("logmel")
        self.running = self.refused = 0
        self.first_is_inside, self.second_was_refused = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def frames(self, *arguments: Any) -> Iterator[Any]:
        if self.running:
            self.refused += 1
            self.second_was_refused.set()
            raise torch.OutOfMemoryError("no room")
        self.running += 1
        self.first_is_inside.set()
        self.second_was_refused.wait(60)
        yield from self.inner.frames(*arguments)
        self.running -= 1


def test_clip_without_room_waits_for_the_other_worker() -> None:
    model: Any = Crowded()
    embedder = Embedder(extractors.load("logmel"), recipe_of(model.inner, "logmel"))
    room, found = Room(), []
    workers = [Worker(model, "cpu", room), Worker(model, "cpu", room)]
    first = threading.Thread(target=lambda: found.append(workers[0].run(embedder.forward, [CLIP])))
    first.start()
    model.first_is_inside.wait(60)
    found.append(workers[1].run(embedder.forward, [CLIP]))
    first.join()
    assert model.refused == 1
    for view, vectors in found[0].items():
        np.testing.assert_array_equal(found[1][view], vectors)


def test_worker_that_computes_alone_lets_no_other_begin() -> None:
    room, order = Room(), []
    with room.shared():

        def compute_alone() -> None:
            with room.alone():
                order.append("alone")
                wait_until(late.is_alive)

        def compute() -> None:
            with room.shared():
                order.append("shared")

        alone, late = threading.Thread(target=compute_alone), threading.Thread(target=compute)
        alone.start()
        wait_until(lambda: room._is_reserved)
        late.start()
        assert order == []
    for thread in (alone, late):
        thread.join(60)
    assert order == ["alone", "shared"]


def test_clip_that_never_fits_is_an_error_that_says_what_to_do() -> None:
    class Full(Crowded):
        def frames(self, *arguments: Any) -> Iterator[Any]:
            raise torch.OutOfMemoryError("no room")

    model: Any = Full()
    embedder = Embedder(model.inner, recipe_of(model.inner, "logmel"))
    with pytest.raises(ModelError, match=r"A window of 1\.0 s does not fit into the memory of cpu.*--window"):
        Worker(model, "cpu", Room()).run(embedder.forward, [CLIP, CLIP])


@pytest.mark.parametrize("name", ["whisper", "ast", "clap", "wav2vec2-bert"])
def test_batch_that_is_halved_is_prepared_once_and_gives_the_same(
    name: str, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(checkpoint(name))
    extractor = extractors.load(model)
    assert isinstance(extractor, Spectrogram)
    embedder = Embedder(extractor, recipe_of(extractor, model), device="cpu", batch_seconds=1000)
    clips = [np.full(round(seconds * extractor.sample_rate), 0.1, np.float32) for seconds in (0.3, 0.001, 0.5)]
    worker = Worker(extractor, "cpu", Room())
    expected = worker.run(embedder.forward, clips)
    prepare, encode, prepared = extractor.prepare, extractor.encode, []

    def count(clips: Sequence[NDArray[np.float32]]) -> list[Prepared]:
        prepared.append(len(clips))
        return prepare(clips)

    def encode_one(inputs: Sequence[Prepared], layers: tuple[int, ...]) -> Iterator[Any]:
        if len(inputs) > 1:
            raise torch.OutOfMemoryError("no room")
        return encode(inputs, layers)

    monkeypatch.setattr(extractor, "prepare", count)
    monkeypatch.setattr(extractor, "encode", encode_one)
    found = worker.run(embedder.forward, clips)
    assert prepared == [3]
    for view, vectors in expected.items():
        np.testing.assert_allclose(found[view], vectors, atol=1e-5 * max(1.0, float(np.abs(vectors).max())))


def test_first_batch_needs_only_the_first_pool() -> None:
    """And the pools grow up to their largest size; nothing is lost or doubled."""
    extractor: Extractor = extractors.load("logmel")
    embedder = Embedder(extractor, recipe_of(extractor, "logmel"), batch_seconds=4)
    embedder.first_pool, embedder.pool = 2 * embedder.budget, 4 * embedder.budget
    read = 0

    def stream() -> Iterator[tuple[int, Window]]:
        nonlocal read
        for read in range(1, 101):
            yield read, Window(0.0, 1.0, CLIP)

    batches = embedder._batches(stream())
    ahead = []
    done = 0
    for batch in batches:
        ahead.append(read - done)
        done += len(batch)
    assert done == 100
    assert ahead[0] == 8
    assert max(ahead) in (16, 17, 18, 19, 20)


def test_workers_are_made_once() -> None:
    extractor = extractors.load("logmel")
    embedder = Embedder(extractor, recipe_of(extractor, "logmel"))
    list(embedder.embed(windows(), threads=2))
    first = list(embedder.make_workers(2))
    list(embedder.embed(windows(), threads=2))
    assert all(one is other for one, other in zip(first, embedder.make_workers(2), strict=True))


def test_replicas_of_a_classifier_share_its_weights(tmp_path: Path) -> None:
    extractor = ScoringExtractor(hub_classifiers.load(str(make_classifier(tmp_path, "wav2vec2")), backend="reference"))
    assert_shared(*replicate(extractor, 2))


def test_replicas_of_an_encoder_share_the_whole_checkpoint(checkpoint: Callable[[str], Path]) -> None:
    """Whisper's decoder is not used, and larger than its encoder."""
    first, second = replicate(extractors.load(str(checkpoint("whisper"))), 2)
    assert_shared(first, second)
    parts: Any = second
    decoder = parts.checkpoint.model.get_decoder()
    assert {id(tensor) for tensor in decoder.parameters()} <= parameters_of(first)


def parameters_of(extractor: Extractor) -> set[int]:
    return {id(tensor) for each in modules_of(extractor) for tensor in each.parameters()}


def assert_shared(first: Extractor, second: Extractor) -> None:
    assert first is not second
    assert parameters_of(first) == parameters_of(second) != set()


def test_frames_are_computed_by_the_workers_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU each new worker has a new stream, which keeps memory."""
    extractor = extractors.load("logmel")
    embedder = Embedder(extractor, recipe_of(extractor, "logmel"))
    made: list[Worker] = []
    create = Worker.__init__

    def count(worker: Worker, *rest: Any) -> None:
        made.append(worker)
        create(worker, *rest)

    monkeypatch.setattr(Worker, "__init__", count)
    for _ in range(2):
        embedder.embed_frames(Window(0.0, 1.0, CLIP))
    assert len(made) == 1
