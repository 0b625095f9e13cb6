"""Content: the fields and arrays of a head are checked before it is written, and again when it is read.

A checksum shows that a file has not changed, not that its values can be used: a head may hold NaN because its training
failed, and a file from a stranger may hold anything.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embedx.errors import UsageError
from embedx.heads.inference import NEGATIVE_VOTES, POSITIVE_VOTES, PRIOR
from embedx.heads.preprocessing import Arrays
from embedx.heads.thresholds import COLUMNS

MAX_STEPS = 100  # preprocessing steps; users join a few
STEP_PARTS = ("mean", "scale", "components")
OLD_POINTS = "operating.points"  # of heads that were saved by early versions; not used any more


def check_content(fields: Mapping[str, Any], arrays: Arrays) -> None:
    """Check the values of a head.

    Args:
        fields: the fields of head.json: kind, classes, multilabel, views, recipe, settings, metrics.
        arrays: the arrays by their names.

    Raises:
        UsageError: a number is not finite, the shapes do not agree, or a field has a value that is not allowed.
    """
    classes, settings = fields.get("classes"), fields.get("settings")
    check_names(classes, "classes", least=1)
    check_names(fields.get("views", ()), "views", least=0)
    require(isinstance(fields.get("kind"), str) and isinstance(fields.get("multilabel"), bool), "kind or multilabel")
    require(all(isinstance(fields.get(name), Mapping) for name in ("settings", "metrics")), "settings or metrics")
    require(fields.get("recipe") is None or isinstance(fields.get("recipe"), Mapping), "recipe")
    assert isinstance(settings, Mapping) and classes is not None
    check_finite(arrays)
    width = check_steps(settings, arrays)
    check_classifier(settings, arrays, width, len(classes), bool(fields["multilabel"]))
    check_calibration(arrays, len(classes))


def require(is_valid: Any, what: str) -> None:
    """Raise UsageError for a part of a head that is not valid."""
    if not is_valid:
        raise UsageError(f"the head is not valid: {what}")


def check_names(names: Any, what: str, least: int) -> None:
    """Check that names are texts, and that none is there twice."""
    is_list = isinstance(names, Sequence) and not isinstance(names, str)
    require(is_list and len(names) >= least and all(isinstance(name, str) for name in names), f"its {what}")
    require(len(set(names)) == len(names), f"a name is twice in its {what}")


def check_finite(arrays: Arrays) -> None:
    """Refuse NaN and infinity; in the operating points, a whole unused point is NaN."""
    for name, array in arrays.items():
        if name.startswith("operating."):
            columns = 3 if name == OLD_POINTS else COLUMNS
            require(array.ndim == 3 and array.shape[2] == columns, f"the shape of {name}")
            array = array[~np.isnan(array).all(axis=2)]
        if not np.isfinite(array).all():
            raise UsageError(
                f"the array {name} holds NaN or infinite values, so its predictions would be meaningless. The training "
                "did not converge: use a lower learning_rate, or look for extreme values in the vectors"
            )


def check_steps(settings: Mapping[str, Any], arrays: Arrays) -> int:
    """Check the preprocessing steps, and return the dimension of their output."""
    shape, steps = settings.get("input"), settings.get("steps")
    is_shape = isinstance(shape, list | tuple) and 1 <= len(shape) <= 2 and all(type(n) is int and n > 0 for n in shape)
    require(is_shape and type(steps) is int and 0 <= steps <= MAX_STEPS, "its input or steps")
    current = tuple(shape or ())
    known = {f"step{place}.{part}" for place in range(steps or 0) for part in STEP_PARTS}
    unknown = [name for name in arrays if name.startswith("step") and name not in known]
    require(not unknown, f"the array {', '.join(unknown)}")
    for place in range(steps or 0):
        mean, scale, components = (arrays.get(f"step{place}.{part}") for part in STEP_PARTS)
        require(mean is None or mean.shape == current, f"the shape of step{place}.mean")
        require(mean is not None or (scale is None and components is None), f"step{place}.mean is missing")
        if components is not None:
            require(components.ndim == 2 and components.shape[1:] == current, f"the shape of step{place}.components")
            current = components.shape[:1]
        require(scale is None or (scale.shape == current and (scale > 0).all()), f"step{place}.scale")
    if "mixture" in arrays:
        require(len(current) == 2 and arrays["mixture"].shape == current[:1], "the shape of mixture")
    require(len(current) == 1 or "mixture" in arrays, "its input")
    return int(current[-1])


def check_classifier(settings: Mapping[str, Any], arrays: Arrays, width: int, classes: int, multilabel: bool) -> None:
    """Check the arrays of the classifier after the steps, for vectors of `width` dimensions."""
    if "vectors" in arrays:
        rows = len(arrays["vectors"]) if arrays["vectors"].ndim else 0
        names = (POSITIVE_VOTES, NEGATIVE_VOTES) if multilabel else (POSITIVE_VOTES,)
        require(rows > 0 and arrays["vectors"].shape == (rows, width), "the shape of vectors")
        require(all(name in arrays and arrays[name].shape == (rows, classes) for name in names), "the votes")
        prior = arrays.get(PRIOR)
        is_share = prior is None or (prior.shape == (classes,) and ((prior > 0) & (prior < 1)).all())
        require(is_share, "its prior")
        is_valid = type(settings.get("k")) is int and settings["k"] > 0
        require(is_valid and settings.get("weights") in ("distance", "uniform"), "its k or weights")
        return
    if "hidden.weight" in arrays:
        hidden = arrays["hidden.weight"].shape
        require(len(hidden) == 2 and hidden[1] == width, "the shape of hidden.weight")
        require("hidden.bias" in arrays and arrays["hidden.bias"].shape == hidden[:1], "the shape of hidden.bias")
        width = hidden[0]
    for name, shape in (("weight", (classes, width)), ("bias", (classes,))):
        require(name in arrays and arrays[name].shape == shape, f"{name} must have the shape {list(shape)}")


def check_calibration(arrays: Arrays, classes: int) -> None:
    """Check the arrays of the calibration and the operating points."""
    if "calibration.temperature" in arrays:
        temperature = arrays["calibration.temperature"]
        require(temperature.shape == (1,) and (temperature > 0).all(), "calibration.temperature")
    knots = [arrays.get(f"calibration.knots.{part}") for part in ("x", "y", "starts")]
    if any(part is not None for part in knots):
        x, y, starts = knots
        require(x is not None and y is not None and starts is not None, "the knots of its calibration")
        assert x is not None and y is not None and starts is not None
        has_shapes = x.ndim == 1 and x.shape == y.shape and starts.shape == (classes + 1,)
        is_covered = has_shapes and starts[0] == 0 and starts[-1] == len(x) and (np.diff(starts) >= 1).all()
        require(is_covered, "the knots of its calibration")
    for name, array in arrays.items():
        require(not name.startswith("operating.") or len(array) == classes, f"the shape of {name}")
