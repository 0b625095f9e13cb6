"""A sample of a source: recordings spread evenly over it, or noise clips where there is no source."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from embedx.audio.decoder_pool import DECODERS
from embedx.audio.decoder_process import Decoder
from embedx.datasets.items import Item
from embedx.datasets.sources import read_corpus
from embedx.datasets.synthetic import synthesise_lengths
from embedx.ingest.prefetch import share_work
from embedx.processes.cores import count_cores
from embedx.text import plural

ASSUMED_LENGTH_S = 10.0  # of a recording whose header does not give a length
MAX_RECORDING_S = 120.0  # of one recording, so that a sample holds several; its windows are those of the whole one
GOLDEN_RATIO = (5**0.5 - 1) / 2  # the fractional parts of its multiples are spread evenly, however many there are

Recordings = Mapping[str, Sequence[Item]]  # path -> the items of the file


class Sample:
    """A source from which recordings are taken.

    Attributes:
        name: a description of the source.
        share: number of threads and processes that is useful for the whole source; see
            `embedx.ingest.prefetch.share_work`.
    """

    def __init__(self, source: Any, folder: str) -> None:
        """List the recordings of a source; without one, noise clips are written to a folder."""
        self.folder = folder
        self.is_noise = source is None
        self.by_path: dict[str, list[Item]] = {}
        self.name = "noise clips of 0.3 to 30 s (log-uniform), 16 kHz WAV"
        self.share = count_cores()
        if self.is_noise:
            return
        for item in read_corpus(source):
            self.by_path.setdefault(item.path, []).append(item)
        self.name = f"a source of {plural(len(self.by_path), 'recording')}"
        self.share = share_work(len(self.by_path), sum(size_of(path) for path in self.by_path))

    def take(self, seconds: float) -> Recordings:
        """Return recordings that hold a number of seconds according to their headers, or all recordings.

        A smaller sample is a part of a larger one.
        """
        if self.is_noise:
            return {str(path): [Item(str(path))] for path in synthesise_lengths(self.folder, seconds)}
        paths, selected = list(self.by_path), set()
        with DECODERS.borrow() as decoder:
            for position in np.argsort(np.arange(len(paths)) * GOLDEN_RATIO % 1.0):
                if seconds <= 0:
                    break
                selected.add(paths[position])
                seconds -= sum(length_of(item, decoder) for item in self.by_path[paths[position]])
        return {path: [shorten(item) for item in items] for path, items in self.by_path.items() if path in selected}


def size_of(path: str) -> int:
    """Return the size of a file in bytes, 0 if it cannot be read."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def shorten(item: Item) -> Item:
    """Return an item that is at most `MAX_RECORDING_S` long.

    >>> shorten(Item("/a.wav", 10.0, 400.0)).end_s, shorten(Item("/a.wav", 10.0, 12.0)).end_s
    (130.0, 12.0)
    """
    latest = item.start_s + MAX_RECORDING_S
    return replace(item, end_s=latest if item.end_s is None else min(item.end_s, latest))


def length_of(item: Item, decoder: Decoder) -> float:
    """Return the seconds of an item that are used, according to the header of its file."""
    end_s = shorten(item).end_s
    assert end_s is not None
    file_s = decoder.length_of(item.path)
    if file_s is None:
        return min(ASSUMED_LENGTH_S, end_s - item.start_s)
    return max(0.0, min(end_s, file_s) - item.start_s)
