"""Estimator: what makes a head an estimator of scikit-learn: parameters, `fit`, `score`, `classes_`, and clones."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from embedx.arguments.keywords import KnownKeywords, check_keywords
from embedx.arguments.types import is_array, read_numbers
from embedx.errors import UsageError
from embedx.heads.kinds import KINDS, check_kind, check_settings
from embedx.heads.learning import learn
from embedx.heads.preprocessing import Array

if TYPE_CHECKING:
    from sklearn.utils import Tags

OTHERS = ("head_model", "class_weight", "seed")  # parameters beside the kind and its settings
NUMBERS: dict[str, Callable[[str], Any]] = {
    "i": int,
    "u": int,
    "f": float,
    "b": lambda text: text == "True",
}  # kind of dtype -> a label of its text


class Estimator(KnownKeywords):
    """The methods of an estimator; a base class of `embedx.heads.head.Head`.

    `fit` trains the head again in place, with its own kind and settings, as scikit-learn does.
    """

    kind: str
    classes: tuple[str, ...]
    multilabel: bool
    arrays: Mapping[str, Array]
    settings: Mapping[str, Any]

    @property
    def classes_(self) -> NDArray[Any]:
        """The classes [C], in the order of the columns of probabilities; numbers if the head was fitted on numbers."""
        convert: Callable[[str], Any] = NUMBERS.get(self.settings.get("label_type") or "", str)
        return np.array([convert(name) for name in self.classes])

    @property
    def n_features_in_(self) -> int:
        """The dimension D of the vectors."""
        return int(self.settings["input"][-1])

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters: kind, head_model, class_weight, seed, and the settings of the kind as they were given.

        What was not given has its default: C=None is chosen again by `fit`.
        """
        known, given = KINDS[self.kind].settings, self.settings.get("given")
        if given is None:  # an old head: what it chose cannot be told from what was given
            given = {name: self.settings[name] for name in known if name in self.settings and known[name].default}
        others = {name: self.settings.get(name) for name in OTHERS}
        model = str(others["head_model"] or "")
        if self.arrays:  # a fitted head names the steps of its kind too
            own = KINDS[self.kind].preparation
            model = model.removesuffix(own).removesuffix("+")
        return {"kind": self.kind, **others, "head_model": model, **check_settings(self.kind, given)}

    def set_params(self, **parameters: Any) -> Self:
        """Set parameters, and forget what was learned.

        Raises:
            UsageError: there is no such parameter, or its value is not allowed.
        """
        kind = parameters.get("kind", self.kind)
        check_kind(kind)
        names = ["kind", *OTHERS, *KINDS[kind].settings]
        check_keywords("set_params", parameters, names)
        merged = {name: value for name, value in {**self.get_params(), **parameters}.items() if name in names}
        given = {name: merged[name] for name in KINDS[kind].settings if name in merged}
        check_settings(kind, given)
        self._become(
            kind=kind, classes=(), multilabel=False, arrays={}, views=(), recipe=None, metrics={},
            settings={**{name: merged[name] for name in OTHERS}, "given": given},
        )  # fmt: skip
        return self

    def fit(self, x: Array, y: Any, sample_weight: Array | None = None, groups: Array | None = None) -> Self:
        """Fit the head again, in place.

        Args:
            x: vectors [N, D]; for weighted-layers [N, L, D].
            y: the class of each row [N], as names or numbers; or for several labels per row [N, C] of 0 and 1.
            sample_weight: the weight of each row [N].
            groups: [N] rows of one group are never split by the choice of settings.

        Raises:
            UsageError: see `embedx.heads.fit`.
        """
        x, targets = read_numbers(x, "x"), read_classes(y)
        if targets.ndim not in (1, 2) or len(targets) != len(x):
            raise UsageError(f"y must have {len(x)} rows, as x has; its shape is {list(targets.shape)}.")
        missing = sum(value is None or value != value for value in targets.ravel().tolist())
        if missing:
            raise UsageError(f"y has no value (NaN or None) in {missing} places. Leave these rows out.")
        parameters = self.get_params()
        if targets.ndim == 2:
            names = [str(name) for name in getattr(y, "columns", range(targets.shape[1]))]
            numbers, kind = targets.astype(np.int64), ""
        else:
            values, numbers = np.unique(targets, return_inverse=True)
            names, kind = [str(value) for value in values], values.dtype.kind
        fields = learn(
            x=x, y=numbers, classes=names, multilabel=targets.ndim == 2, sample_weight=sample_weight,
            groups=groups, **parameters,
        )  # fmt: skip
        settings = {**fields["settings"], **({"label_type": kind} if kind in NUMBERS else {})}
        self._become(**{**fields, "settings": settings}, views=(), recipe=None, metrics={})
        return self

    def score(self, x: Array, y: Any, sample_weight: Array | None = None) -> float:
        """Return the accuracy on vectors [N, D] and their classes [N]; several labels per row: all must be right."""
        truth, predicted = read_classes(y), self.predict(x)
        shape = np.shape(predicted)
        if truth.shape != shape:
            raise UsageError(
                f"y must have the shape {list(shape)} of the predictions; its shape is {list(truth.shape)}."
            )
        right = (predicted == truth).all(axis=1) if self.multilabel else predicted.astype(str) == truth.astype(str)
        weights = None if sample_weight is None else read_numbers(sample_weight, "sample_weight", np.float64)
        if weights is not None and (weights.shape != right.shape or not weights.sum() > 0):
            raise UsageError(f"sample_weight must hold a weight for each of {len(right)} rows, and not only zeros.")
        return float(np.average(right, weights=weights))

    def predict(self, x: Array) -> NDArray[Any]:
        """Return the class of each row; `Head` defines it."""
        raise NotImplementedError

    def _become(self, **fields: Any) -> None:
        """Replace fields."""
        for name, value in fields.items():
            setattr(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        raise NotImplementedError

    def __sklearn_clone__(self) -> Any:
        """Return a head with the same parameters that is not fitted."""
        from copy import copy

        return copy(self).set_params()

    def __sklearn_is_fitted__(self) -> bool:
        return bool(self.arrays)

    def __sklearn_tags__(self) -> "Tags":
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(multi_label=True),
            input_tags=InputTags(three_d_array=KINDS[self.kind].layers),
        )


def read_classes(y: Any) -> NDArray[Any]:
    """Return the classes of rows as an array.

    Raises:
        UsageError: the rows have different numbers of values.
    """
    if not is_array(y):
        raise UsageError(
            f"y must be the class of each row, or for several labels per row [N, C] of 0 and 1: {y!r:.80}."
        )
    return np.asarray(y)
