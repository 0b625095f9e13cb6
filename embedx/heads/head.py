"""Head: a classifier of stored vectors. Predicting needs numpy alone.

It is a few arrays and some JSON, whatever it was fitted with. `embedx.heads.fit` makes one.
"""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from embedx.errors import RecipeMismatch, UsageError
from embedx.heads.calibration import calibrate, fit_calibration
from embedx.heads.files import read_head, write_head
from embedx.heads.fitted import FittedHead, to_plain
from embedx.heads.inference import Floats, make_logits, to_probabilities
from embedx.heads.preprocessing import Array, Arrays
from embedx.heads.thresholds import operating_points, pick_thresholds

if TYPE_CHECKING:
    from torch import nn

MAY_DIFFER = ("source", "layers", "poolings")  # where the model lay; and the views are compared by themselves
NOTED = ("kind", "classes", "multilabel", "views", "recipe", "settings", "metrics")  # in JSON, beside the arrays
log = logging.getLogger("embedx")


@dataclass(frozen=True, eq=False)
class Head(FittedHead):
    """A fitted classifier: predicts, saves and exports itself; see `FittedHead` for its attributes."""

    # -- predicting ----------------------------------------------------------------------------------------------------

    def logits(self, x: Array) -> Floats:
        """Return logits [N, C] of vectors [N, D], or [N, L, D] with the layers in the order of `views`.

        Raises:
            UsageError: vectors of another dimension, or with values that are no finite numbers.
        """
        x = np.asarray(x)
        wanted = tuple(self.settings["input"])
        if x.ndim != len(wanted) + 1 or x.shape[1:] != wanted:
            shape = ", ".join(map(str, wanted))
            raise UsageError(
                f"This head takes vectors [N, {shape}]; these are {list(x.shape)}. Take those of the view that it was "
                f"fitted on{': ' + ', '.join(self.views) if self.views else ''}."
            )
        if not np.isfinite(x).all():
            raise UsageError("Some vectors hold values that are no finite numbers; take those rows out.")
        return make_logits(x, self.arrays, self.settings, self.multilabel)

    def predict_proba(self, x: Array, calibrated: bool = False) -> Floats:
        """Return probabilities [N, C] of vectors [N, D]; of a single-label head every row sums to 1.

        Raises:
            UsageError: as `logits`; or calibrated ones are asked for, and the head was never calibrated.
        """
        return self.to_proba(self.logits(x), calibrated)

    def to_proba(self, logits: Array, calibrated: bool = False) -> Floats:
        """Return probabilities [N, C] of logits [N, C], as `predict_proba` does."""
        if not calibrated:
            return to_probabilities(logits, self.multilabel)
        learned = self._some("calibration")
        if not learned:
            raise UsageError(
                "This head is not calibrated. Train it with a calibration, or ask without calibrated=True."
            )
        return calibrate(logits, learned, self.multilabel)

    @property
    def calibrated(self) -> bool:
        """Whether the head knows how its probabilities are put right."""
        return bool(self._some("calibration"))

    def predict(self, x: Array, *, calibrated: bool = False, thresholds: Array | None = None) -> list[Any]:
        """Return the name of the likeliest class of each row, or with several labels a tuple of those above 0.5.

        With thresholds [C], as `thresholds` gives them, only classes that reach theirs are named: of one label the
        likeliest of those, or "" if there is none.

        Raises:
            UsageError: as `predict_proba`; or thresholds of another shape.
        """
        proba = self.predict_proba(x, calibrated)
        if thresholds is not None and np.shape(thresholds) != (len(self.classes),):
            raise UsageError(f"thresholds holds one number for each of {len(self.classes)} classes.")
        if self.multilabel:
            reached = proba > 0.5 if thresholds is None else proba >= thresholds
            return [tuple(name for name, yes in zip(self.classes, row, strict=True) if yes) for row in reached]
        if thresholds is not None:
            proba = np.where(proba >= thresholds, proba, -1)
        best = proba.argmax(axis=1) if len(self.classes) else []
        return [self.classes[one] if proba[row, one] >= 0 else "" for row, one in enumerate(best)]

    # -- what is learned on held-out rows ------------------------------------------------------------------------------

    def calibrate(self, method: str, logits: Array, y: Array) -> Self:
        """Return this head calibrated by logits [N, C] of rows it has not seen; method: "temperature" or "isotonic"."""
        learned = fit_calibration(method, logits, y, self.multilabel)
        settings = {**self.settings, "calibration": method, "calibration_rows": len(logits)}
        return self.replace(arrays=self._with("calibration", learned), settings=settings)

    def measure_points(self, proba: Array, y: Array) -> Self:
        """Return this head with operating points by calibrated probabilities [N, C] of rows it has not seen."""
        return self.replace(arrays=self._with("operating", operating_points(proba, y, self.multilabel)))

    def thresholds(self, *, precision: float | None = None, recall: float | None = None) -> NDArray[np.float64]:
        """Return thresholds [C] of calibrated probabilities: the most recall at a precision, or the other way round.

        A class that cannot reach it has the threshold infinity, and is named in the log.

        Raises:
            UsageError: the head has no operating points, or not exactly one of the two is given.
        """
        learned = self._some("operating")
        if not learned:
            raise UsageError("This head has no operating points. Train it with a calibration first.")
        found = pick_thresholds(learned, precision, recall)
        never = [name for name, one in zip(self.classes, found, strict=True) if math.isinf(one)]
        if never:
            wanted = f"precision of {precision}" if recall is None else f"recall of {recall}"
            log.warning("On held-out rows no threshold gives a %s for %s.", wanted, ", ".join(never))
        return found

    def check_recipe(self, recipe: Mapping[str, Any], views: Sequence[str]) -> None:
        """Refuse vectors that were not made as those that the head was fitted on.

        Raises:
            RecipeMismatch: a field of the recipes differs, or a view is not there; the message names them.
        """
        mine, theirs = to_plain(self.recipe or {}), to_plain(recipe)
        names = [name for name in {**mine, **theirs} if name not in MAY_DIFFER] if mine else []
        details = [
            f"{name}: the head's {mine.get(name)!r}, these {theirs.get(name)!r}"
            for name in names
            if mine.get(name) != theirs.get(name)
        ]
        missing = [view for view in self.views if view not in views]
        if missing:
            details.append(f"view {', '.join(missing)} is not among {', '.join(views) or 'any'}")
        if details:
            raise RecipeMismatch(
                f"The head was fitted on other vectors ({'; '.join(details)}). Its answers would mean nothing: extract "
                "with the recipe of the head, or train a head on these vectors."
            )

    # -- keeping -------------------------------------------------------------------------------------------------------

    def save(self, folder: Path | str) -> None:
        """Write the head as `head.json` and `head.safetensors`; the folder is there whole or not at all.

        Raises:
            UsageError: the folder's name is no name for a head.
            DiskError: the disk is full, or refuses.
        """
        write_head(Path(folder), self.to_dict(), self.arrays)

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what `save` wrote.

        Raises:
            StoreError: a file is missing, damaged, of a newer embedx, or of something else; the message names it.
        """
        return read_head(Path(folder), cls)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the arrays, ready for JSON."""
        plain: dict[str, Any] = to_plain({name: getattr(self, name) for name in NOTED})
        return plain

    def replace(self, **fields: Any) -> Self:
        """Return a copy with other fields."""
        return dataclasses.replace(self, **fields)

    def to_torch(self, *, calibrated: bool = False) -> "nn.Module":
        """Return a module in float32: vectors [N, D] or [N, L, D] -> probabilities [N, C].

        Raises:
            UsageError: the calibration that is asked for is missing, or is isotonic, which no module has.
        """
        from embedx.heads.torch_module import HeadModule

        return HeadModule(self, calibrated)

    def export(self, path: Path | str, format: str = "onnx", *, calibrated: bool = False) -> None:
        """Write a file that other programs run: "onnx", or "torch" for a .pt2 of torch.export; see `to_torch`.

        Raises:
            UsageError: an unknown format; or as `to_torch`.
            ModelError: the package onnx is not installed.
            DiskError: the file cannot be written.
        """
        from embedx.heads.export import write_exchange

        write_exchange(self, Path(path), format, calibrated)

    def _some(self, part: str) -> dict[str, Array]:
        """Return the arrays of one part of the head, under their own names."""
        start = part + "."
        return {name.removeprefix(start): array for name, array in self.arrays.items() if name.startswith(start)}

    def _with(self, part: str, learned: Arrays) -> dict[str, Array]:
        """Return all arrays, those of one part in place of the old ones."""
        others = {name: array for name, array in self.arrays.items() if not name.startswith(part + ".")}
        return others | {f"{part}.{name}": array for name, array in learned.items()}
