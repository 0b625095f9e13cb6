"""Heads: light classifiers of vectors. Fitted by scikit-learn or torch, kept as arrays, predicting with numpy alone.

A head knows no collection: it takes arrays. Preparation and choices are learned on the rows that it is given, and
judged inside by whole groups of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedx.errors import UsageError
from embedx.heads.calibration import METHODS, fit_calibration
from embedx.heads.examples import ClassWeight, Examples, make_examples
from embedx.heads.head import Head
from embedx.heads.judging import CRITERIA
from embedx.heads.logistic import fit_logistic
from embedx.heads.neighbours import fit_knn, fit_prototype
from embedx.heads.networks import fit_mlp, fit_weighted_layers
from embedx.heads.preparation import STEPS, Array, read_chain
from embedx.heads.saving import check_name
from embedx.heads.thresholds import operating_points

__all__ = [
    "KINDS",
    "METHODS",
    "STEPS",
    "Head",
    "check_name",
    "fit",
    "fit_calibration",
    "operating_points",
]


# numbers in x: below, one thread is quick, and threads that wait for each other can take a hundred times as long where
# other work shares the machine (measured on 2 busy cores, 240 x 1024, 10 classes: 0.03 s with one thread, 4 s with two)
SMALL = 2**24


@dataclass(frozen=True)
class Setting:
    """A setting of a kind: its default, which values can be meant, and those in words."""

    default: Any
    check: Callable[[Any], bool]
    allowed: str


def whole(least: int) -> Callable[[Any], bool]:
    """Return a check for whole numbers from `least` on."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def between(low: float, high: float) -> Callable[[Any], bool]:
    """Return a check for numbers above `low` and up to `high`."""
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low < value <= high


def one_of(*names: str) -> Setting:
    """Return a setting with a few names, the first by default."""
    return Setting(names[0], lambda value: value in names, " or ".join(map(repr, names)))


def or_none(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return a check that takes None too."""
    return lambda value: value is None or check(value)


CRITERION = Setting(None, or_none(lambda value: value in CRITERIA), f"{', '.join(CRITERIA)}, or None: what suits y")
DESCENT = {  # of every head that torch trains
    "learning_rate": Setting(1e-3, between(0, 1), "a number above 0, up to 1"),
    "weight_decay": Setting(1.0, between(-1e-9, 100), "a number from 0 on"),
    "batch_size": Setting(64, whole(1), "a whole number from 1 on"),
    "max_epochs": Setting(200, whole(1), "a whole number from 1 on"),
    "patience": Setting(20, whole(1), "epochs without gain, from 1 on"),
    "criterion": CRITERION,
    "refit": Setting(
        True, lambda value: isinstance(value, bool), "True or False: whether it is trained once more, on all rows"
    ),
    "device": Setting("auto", lambda value: isinstance(value, str), "'auto', or a device of torch such as 'cpu'"),
}


@dataclass(frozen=True)
class Kind:
    """A kind of head: how it is fitted, what it always does to vectors before, and its settings."""

    fit: Callable[[Examples, Mapping[str, Any]], tuple[dict[str, Array], dict[str, Any]]]
    preparation: str
    settings: Mapping[str, Setting]
    layers: bool = False  # whether it takes several layers [N, L, D]


KINDS = {
    "logistic": Kind(
        fit_logistic,
        "Standardise()",
        {
            "C": Setting(None, or_none(between(0, float("inf"))), "a number above 0, or None: chosen in inner folds"),
            "criterion": CRITERION,
            "inner_folds": Setting(5, whole(2), "a whole number from 2 on"),
            "max_iter": Setting(5000, whole(1), "a whole number from 1 on"),
        },
    ),
    "mlp": Kind(
        fit_mlp,
        "Standardise()",
        {
            "hidden": Setting(256, whole(1), "a whole number from 1 on"),
            "dropout": Setting(0.3, lambda value: value == 0 or between(0, 0.99)(value), "a share from 0 to 0.99"),
            **DESCENT,
        },
    ),
    "knn": Kind(
        fit_knn,
        "Unit()",
        {"k": Setting(5, whole(1), "a whole number from 1 on"), "weights": one_of("distance", "uniform")},
    ),
    "prototype": Kind(
        fit_prototype,
        "Unit()",
        {"temperature": Setting(None, or_none(between(0, 100)), "a number above 0, or None: measured in inner folds")},
    ),
    "weighted-layers": Kind(
        fit_weighted_layers,
        "Standardise()",
        {"mixture_rate": Setting(10.0, between(0, 1000), "a number above 0"), **DESCENT},
        layers=True,
    ),
}


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
    **settings: Any,
) -> Head:
    """Fit a head, and return it without views, recipe and metrics, which the caller knows.

    Args:
        kind: one of `KINDS`.
        x: vectors [N, D]; for weighted-layers [N, L, D]. Training rows only: nothing is held out for a test here.
        y: numbers of classes [N], or with `multilabel` 0 and 1 for each label [N, C].
        classes: their names, C of them. One without a row is never named; with `multilabel`, a label that all rows have
            or none has is answered by its frequency. Either is said in `settings["notes"]`.
        multilabel: whether a row may have several labels.
        groups: what must not be split [N] when something is chosen inside; every row by itself if not given.
        validation: True [N] for rows that choices and early stopping are judged by, in place of inner folds. Once all
            is chosen, the head is fitted on all rows; with refit=False of the kinds that have it, on the others alone.
        sample_weight: of each row [N], such as little for rows that are only supposed to be negative.
        class_weight: None, "balanced", or weights for names of classes.
        head_model: steps that go before those of the kind, such as "PCA(128)" or "Unit()+PCA(64, whiten)"; see `STEPS`.
        seed: of everything that is drawn.
        **settings: of the kind: `KINDS[kind].settings` has their defaults.

    Raises:
        UsageError: an argument cannot be meant, or fewer than two classes have rows.
    """
    if kind not in KINDS:
        raise UsageError(f"Unknown kind of head {kind!r}. Kinds: {', '.join(KINDS)}.")
    made = KINDS[kind]
    chosen = check_settings(kind, settings)
    if "criterion" in chosen:
        chosen["criterion"] = chosen["criterion"] or CRITERIA[multilabel]
    examples = make_examples(
        x,
        y,
        classes,
        multilabel=multilabel,
        groups=groups,
        validation=validation,
        sample_weight=sample_weight,
        class_weight=class_weight,
        chain=(*read_chain(head_model), *read_chain(made.preparation)),
        seed=seed,
    )
    if (examples.x.ndim == 3) != made.layers:
        wanted = "several layers [N, L, D]" if made.layers else "one view [N, D]"
        raise UsageError(f"{kind} takes vectors of {wanted}; these are {list(examples.x.shape)}.")
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1 if examples.x.size < SMALL else None):
        arrays, learned = made.fit(examples, chosen)
    learned = {
        **chosen,
        **learned,
        "input": examples.x.shape[1:],
        "steps": len(examples.chain),
        "head_model": "+".join(map(str, examples.chain)),
        "class_weight": class_weight,
        "seed": seed,
        "rows": len(examples),
    }
    return Head(kind, examples.classes, multilabel, arrays=arrays, settings=learned)


def check_settings(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a kind, those that are not given by their defaults.

    >>> check_settings("knn", {"k": 3})
    {'k': 3, 'weights': 'distance'}

    Raises:
        UsageError: the kind has no such setting, or it takes other values.
    """
    known = KINDS[kind].settings
    for name, value in settings.items():
        if name not in known:
            raise UsageError(f"{kind} has no setting {name!r}. Its settings: {', '.join(known)}.")
        if not known[name].check(value):
            raise UsageError(f"{name} of {kind} takes {known[name].allowed}, not {value!r}.")
    return {name: settings.get(name, setting.default) for name, setting in known.items()}
