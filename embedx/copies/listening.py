"""Listening: rows of a store -> the sounds of those rows whose recordings are at hand."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedx.audio.decoder_pool import DECODERS
from embedx.copies.sounds import MIN_LENGTH_S
from embedx.errors import EmbedxError
from embedx.processes.cores import count_cores
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row, group_by_path

MAX_RATE = 16_000  # Hz; what codecs keep, and what tells sounds apart, is below 8 kHz
MAX_CLIP_S = 5.0  # of each row; the words of FSDD are told apart by 0.4 s
MAX_LISTENED_S = 7200.0  # of all rows: 230 MB, and some 20 s on two cores
MAX_DECODED_S = 14_400.0  # of all recordings that hold the rows: some 40 s on two cores

Sound = NDArray[np.float16]  # [S], with its peak at 1


def listen(recordings: dict[str, Recording], recipe: Recipe, rows: Sequence[Row]) -> Iterator[tuple[int, Sound]]:
    """Read the first 5 s of rows, by recording, up to 2 hours in all; each recording is decoded once.

    Args:
        recordings: the recordings of the store by path.
        recipe: the recipe of the store, for its channels and windows.
        rows: the rows.

    Yields:
        The id and the sound of each row, while other recordings are decoded. Rows are missing if their file has moved
        or changed, cannot be read, or is too long to be read, if they are silent or shorter than 0.1 s, or if 2 hours
        are full.
    """
    if not recipe.sample_rate:  # vectors that were imported
        return
    chosen = list(choose_rows(recordings, rows))
    groups = list(group_by_path(chosen).items())
    with ThreadPoolExecutor(count_cores()) as pool:
        read = pool.map(lambda group: read_sounds(recordings[group[0]], recipe, group[1]), groups)
        for sounds in read:
            yield from sounds.items()


def listening_rate(recipe: Recipe) -> int:
    """Return the sampling rate of the sounds in Hz."""
    return min(recipe.sample_rate, MAX_RATE)


def choose_rows(recordings: dict[str, Recording], rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows whose recordings are at hand, until the limits are reached."""
    reachable: dict[str, bool] = {}
    listened_s, decoded_s = 0.0, 0.0
    for row in rows:
        recording = recordings[row.path]
        if row.path not in reachable:
            decoded_s += min(recording.duration_s or 0.0, MAX_DECODED_S)
            reachable[row.path] = decoded_s <= MAX_DECODED_S and is_unchanged(recording)
        length_s = row.end_s - row.start_s
        if reachable[row.path] and length_s >= MIN_LENGTH_S and "silent" not in row.flags:
            listened_s += min(length_s, MAX_CLIP_S)
            if listened_s > MAX_LISTENED_S:
                return
            yield row


def is_unchanged(recording: Recording) -> bool:
    """Tell whether the file of a recording is where it was, with the same size."""
    try:
        return recording.size is not None and os.stat(recording.path).st_size == recording.size
    except (OSError, ValueError):
        return False


def read_sounds(recording: Recording, recipe: Recipe, rows: Sequence[Row]) -> dict[int, Sound]:
    """Return row id -> sound of rows of one recording, decoded once from the first row to the last.

    It is read in blocks of 10 s every 5 s, so that each sound of up to 5 s lies in one block.
    """
    rate = listening_rate(recipe)
    blocks = replace(
        recipe, sample_rate=rate, window_s=2 * MAX_CLIP_S, hop_s=MAX_CLIP_S, tail="pad", trim_silence=False,
        max_seconds=None,
    )  # fmt: skip
    lengths = {row.id: round(min(row.end_s - row.start_s, MAX_CLIP_S) * rate) for row in rows}
    first_s = min(row.start_s for row in rows)
    last_s = max(min(row.end_s, row.start_s + MAX_CLIP_S) for row in rows)
    sounds: dict[int, Sound] = {}
    with contextlib.suppress(EmbedxError, OSError):  # what cannot be read is not compared
        for _, channel, block in DECODERS.read(recording.path, blocks, first_s, last_s):
            for row in rows:
                begin = round((row.start_s - block.start_s) * rate)
                is_inside = begin >= 0 and begin + lengths[row.id] <= len(block.samples)
                if is_inside and row.id not in sounds and row.meta.get("channel") == channel:
                    sounds[row.id] = to_sound(block.samples[begin : begin + lengths[row.id]])
    return {row_id: sound for row_id, sound in sounds.items() if sound.any()}


def to_sound(samples: NDArray[np.float32]) -> Sound:
    """Return samples with their peak at 1, in half the memory."""
    return (samples / max(float(np.abs(samples).max()), 1e-30)).astype(np.float16)
