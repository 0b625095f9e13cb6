"""Labellings are scored as the head itself does that is fitted on the training rows of a fold."""

import numpy as np
import pytest

from embedx.heads.discriminant import rank_areas
from embedx.heads.fitting import fit
from embedx.heads.labellings import prepare_labellings
from embedx.heads.options import HeadOptions

ROWS, CLASSES = 60, ("a", "b", "c")
FOLD = np.arange(ROWS) % 4 - 1  # some rows are only trained on


def vectors(y: np.ndarray) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((ROWS, 8))
    x[:, :3] += y if y.ndim == 2 else np.eye(3)[y]
    return x.astype(np.float32)


HEADS = [
    HeadOptions("knn"),
    HeadOptions("knn", settings={"k": 1, "weights": "uniform"}),
    HeadOptions("knn", settings={"k": 99}),
    HeadOptions("knn", settings={"k": 7}, class_weight={"a": 5.0, "b": 1.0, "c": 1.0}),
    HeadOptions("prototype"),
    HeadOptions("prototype", class_weight="balanced"),
]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("multilabel", [False, True])
def test_scores_are_those_of_the_head(head: HeadOptions, multilabel: bool) -> None:
    random = np.random.default_rng(1)
    y = random.integers(2, size=(ROWS, 3)) if multilabel else random.integers(3, size=ROWS)
    x = vectors(y)
    labellings = prepare_labellings(x, FOLD, CLASSES, multilabel, head)
    truth = y.astype(float) if multilabel else np.eye(3)[y]
    logits = np.full((ROWS, 3), np.nan)
    for number, (test, train) in enumerate(labellings.parts()):
        assert (FOLD[test] == number).all()
        fitted = fit(
            head.kind, x[train], y[train], CLASSES, multilabel=multilabel, class_weight=head.class_weight,
            **head.settings,
        )  # fmt: skip
        logits[test] = fitted.logits(x[test])
        if head.kind == "prototype":
            logits[test] *= fitted.settings["temperature"]
        expected = np.exp(logits[test]) if head.kind == "knn" and not multilabel else logits[test]
        assert labellings.score(y, truth, test, train) == pytest.approx(expected, abs=1e-4)
    if multilabel:
        areas = [rank_areas(truth[f == FOLD], logits[f == FOLD]) for f in range(3)]
        assert labellings.mean_area(y) == pytest.approx(np.mean(areas), abs=0.02)  # cosines that round to equal ones
    else:
        recalls = [(logits.argmax(axis=1) == k)[(y == k) & (FOLD >= 0)].mean() for k in range(3)]
        assert labellings.balanced_accuracy(y) == pytest.approx(np.mean(recalls))


def test_class_without_training_rows_is_never_predicted() -> None:
    y = np.where(FOLD == 0, 2, np.arange(ROWS) // 4 % 2)
    for kind in ("knn", "prototype"):
        labellings = prepare_labellings(vectors(y), FOLD, CLASSES, False, HeadOptions(kind))
        assert labellings.balanced_accuracy(y) <= 2 / 3


def test_steps_of_the_head_are_applied() -> None:
    y = np.arange(ROWS) % 3
    head = HeadOptions("knn", head_model="PCA(2)")
    assert prepare_labellings(vectors(y), FOLD, CLASSES, False, head).x.shape == (ROWS, 2)
