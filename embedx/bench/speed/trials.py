"""Trials: other options for the same model, timed on a few batches, so that their gain is measured and not guessed."""

import sys
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

REPEAT_LIMIT_S = 5.0  # if the first round takes longer, there is no second one
GPU_BATCHES = 4  # the larger batch that is tried on a GPU, in batches of the present size


@dataclass(frozen=True)
class Trial:
    """An option that was tried.

    Attributes:
        option: the option on the command line.
        gain: time without the option / time with it.
        distance: median cosine distance between the vectors with and without the option.
        audio_s: seconds of audio in the trial.
    """

    option: str
    gain: float
    distance: float
    audio_s: float


def try_options(
    embedder: "Embedder", lengths: Sequence[float], max_s: float, threads: int, check: Callable[[], None]
) -> list[Trial]:
    """Time other options in turn with the present ones, on noise.

    Args:
        embedder: the embedder with the present options.
        lengths: lengths of the noise clips in seconds.
        max_s: most seconds of audio on a CPU; less if one batch for each worker is less.
        threads: number of threads that run the model.
        check: called after each run; it may raise to end the trials.
    """
    rate, workers = embedder.extractor.sample_rate, len(embedder.make_workers(threads))
    most = round(max_s * rate) if embedder.device == "cpu" else sys.maxsize  # a GPU needs a batch for each worker
    clips = make_clips(lengths, rate, min(embedder.budget * workers, most))
    embedders = {"": embedder, **dict(list_options(embedder))}
    vectors: dict[str, NDArray[np.float32]] = {}
    seconds: dict[str, list[float]] = {option: [] for option in embedders}
    for candidate in embedders.values():
        embed(candidate, clips[-1:] * workers, threads)  # one-time costs
    for _ in range(2):
        for option, candidate in embedders.items():
            start = time.perf_counter()
            vectors[option] = embed(candidate, clips, threads)
            seconds[option].append(time.perf_counter() - start)
            check()
        if sum(map(sum, seconds.values())) > REPEAT_LIMIT_S:
            break
    audio_s = sum(map(len, clips)) / rate
    return [
        Trial(option, min(seconds[""]) / min(seconds[option]), distance(vectors[""], vectors[option]), audio_s)
        for option in embedders
        if option
    ]


def list_options(embedder: "Embedder") -> "Iterator[tuple[str, Embedder]]":
    """Yield (option, embedder) for every option that may be faster."""
    from embedx.embedding.embedder import BATCH_SECONDS, Embedder
    from embedx.extractors.fast.encoder import accelerate

    extractor, recipe, device = embedder.extractor, embedder.recipe, ",".join(embedder.devices)
    precision, batch_s = embedder.precision, embedder.budget / extractor.sample_rate
    model = embedder.model
    make = partial(
        Embedder, recipe=recipe, device=device, model=model.name, allow_pickle=model.allow_pickle, trusted=model.trusted
    )
    if precision == "float32":
        yield "--precision bfloat16", make(extractor, precision="bfloat16", batch_seconds=batch_s)
    if (fast := accelerate(extractor)) is not extractor:
        yield "--backend fast", make(fast, precision=precision, batch_seconds=batch_s)
    larger_s = BATCH_SECONDS["cpu"] if embedder.device == "cpu" else GPU_BATCHES * batch_s
    if larger_s > batch_s:
        yield f"--batch-seconds {larger_s:g}", make(extractor, precision=precision, batch_seconds=larger_s)


def make_clips(lengths: Sequence[float], rate: int, samples: int) -> list[NDArray[np.float32]]:
    """Return noise clips of these lengths in seconds, repeated until they hold a number of samples."""
    random = np.random.default_rng(0)
    clips: list[NDArray[np.float32]] = []
    while sum(map(len, clips)) < samples:
        size = max(1, round(lengths[len(clips) % len(lengths)] * rate))
        clips.append(random.standard_normal(size, np.float32) / np.float32(10))
    return clips


def embed(embedder: "Embedder", clips: Sequence[NDArray[np.float32]], threads: int) -> NDArray[np.float32]:
    """Return the vectors [N, D] of clips."""
    windows = ((i, Window(0.0, len(clip) / embedder.extractor.sample_rate, clip)) for i, clip in enumerate(clips))
    vectors = {i: views[embedder.recipe.default_view] for i, views, _ in embedder.embed(windows, threads)}
    return np.stack([vectors[i] for i in range(len(clips))])


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the median cosine distance between the rows of two matrices.

    >>> distance(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    0.0
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1) + 1e-300  # so that zero vectors do not divide by 0
    return float(max(0.0, 1 - np.median((x * y).sum(axis=1) / norms)))
