"""A head is an estimator of scikit-learn."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.decomposition import PCA
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import embedx
from embedx import heads
from embedx.errors import UsageError
from tests.helpers.head_data import CLASSES, GROUPS, MANY, NEW, NEW_Y, X, Y, fit

NAMES = np.array(CLASSES)[Y]


@pytest.mark.parametrize("kind", ["logistic", "knn", "prototype"])
def test_clone_keeps_the_parameters_and_learns_the_same(kind: str) -> None:
    fitted = fit(kind, X, Y, seed=3, head_model="PCA(8)", class_weight="balanced")
    fresh = clone(fitted)
    assert is_classifier(fresh) and fresh.get_params() == fitted.get_params()
    assert fresh.get_params()["head_model"] == "PCA(8)"
    with pytest.raises(UsageError, match="not fitted"):
        fresh.predict(X)
    assert fresh.fit(X, NAMES) is fresh
    np.testing.assert_allclose(fresh.predict_proba(NEW), fitted.predict_proba(NEW), atol=1e-9)
    assert (fitted.predict(NEW) == fresh.predict(NEW)).all()


def test_chosen_setting_is_chosen_again_by_a_clone_and_a_given_one_is_kept() -> None:
    assert clone(fit("logistic", X, Y)).get_params()["C"] is None
    assert clone(fit("logistic", X, Y, C=0.5)).get_params()["C"] == 0.5


def test_score_and_classes_are_those_of_scikit_learn() -> None:
    head = fit("logistic", X, Y, C=0.1)
    truth = np.array(CLASSES)[NEW_Y]
    assert head.classes_.tolist() == list(CLASSES)
    assert head.score(NEW, truth) == accuracy_score(truth, head.predict(NEW))
    assert head.n_features_in_ == X.shape[1]
    assert (head.predict(NEW) == truth).mean() == head.score(NEW, truth)


@pytest.mark.parametrize("labels", [NAMES, Y, Y * 10 - 7, Y * 2.0, Y > 1, pd.Series(NAMES), NAMES.astype(object)])
def test_labels_come_back_as_they_were(labels: Any) -> None:
    head = heads.classifier("prototype").fit(X, labels)
    assert head.classes_.tolist() == np.unique(labels).tolist()
    assert set(head.predict(X)) <= set(np.unique(labels).tolist())
    assert head.score(X, labels) == pytest.approx((head.predict(X) == labels).mean())
    assert head.score(X, labels) == accuracy_score(labels, head.predict(X))


def test_cross_val_score_pipelines_and_grids_take_heads() -> None:
    head = fit("logistic", X, Y, C=0.1)
    before = head.predict(NEW)
    expected = [
        fit("logistic", X[train], Y[train], C=0.1).score(X[test], NAMES[test])
        for train, test in GroupKFold(4).split(X, Y, GROUPS)
    ]
    options: dict[str, Any] = {"groups": GROUPS, "cv": GroupKFold(4)}
    np.testing.assert_allclose(cross_val_score(head, X, NAMES, **options), expected)
    np.testing.assert_allclose(cross_val_score(head, X, NAMES, scoring="accuracy", **options), expected)
    assert np.isfinite(cross_val_score(head, X, NAMES, scoring="roc_auc_ovr", cv=3)).all()
    assert (head.predict(NEW) == before).all()  # the head itself was not changed
    assert cross_val_predict(head, X, NAMES, cv=3).shape == (len(X),)
    pipeline = make_pipeline(StandardScaler(), PCA(8), heads.classifier("knn", k=3))
    assert pipeline.fit(X, NAMES).score(X, NAMES) > 0.5
    assert cross_val_score(clone(pipeline), X, NAMES, cv=3).mean() > 0.3
    search = GridSearchCV(heads.classifier("knn"), {"k": [1, 9], "weights": ["uniform"]}, cv=3).fit(X, Y)
    assert search.best_params_["k"] in (1, 9) and len(search.predict(X[:3])) == 3


def test_several_labels_per_row() -> None:
    head = heads.classifier("logistic", C=0.1).fit(X, pd.DataFrame(MANY, columns=list(CLASSES)))
    assert (head.classes, head.multilabel) == (CLASSES, True)
    assert np.array_equal(head.predict(X), head.predict_proba(X) > 0.5)
    assert head.score(X, MANY) == accuracy_score(MANY, head.predict(X)) > 0.5
    scores = cross_val_score(head, X, MANY, cv=3, scoring="f1_macro")
    assert np.isfinite(scores).all()


def test_head_of_a_collection_is_an_estimator(collection: embedx.Collection) -> None:
    x, y = collection.vectors(), collection.rows()["label"].to_numpy()
    head = collection.fit_head(name="estimator", permutations=0, C=0.1)
    try:
        saved = collection.head("estimator")
    finally:
        collection.remove_head("estimator")
    for one in (head, saved):
        assert one.score(x, y) > 0.9
        assert cross_val_score(one, x, y, cv=3).shape == (3,)


@pytest.mark.parametrize(
    "wrong", [{"nosuch": 1}, {"k": 0}, {"kind": "nosuch"}, {"n_neighbors": 3}, {"head_model": "NoSuch()"}]
)
def test_wrong_parameter_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        heads.classifier("knn").set_params(**wrong).fit(X, Y)
    with pytest.raises(UsageError):
        heads.classifier("knn").fit(X, Y[:5])


@pytest.mark.parametrize("missing", [np.nan, None])
def test_rows_without_a_class_are_refused(missing: float | None) -> None:
    y = np.array(["a", "b", missing, "a"], dtype=object)
    with pytest.raises(UsageError, match="y has no value"):
        heads.classifier("knn").fit(np.eye(4), y)
