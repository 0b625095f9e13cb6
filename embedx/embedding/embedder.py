"""Embedder: windows -> vectors, in batches of windows of similar length."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from operator import index
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from embedx import extractors
from embedx.audio.clip import Clip
from embedx.audio.windows import Window
from embedx.embedding.forward import Forward, Vectors, backend_of, exact_float32
from embedx.embedding.gpu_process import GpuProcess, Model, RemoteWorker
from embedx.embedding.pooling import POOLINGS
from embedx.embedding.sounds import SoundEmbedder
from embedx.embedding.workers import WORKERS_PER_GPU, Worker, make_workers, run_in_order, short_switch_interval
from embedx.errors import ModelError, RecipeMismatch, UsageError
from embedx.extractors.base import Extractor, batch_cost, padded_samples
from embedx.extractors.devices import DTYPES, pick_devices, pick_precision
from embedx.processes.memory import release_memory
from embedx.recipe import Recipe, is_real, view_name

Key = TypeVar("Key")

# Seconds of audio in a batch. HuBERT-base on two cores: 15 s are as fast as 30 s and 60 s, with less memory. On a GPU
# the number of calls matters; 600 s need some 5 GB in bfloat16 (computed, not measured). A batch that does not fit into
# memory is halved.
BATCH_SECONDS = {"cpu": 15.0, "cuda": 600.0}
# Batches of windows that are sorted by length together: in the first pool, and at most; pools double in size. With 16
# batches of a GPU, hours of audio would be read before the first batch.
POOL_BATCHES = {"cpu": (16, 16), "cuda": (2, 4)}
# Shortest to longest window of a batch: padding adds at most a tenth. The fast backend computes nothing on padding, and
# on a GPU few large batches are faster: windows of 0.3 to 30 s make 12 batches of 600 s instead of 41.
MIN_LENGTH_RATIO, MIN_LENGTH_RATIO_ON_GPU = 0.91, 0.67


class Embedder(SoundEmbedder):
    """A frozen extractor with a recipe. The vectors of a clip do not depend on the other clips of its batch."""

    def __init__(
        self,
        extractor: Extractor,
        recipe: Recipe,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch_seconds: float | None = None,
        model: str | None = None,
        allow_pickle: bool = False,
        trusted: bool = True,
    ) -> None:
        """Create an embedder and move the extractor to the first device.

        Args:
            extractor: the loaded model.
            recipe: how windows and vectors are made.
            device: "auto", "cpu", "cuda", or several GPUs such as "cuda:0,cuda:1". With several GPUs, each one loads
                the model again in a process of its own.
            precision: "auto" (float32), "float32", "bfloat16" or "float16".
            batch_seconds: audio in one batch, with the padding that the model computes (Whisper: 30 s for each clip); a
                batch has at least one clip. None: 15 s on a CPU, 600 s on a GPU.
            model: the name that the extractor was loaded by; None: the name in the recipe.
            allow_pickle: whether it was loaded with `allow_pickle`.
            trusted: whether it was loaded with `trusted`.

        Raises:
            UsageError: an argument is invalid.
        """
        if batch_seconds is not None and not (is_real(batch_seconds) and batch_seconds > 0):
            raise UsageError(f"batch_seconds must be a positive number, not {batch_seconds!r}.")
        has_gpu = getattr(extractor, "has_gpu", True)
        self.devices = pick_devices("cpu" if device == "auto" and not has_gpu else device)
        self.device = self.devices[0]
        if batch_seconds is None:
            batch_seconds = BATCH_SECONDS[self.device.split(":")[0]]
        self.precision = pick_precision(precision, getattr(extractor, "precisions", tuple(DTYPES)))
        self.extractor = extractor.to(self.device)
        self.backend = backend_of(extractor)
        self.recipe = recipe
        self.model = Model(model or recipe.model, allow_pickle, self.backend, extractor.weights, trusted)
        budget = max(1, int(batch_seconds * extractor.sample_rate))
        self.forward = Forward(recipe.layers, recipe.poolings, self.precision, budget)
        kind = self.device.split(":")[0]
        self.first_pool, self.pool = (count * budget for count in POOL_BATCHES[kind])  # samples, padding included
        is_packed = kind != "cpu" and self.backend == "fast"
        self.min_length_ratio = MIN_LENGTH_RATIO_ON_GPU if is_packed else MIN_LENGTH_RATIO
        self._workers: dict[int, list[Worker]] = {}  # by their number; made once, since each stream keeps memory
        self.processes: list[GpuProcess] = []  # one for each of several GPUs, started when there is enough work
        self.audio_samples = 0  # in all batches so far, without padding
        self.batch_samples = 0  # in all batches so far, with padding

    @classmethod
    def from_recipe(
        cls,
        recipe: Recipe,
        *,
        model: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        allow_pickle: bool = False,
    ) -> Self:
        """Load the extractor that a stored recipe names.

        Args:
            recipe: the stored recipe.
            model: the name or folder to load, given by the user. None: the model that the recipe names, which must be
                a family of embedx and on this machine.
            device, precision: see `Embedder`.
            allow_pickle: read weights from a pickle if there is no safetensors file.

        Raises:
            ModelError: the model is not there, or the vectors were imported; `model` is None and the recipe names code
                outside embedx, or a model that would have to be downloaded.
            RecipeMismatch: the model has other weights, or another sample rate, than the recipe.
            UsageError: the recipe has layers or poolings that the model does not have.
        """
        if recipe.extractor == "imported":
            raise ModelError(
                f"The vectors of this collection were imported ({recipe.source}), so there is no model to embed audio "
                "with. Search by row (--id, id=) or by vector (--vector, vector=)."
            )
        trusted = model is not None
        extractor = extractors.load(model or recipe.model, allow_pickle=allow_pickle, trusted=trusted)
        if extractor.weights != recipe.weights:
            raise RecipeMismatch(
                f"The weights of {recipe.extractor} {model or recipe.source} differ from those of the collection "
                f"(weights: stored {recipe.weights[:12]}, found {extractor.weights[:12]}). Restore the old weights, or "
                "extract into a new collection."
            )
        if extractor.sample_rate != recipe.sample_rate:
            raise RecipeMismatch(
                f"{model or recipe.model} takes {extractor.sample_rate} Hz, but the collection names "
                f"{recipe.sample_rate} Hz. Extract into a new collection."
            )
        pick_layers(recipe.layers, extractor.layers)
        pick_poolings(recipe.poolings)
        return cls(
            extractor,
            recipe,
            device=device,
            precision=precision,
            model=model,
            allow_pickle=allow_pickle,
            trusted=trusted,
        )

    def embed(
        self,
        windows: Iterable[tuple[Key, Window]],
        threads: int = 1,
        on_wait: Callable[[], None] | None = None,
    ) -> Generator[tuple[Key, Vectors, tuple[str, ...]]]:
        """Yield (key, vectors, flags) for every window, in the order in which batches are finished.

        A window that is shorter than `extractor.min_samples` is padded with zeros and gets the flag "padded".

        Args:
            windows: (key, window); the key identifies the window in the result.
            threads: the number of batches that a CPU computes at the same time. With 1, each batch uses all threads of
                torch.
            on_wait: called regularly while a batch is computed; an error that it raises ends the run.
        """
        workers = self.make_workers(threads)
        with exact_float32, short_switch_interval(self.device):
            batches = run_in_order(workers, self.run_batch, self._batches(iter(windows)), on_wait)
            with contextlib.closing(batches):
                for _, results in batches:
                    yield from results

    def make_workers(self, threads: int) -> Sequence[Worker | RemoteWorker]:
        """Return the workers for this number of threads; see `embedx.embedding.workers.make_workers`.

        Several GPUs have one process each, but only for several threads: little work is not worth the start.
        """
        count = 1 if self.recipe.extractor == "plugin" else threads  # custom code may not be safe in threads
        if len(self.devices) == 1 or threads == 1:
            return self._local_workers(count)
        if not self.processes:
            count = min(count, WORKERS_PER_GPU)
            self.processes = [GpuProcess(device, self.model, self.forward, count) for device in self.devices]
        return [worker for process in self.processes for worker in process.workers]

    def _local_workers(self, count: int) -> list[Worker]:
        """Return the workers of this process, which are made once for each number of them."""
        if count not in self._workers:
            self._workers[count] = make_workers(self.extractor, self.device, count)
        return self._workers[count]

    @property
    def budget(self) -> int:
        """The largest number of samples that are computed for a batch, padding included."""
        return self.forward.budget

    def run_batch(
        self, worker: Worker | RemoteWorker, batch: Sequence[tuple[Key, Window]]
    ) -> list[tuple[Key, Vectors, tuple[str, ...]]]:
        """Return what `embed` yields for the windows of a batch, computed by a worker in the thread of the caller."""
        vectors, shortest = (
            worker.run(self.forward, [window.samples for _, window in batch]),
            self.extractor.min_samples,
        )
        return [
            (
                key,
                {view: matrix[i] for view, matrix in vectors.items()},
                window.flags + (("padded",) if len(window.samples) < shortest else ()),
            )
            for i, (key, window) in enumerate(batch)
        ]

    def _batches(self, stream: Iterator[tuple[Key, Window]]) -> Iterator[list[tuple[Key, Window]]]:
        """Yield batches of windows of similar length.

        Windows are sorted within a pool of several batches. While the batches of a pool are computed, the next pool is
        read in equal steps, so that neither reading nor computing has to wait.
        """
        shortest = self.extractor.min_samples
        size = self.first_pool
        next_pool = list(self._take(stream, size))
        while next_pool:
            pool, next_pool = sorted(next_pool, key=lambda pair: self._cost(pair[1]), reverse=True), []
            growth = min(2.0, self.pool / size)  # samples to read for each one that is computed
            size, free = round(growth * size), 0.0
            while pool:
                longest = self._cost(pool[0][1])
                candidates = pool[: max(1, self.budget // longest)]
                count = sum(self._cost(window) >= self.min_length_ratio * longest for _, window in candidates)
                batch, pool = pool[:count], pool[count:]
                self.audio_samples += sum(max(len(window.samples), shortest) for _, window in batch)
                longest_samples = max(len(window.samples) for _, window in batch)
                self.batch_samples += padded_samples(self.extractor, longest_samples) * len(batch)
                yield batch
                free += growth * self._total_cost(batch)
                windows = list(self._take(stream, free))
                next_pool, free = next_pool + windows, free - self._total_cost(windows)
            release_memory()

    @property
    def padding(self) -> float:
        """Samples computed for each sample of audio; 1 without padding."""
        return self.batch_samples / max(1, self.audio_samples)

    def check_clip(self, clip: Clip) -> None:
        """Refuse a recording with an AudioError. Here all are accepted; a service has limits of its own."""

    def embed_frames(self, window: Window) -> dict[int, NDArray[np.float32]]:
        """Return layer -> frames [T, D] of a window, which are not pooled."""
        with exact_float32:
            return self._local_workers(1)[0].frames(self.forward, window.samples)

    @torch.inference_mode()
    def embed_text(self, text: str, view: str) -> NDArray[np.float32]:
        """Return the vector [1, D] of a sentence, for models whose vectors of audio and text can be compared.

        Args:
            text: the sentence.
            view: the view that the vector is compared with.

        Raises:
            ModelError: the model cannot embed text.
            UsageError: the view is not comparable with text.
        """
        embed = getattr(self.extractor, "embed_text", None)
        if embed is None:
            raise ModelError(
                f"{self.recipe.extractor} cannot embed text. Use a collection made with a model that embeds audio and "
                "text in one space (CLAP, PE-Audio, EmbeddingGemma 2): `embedx extract --model "
                "laion/clap-htsat-unfused`."
            )
        comparable = [view_name(self.extractor.layers[-1], pooling) for pooling in POOLINGS]
        if view not in comparable:
            raise UsageError(f"The view {view} cannot be compared with text. Views that can: {', '.join(comparable)}.")
        with exact_float32:
            vectors: NDArray[np.float32] = embed([text]).float().cpu().numpy()
        return vectors

    def _take(self, windows: Iterator[tuple[Key, Window]], cost: float) -> Iterator[tuple[Key, Window]]:
        """Take windows from a stream until they have this cost."""
        taken = 0
        while taken < cost and (pair := next(windows, None)) is not None:
            taken += self._cost(pair[1])
            yield pair

    def _cost(self, window: Window) -> int:
        """Return the samples that a window counts in the budget."""
        return batch_cost(self.extractor, len(window.samples))

    def _total_cost(self, windows: Iterable[tuple[Key, Window]]) -> int:
        return sum(self._cost(window) for _, window in windows)


def pick_layers(layers: str | int | Sequence[int], available: tuple[int, ...]) -> tuple[int, ...]:
    """Return layers in ascending order: "last", "all", a number, "0,6,12" or a sequence; -1 is the last.

    >>> pick_layers("last", (0, 1, 2)), pick_layers("-1,0", (0, 1, 2)), pick_layers("all", (0, 1, 2))
    ((2,), (0, 2), (0, 1, 2))

    Raises:
        UsageError: the model does not have the layer.
    """
    if isinstance(layers, str) and layers in ("last", "all"):
        return available if layers == "all" else available[-1:]
    names = layers.split(",") if isinstance(layers, str) else layers if isinstance(layers, Iterable) else [layers]
    try:
        numbers = [int(name) if isinstance(name, str) else index(name) for name in names]
        picked = {available[number] if number < 0 else number for number in numbers}
    except (ValueError, TypeError, IndexError):
        picked = set()
    if not picked or not picked <= set(available):
        raise UsageError(
            f"This model has no layers {layers!r}. Its layers are {', '.join(map(str, available))}. Use last, all, or "
            "numbers such as 0,-1 (-1 is the last)."
        )
    return tuple(sorted(picked))


def pick_poolings(pooling: str | Sequence[str]) -> tuple[str, ...]:
    """Return poolings, each once, in the order given.

    >>> pick_poolings("mean,max")
    ('mean', 'max')

    Raises:
        UsageError: a pooling is unknown.
    """
    names = [name.strip() for name in pooling.split(",")] if isinstance(pooling, str) else pooling
    names = list(names) if isinstance(names, Iterable) else [names]
    unknown = [str(name) for name in names if name not in POOLINGS]
    if unknown or not names:
        raise UsageError(f"Unknown pooling {', '.join(unknown) or repr(pooling)}. Poolings: {', '.join(POOLINGS)}.")
    return tuple(dict.fromkeys(names))
