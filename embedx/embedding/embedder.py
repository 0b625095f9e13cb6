"""Embedder: windows -> vectors, in batches of like length. `lanes` compute them."""

import contextlib
import ctypes
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from embedx import extractors
from embedx.audio.windows import Window, read_channels
from embedx.embedding.forward import DTYPES, Forward, Vectors, backend_of, exact_for_all, inference_precision
from embedx.embedding.gpu_process import GpuProcess, Model, RemoteWorker
from embedx.embedding.pooling import POOLINGS
from embedx.embedding.workers import LANES_PER_GPU, Worker, make_workers, run_in_order
from embedx.errors import AudioError, ModelError, RecipeMismatch, UsageError
from embedx.extractors.base import Extractor
from embedx.filesystem.paths import display_path
from embedx.recipe import Recipe, view_name

Place = tuple[int | None, float]  # channel, start_s
Key = TypeVar("Key")

# Audio in a batch. HuBERT-base on two cores: 15 s are as fast as 30 and 60, in less memory. On a GPU what counts is
# the number of calls; 600 s take some 5 GB in bfloat16 (counted, not measured), and what does not fit is halved.
BATCH_SECONDS = {"cpu": 15.0, "cuda": 600.0}
POOL = 16  # batches' worth of audio that is sorted by length at a time
ALIKE = 0.91  # of the longest clip of a batch is the shortest at least: no batch pads by more than a tenth


@dataclass(frozen=True)
class EmbeddedFile:
    """The windows of a recording, channel after channel in the order of time.

    places: (channel, start_s) of each. ends_s: where each ends. vectors: view -> [W, D].
    """

    places: list[Place]
    ends_s: list[float]
    vectors: Vectors


class Embedder:
    """A frozen extractor with a recipe: the same clip gives the same vectors, whatever it is batched with."""

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
    ) -> None:
        """Take an extractor; `model` is what it was loaded by if not by the recipe, and the same with `allow_pickle`.

        Several GPUs load it once more, each in its process.
        """
        if batch_seconds is not None and not batch_seconds > 0:
            raise UsageError(f"batch_seconds must be positive, not {batch_seconds}.")
        self.devices = pick_devices(device)
        self.device = self.devices[0]
        if batch_seconds is None:
            batch_seconds = BATCH_SECONDS[self.device.split(":")[0]]
        self.precision = pick_precision(precision)
        self.extractor = extractor.to(self.device)
        self.backend = backend_of(extractor)
        self.recipe = recipe
        self.model = Model(model or recipe.model, allow_pickle, self.backend, extractor.weights)
        budget = max(1, int(batch_seconds * extractor.sample_rate))
        self.forward = Forward(recipe.layers, recipe.poolings, self.precision, budget)
        self.pool = POOL * budget  # samples that are sorted by length at a time
        self.processes: list[GpuProcess] = []  # of several GPUs, once there is enough to do
        self.heard = 0  # samples that went through the model,
        self.padded = 0  # and with the padding of their batches

    @classmethod
    def from_recipe(
        cls,
        recipe: Recipe,
        *,
        model: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        allow_pickle: bool = False,
    ) -> "Embedder":
        """Load the extractor that a stored recipe names, or take it from `model` if it lies elsewhere now.

        Raises:
            ModelError: it is not where it was, is code from outside that `model` does not name, or the vectors were
                imported from elsewhere.
            RecipeMismatch: it is there, but with other weights.
        """
        if recipe.extractor == "imported":
            raise ModelError(
                f"The vectors of this collection were imported ({recipe.source}), so no model here makes one of a "
                "recording. Search by row (--id, id=) or by vector (--vector, vector=)."
            )
        if model is None and recipe.extractor == "plugin":
            raise ModelError(
                f"This collection was made by code from outside, {recipe.source}, which is not run because a "
                f"collection names it. If you trust it, say so: --model {recipe.source} (model=)."
            )
        extractor = extractors.load(model or recipe.model, allow_pickle=allow_pickle)
        if extractor.weights != recipe.weights:
            raise RecipeMismatch(
                f"The weights of {recipe.extractor} {model or recipe.source} are not those the collection was made "
                f"with (weights: stored {recipe.weights[:12]}, found {extractor.weights[:12]}). Put the old ones back, "
                "or extract anew."
            )
        return cls(extractor, recipe, device=device, precision=precision, model=model, allow_pickle=allow_pickle)

    def embed(
        self, windows: Iterable[tuple[Key, Window]], threads: int = 1
    ) -> Generator[tuple[Key, Vectors, tuple[str, ...]]]:
        """Yield (key, vectors, flags) for every window, in the order in which batches are done.

        A window shorter than the extractor's shortest is padded with zeros and flagged. `threads` is how many batches
        a CPU computes at a time; with one, each batch has all of torch's threads.
        """
        lanes = self.make_workers(threads)
        with exact_for_all(self.precision):
            batches = run_in_order(lanes, self._run_batch, self._batches(iter(windows)))
            with contextlib.closing(batches):
                for batch, vectors in batches:
                    for i, (key, window) in enumerate(batch):
                        padded = ("padded",) if len(window.samples) < self.extractor.min_samples else ()
                        yield key, {view: matrix[i] for view, matrix in vectors.items()}, window.flags + padded

    def make_workers(self, threads: int) -> Sequence[Worker | RemoteWorker]:
        """Return where so many threads compute batches; see `embedx.embedding.make_lanes`.

        Several GPUs have a process each, if there is so much to do that it is worth its start.
        """
        each = 1 if self.recipe.extractor == "plugin" else threads  # its code may keep a batch where no other may run
        if len(self.devices) == 1 or threads == 1:
            return make_workers(self.extractor, self.device, each)
        if not self.processes:
            count = min(each, LANES_PER_GPU)
            self.processes = [GpuProcess(device, self.model, self.forward, count) for device in self.devices]
        return [lane for process in self.processes for lane in process.lanes]

    @property
    def budget(self) -> int:
        """Samples in a batch, padding included."""
        return self.forward.budget

    def _run_batch(self, lane: Worker | RemoteWorker, batch: Sequence[tuple[Key, Window]]) -> Vectors:
        return lane.run(self.forward, [window.samples for _, window in batch])

    def _batches(self, stream: Iterator[tuple[Key, Window]]) -> Iterator[list[tuple[Key, Window]]]:
        """Yield batches of windows of like length, from one pool after the other.

        As much as leaves a pool is read for the next, so that nothing waits until all of that is there.
        """
        coming, freed = list(take_seconds(stream, self.pool)), 0
        while coming:
            pool, coming = sorted(coming, key=lambda pair: len(pair[1].samples), reverse=True), []
            while pool:
                longest = self._length(pool[0][1])
                most = max(1, self.budget // longest)
                size = sum(self._length(window) >= ALIKE * longest for _, window in pool[:most])
                batch, pool = pool[:size], pool[size:]
                self.heard += sum(self._length(window) for _, window in batch)
                self.padded += longest * len(batch)
                yield batch
                freed += count_samples(batch)
                more = list(take_seconds(stream, freed))
                coming, freed = coming + more, freed - count_samples(more)
            give_back_memory()

    @property
    def padding(self) -> float:
        """Samples that were computed for every sample that was heard, 1 without padding."""
        return self.padded / max(1, self.heard)

    def embed_files(self, stretches: Sequence[tuple[str, float, float | None]]) -> "list[EmbeddedFile | AudioError]":
        """Return for every (path, start_s, end_s) its windows, or why it cannot be used; batches go across files."""
        tail = "keep" if self.recipe.tail == "drop" else self.recipe.tail  # a query may be shorter than a window
        recipe = replace(self.recipe, tail=tail)
        failures: dict[int, AudioError] = {}

        def windows() -> Iterator[tuple[tuple[int, int, Place, float], Window]]:
            for number, (path, start_s, end_s) in enumerate(stretches):
                try:
                    for order, (_, channel, window) in enumerate(read_channels(path, recipe, start_s, end_s)):
                        yield (number, order, (channel, window.start_s), window.end_s), window
                except AudioError as error:
                    failures[number] = error
                except OSError as error:
                    failures[number] = AudioError("unreadable", f"{display_path(path)} cannot be read: {error}")

        found: list[list[tuple[int, Place, float, Vectors]]] = [[] for _ in stretches]
        for (number, order, place, end), vectors, _ in self.embed(windows()):
            found[number].append((order, place, end, vectors))
        heard: list[EmbeddedFile | AudioError] = []
        for number, (path, *_) in enumerate(stretches):
            ordered = sorted(found[number], key=lambda one: one[0])
            heard.append(failures.get(number) or self._put_together(path, ordered))
        return heard

    def _put_together(
        self, path: str, found: Sequence[tuple[int, Place, float, Vectors]]
    ) -> "EmbeddedFile | AudioError":
        stacked = {view: np.stack([vectors[view] for *_, vectors in found]) for view in self.recipe.views}
        if not all(np.isfinite(matrix).all() for matrix in stacked.values()):
            return AudioError("non-finite", f"The model makes no finite vector of {display_path(path)}.")
        return EmbeddedFile([place for _, place, _, _ in found], [end for _, _, end, _ in found], stacked)

    @torch.inference_mode()
    def embed_text(self, text: str, view: str) -> NDArray[np.float32]:
        """Return the vector [1, D] of a sentence, to be compared with a view of the layer that text is embedded beside.

        Raises:
            ModelError: the model makes vectors of sound only.
            UsageError: the view is of another layer.
        """
        make = getattr(self.extractor, "embed_text", None)
        if make is None:
            raise ModelError(
                f"{self.recipe.extractor} makes vectors of sound only. Text is for collections of a model that has one "
                "space for both: `embedx extract --model` with a CLAP, such as laion/clap-htsat-unfused."
            )
        shared = [view_name(self.extractor.layers[-1], pooling) for pooling in POOLINGS]
        if view not in shared:
            raise UsageError(f"The view {view} lies in no space with text. Views that do: {', '.join(shared)}.")
        with inference_precision("float32", self.device):
            vectors: NDArray[np.float32] = make([text]).float().cpu().numpy()
        return vectors

    def _length(self, window: Window) -> int:
        return max(len(window.samples), self.extractor.min_samples)


def give_back_memory() -> None:
    """Return freed memory to the system, where that is glibc's; small blocks between large ones keep it otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def count_samples(windows: Iterable[tuple[Key, Window]]) -> int:
    """Return how many samples windows hold."""
    return sum(len(window.samples) for _, window in windows)


def take_seconds(windows: Iterator[tuple[Key, Window]], samples: int) -> Iterator[tuple[Key, Window]]:
    """Take windows from a stream until they hold this many samples."""
    taken = 0
    while taken < samples and (one := list(islice(windows, 1))):
        taken += len(one[0][1].samples)
        yield one[0]


def pick_devices(device: str) -> tuple[str, ...]:
    """Return the devices that a name means: "auto", "cpu", "cuda", or several GPUs as "cuda:0,cuda:1".

    Raises:
        UsageError: one is unknown, named twice, or not there.
    """
    if device == "auto":
        return ("cuda" if torch.cuda.is_available() else "cpu",)
    devices = tuple(name.strip() for name in device.split(","))
    gpus = [name for name in devices if re.fullmatch(r"cuda(:\d+)?", name)]
    if len(set(devices)) < len(devices) or (devices != ("cpu",) and len(gpus) < len(devices)):
        raise UsageError(f"Unknown device {device!r}. Devices: auto, cpu, cuda, or several such as cuda:0,cuda:1.")
    if gpus and not torch.cuda.is_available():
        raise UsageError(f"Device {device!r} was asked for, but torch sees no GPU here. Use cpu or auto.")
    there = torch.cuda.device_count()
    if any(int(name.partition(":")[2] or 0) >= there for name in gpus):
        raise UsageError(f"Device {device!r} was asked for, but torch sees {there} GPUs here, from cuda:0 on.")
    return devices


def pick_precision(precision: str) -> str:
    """Return the precision that "auto" means: float32, until a narrower one is shown to give the same neighbours."""
    if precision not in ("auto", *DTYPES):
        raise UsageError(f"Unknown precision {precision!r}. Precisions: auto, {', '.join(DTYPES)}.")
    return "float32" if precision == "auto" else precision


def pick_layers(layers: str | int | Sequence[int], offered: tuple[int, ...]) -> tuple[int, ...]:
    """Return the asked layers in ascending order: "last", "all", a number, "0,6,12" or a sequence; -1 is the last.

    >>> pick_layers("last", (0, 1, 2)), pick_layers("-1,0", (0, 1, 2)), pick_layers("all", (0, 1, 2))
    ((2,), (0, 2), (0, 1, 2))

    Raises:
        UsageError: the model has no such layer.
    """
    if layers in ("last", "all"):
        return offered if layers == "all" else offered[-1:]
    asked = layers.split(",") if isinstance(layers, str) else [layers] if isinstance(layers, int) else list(layers)
    try:
        numbers = [int(layer) for layer in asked]
        picked = {offered[number] if number < 0 else number for number in numbers}
    except (ValueError, TypeError, IndexError):
        picked = set()
    if not picked or not picked <= set(offered):
        raise UsageError(
            f"This model has no layers {layers!r}. It has the layers {', '.join(map(str, offered))}; give last, all, "
            "or numbers such as 0,-1 (-1 is the last)."
        )
    return tuple(sorted(picked))


def pick_poolings(pooling: str | Sequence[str]) -> tuple[str, ...]:
    """Return the asked poolings, each once, in the order given.

    >>> pick_poolings("mean,max")
    ('mean', 'max')

    Raises:
        UsageError: one is unknown.
    """
    asked = [name.strip() for name in pooling.split(",")] if isinstance(pooling, str) else list(pooling)
    unknown = [name for name in asked if name not in POOLINGS]
    if unknown or not asked:
        raise UsageError(f"Unknown pooling {', '.join(unknown) or repr(pooling)}. Poolings: {', '.join(POOLINGS)}.")
    return tuple(dict.fromkeys(asked))
