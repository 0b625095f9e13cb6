"""Pairs of vectors that are too near: never in independent data of any shape, and copies where the set can tell."""

from collections.abc import Callable

import numpy as np
import pytest

from embedx.copies.vectors import VectorRule, distance
from embedx.index.vectors import unit

World = Callable[[np.random.Generator, np.ndarray, int], np.ndarray]
WORLDS: dict[str, World] = {
    "independent": lambda random, y, d: random.standard_normal((len(y), d)),
    "tight classes": lambda random, y, d: (
        random.standard_normal((len(y), d))[y] + 0.03 * random.standard_normal((len(y), d))
    ),
    "common direction": lambda random, y, d: (
        10 + random.standard_normal((len(y), d))[y] + 0.01 * random.standard_normal((len(y), d))
    ),
    "heavy tails": lambda random, y, d: random.standard_t(2, (len(y), d)),
    "hubs": lambda random, y, d: random.standard_normal((len(y), d)) * np.exp(random.standard_normal((len(y), 1))),
}


def flag(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return for each row of x whether it is too near to its nearest row of the other half of the rows."""
    rows = np.arange(len(x))
    rule = VectorRule(unit((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32), rows, y)
    gaps = distance(rule.unit @ rule.unit.T)
    gaps[rows[:, None] % 2 == rows % 2] = np.inf
    return rule.too_near(rows, gaps.argmin(axis=1), float(np.median(gaps.min(axis=1))))


@pytest.mark.parametrize("dimension", [2, 3, 10, 300])
@pytest.mark.parametrize("world", WORLDS)
def test_independent_rows_are_hardly_ever_too_near(world: str, dimension: int) -> None:
    random = np.random.default_rng(0)
    flags = []
    for size in (4, 20, 80):
        y = np.arange(240) // size
        flags.append(flag(WORLDS[world](random, y, dimension).astype(np.float32), y))
    assert np.mean(flags) < 0.01


@pytest.mark.parametrize("copies", [2, 12])
def test_copies_of_some_vectors_are_too_near(copies: int) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((200, 32))
    y = np.arange(200) % 5
    chosen = np.arange(10)
    extra = np.repeat(chosen, copies)[: 10 * (copies - copies % 2)]
    noisy = x[extra] + 0.08 * random.standard_normal((len(extra), 32))
    flags = flag(np.concatenate([x, noisy]).astype(np.float32), np.concatenate([y, y[extra]]))
    assert flags[200:].mean() > 0.95
    assert flags[10:200].mean() < 0.01


def test_small_class_as_a_whole_is_not_named() -> None:
    """Four similar recordings and four copies cannot be told apart by vectors alone."""
    random = np.random.default_rng(0)
    y = np.arange(400) // 4
    x = 10 + random.standard_normal((100, 64))[y] + 0.02 * random.standard_normal((400, 64))
    assert not flag(x.astype(np.float32), y).any()
