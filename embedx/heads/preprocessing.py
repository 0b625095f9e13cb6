"""Preprocessing: steps that transform vectors before the classifier, fitted on the training rows only.

A chain of steps is written as text, as in `Unit()+PCA(128)`. Each step is kept as a few arrays and applied with numpy.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError

Array = NDArray[Any]
Arrays = Mapping[str, Array]

STEPS = {
    "Standardise()": "scale each dimension to mean 0 and standard deviation 1",
    "Centre()": "shift each dimension to mean 0",
    "Unit()": "scale each vector to length 1",
    "PCA(n)": "keep the first n principal components",
    "PCA(n, whiten)": "the same, each component scaled to standard deviation 1",
}
PATTERN = re.compile(r"(Standardise|Centre|Unit)\(\)|PCA\(\s*([1-9]\d{0,6})\s*(,\s*whiten\s*)?\)")
FLAT_THRESHOLD = 1e-7  # of the largest deviation: directions below hold rounding errors, and must not be whitened


@dataclass(frozen=True)
class Step:
    """One step of a chain; `dim` and `whiten` are those of a PCA, and 0 and False for other steps."""

    name: str
    dim: int = 0
    whiten: bool = False

    def __str__(self) -> str:
        return f"{self.name}({self.dim or ''}{', whiten' if self.whiten else ''})"


def read_chain(text: str) -> tuple[Step, ...]:
    """Return the steps that a text names; none for an empty text.

    >>> [str(step) for step in read_chain("Unit() + PCA(64,whiten)")]
    ['Unit()', 'PCA(64, whiten)']

    Raises:
        UsageError: a part of the text is not a step.
    """
    steps = []
    for part in text.split("+") if text.strip() else []:
        match = PATTERN.fullmatch(part.strip())
        if match is None:
            allowed = "; ".join(f"{name}: {meaning}" for name, meaning in STEPS.items())
            raise UsageError(f"{part.strip()!r} in head_model is not a step. Join steps with '+'. Steps: {allowed}.")
        steps.append(Step(match[1]) if match[1] else Step("PCA", int(match[2]), bool(match[3])))
    return tuple(steps)


def check_chain(chain: Sequence[Step], shape: tuple[int, ...]) -> None:
    """Check that the steps can be fitted on vectors of this shape, [N, D] or [N, L, D].

    Raises:
        UsageError: a PCA needs more directions than there are, or there are several layers.
    """
    rows, *rest = shape
    for step in chain:
        if not step.dim:
            continue
        if len(rest) > 1:
            raise UsageError(
                f"{step} in head_model works on one view, but weighted-layers reads several. Remove the step."
            )
        if step.dim > min(rows, *rest):
            raise UsageError(
                f"{step} in head_model asks for {step.dim} components, but {rows} training rows of {rest[0]} "
                f"dimensions allow at most {min(rows, *rest)}. Give a smaller number."
            )
        rest = [step.dim]


def fit_chain(chain: Sequence[Step], x: Array) -> tuple[dict[str, Array], NDArray[np.float64]]:
    """Fit every step on the output of the one before it; return the arrays and the transformed vectors [N, D'].

    Several layers [N, L, D] are standardised or centred separately. In an inner fold with fewer rows than the
    directions of a PCA, the PCA keeps as many directions as there are.
    """
    arrays: dict[str, Array] = {}
    x = np.asarray(x, np.float64)
    for place, step in enumerate(chain):
        learned = fit_step(step, x)
        arrays |= {f"step{place}.{name}": array for name, array in learned.items()}
        x = apply_step(learned, x)
    return arrays, x


def fit_step(step: Step, x: NDArray[np.float64]) -> dict[str, Array]:
    """Return the arrays of a step: a `mean` to subtract, `components` [D', D] to project on, a `scale` to divide by."""
    if step.name == "Unit":
        return {}
    if step.name == "Centre":
        return {"mean": x.mean(axis=0)}
    if step.name == "Standardise":
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(x.reshape(len(x), -1))  # a constant dimension gets the scale 1
        return {"mean": scaler.mean_.reshape(x.shape[1:]), "scale": scaler.scale_.reshape(x.shape[1:])}
    from sklearn.decomposition import PCA

    solver = "covariance_eigh" if x.shape[0] > x.shape[1] else "full"  # both are exact; this one is the faster
    model = PCA(min(step.dim, *x.shape), svd_solver=solver).fit(x)
    scale = np.sqrt(model.explained_variance_)
    flat = scale <= FLAT_THRESHOLD * scale.max()
    learned = {"mean": model.mean_, "components": np.where(flat[:, None], 0.0, model.components_)}
    return learned | ({"scale": np.where(flat, 1.0, scale)} if step.whiten else {})


def apply_chain(count: int, arrays: Arrays, x: Array) -> NDArray[np.float64]:
    """Apply `count` fitted steps to vectors [N, D] or [N, L, D]."""
    x = np.asarray(x, np.float64)
    for place in range(count):
        start = f"step{place}."
        x = apply_step({name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}, x)
    return x


def apply_step(learned: Arrays, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply one fitted step; a step without arrays is `Unit`, which leaves a vector of zeros as it is.

    >>> apply_step({}, np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    if not learned:
        lengths = np.linalg.norm(x, axis=-1, keepdims=True)
        unit: NDArray[np.float64] = x / np.where(lengths == 0, 1, lengths)
        return unit
    x = x - learned["mean"]
    if "components" in learned:
        x = x @ learned["components"].T
    return x / learned["scale"] if "scale" in learned else x
