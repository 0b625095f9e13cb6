"""Data: a source and options -> windows, labels and the three parts of a training."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from embedx.datasets.items import Item
from embedx.datasets.sources import read_corpus
from embedx.errors import AudioError, UsageError
from embedx.evaluation.splits import NotEnoughGroups, Positions, Split, SplitOptions, stratified
from embedx.filesystem.paths import display_path
from embedx.finetune.copies import describe_copies, find_copies
from embedx.finetune.labels import LabelledRows, label_rows, make_rows
from embedx.finetune.options import FinetuneOptions
from embedx.finetune.waves import Waves, read_waves
from embedx.recipe import Recipe
from embedx.text import plural

MAX_WHOLE_S = 60.0  # as in `embedx extract`: a longer recording is cut into windows of 10 s
ALL_FOLDS = "all"  # as the name of a test part: all of them, one after the other
MAX_NAMED = 5  # classes in a note


@dataclass(frozen=True)
class TrainingData:
    """The windows and labels of N rows, and the part that is used.

    Attributes:
        labelled: the rows with labels and split.
        waves: their windows.
        part: rows to train on, to choose the checkpoint by, and to test on.
        notes: sentences about what is unusual.
        failures: the reason for each file that could not be read.
    """

    labelled: LabelledRows
    waves: Waves
    part: Split
    notes: tuple[str, ...]
    failures: tuple[str, ...]

    def fingerprint(self) -> str:
        """Return a hash of the rows, their windows, labels and parts: a training goes on only with the same data."""
        digest = hashlib.sha256(json.dumps([row.path for row in self.labelled.rows]).encode())
        arrays: list[Any] = [self.waves.row, self.waves.length, self.part.train, self.part.validation, self.part.test]
        arrays += [output.truth for output in self.labelled.outputs]
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def read_items(source: Any, options: FinetuneOptions) -> list[Item]:
    """List the items of a source, with the label if there is one label column."""
    label = options.labels[0] if len(options.labels) == 1 else None
    return read_corpus(source, options.layout, label, options.group)


def label_items(items: Sequence[Item], options: FinetuneOptions) -> LabelledRows:
    """Return the labelled rows of items, and the split; see `label_rows`."""
    columns = options.labels if len(options.labels) > 1 else ()
    group = "group" if options.group else None
    split = SplitOptions(options.folds, options.split, group, options.leaky, options.seed)
    return label_rows(make_rows(items), columns, options.separator, split)


def make_recipe(options: FinetuneOptions, rate: int, max_samples: int | None) -> Recipe:
    """Return how recordings are cut for a model."""
    longest = MAX_WHOLE_S if max_samples is None else min(MAX_WHOLE_S, max_samples / rate)
    if options.window is not None and max_samples is not None and options.window * rate > max_samples:
        raise UsageError(f"window={options.window:g} exceeds the model's maximum input of {max_samples / rate:g} s.")
    return Recipe(
        "finetune", options.model, "", rate, (0,), ("mean",),
        window_s=options.window, whole_s=longest, hop_s=options.hop, tail=options.tail,
        trim_silence=options.trim_silence, max_seconds=options.max_seconds,
    )  # fmt: skip


def read_data(
    items: Sequence[Item], options: FinetuneOptions, recipe: Recipe, folder: Path, on_row: Callable[[int, int], None]
) -> TrainingData:
    """Decode the items and split those that could be read.

    Args:
        items: the items of the source.
        options: labels and split.
        recipe: how recordings are cut.
        folder: where the decoded samples are kept meanwhile.
        on_row: called with the number of rows that are decoded, and the number of all.

    Raises:
        UsageError: no row could be read, all are silent, a part is empty, or the labels or the split are invalid.
        DiskError: the disk is full.
    """
    labelled = label_items(items, options)
    kept = [items[row.id - 1] for row in labelled.rows]
    waves = read_waves(kept, recipe, folder, lambda done: on_row(done, len(kept)))
    failures = tuple(f"{error.reason}: {error.detail}" for error in waves.failures.values())
    if len(waves.failures) == len(kept):
        raise AudioError("unreadable", f"None of the {plural(len(kept), 'recording')} can be read. {failures[0]}")
    if waves.failures:
        readable = np.array([i for i in range(len(kept)) if i not in waves.failures])
        labelled = label_items([kept[i] for i in readable], options)
        place = np.full(len(kept), -1)
        place[readable[[row.id - 1 for row in labelled.rows]]] = np.arange(len(labelled.rows))
        waves = replace(waves, row=place[waves.row], silent=tuple(int(place[i]) for i in waves.silent))
    if len(waves.silent) == len(labelled.rows):
        raise UsageError(
            "All recordings are silent (every sample is below one step of 16 bits): nothing can be learned."
        )
    part = choose_part(labelled, options)
    parts = [part]
    if options.fold == ALL_FOLDS:
        parts = [complete_part(labelled, one, options) for one in labelled.splits.parts]
    copies = describe_copies(find_copies(labelled, waves, recipe, parts))
    of_parts = [
        f"{'' if len(parts) == 1 else f'Test part {one.name}: '}{note}"
        for one in parts
        for note in note_classes(labelled, one)
    ]
    notes = [*copies, *note_silent(labelled, waves), *of_parts]
    return TrainingData(labelled, waves, part, tuple(notes), failures)


def choose_part(labelled: LabelledRows, options: FinetuneOptions) -> Split:
    """Return the part that is trained, with a validation part that is held out of its training rows if it has none.

    Raises:
        UsageError: there is no part of this name, or one of the three is empty.
    """
    parts = {part.name: part for part in labelled.splits.parts}
    if options.fold == ALL_FOLDS:
        return complete_part(labelled, labelled.splits.parts[0], options)
    if options.fold is not None and options.fold not in parts:
        raise UsageError(
            f"There is no test part {options.fold!r}. Test parts: {', '.join(parts)}; or all, one after the other."
        )
    return complete_part(labelled, parts[options.fold or labelled.splits.parts[0].name], options)


def complete_part(labelled: LabelledRows, part: Split, options: FinetuneOptions) -> Split:
    """Return a part with validation rows, held out of its training rows if it has none and the options say so.

    Raises:
        UsageError: there is no row to train on, or to test.
    """
    if not len(part.validation) and options.hold_out:
        part = hold_out(labelled, part, options.seed)
    for name in ("train", "test"):
        if not len(getattr(part, name)):
            raise UsageError(f"The {name} part {part.name!r} has no rows. Choose another split or fold.")
    return part


def hold_out(labelled: LabelledRows, part: Split, seed: int) -> Split:
    """Hold whole groups out of the training rows, about a fifth; none if a class would be lost."""
    truth = np.concatenate([output.truth for output in labelled.outputs], axis=1)[part.train]
    strata = np.unique(truth, axis=0, return_inverse=True)[1].reshape(-1)
    try:
        folds = stratified(strata, labelled.splits.inner_groups[part.train], "validation", seed).parts
    except NotEnoughGroups:
        return part
    present = truth.any(axis=0)
    for fold in folds:
        if (truth[fold.train].any(axis=0) == present).all():
            return replace(part, train=part.train[fold.train], validation=part.train[fold.test])
    return part


def note_silent(labelled: LabelledRows, waves: Waves) -> list[str]:
    """Say which rows are silent."""
    if not waves.silent:
        return []
    first = display_path(labelled.rows[waves.silent[0]].path)
    return [f"{plural(len(waves.silent), 'recording')} silent throughout, used as labelled: {first} is the first."]


def note_classes(labelled: LabelledRows, part: Split) -> list[str]:
    """Say which classes a part lacks, and what that means."""
    notes = []
    for output in labelled.outputs:
        has = {
            name: output.truth[getattr(part, name)][output.known[getattr(part, name)]].any(axis=0)
            for name in ("train", "validation", "test")
        }
        untrained = (has["validation"] | has["test"]) & ~has["train"]
        if untrained.any():
            names = name_classes(output.classes, np.flatnonzero(untrained))
            notes.append(f"No training row has the class {names} of {output.name!r}, so it is never predicted rightly.")
        unchecked = has["train"] & ~has["validation"]
        if len(part.validation) and unchecked.any():
            names = name_classes(output.classes, np.flatnonzero(unchecked))
            notes.append(
                f"No validation row has the class {names} of {output.name!r}, so the choice of the checkpoint does "
                "not depend on it."
            )
    if not len(part.validation):
        notes.append(
            "There is no validation part: none is held out, or there are too few groups. The last checkpoint is used, "
            "and training does not stop early."
        )
    return notes


def name_classes(classes: Sequence[str], numbers: Positions) -> str:
    """Return the names of some classes, the first few."""
    names = [classes[i] for i in numbers[:MAX_NAMED]]
    more = len(numbers) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
