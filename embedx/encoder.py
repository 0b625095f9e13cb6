"""Encoder: a model that turns sounds into vectors, without a collection.

The vectors are those of a collection that `embedx.extract` makes with the same options: the same windows, pooling and
model code. They do not depend on which sounds are encoded together.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from embedx.arguments.keywords import KnownKeywords, with_known_keywords
from embedx.arguments.types import Device, ModelName, read_numbers
from embedx.audio.waves import is_array, is_entry, make_wave, split_batch
from embedx.datasets.items import stretch_to_open
from embedx.datasets.sources import as_list, holds_names, is_frame, read_corpus
from embedx.embedding.embedder import Embedder
from embedx.embedding.options import CutKwargs, EmbeddingOptions
from embedx.embedding.sounds import EmbeddedFile, Sound, path_of, read_sound
from embedx.embedding.workers import MAX_WORKERS
from embedx.errors import AudioError, UsageError
from embedx.index.exact import check_metric, prepare, score
from embedx.recipe import Recipe, view_name

Floats = NDArray[np.float32]

# From this number of sounds on, batches are computed side by side with one thread each, as `extract` does. A few sounds
# are one batch or two, which are done sooner with all threads on each.
MANY_SOUNDS = 16
TOUCH_S = 1e-6  # less than a sample, more than the rounding of a time


@dataclass(frozen=True)
class Place:
    """Where the audio of a vector is.

    Attributes:
        sound: the number of the sound among those that were given, from 0.
        path: its file, or a name such as "array 0".
        channel: the channel, for `channels="each"`; else None.
        start_s, end_s: seconds.
    """

    sound: int
    path: str
    channel: int | None
    start_s: float
    end_s: float


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of one sound, in the order of time.

    Attributes:
        layers: layer -> frames [T, D], float32.
        times: [T] the start of each frame in seconds.
    """

    layers: dict[int, Floats]
    times: NDArray[np.float64]

    @property
    def vectors(self) -> Floats:
        """The frames [T, D] of the last of the layers."""
        return self.layers[max(self.layers)]


@dataclass(frozen=True, eq=False)
class Encoded:
    """The vectors of the windows of sounds.

    Attributes:
        views: view -> vectors [N, D], float32, as "L12.mean".
        places: which sound and time each of the N rows is.
    """

    views: dict[str, Floats]
    places: list[Place]


class EncodeKwargs(CutKwargs, total=False):
    """How sounds become vectors; `Encoder.encode` explains the keywords."""

    layers: str | int | Sequence[int]
    pooling: str | Sequence[str]


class LoadKwargs(TypedDict, total=False):
    """How a model is loaded and run; `load` explains the keywords."""

    device: Device
    precision: str
    backend: str
    batch_seconds: float | None
    allow_pickle: bool


class Encoder(KnownKeywords):
    """A model that turns sounds into vectors; `embedx.load` makes one.

    Attributes:
        model: its name.
        dim: the number D of values of a vector.
        layers: the layers it has, in ascending order.
        sample_rate: the rate in Hz to which sounds are resampled.
    """

    def __init__(self, model: ModelName = "logmel", **loading: Unpack[LoadKwargs]) -> None:
        self._options, self._loading = EmbeddingOptions(model=model, **loading), loading
        self.model = self._options.model
        self._extractor = self._options.load_extractor()
        self._embedders: dict[tuple[Any, ...], Embedder] = {}
        self._embedder(self._options)  # an unknown device is refused now
        self.dim, self.layers = self._extractor.dim, self._extractor.layers
        self.sample_rate = self._extractor.sample_rate

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process loads the model again."""
        return partial(Encoder, **self._loading), (self.model,)

    def __repr__(self) -> str:
        return f"<Encoder {self.model}: {self.dim} values, layers {', '.join(map(str, self.layers))}>"

    def encode(
        self,
        sounds: Any,
        *,
        sample_rate: float | None = None,
        normalize: bool = False,
        progress: bool = False,
        **options: Unpack[EncodeKwargs],
    ) -> Any:
        """Return the vectors of sounds.

        Args:
            sounds: a file, a folder, a table of files, samples, or a list of these. Samples are an array or tensor [S],
                or a mapping with "array" and "sampling_rate", as Hugging Face data sets have; in a list also
                [channels, S] or [S, channels]. An array [N, S] is N sounds.
            sample_rate: the rate of the samples in Hz; they are resampled to that of the model.
            normalize: divide each vector by its length.
            progress: show a bar on standard error.
            layers: "last" (default), "all", a number, or several numbers; -1 is the last.
            pooling: "mean" (default), "sum", "max", or several of them.
            window: window length in seconds, with one row for each window. None (default): one row for each sound. A
                sound of more than 60 s (or the model's maximum) is then cut into windows of 10 s, and its row is their
                mean, weighted by their length ("sum" and "max": their sum and maximum).
            hop: seconds between the starts of windows; default: `window`.
            tail: audio after the last full window: "keep", "pad" or "drop"; see `embedx.extract`.
            channels: "mean" of all channels, the "first", or "each" with rows of its own.
            trim_silence: remove audio at both ends that is 40 dB or more below the loudest moment.
            max_seconds: use only the first seconds of each sound.

        Returns:
            Vectors [N, D], float32, in the order of the sounds; with several layers or poolings a dictionary
            view -> vectors, with keys such as "L12.mean".

        Raises:
            UsageError: an invalid argument; samples without a rate.
            AudioError: a sound cannot be read; the message names it.
        """
        encoded = self.encode_windows(sounds, sample_rate=sample_rate, progress=progress, **options)
        views = encoded.views
        if options.get("window") is None:
            views = {view: join_windows(vectors, view, encoded.places) for view, vectors in views.items()}
        views = {view: prepare(vectors, "cosine" if normalize else "ip") for view, vectors in views.items()}
        return views if len(views) > 1 else next(iter(views.values()))

    def encode_windows(
        self,
        sounds: Any,
        *,
        sample_rate: float | None = None,
        progress: bool = False,
        **options: Unpack[EncodeKwargs],
    ) -> Encoded:
        """Return the vectors of all windows, and which sound and time each row is; the arguments are those of `encode`.

        The rows are those of a collection: a sound that is longer than 60 s (or the model's maximum) has several.

        Raises:
            UsageError, AudioError: see `encode`.
        """
        settings = replace(self._options, **options)
        embedder, recipe = self._embedder(settings), settings.make_recipe(self._extractor)
        read = list_sounds(sounds, sample_rate)
        threads = MAX_WORKERS if len(read) >= MANY_SOUNDS else 1
        with counted(len(read), progress) as on_sound:
            files = list(map(require, embedder.embed_sounds(read, recipe, threads=threads, on_sound=on_sound)))
        places = [
            Place(number, path_of(sound), channel, start_s, end_s)
            for number, (sound, file) in enumerate(zip(read, files, strict=True))
            for (channel, start_s), end_s in zip(file.places, file.ends_s, strict=True)
        ]
        empty = np.zeros((0, self.dim), np.float32)
        views = {view: np.concatenate([empty, *(file.vectors[view] for file in files)]) for view in recipe.views}
        return Encoded(views, places)

    def encode_frames(
        self,
        sounds: Any,
        *,
        sample_rate: float | None = None,
        layers: str | int | Sequence[int] = "last",
        window: float | None = None,
        channels: str = "mean",
        max_seconds: float | None = None,
        progress: bool = False,
    ) -> list[Frames]:
        """Return the frames of every sound with their times, before they are pooled.

        Args:
            sounds, sample_rate, layers, max_seconds, progress: see `encode`.
            window: the model sees windows of this length in seconds; None: the whole sound of up to 60 s (or the
                model's maximum), and windows of 10 s of a longer one.
            channels: "mean" of all channels, or the "first".

        Returns:
            The frames of each sound.

        Raises:
            UsageError, AudioError: see `encode`.
        """
        if channels == "each":
            raise UsageError("encode_frames takes channels='mean' or 'first'. Give each channel as a sound of its own.")
        options = replace(self._options, layers=layers, window=window, channels=channels, max_seconds=max_seconds)
        embedder, recipe = self._embedder(options), options.make_recipe(self._extractor)
        read, results = list_sounds(sounds, sample_rate), []
        with counted(len(read), progress) as on_sound:
            for sound in read:
                results.append(self._frames_of(sound, embedder, recipe))
                on_sound(None)
        return results

    def encode_text(self, texts: str | Sequence[str], *, normalize: bool = False) -> Floats:
        """Return the vectors [N, D] of texts, which can be compared with those of sounds.

        Args:
            texts: a text, or several.
            normalize: divide each vector by its length.

        Raises:
            ModelError: the model embeds audio only.
            UsageError: a text is empty or too long.
        """
        texts = list(texts) if isinstance(texts, Iterable) and not isinstance(texts, str) else [texts]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise UsageError('Every text must be a description that is not empty, as in "a dog barks in the rain".')
        view, embedder = view_name(self.layers[-1], "mean"), self._embedder(self._options)
        vectors = [embedder.embed_text(text, view) for text in texts]
        stacked = np.concatenate([np.zeros((0, self.dim), np.float32), *vectors])
        return prepare(stacked, "cosine" if normalize else "ip")

    def similarity(self, a: Any, b: Any, *, metric: str = "cosine") -> Floats:
        """Return the scores [N, M] of all pairs of vectors; a higher score is nearer.

        Args:
            a: vectors [N, D], or one vector [D].
            b: vectors [M, D], or one vector [D].
            metric: "cosine", "ip" (inner product), or "l2" (minus the Euclidean distance).

        Raises:
            UsageError: an unknown metric, or the vectors differ in their dimension.
        """
        check_metric(metric)
        first, second = (
            np.atleast_2d(read_numbers(vectors, name, np.float32)) for name, vectors in (("a", a), ("b", b))
        )
        if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
            raise UsageError(
                f"similarity takes vectors [N, D] and [M, D] of one dimension, not {list(np.shape(a))} and "
                f"{list(np.shape(b))}."
            )
        return score(prepare(first, metric), prepare(second, metric), metric)

    def _embedder(self, options: EmbeddingOptions) -> Embedder:
        """Return the embedder for the layers and poolings of some options; made once, since it may have processes."""
        embedder = options.make_embedder(self._extractor)
        return self._embedders.setdefault((embedder.recipe.layers, embedder.recipe.poolings), embedder)

    def _frames_of(self, sound: Sound, embedder: Embedder, recipe: Recipe) -> Frames:
        """Return the frames of a sound; a window that overlaps the one before it adds only those that are new."""
        parts: list[tuple[dict[int, Floats], NDArray[np.float64]]] = []
        step, next_s = 1 / self._extractor.frame_rate, 0.0
        for _, _, window in read_sound(sound, recipe):
            layers = embedder.embed_frames(window)
            times = np.asarray(window.start_s + step * np.arange(len(next(iter(layers.values())))), np.float64)
            new = times >= next_s - TOUCH_S
            parts.append(({layer: frames[new] for layer, frames in layers.items()}, times[new]))
            next_s = float(times[-1]) + step
        layers = {layer: np.concatenate([part[layer] for part, _ in parts]) for layer in recipe.layers}
        if not all(np.isfinite(frames).all() for frames in layers.values()):
            raise AudioError("non-finite", f"The frames of {path_of(sound)} contain NaN or infinite values.")
        return Frames(layers, np.concatenate([times for _, times in parts]))


@with_known_keywords
def load(model: ModelName = "logmel", **loading: Unpack[LoadKwargs]) -> Encoder:
    """Load a model, to encode sounds without a collection.

    Args:
        model: a name of `embedx models`, a hub id, or a folder; see `embedx.extract`.
        device: "auto", "cpu", "cuda", or several GPUs such as "cuda:0,cuda:1".
        precision: "auto" (float32), "float32", "bfloat16" or "float16".
        backend: model code: "fast", "reference" or "auto"; see `embedx.extract`.
        batch_seconds: audio per batch; default 15 s on a CPU, 600 s on a GPU. Vectors do not depend on it.
        allow_pickle: read weights from a pickle file (.bin, .pth) if there is no safetensors file.

    Raises:
        ModelError: the model cannot be loaded.
        UsageError: an invalid argument.
    """
    return Encoder(model, **loading)


def list_sounds(sounds: Any, sample_rate: float | None) -> list[Sound]:
    """Return the sounds of an argument of `Encoder.encode`, in its order."""
    is_batch = is_array(sounds) and not is_entry(sounds) and not holds_names(sounds)
    parts = split_batch(sounds) if is_batch else as_list(sounds)
    read: list[Sound] = []
    for part in parts:
        if is_array(part):
            read.append(make_wave(part, sample_rate, f"array {len(read)}"))
        elif isinstance(part, (list, tuple)):
            raise UsageError("A list holds files and arrays; give samples as arrays: numpy.array(samples).")
        elif isinstance(part, (str, os.PathLike)) or is_frame(part):
            read += map(stretch_to_open, read_corpus(part))
        else:
            raise UsageError(
                f'A sound is a file, samples as an array or tensor, or a mapping with "array" and "sampling_rate", not '
                f"{type(part).__name__}. Several sounds are a list."
            )
    return read


def join_windows(vectors: Floats, view: str, places: Sequence[Place]) -> Floats:
    """Join the windows of every sound and channel to one vector, as the pooling of the view does with frames."""
    pooling, rows, begin = view.partition(".")[2], [], 0
    for _, group in groupby(places, key=lambda place: (place.sound, place.channel)):
        lengths = [place.end_s - place.start_s for place in group]
        part, begin = vectors[begin : begin + len(lengths)], begin + len(lengths)
        if len(part) == 1:
            rows.append(part[0])
        else:
            rows.append(np.average(part, 0, lengths) if pooling == "mean" else getattr(np, pooling)(part, axis=0))
    return np.array(rows, np.float32).reshape(-1, vectors.shape[1])


def require(file: EmbeddedFile | AudioError) -> EmbeddedFile:
    """Return the windows of a sound; raise the error of one that cannot be used."""
    if isinstance(file, AudioError):
        raise file
    return file


@contextmanager
def counted(total: int, progress: bool) -> Iterator[Callable[[AudioError | None], None]]:
    """Return a function to call after every sound: it moves the bar, and raises the error of a sound."""
    from tqdm import tqdm

    with tqdm(total=total, unit="sound", disable=not progress) as bar:

        def count(error: AudioError | None) -> None:
            if error is not None:
                raise error
            bar.update()

        yield count
