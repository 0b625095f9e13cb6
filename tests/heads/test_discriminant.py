"""The discriminant of the test against chance finds what a linear classifier finds, also in rare classes."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from embedx.heads.discriminant import MAX_DIM, Discriminant, rank_areas, whiten


def noisy(rows: int, dim: int, y: np.ndarray, apart: float) -> np.ndarray:
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, dim)) * np.geomspace(10, 0.1, dim)
    x[:, -1] += apart * 0.1 * y
    return x.astype(np.float32)


@pytest.mark.parametrize(("rows", "dim"), [(200, 20), (60, 200)])
def test_areas_equal_scikit_learn_with_ties(rows: int, dim: int) -> None:
    random = np.random.default_rng(1)
    truth, scores = random.integers(2, size=(rows, 4)), random.integers(9, size=(rows, 4))
    expected = [roc_auc_score(truth[:, k], scores[:, k]) for k in range(4)]
    assert rank_areas(truth.astype(np.float32), scores.astype(np.float32)).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_class_is_found_however_rare_and_whatever_the_scale(share: float) -> None:
    y = (np.arange(400) % 10 < 10 * share).astype(int)
    groups = np.arange(400)
    z = whiten(noisy(400, 30, y, apart=6), 400, seed=0)
    discriminant = Discriminant(z, groups // 10 % 10, groups, 2)
    assert discriminant.balanced_accuracy(y) > 0.95
    assert discriminant.mean_area(np.eye(2, dtype=int)[y]) > 0.98
    assert discriminant.balanced_accuracy(np.random.default_rng(0).permutation(y)) == pytest.approx(0.5, abs=0.12)


def test_rows_are_scored_by_means_of_other_folds_only() -> None:
    groups = np.arange(40)
    x = np.eye(40, dtype=np.float32)  # every row can be told from all others, and nothing else is known of it
    y = groups % 2
    score = Discriminant(whiten(x, 40, 0), groups % 8 // 2, groups, 2).balanced_accuracy(y)
    assert score <= 0.5


def test_constant_vectors_and_many_dimensions_are_accepted() -> None:
    groups = np.arange(12)
    for x in (np.ones((12, 3)), np.random.default_rng(0).standard_normal((12, MAX_DIM + 50)), np.ones((12, 2, 3))):
        z = whiten(x.astype(np.float32), 12, 0)
        assert np.isfinite(z).all()
        assert z.shape[1] <= MAX_DIM
        assert np.isfinite(Discriminant(z, groups % 3, groups, 2).balanced_accuracy(groups % 2))
