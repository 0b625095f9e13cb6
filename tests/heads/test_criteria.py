"""How a head chooses its settings: by inner folds of whole groups, or by validation rows alone."""

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from embedx import heads
from embedx.errors import UsageError
from embedx.heads.kinds import KINDS
from embedx.heads.logistic import C_GRID
from embedx.heads.training_data import make_examples
from tests.helpers.head_data import CLASSES, GROUPS, X, Y, fit, make_rows


def test_penalty_choice_uses_inner_folds_of_whole_groups() -> None:
    """Recompute directly: preprocessing and regression inside each fold, mean recall over classes."""
    from sklearn.model_selection import StratifiedGroupKFold

    x = np.where((GROUPS == 7)[:, None], 1e4 * X[:, ::-1], X)  # a PCA fitted with this group keeps only its direction
    head = fit("logistic", x, Y, groups=GROUPS, head_model="PCA(3)")
    scores, sizes = [], []
    found = head.settings["inner_scores"]
    splits = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(x, Y, GROUPS)
    for train, held in splits:
        assert not set(GROUPS[train]) & set(GROUPS[held])
        row = []
        for C in C_GRID[::3]:
            model = make_pipeline(PCA(3), StandardScaler(), LogisticRegression(C=C, max_iter=5000))
            with threadpool_limits(1):
                model.fit(x[train].astype(np.float64), Y[train])
            row.append(balanced_accuracy_score(Y[held], model.predict(x[held].astype(np.float64))))
        scores.append(row)
        sizes.append(len(held))
    expected = np.average(scores, axis=0, weights=sizes)
    np.testing.assert_allclose([found[str(C)] for C in C_GRID[::3]], expected, atol=0.003)
    assert found[str(head.settings["C"])] == max(found.values())


def test_group_specific_signal_does_not_affect_choice() -> None:
    """Labels are random per group, and each group has its own direction: only leaked groups can be predicted."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 6)
    y = random.integers(0, 2, 40)[groups]
    x = (np.eye(40)[groups] * 5 + 0.3 * random.standard_normal((240, 40))).astype(np.float32)
    kept = heads.fit("logistic", x, y, ("a", "b"), groups=groups).settings["inner_scores"]
    split = heads.fit("logistic", x, y, ("a", "b")).settings["inner_scores"]
    assert max(split.values()) > 0.95
    assert max(kept.values()) < 0.75
    network = heads.fit("mlp", x, y, ("a", "b"), groups=groups, max_epochs=10).settings
    assert network["held_out_score"] < 0.75
    assert heads.fit("mlp", x, y, ("a", "b"), max_epochs=10).settings["held_out_score"] > 0.9


def test_validation_rows_alone_decide_choice() -> None:
    """The validation rows contradict the training rows, so the strongest penalty is the best."""
    x, y, _ = make_rows(240, spread=0.5)
    held = np.arange(240) >= 200
    truth = np.where(held, (y + 1) % 4, y)
    head = fit("logistic", x, truth, validation=held, criterion="log_loss")
    assert head.settings["C"] == C_GRID[0]
    assert fit("logistic", x, y, validation=held, criterion="log_loss").settings["C"] > 0.01
    stopped = fit("mlp", x, truth, validation=held, criterion="log_loss", max_epochs=60)
    assert stopped.settings["best_epoch"] <= 3
    assert stopped.settings["held_out_rows"] == 40
    with pytest.raises(UsageError, match="splits a group"):
        fit("logistic", x, y, validation=held, groups=np.zeros(240))


def test_network_keeps_its_best_epoch() -> None:
    """With refit=False the head scores on held-out rows like its best epoch, not like its last."""
    x, y, _ = make_rows(160, spread=5)
    held = np.arange(160) % 4 == 0
    options: dict[str, Any] = {"validation": held, "criterion": "log_loss", "refit": False, "max_epochs": 80}
    head = heads.fit("mlp", x, y, CLASSES, hidden=64, **options)
    proba = head.predict_proba(x[held])
    loss = -np.log(proba[np.arange(held.sum()), y[held]]).mean()
    assert head.settings["best_epoch"] < head.settings["epochs"]
    assert -loss == pytest.approx(head.settings["held_out_score"], abs=1e-5)
    assert head.settings["epochs"] == head.settings["best_epoch"] + head.settings["patience"]


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_gives_equal_head_and_keeps_random_state(kind: str) -> None:
    import torch

    before, legacy = torch.random.get_rng_state(), str(np.random.get_state())
    one, again = fit(kind, X, Y, groups=GROUPS, seed=4), fit(kind, X, Y, groups=GROUPS, seed=4)
    assert one.settings == again.settings
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert str(np.random.get_state()) == legacy
    if kind == "mlp":
        assert not np.array_equal(one.arrays["weight"], fit(kind, X, Y, groups=GROUPS, seed=5).arrays["weight"])


def test_early_stopping_keeps_every_class_in_training() -> None:
    """Classes of one to three groups of any size: a class is never held out as a whole, and no group is split."""
    shares = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        owners = np.repeat(np.arange(4), random.integers(1, 4, 4))
        groups = np.repeat(np.arange(len(owners)), random.integers(1, 9, len(owners)))
        y = owners[groups]
        examples = make_examples(X[: len(y)], y, CLASSES, multilabel=False, groups=groups, validation=None,
                                 sample_weight=None, class_weight=None, chain=(), seed=0)  # fmt: skip
        train, held = examples.hold_out()
        assert set(y[train]) == {0, 1, 2, 3}
        assert not set(groups[train]) & set(groups[held])
        assert sorted([*train, *held]) == list(range(len(y)))
        shares.append(len(held) / len(y))
    assert 0.1 < np.mean(shares) < 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_one_group_use_default_and_report_it(kind: str) -> None:
    head = fit(kind, X, Y, groups=np.zeros(len(X)))
    assert kind == "knn" or head.settings["notes"]
