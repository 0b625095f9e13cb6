"""Fitting: arrays -> a head, fitted by scikit-learn or torch, that predicts with numpy alone.

A head does not know collections. Preprocessing and choices such as C are learned on the given rows only, and choices
are made on held-out groups of these rows.
"""

from collections.abc import Sequence
from typing import Any

from embedx.arguments.keywords import with_known_keywords
from embedx.heads.head import Head
from embedx.heads.learning import learn
from embedx.heads.options import HeadOptions
from embedx.heads.preprocessing import Array
from embedx.heads.training_data import ClassWeight


@with_known_keywords
def fit(
    kind: str,
    x: Array,
    y: Array,
    classes: Sequence[str],
    *,
    multilabel: bool = False,
    groups: Array | None = None,
    validation: Array | None = None,
    sample_weight: Array | None = None,
    class_weight: ClassWeight = None,
    head_model: str = "",
    seed: int = 0,
    copies: Array | None = None,
    **settings: Any,
) -> Head:
    """Fit a head, and return it without views, recipe and metrics.

    Args:
        kind: one of `KINDS`.
        x: training vectors [N, D]; for weighted-layers [N, L, D].
        y: class numbers [N]; with `multilabel` 0 and 1 for each label [N, C].
        classes: the C class names. A class without a row is never predicted; a label that all rows or no rows have is
            predicted with its frequency. `settings["notes"]` of the head says so.
        multilabel: whether a row may have several labels.
        groups: [N] rows of one group are never split by inner folds; each row on its own if None.
        validation: [N] True for the rows that choices and early stopping use instead of inner folds. Then the head is
            fitted again on all rows; with refit=False (mlp, weighted-layers) only on the others.
        sample_weight: the weight of each row [N].
        class_weight: None, "balanced", or weights by class name.
        head_model: steps before those of the kind, such as "PCA(128)" or "Unit()+PCA(64, whiten)"; see `STEPS`.
        seed: the seed for all random choices.
        copies: [N] True for altered copies of other rows, in their groups; choices are never made by them.
        **settings: settings of the kind; `KINDS[kind].settings` has the defaults.

    Returns:
        The head; its `settings` hold what was chosen.

    Raises:
        UsageError: an invalid argument, or fewer than two classes have rows.
    """
    return Head(**learn(
        kind, x, y, classes, multilabel=multilabel, groups=groups, validation=validation, sample_weight=sample_weight,
        class_weight=class_weight, head_model=head_model, seed=seed, copies=copies, **settings,
    ))  # fmt: skip


@with_known_keywords
def classifier(
    kind: str = "logistic", *, head_model: str = "", class_weight: ClassWeight = None, seed: int = 0, **settings: Any
) -> Head:
    """Return a head that is not fitted yet, for scikit-learn: `cross_val_score(classifier("logistic", C=1.0), x, y)`.

    Args:
        kind, head_model, class_weight, seed, settings: see `fit`.

    Raises:
        UsageError: see `HeadOptions`.
    """
    options = HeadOptions(kind, head_model, class_weight, seed, settings)
    given = {"head_model": head_model, "class_weight": class_weight, "seed": seed, "given": dict(options.settings)}
    return Head(kind, (), False, settings=given)
