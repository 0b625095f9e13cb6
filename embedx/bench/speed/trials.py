"""Trials: other ways to compute the same, tried out on a batch for each lane, so that nobody has to guess the gain."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedx.audio.windows import Window

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

LONG_S = 5.0  # a round that takes longer is not done a second time
GPU_BATCHES = 4  # times as much audio in a batch is tried on a GPU


@dataclass(frozen=True)
class Trial:
    """An option that was tried.

    gain: times as fast as without it. distance: the median of 1 - cos between the vectors with and without it.
    """

    option: str
    gain: float
    distance: float
    audio_s: float


def try_others(
    embedder: "Embedder", lengths: Sequence[float], most_s: float, threads: int, check: Callable[[], None]
) -> list[Trial]:
    """Try what an embedder could do otherwise, in turn with what it does, on noise of these lengths in seconds.

    A batch for each lane, or `most_s` of audio if that is less.
    """
    rate, lanes = embedder.extractor.sample_rate, len(embedder.make_workers(threads))
    clips = make_clips(lengths, rate, min(embedder.budget * lanes, round(most_s * rate)))
    ways = {"": embedder, **dict(others(embedder))}
    vectors: dict[str, NDArray[np.float32]] = {}
    taken: dict[str, list[float]] = {option: [] for option in ways}
    for way in ways.values():
        embed(way, clips[-1:] * lanes, threads)  # what happens once
    for _ in range(2):
        for option, way in ways.items():
            begun = time.perf_counter()
            vectors[option] = embed(way, clips, threads)
            taken[option].append(time.perf_counter() - begun)
            check()
        if sum(map(sum, taken.values())) > LONG_S:
            break
    audio_s = sum(map(len, clips)) / rate
    return [
        Trial(option, min(taken[""]) / min(taken[option]), distance(vectors[""], vectors[option]), audio_s)
        for option in ways
        if option
    ]


def others(embedder: "Embedder") -> "Iterator[tuple[str, Embedder]]":
    """Yield (option, embedder) for what may be faster."""
    from embedx.embedding.embedder import BATCH_SECONDS, Embedder
    from embedx.extractors.fast.encoder import accelerate

    extractor, recipe, device = embedder.extractor, embedder.recipe, ",".join(embedder.devices)
    precision, batch_s = embedder.precision, embedder.budget / extractor.sample_rate
    again = partial(Embedder, model=embedder.model.name, allow_pickle=embedder.model.allow_pickle)
    if precision == "float32":
        yield (
            "--precision bfloat16",
            again(extractor, recipe, device=device, precision="bfloat16", batch_seconds=batch_s),
        )
    if (fast := accelerate(extractor)) is not extractor:
        yield "--backend fast", again(fast, recipe, device=device, precision=precision, batch_seconds=batch_s)
    larger_s = BATCH_SECONDS["cpu"] if embedder.device == "cpu" else GPU_BATCHES * batch_s
    if larger_s > batch_s:
        yield (
            f"--batch-seconds {larger_s:g}",
            again(extractor, recipe, device=device, precision=precision, batch_seconds=larger_s),
        )


def make_clips(lengths: Sequence[float], rate: int, samples: int) -> list[NDArray[np.float32]]:
    """Return noise of these lengths in seconds, again and again until there are so many samples."""
    random = np.random.default_rng(0)
    clips: list[NDArray[np.float32]] = []
    while sum(map(len, clips)) < samples:
        size = max(1, round(lengths[len(clips) % len(lengths)] * rate))
        clips.append(random.standard_normal(size, np.float32) / np.float32(10))
    return clips


def embed(embedder: "Embedder", clips: Sequence[NDArray[np.float32]], threads: int) -> NDArray[np.float32]:
    """Return the vectors [N, D] of clips."""
    windows = ((i, Window(0.0, len(clip) / embedder.extractor.sample_rate, clip)) for i, clip in enumerate(clips))
    found = {i: vectors[embedder.recipe.default_view] for i, vectors, _ in embedder.embed(windows, threads)}
    return np.stack([found[i] for i in range(len(clips))])


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the median of 1 - cos over the rows of two matrices.

    >>> distance(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    0.0
    """
    one, two = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1) + 1e-300
    return float(max(0.0, 1 - np.median((one * two).sum(axis=1) / norms)))
