"""Copies: test rows that sound like a row of the training, found as in `embedx probe`."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from embedx.copies.finder import CopyFinder
from embedx.errors import EmbedxError
from embedx.evaluation.splits import Split
from embedx.extractors.logmel import LogMelStatistics
from embedx.filesystem.paths import display_path
from embedx.finetune.labels import LabelledRows
from embedx.finetune.waves import Waves
from embedx.index.vectors import unit
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row

MAX_S = 5.0  # of each row, as much as is compared


def find_copies(
    labelled: LabelledRows, waves: Waves, recipe: Recipe, parts: Sequence[Split]
) -> list[tuple[Row, Row]] | None:
    """Return the test rows of some parts that sound like a training or validation row, each with that row.

    None: a file cannot be read again, so the sounds were not compared.
    """
    audible = np.setdiff1d(np.arange(len(labelled.rows)), np.array(waves.silent, np.int64))
    compared = [(np.intersect1d(part.test, audible), np.intersect1d(part.learned, audible)) for part in parts]
    compared = [(test, learned) for test, learned in compared if len(test) and len(learned)]
    if not compared or labelled.splits.leaky:
        return []
    vectors = describe_sounds(waves, len(labelled.rows), recipe.sample_rate)
    scaled = unit((vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + np.float32(1e-12)))
    rows = tuple(with_times(labelled.rows, waves, recipe.sample_rate))
    strata = np.unique(labelled.outputs[0].truth, axis=0, return_inverse=True)[1].reshape(-1)
    recordings = {row.path: describe_file(row) for row in rows}
    try:
        finder = CopyFinder(recordings, recipe, rows, scaled, labelled.splits.groups, strata)
        copies = finder.find(compared)
    except (EmbedxError, OSError):  # a file has changed or gone meanwhile; `describe_copies` says so
        return None
    return [(rows[copy.row], rows[copy.other]) for copy in copies if copy.sound is not None]


def describe_sounds(waves: Waves, rows: int, rate: int) -> NDArray[np.float32]:
    """Return log-mel statistics [N, D] of the first window of each row."""
    extractor = LogMelStatistics()
    vectors = np.zeros((rows, extractor.dim), np.float32)
    firsts = np.unique(waves.row, return_index=True)[1]
    for window in firsts:
        clip = waves[int(window)][: round(MAX_S * rate)]
        wave = torch.from_numpy(np.pad(clip, (0, max(0, extractor.min_samples - len(clip)))))[None]
        with torch.inference_mode():
            ((_, frames, counts),) = extractor.frames(wave, torch.tensor([wave.shape[1]]), (0,))
        vectors[waves.row[window]] = frames[0, : int(counts[0])].mean(dim=0).numpy()
    return vectors


def with_times(rows: Sequence[Row], waves: Waves, rate: int) -> list[Row]:
    """Return rows that end where their decoded audio ends."""
    lengths = np.bincount(waves.row, waves.length, len(rows)) / rate
    return [
        Row(row.id, row.path, row.start_s, row.end_s or row.start_s + float(length), row.label, row.group, row.split,
            row.flags, row.meta)
        for row, length in zip(rows, lengths, strict=True)
    ]  # fmt: skip


def describe_file(row: Row) -> Recording:
    """Return what the comparison needs to know about the file of a row."""
    try:
        size: int | None = os.stat(row.path).st_size
    except OSError:  # inside a table, or gone
        size = None
    return Recording(row.path, size, None, "[]", duration_s=row.end_s)


def describe_copies(copies: Sequence[tuple[Row, Row]] | None) -> list[str]:
    """Return a warning if there are copies, and a note if it is not known."""
    if copies is None:
        return ["Test rows were not compared with training rows by their sound: a recording cannot be read again."]
    if not copies:
        return []
    first, other = copies[0]
    count = f"{len(copies)} test rows sound" if len(copies) > 1 else "1 test row sounds"
    return [
        f"WARNING: {count} like a row of the training, so the figures are inflated: {display_path(first.path)} = "
        f"{display_path(other.path)}. Give copies the same group, or remove them."
    ]
