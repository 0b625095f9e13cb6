"""Exact float32 whatever the program has chosen, and the budget of a batch."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from embedx import extractors
from embedx.embedding.embedder import Embedder
from embedx.embedding.forward import BACKENDS, RECOVERY, SWITCHES, Forward, exact_float32
from tests.helpers.embedding import recipe_of, windows

CHOICES: dict[str, Callable[[], None]] = {
    "highest": lambda: torch.set_float32_matmul_precision("highest"),
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "tf32 in products": lambda: setattr(BACKENDS.cuda.matmul, "allow_tf32", True),
    "tf32 everywhere": lambda: setattr(BACKENDS, "fp32_precision", "tf32"),
    "bf16 on the CPU": lambda: setattr(BACKENDS.mkldnn.matmul, "fp32_precision", "bf16"),
}


@pytest.fixture(params=CHOICES)
def choice(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a program has chosen before it uses embedx."""
    before = [(switch, switch.fp32_precision) for switch in (BACKENDS, *SWITCHES)]
    CHOICES[request.param]()
    yield
    for switch, value in before:
        switch.fp32_precision = value


def state() -> list[str]:
    return [switch.fp32_precision for switch in SWITCHES]


@pytest.mark.usefixtures("choice")
def test_switches_are_exact_during_runs_and_as_before_after_the_last() -> None:
    before = state()
    first, second = contextlib.ExitStack(), contextlib.ExitStack()
    first.enter_context(exact_float32)
    second.enter_context(exact_float32)
    first.close()
    assert set(state()) == {"ieee"}
    second.close()
    assert state() == before


def test_switch_that_was_inherited_is_inherited_again() -> None:
    before = BACKENDS.fp32_precision
    try:
        BACKENDS.cuda.matmul.fp32_precision = "none"
        with exact_float32:
            pass
        BACKENDS.fp32_precision = "tf32"
        assert BACKENDS.cuda.matmul.fp32_precision == "tf32"
    finally:
        BACKENDS.fp32_precision = before


def test_vectors_do_not_depend_on_the_choice_of_the_program(checkpoint: Callable[[str], Path]) -> None:
    model = str(checkpoint("hubert"))
    extractor = extractors.load(model, backend="reference")
    embedder = Embedder(extractor, recipe_of(extractor, model, ("mean",)))
    expected = {key: vectors for key, vectors, _ in embedder.embed(windows())}
    before = [(switch, switch.fp32_precision) for switch in SWITCHES]
    try:
        torch.set_float32_matmul_precision("medium")  # bfloat16 in products, on processors that have them
        for key, vectors, _ in embedder.embed(windows()):
            for view, vector in vectors.items():
                np.testing.assert_array_equal(vector, expected[key][view])
    finally:
        for switch, value in before:
            switch.fp32_precision = value


def test_many_threads_restore_the_switches() -> None:
    before = state()

    def enter() -> None:
        for _ in range(200):
            with exact_float32:
                assert set(state()) == {"ieee"}

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state() == before


def test_budget_is_lowered_and_recovers_to_its_first_value() -> None:
    forward = Forward((0,), ("mean",), "float32", 1000)
    forward.refuse(1000)
    forward.refuse(400)
    assert forward.budget == 200
    forward.refuse(800)  # a batch that was made before the limit was known
    assert forward.budget == 200
    for expected in (200, 400, 800, 1000, 1000):
        assert forward.budget == expected
        for _ in range(RECOVERY):
            forward.accept()
