"""Scoring: a network and rows -> probabilities of the rows, and their figures as in `embedx probe`."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from embedx.evaluation.chance import compare_predictions
from embedx.finetune.batches import Batcher, Positions, to_device
from embedx.finetune.labels import LabelledRows, Output
from embedx.finetune.network import Network, Objective
from embedx.metrics.chance import ChanceTest
from embedx.metrics.classification import score_whole
from embedx.metrics.report import Metrics
from embedx.metrics.scoring import evaluate
from embedx.store.records import Row

Context = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Prediction:
    """What a network says about M rows.

    Attributes:
        rows: [M] positions of the rows, ascending.
        proba: the probabilities [M, C] of each output, the mean over the windows of a row.
        loss: the mean loss of a window.
    """

    rows: Positions
    proba: Mapping[str, NDArray[np.float64]]
    loss: float


def predict_rows(
    network: Network, batcher: Batcher, rows: Positions, objective: Objective, device: torch.device, context: Context
) -> Prediction:
    """Predict rows in evaluation mode: without dropout and augmentation.

    Args:
        network: the network; its mode is restored.
        batcher: makes the batches.
        rows: positions of the rows.
        objective: the loss.
        device: the device of the network.
        context: the number format, such as autocast.
    """
    windows = batcher.waves.of_rows(rows)
    known = np.unique(batcher.waves.row[windows])
    place = {int(row): i for i, row in enumerate(known)}
    sums = {output.name: np.zeros((len(known), len(output.classes))) for output in batcher.outputs}
    counts = np.zeros(len(known))
    loss, was_training = 0.0, network.training
    network.eval()
    order = windows[np.argsort(-batcher.waves.length[windows], kind="stable")]
    for start in range(0, len(order), 256):  # windows in memory at a time; sorted, so little is padded
        for batch in batcher.make(order[start : start + 256]):
            with torch.inference_mode(), context():
                on_device = to_device(batch, device)
                logits = network(on_device["waves"], on_device["lengths"])
                loss += float(objective(logits, on_device["targets"], on_device["known"]))
            at = [place[int(row)] for row in batcher.waves.row[batch["windows"].numpy()]]
            np.add.at(counts, at, 1)
            for name, values in network.head.probabilities(logits).items():
                np.add.at(sums[name], at, values.cpu().double().numpy())
    network.train(was_training)
    proba = {name: normalise(values / counts[:, None], name in network.head.settings.multi_label)
             for name, values in sums.items()}  # fmt: skip
    return Prediction(known, proba, loss / max(1, len(windows)))


def normalise(proba: NDArray[np.float64], multi_label: bool) -> NDArray[np.float64]:
    """Return probabilities whose rows sum to 1 exactly, unless they are of a multi-label output."""
    return proba.clip(0, 1) if multi_label else proba / proba.sum(axis=1, keepdims=True)


def score_rows(
    prediction: Prediction,
    labelled: LabelledRows,
    *,
    permutations: int | None = None,
    parts: NDArray[np.str_] | None = None,
    seed: int = 0,
) -> dict[str, Metrics]:
    """Return the figures of each output on the rows that have a label of it.

    Args:
        prediction: the predictions for M rows.
        labelled: all rows with their truth.
        permutations: of the labels, for the comparison with chance; None for no intervals and no comparison.
        parts: the test part [M] of each row; None if one model predicted all.
        seed: the seed of the permutations.
    """
    metrics = {}
    for output in labelled.outputs:
        known = output.known[prediction.rows]
        rows = prediction.rows[known]
        if not len(rows):
            continue
        truth = output.truth[rows].astype(np.int64)
        y, proba = truth if output.multi_label else truth.argmax(axis=1), prediction.proba[output.name][known]
        part = None if parts is None else parts[known]
        options = {"samples": 0} if permutations is None else {}
        groups = labelled.splits.groups[rows]
        found = evaluate(y, proba, output.classes, multilabel=output.multi_label, groups=groups, parts=part, **options)
        if permutations:
            found = replace(found, test=compare(y, proba, output, labelled, rows, part, permutations, seed))
        metrics[output.name] = found
    return metrics


def compare(
    y: NDArray[np.int64],
    proba: NDArray[np.float64],
    output: Output,
    labelled: LabelledRows,
    rows: Positions,
    parts: NDArray[np.str_] | None,
    permutations: int,
    seed: int,
) -> ChanceTest | None:
    """Return the comparison of predictions [M, C] with those for permuted labels."""
    name = "macro_auc" if output.multi_label else "balanced_accuracy"
    part = np.zeros(len(rows), np.int64) if parts is None else np.unique(parts, return_inverse=True)[1].reshape(-1)
    order = np.array(sorted(range(len(rows)), key=lambda i: time_of(labelled.rows[rows[i]])), np.int64)
    ordered, part_of = proba[order], part[order]

    def score(labels: Positions, used: Positions) -> float:
        found = score_whole(labels, ordered[used], np.unique(part_of[used], return_inverse=True)[1], output.multi_label)
        return float(found.overall[name][0])

    groups = labelled.splits.groups[rows[order]]
    recordings = [labelled.rows[i].path for i in rows[order]]
    return compare_predictions(y[order], score, groups, recordings, part_of, permutations, seed)


def time_of(row: Row) -> tuple[str, float]:
    """Return what the rows of recordings are sorted by."""
    return row.path, row.start_s


def main_figure(metrics: Metrics, name: str | None) -> float:
    """Return the figure of an output by which checkpoints are compared; NaN where it is undefined."""
    figure = metrics.figures.get(name or metrics.main_figure)
    return float("nan") if figure is None else figure.value


def mean_figure(metrics: Mapping[str, Metrics], name: str | None) -> float:
    """Return the mean of the figure over the outputs where it is defined; 0 if it is nowhere."""
    values = [main_figure(one, name) for one in metrics.values()]
    defined = [value for value in values if value == value]
    return float(np.mean(defined)) if defined else 0.0
