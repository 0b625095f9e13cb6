"""SoundEmbedder: files and sounds in memory -> the vectors of their windows, in batches across sounds."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from embedx.audio.clip import Clip
from embedx.audio.decoder_pool import DECODERS
from embedx.audio.waves import Wave
from embedx.audio.windows import Window, read_wave
from embedx.embedding.forward import Vectors
from embedx.errors import AudioError
from embedx.filesystem.paths import display_path
from embedx.recipe import Recipe

Key = TypeVar("Key")
Place = tuple[int | None, float]  # channel, start_s
Sound = tuple[str, float, float | None] | Wave | AudioError  # (path, start_s, end_s), samples, or what must not be read


@dataclass(frozen=True)
class EmbeddedFile:
    """The W windows of a recording, channel after channel, in the order of time.

    Attributes:
        places: (channel, start_s) of each window.
        ends_s: end_s of each window.
        vectors: view -> vectors [W, D], float32.
    """

    places: list[Place]
    ends_s: list[float]
    vectors: Vectors


class SoundEmbedder(ABC):
    """What embeds windows, with a recipe that says how sounds are cut into windows."""

    recipe: Recipe

    @abstractmethod
    def embed(
        self,
        windows: Iterable[tuple[Key, Window]],
        threads: int = 1,
        on_wait: Callable[[], None] | None = None,
    ) -> Generator[tuple[Key, Vectors, tuple[str, ...]]]:
        """Yield (key, vectors, flags) for every window; see `Embedder.embed`."""

    @abstractmethod
    def check_clip(self, clip: Clip) -> None:
        """Refuse a recording with an AudioError."""

    def embed_files(self, sounds: Sequence[Sound]) -> list[EmbeddedFile | AudioError]:
        """Decode and embed sounds, each with at least one window: `tail="drop"` keeps what is left.

        Args:
            sounds: (path, start_s, end_s) of a file, whose end of None is the end of the file; or samples. An error
                stands for a file that must not be opened, and is returned.

        Returns:
            For each of them its windows, or the reason why it cannot be used.
        """
        tail = "keep" if self.recipe.tail == "drop" else self.recipe.tail  # a query may be shorter than a window
        return self.embed_sounds(sounds, replace(self.recipe, tail=tail))

    def embed_sounds(
        self,
        sounds: Sequence[Sound],
        recipe: Recipe,
        *,
        threads: int = 1,
        on_sound: Callable[[AudioError | None], None] = lambda error: None,
    ) -> list[EmbeddedFile | AudioError]:
        """Decode and embed sounds, in batches across them. A child process decodes files.

        Args:
            sounds: see `embed_files`.
            recipe: how to cut them into windows.
            threads: see `Embedder.embed`.
            on_sound: called after every sound that was read, with its error if it failed; it may raise one.

        Returns:
            For each of them its windows, or the reason why it cannot be used.
        """
        failures: dict[int, AudioError] = {}

        def windows() -> Iterator[tuple[tuple[int, int, Place, float], Window]]:
            for number, sound in enumerate(sounds):
                try:
                    with contextlib.closing(read_sound(sound, recipe)) as decoded:
                        for order, (clip, channel, window) in enumerate(decoded):
                            self.check_clip(clip)
                            yield (number, order, (channel, window.start_s), window.end_s), window
                except AudioError as error:
                    failures[number] = error
                on_sound(failures.get(number))

        results: list[list[tuple[int, Place, float, Vectors]]] = [[] for _ in sounds]
        for (number, order, place, end), vectors, _ in self.embed(windows(), threads):
            results[number].append((order, place, end, vectors))
        files: list[EmbeddedFile | AudioError] = []
        for number, sound in enumerate(sounds):
            ordered = sorted(results[number], key=lambda result: result[0])
            files.append(failures.get(number) or self._join_windows(sound, ordered))
        return files

    def _join_windows(
        self, sound: Sound, results: Sequence[tuple[int, Place, float, Vectors]]
    ) -> EmbeddedFile | AudioError:
        """Stack the vectors of the windows of one sound."""
        stacked = {view: np.stack([vectors[view] for *_, vectors in results]) for view in self.recipe.views}
        if not all(np.isfinite(matrix).all() for matrix in stacked.values()):
            detail = f"The vectors of {display_path(path_of(sound))} contain NaN or infinite values."
            return AudioError("non-finite", detail)
        return EmbeddedFile([place for _, place, _, _ in results], [end for _, _, end, _ in results], stacked)


def read_sound(sound: Sound, recipe: Recipe) -> Generator[tuple[Clip, int | None, Window]]:
    """Yield (clip, channel, window) of a sound.

    Raises:
        AudioError: it cannot be read, or must not be.
    """
    if isinstance(sound, AudioError):
        raise sound
    if isinstance(sound, Wave):
        yield from read_wave(sound, recipe)
        return
    path, start_s, end_s = sound
    yield from DECODERS.read(path, recipe, start_s, end_s)


def path_of(sound: Sound) -> str:
    """Return what errors call a sound."""
    if isinstance(sound, AudioError):
        return ""
    return sound.path if isinstance(sound, Wave) else sound[0]
