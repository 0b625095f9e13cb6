"""Waves: the windows of all rows, decoded once into one file, from which batches are read in any order.

The file has no name, so nothing is left of it when the process ends. Decoding takes place in child processes, as
everywhere in embedx.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedx.audio.decoder_pool import DECODERS
from embedx.datasets.items import Item, path_to_open
from embedx.errors import AudioError, DiskError
from embedx.recipe import Recipe

Samples = NDArray[np.float32]


@dataclass
class Waves:
    """Windows [S] of rows.

    Attributes:
        row: [W] the position of the row of each window.
        start, length: [W] its place in the samples.
        failures: position of a row that could not be read -> why.
        silent: positions of the rows whose windows are all silent.
    """

    row: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    samples: Samples
    failures: dict[int, AudioError] = field(default_factory=dict)
    silent: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, window: int) -> Samples:
        """Return the samples [S] of a window."""
        begin = int(self.start[window])
        return np.array(self.samples[begin : begin + int(self.length[window])])

    def of_rows(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the windows of some rows, in ascending order."""
        return np.flatnonzero(np.isin(self.row, rows))


def read_waves(items: Sequence[Item], recipe: Recipe, folder: Path, on_row: Callable[[int], None]) -> Waves:
    """Decode the windows of all items.

    Args:
        items: one for each row.
        recipe: how recordings are cut, and the rate.
        folder: the folder on whose disk the samples are written.
        on_row: called with the number of rows that are done.

    Returns:
        The windows; rows that could not be read have none, and are among the failures.

    Raises:
        DiskError: the disk is full, or cannot be written.
    """
    row: list[int] = []
    length: list[int] = []
    failures: dict[int, AudioError] = {}
    silent: list[int] = []
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for position, item in enumerate(items):
                try:
                    read = DECODERS.read(path_to_open(item), recipe, item.start_s, item.end_s)
                    windows = [window for _, _, window in read]
                except AudioError as error:
                    failures[position] = error
                    continue
                finally:
                    on_row(position + 1)
                for window in windows:
                    file.write(np.ascontiguousarray(window.samples, np.float32).data)
                    row.append(position)
                    length.append(len(window.samples))
                if all("silent" in window.flags for window in windows):
                    silent.append(position)
            file.flush()
            samples = np.memmap(file, np.float32, "r") if length else np.zeros(0, np.float32)
    except OSError as error:
        if isinstance(error, AudioError):
            raise
        raise DiskError(f"The decoded audio cannot be written to {folder}: {error.strerror or error}.") from error
    lengths = np.array(length, np.int64)
    start = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])[:-1] if length else lengths
    return Waves(np.array(row, np.int64), start, lengths, samples, failures, tuple(silent))
