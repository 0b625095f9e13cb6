"""Kinds: the kinds of head, with their settings, defaults and allowed values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from embedx.errors import UsageError
from embedx.heads.criteria import CRITERIA
from embedx.heads.logistic import fit_logistic
from embedx.heads.nearest import fit_knn, fit_prototype
from embedx.heads.preprocessing import Array
from embedx.heads.torch_heads import fit_mlp, fit_weighted_layers
from embedx.heads.training_data import Examples


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


def check_kind(kind: str) -> None:
    """Check that a kind of head exists.

    Raises:
        UsageError: it does not.
    """
    if kind not in KINDS:
        raise UsageError(f"Unknown kind of head {kind!r}. Kinds: {', '.join(KINDS)}.")


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
