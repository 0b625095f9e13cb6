"""Head: a classifier of stored vectors. Predicting needs only numpy.

A head is a few arrays and some JSON, whatever library fitted it. `embedx.heads.fit` makes one.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from embedx.arguments.types import read_numbers
from embedx.errors import RecipeMismatch, UsageError
from embedx.heads.calibration import calibrate, fit_calibration
from embedx.heads.estimator import Estimator
from embedx.heads.files import read_head, write_head
from embedx.heads.fitted import FittedHead, to_plain
from embedx.heads.inference import Floats, make_logits, to_probabilities
from embedx.heads.preprocessing import Array, Arrays
from embedx.heads.thresholds import is_candidate, operating_points, pick_thresholds, points_name

if TYPE_CHECKING:
    from torch import nn

MAY_DIFFER = ("source", "layers", "poolings")  # the place of the model may change; views are compared separately
JSON_FIELDS = ("kind", "classes", "multilabel", "views", "recipe", "settings", "metrics")  # saved in head.json
log = logging.getLogger("embedx")


@dataclass(eq=False)
class Head(FittedHead, Estimator):
    """A fitted classifier that predicts, and can be saved and exported; see `FittedHead` for its attributes."""

    # -- predicting ----------------------------------------------------------------------------------------------------

    def logits(self, x: Array) -> Floats:
        """Return logits [N, C] of vectors.

        Args:
            x: vectors [N, D], or [N, L, D] with the layers in the order of `views`.

        Raises:
            UsageError: the vectors have another dimension, or values that are not finite.
        """
        if not self.arrays:
            raise UsageError("This head is not fitted yet: call fit(x, y) first.")
        x = read_numbers(x, "x")
        wanted = tuple(self.settings["input"])
        if x.ndim != len(wanted) + 1 or x.shape[1:] != wanted:
            shape = ", ".join(map(str, wanted))
            raise UsageError(
                f"This head takes vectors [N, {shape}]; these have the shape {list(x.shape)}. Use the vectors of "
                f"the view that it was fitted on{': ' + ', '.join(self.views) if self.views else ''}."
            )
        if not np.isfinite(x).all():
            raise UsageError("Some vectors contain NaN or infinite values. Remove these rows.")
        return make_logits(x, self.arrays, self.settings, self.multilabel)

    def predict_proba(self, x: Array, calibrated: bool = False) -> Floats:
        """Return probabilities [N, C] of vectors; rows of a single-label head sum to 1.

        Args:
            x: vectors, as `logits` takes them.
            calibrated: return calibrated probabilities.

        Raises:
            UsageError: see `logits`; or calibrated is True, but the head is not calibrated.
        """
        return self.to_proba(self.logits(x), calibrated)

    def to_proba(self, logits: Array, calibrated: bool = False) -> Floats:
        """Return probabilities [N, C] of logits [N, C]; see `predict_proba`."""
        logits = read_numbers(logits, "logits", np.float64)
        if logits.shape[1:] != (len(self.classes),):
            raise UsageError(f"logits must have the shape [N, {len(self.classes)}], not {list(logits.shape)}.")
        if not calibrated:
            return to_probabilities(logits, self.multilabel)
        learned = self._part("calibration")
        if not learned:
            raise UsageError("This head is not calibrated. Train it with a calibration, or leave out calibrated=True.")
        return calibrate(logits, learned, self.multilabel)

    @property
    def calibrated(self) -> bool:
        """Whether the head has a calibration."""
        return bool(self._part("calibration"))

    def predict(self, x: Array, *, calibrated: bool = False, thresholds: Array | None = None) -> NDArray[Any]:
        """Return the most probable class of each row; multi-label: which labels are above 0.5.

        Args:
            x: vectors, as `logits` takes them.
            calibrated: use calibrated probabilities.
            thresholds: [C] from `thresholds`. The most probable class is predicted if it reaches its threshold, else
                ""; multi-label: all classes that reach theirs.

        Returns:
            Classes [N], of the type of `classes_`; multi-label: 0 and 1 [N, C], in the order of `classes_`.

        Raises:
            UsageError: see `predict_proba`; or the thresholds have another shape.
        """
        proba = self.predict_proba(x, calibrated)
        chosen = self.choose(proba, thresholds)
        if self.multilabel:
            return chosen.astype(np.int64)
        names: NDArray[Any] = self.classes_[chosen.argmax(axis=1)]
        if chosen.any(axis=1).all():
            return names
        return np.where(chosen.any(axis=1), names if names.dtype.kind == "U" else names.astype(object), "")

    def choose(self, proba: Floats, thresholds: Array | None = None) -> NDArray[np.bool_]:
        """Return which classes [N, C] are predicted for probabilities [N, C]; see `predict`."""
        proba = read_numbers(proba, "proba", np.float64)
        if proba.shape[1:] != (len(self.classes),):
            raise UsageError(f"proba must have the shape [N, {len(self.classes)}], not {list(proba.shape)}.")
        if thresholds is None:
            return proba > 0.5 if self.multilabel else is_candidate(proba, self.multilabel)
        limits = read_numbers(thresholds, "thresholds", np.float64)
        if limits.shape != (len(self.classes),):
            raise UsageError(f"thresholds must hold one number for each of {len(self.classes)} classes.")
        return is_candidate(proba, self.multilabel) & (proba >= limits)

    # -- fitted on held-out rows ---------------------------------------------------------------------------------------

    def calibrate(self, method: str, logits: Array, y: Array, groups: Array | None = None) -> Self:
        """Return this head, calibrated.

        Args:
            method: "temperature" or "isotonic".
            logits: logits [N, C] of held-out rows.
            y: class numbers [N]; multi-label: [N, C] of 0 and 1.
            groups: [N] rows of one group are right or wrong together; each row on its own if None.

        Raises:
            UsageError: an unknown method, or shapes that do not agree.
        """
        learned = fit_calibration(method, logits, y, self.multilabel, groups)
        settings = {**self.settings, "calibration": method, "calibration_rows": len(logits)}
        return self.replace(arrays=self._with("calibration", learned), settings=settings)

    def measure_points(
        self, proba: Array, y: Array, groups: Array | None = None, *, per: str = "window", aggregate: str = "mean"
    ) -> Self:
        """Return this head with operating points, measured on held-out windows or recordings.

        Args:
            proba: their probabilities [N, C], calibrated if the head is.
            y: class numbers [N]; multi-label: [N, C] of 0 and 1.
            groups: [N] rows of one group are right or wrong together; each row on its own if None.
            per: "window" or "recording".
            aggregate: how the windows of a recording were combined: "mean" or "max".

        Raises:
            UsageError: the shapes do not agree.
        """
        measured = operating_points(proba, y, groups, self.multilabel)
        return self.replace(arrays={**self.arrays, points_name(per, aggregate): measured})

    def thresholds(
        self,
        *,
        precision: float | None = None,
        recall: float | None = None,
        per: str = "window",
        aggregate: str = "mean",
    ) -> NDArray[np.float64]:
        """Return per-class thresholds [C] of probabilities for a precision or recall on new rows.

        They are for the probabilities that `embedx predict` prints: calibrated ones if the head is calibrated.

        Args:
            precision: the precision, between 0 and 1; the thresholds then have the highest recall.
            recall: instead, the recall; the thresholds then have the highest precision.
            per: "window" (default), or "recording" for the probabilities of whole recordings.
            aggregate: how the windows of a recording are combined: "mean" (default) or "max".

        Returns:
            Thresholds [C]; infinity for classes for which the held-out rows do not show a threshold with a confidence
            of 95 %, which a warning names.

        Raises:
            UsageError: the head has no operating points, or not exactly one of the two is given.
        """
        points = self.arrays.get(points_name(per, aggregate))
        if points is None:
            raise UsageError(
                "This head has no operating points, or those of an earlier version, which did not hold on new rows. "
                "Train it again, with two groups or more of every class."
            )
        thresholds = pick_thresholds(points, precision, recall)
        missed = thresholds.describe_missed(self.classes)
        if missed:
            target = f"precision of {precision}" if recall is None else f"recall of {recall}"
            log.warning("No threshold with a %s on new rows: %s. These classes are not predicted.", target, missed)
        return thresholds.values

    def check_recipe(self, recipe: Mapping[str, Any], views: Sequence[str]) -> None:
        """Check that vectors have the recipe of the vectors that the head was fitted on.

        Args:
            recipe: the recipe of the vectors, as a dictionary.
            views: the views that there are.

        Raises:
            RecipeMismatch: a field of the recipes differs, or a view is missing; the message names them.
        """
        mine, theirs = to_plain(self.recipe or {}), to_plain(recipe)
        names = [name for name in {**mine, **theirs} if name not in MAY_DIFFER] if mine else []
        details = [
            f"{name}: {mine.get(name)!r} for the head, {theirs.get(name)!r} for these vectors"
            for name in names
            if mine.get(name) != theirs.get(name)
        ]
        if not self.views:
            details.append("the head does not say which view it was fitted on")
        missing = [view for view in self.views if view not in views]
        if missing:
            details.append(f"view {', '.join(missing)} is missing; there are: {', '.join(views) or 'none'}")
        if details:
            raise RecipeMismatch(
                f"The head was fitted on vectors of another recipe ({'; '.join(details)}). Its predictions would be "
                "meaningless. Extract with the recipe of the head, or train a head on these vectors."
            )

    # -- saving and exporting ------------------------------------------------------------------------------------------

    def save(self, folder: Path | str) -> None:
        """Write the head as `head.json` and a file of arrays; a head that is there is replaced in one step.

        Raises:
            UsageError: the name of the folder is not allowed for a head, or an array is not finite.
            DiskError: the folder cannot be written.
        """
        write_head(Path(folder), self.to_dict(), self.arrays)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a head that `save` wrote.

        Raises:
            StoreError: a file is missing or damaged, or a newer embedx wrote it; the message names it.
        """
        return read_head(Path(folder), cls)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the arrays, ready for JSON."""
        plain: dict[str, Any] = to_plain({name: getattr(self, name) for name in JSON_FIELDS})
        return plain

    def replace(self, **fields: Any) -> Self:
        """Return a copy with changed fields."""
        return dataclasses.replace(self, **fields)

    def to_torch(self, *, calibrated: bool = False) -> "nn.Module":
        """Return a module in float32: vectors [N, D] or [N, L, D] -> probabilities [N, C].

        Raises:
            UsageError: calibrated is True, but the head has no calibration.
        """
        from embedx.heads.torch_module import HeadModule

        return HeadModule(self, calibrated)

    def export(self, path: Path | str, format: str = "onnx", *, calibrated: bool = False) -> None:
        """Write the head to a file that other programs run.

        Args:
            path: the file.
            format: "onnx", or "torch" for a .pt2 file of torch.export.
            calibrated: export calibrated probabilities.

        Raises:
            UsageError: an unknown format; or see `to_torch`.
            ModelError: the package onnx is not installed.
            DiskError: the file cannot be written.
        """
        from embedx.heads.export import export_head

        export_head(self, Path(path), format, calibrated)

    def _part(self, part: str) -> dict[str, Array]:
        """Return the arrays of one part of the head, without the prefix of the part."""
        start = part + "."
        return {name.removeprefix(start): array for name, array in self.arrays.items() if name.startswith(start)}

    def _with(self, part: str, learned: Arrays) -> dict[str, Array]:
        """Return all arrays, with those of one part replaced."""
        others = {name: array for name, array in self.arrays.items() if not name.startswith(part + ".")}
        return others | {f"{part}.{name}": array for name, array in learned.items()}
