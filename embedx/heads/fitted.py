"""FittedHead: the data of a head, without the methods that need other modules."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from embedx.errors import UsageError
from embedx.heads.preprocessing import Arrays


@dataclass(eq=False)
class FittedHead:
    """The kind, classes, arrays and settings of a fitted classifier.

    Args:
        kind: one of `embedx.heads.KINDS`.
        classes: the class names, in the order of the columns of probabilities.
        multilabel: whether a row may have several labels, or none.
        views: the views that it was fitted on: one, or those of weighted-layers in their order.
        recipe: the recipe of its vectors as a dictionary; None if it is not known.
        arrays: the arrays of the steps ("step0.mean", ...) and of the classifier ("weight" [C, D], "bias" [C], ...).
        settings: the settings and what was chosen; "input" is the shape of a row, "steps" the number of steps.
        metrics: the evaluation of the head.

    Mappings are kept as in JSON: tuples become lists, and numbers that are not finite become None.
    """

    kind: str
    classes: tuple[str, ...]
    multilabel: bool
    views: tuple[str, ...] = ()
    recipe: Mapping[str, Any] | None = None
    arrays: Arrays = field(default_factory=dict, repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in ("classes", "views"):
            setattr(self, name, tuple(getattr(self, name)))
        for name in ("recipe", "settings", "metrics"):
            setattr(self, name, to_plain(getattr(self, name)))


def to_plain(value: Any) -> Any:
    """Return a value as in JSON.

    >>> to_plain({"a": (1, np.float32(0.5)), "b": float("nan"), "c": np.arange(2)})
    {'a': [1, 0.5], 'b': None, 'c': [0, 1]}

    Raises:
        UsageError: JSON cannot hold the value.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    raise UsageError(f"A head can only keep values that JSON can hold, not {value!r}.")
