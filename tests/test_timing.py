"""Timing of stages: off by default, adds up over threads."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from embedx import extractors, timing
from embedx.embedding.embedder import Embedder
from tests.helpers.embedding import recipe_of, windows


def test_timing_while_off_records_nothing() -> None:
    def never() -> None:
        raise AssertionError("nobody is to wait for a device that is not measured")

    assert timing.timed("a", never) is timing.timed("b")
    with timing.timed("a", never):
        timing.add("a", 1.0)
    with timing.measure() as seconds:
        pass
    timing.add("a", 1.0)
    assert seconds == {}
    assert timing.active is None


def test_timing_of_several_threads_adds_up() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def work(_: int) -> None:
        with timing.timed("sleep"):
            time.sleep(0.02)

    finished: list[int] = []
    with timing.measure() as seconds:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(8)))
        assert list(timing.timed_each("each", (time.sleep(0.01) or i for i in range(3)))) == [0, 1, 2]  # type: ignore[func-returns-value]
        with timing.timed("device", lambda: finished.append(1)):
            pass
    assert seconds["sleep"] >= 8 * 0.02
    assert seconds["each"] >= 0.03
    assert finished == [1]


def test_timing_of_embedder_stages_is_separate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sleep in the model counts as model, sleep in pooling as pooling, for any number of workers."""
    from embedx.embedding import workers as module
    from embedx.embedding.pooling import POOLINGS

    extractor = extractors.load("logmel")
    frames = extractor.frames

    def slow_frames(*given: Any) -> Iterator[Any]:
        for one in frames(*given):
            time.sleep(0.05)
            yield one

    def slow_mean(*given: Any) -> torch.Tensor:
        time.sleep(0.02)
        return POOLINGS["mean"](*given)

    monkeypatch.setattr(extractor, "frames", slow_frames)
    monkeypatch.setattr(module, "POOLINGS", {**POOLINGS, "mean": slow_mean})
    embedder = Embedder(extractor, recipe_of(extractor, "logmel", ("mean",)), batch_seconds=2.0)
    for threads in (1, 2):
        with timing.measure() as seconds:
            list(embedder.embed(windows(), threads))
        assert seconds["model"] > 2 * seconds["pooling"] > 0
        assert seconds["pooling"] >= 5 * 0.02
