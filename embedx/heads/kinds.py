"""Kinds of heads, with their settings, defaults and allowed values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from embedx.arguments.keywords import suggest
from embedx.errors import UsageError
from embedx.heads.criteria import CRITERIA
from embedx.heads.logistic import fit_logistic
from embedx.heads.nearest import MAX_TEMPERATURE, fit_knn, fit_prototype
from embedx.heads.preprocessing import Array
from embedx.heads.torch_heads import fit_mlp, fit_weighted_layers
from embedx.heads.training_data import Examples


@dataclass(frozen=True)
class Setting:
    """A setting of a kind: its default, a check for allowed values, and the allowed values in words."""

    default: Any
    check: Callable[[Any], bool]
    allowed: str


def is_integer_from(least: int) -> Callable[[Any], bool]:
    """Return a check for whole numbers of at least `least`."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_between(low: float, high: float) -> Callable[[Any], bool]:
    """Return a check for numbers above `low` and up to `high`."""
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low < value <= high


def is_none_or(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return a check that also allows None."""
    return lambda value: value is None or check(value)


def one_of(*names: str) -> Setting:
    """Return a setting that allows a few names; the first is the default."""
    return Setting(names[0], lambda value: value in names, " or ".join(map(repr, names)))


CRITERION = Setting(
    None,
    is_none_or(lambda value: value in CRITERIA),
    f"{', '.join(CRITERIA)}, or None: {CRITERIA[0]}, multi-label {CRITERIA[1]}",
)
DESCENT = {  # settings of all heads that torch trains
    "learning_rate": Setting(1e-3, is_between(0, 1), "a number above 0, up to 1"),
    "weight_decay": Setting(1.0, is_between(-1e-9, 100), "a number from 0 to 100"),
    "batch_size": Setting(64, is_integer_from(1), "a whole number of 1 or more"),
    "max_epochs": Setting(200, is_integer_from(1), "a whole number of 1 or more"),
    "patience": Setting(20, is_integer_from(1), "the number of epochs without improvement, 1 or more"),
    "criterion": CRITERION,
    "refit": Setting(
        True, lambda value: isinstance(value, bool), "True or False: whether to train once more, on all rows"
    ),
    "device": Setting("auto", lambda value: isinstance(value, str), "'auto', 'cpu' or 'cuda'"),
}


@dataclass(frozen=True)
class Kind:
    """A kind of head.

    Attributes:
        fit: fits it: (examples, settings) -> (arrays, what was learned and chosen).
        preparation: the steps that it always applies to vectors.
        settings: name -> setting.
        layers: whether it reads several layers [N, L, D].
    """

    fit: Callable[[Examples, Mapping[str, Any]], tuple[dict[str, Array], dict[str, Any]]]
    preparation: str
    settings: Mapping[str, Setting]
    layers: bool = False


KINDS = {
    "logistic": Kind(
        fit_logistic,
        "Standardise()",
        {
            "C": Setting(
                None,
                is_none_or(is_between(0, float("inf"))),
                "a number above 0, or None to choose it by cross-validation",
            ),
            "criterion": CRITERION,
            "inner_folds": Setting(5, is_integer_from(2), "a whole number of 2 or more"),
            "max_iter": Setting(5000, is_integer_from(1), "a whole number of 1 or more"),
        },
    ),
    "mlp": Kind(
        fit_mlp,
        "Standardise()",
        {
            "hidden": Setting(256, is_integer_from(1), "a whole number of 1 or more"),
            "dropout": Setting(0.3, lambda value: value == 0 or is_between(0, 0.99)(value), "a share from 0 to 0.99"),
            **DESCENT,
        },
    ),
    "knn": Kind(
        fit_knn,
        "Unit()",
        {
            "k": Setting(5, is_integer_from(1), "a whole number of 1 or more"),
            "weights": one_of("distance", "uniform"),
        },
    ),
    "prototype": Kind(
        fit_prototype,
        "Unit()",
        {
            "temperature": Setting(
                None,
                is_none_or(is_between(0, MAX_TEMPERATURE)),
                f"a number above 0, up to {MAX_TEMPERATURE:g}, or None: measured by folds",
            )
        },
    ),
    "weighted-layers": Kind(
        fit_weighted_layers,
        "Standardise()",
        {"mixture_rate": Setting(10.0, is_between(0, 1000), "a number above 0, up to 1000"), **DESCENT},
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
    """Return all settings of a kind; settings that are not given have their defaults.

    >>> check_settings("knn", {"k": 3})
    {'k': 3, 'weights': 'distance'}

    Raises:
        UsageError: the kind has no such setting, or the value is not allowed.
    """
    known = KINDS[kind].settings
    for name, value in settings.items():
        if name not in known:
            meant = suggest(name, list(known))
            advice = f"Did you mean {meant}? " if meant else ""
            raise UsageError(f"{kind} has no setting {name!r}. {advice}Its settings: {', '.join(known)}.")
        if not known[name].check(value):
            raise UsageError(f"{name} of {kind} must be {known[name].allowed}, not {value!r}.")
    return {name: settings.get(name, setting.default) for name, setting in known.items()}
