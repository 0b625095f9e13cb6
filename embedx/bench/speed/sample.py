"""Sample: so many seconds of a source, taken evenly over it, or of a corpus that is made where there is no source."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from embedx.audio.decoder_process import Decoder, borrow_decoder
from embedx.datasets.items import Item
from embedx.datasets.sources import read_corpus
from embedx.datasets.synthetic import synthesise_lengths
from embedx.ingest.prefetch import share_work
from embedx.processes.cores import count_cores

ASSUMED_S = 10.0  # of a recording whose header does not say how long it is
MOST_EACH_S = 120.0  # of one recording, so that hours of one are not all there is to see; windows are as in the whole
GOLDEN = (5**0.5 - 1) / 2  # the multiples of which, without their whole part, lie evenly however many there are

Recordings = Mapping[str, Sequence[Item]]  # path -> what is asked of it


class Sample:
    """A source that recordings are taken from.

    Attributes:
        name: what it is, in words.
        share: how many processes or threads the whole of it is worth; see `embedx.ingest.prefetch.share_work`.
    """

    def __init__(self, source: Any, folder: str) -> None:
        self.folder = folder
        self.made = source is None
        self.by_path: dict[str, list[Item]] = {}
        self.name = "made noise of 0.3 to 30 s (log-uniform), WAV of 16 kHz"
        self.share = count_cores()
        if self.made:
            return
        for item in read_corpus(source):
            self.by_path.setdefault(item.path, []).append(item)
        self.name = f"a source of {len(self.by_path)} recordings"
        self.share = share_work(len(self.by_path), sum(size_of(path) for path in self.by_path))

    def take(self, seconds: float) -> Recordings:
        """Return recordings that hold so many seconds by their headers, or all there are.

        Those of a smaller sample are among those of a larger one.
        """
        if self.made:
            return {str(path): [Item(str(path))] for path in synthesise_lengths(self.folder, seconds)}
        paths, taken = list(self.by_path), set()
        with borrow_decoder() as decoder:
            for place in np.argsort(np.arange(len(paths)) * GOLDEN % 1.0):
                if seconds <= 0:
                    break
                taken.add(paths[place])
                seconds -= sum(length_of(item, decoder) for item in self.by_path[paths[place]])
        return {path: [shorten(item) for item in items] for path, items in self.by_path.items() if path in taken}


def size_of(path: str) -> int:
    """Return the bytes of a file, 0 where it cannot be said."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def shorten(item: Item) -> Item:
    """Return an item that ends after `MOST_EACH_S`.

    >>> shorten(Item("/a.wav", 10.0, 400.0)).end_s, shorten(Item("/a.wav", 10.0, 12.0)).end_s
    (130.0, 12.0)
    """
    latest = item.start_s + MOST_EACH_S
    return replace(item, end_s=latest if item.end_s is None else min(item.end_s, latest))


def length_of(item: Item, decoder: Decoder) -> float:
    """Return how many seconds of an item are taken, as its header says."""
    end_s = shorten(item).end_s
    assert end_s is not None
    whole = decoder.length_of(item.path)
    return max(0.0, min(end_s, whole) - item.start_s) if whole is not None else min(ASSUMED_S, end_s - item.start_s)
