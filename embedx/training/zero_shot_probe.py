"""Probe of zero-shot classes: how often they agree with the labels of stored rows. Nothing is trained."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedx.errors import UsageError
from embedx.evaluation.cross_validation import read_vectors, sort_rows
from embedx.evaluation.targets import column
from embedx.heads.inference import to_probabilities
from embedx.metrics.report import Metrics
from embedx.metrics.scoring import evaluate
from embedx.store.store import Store
from embedx.text import natural_key, plural
from embedx.training.calibration_trial import Trial
from embedx.training.zero_shot import calibrate, labelled, make_zero_shot, read_classes

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

MAX_NAMED = 5  # labels that are no zero-shot class, in the report


@dataclass(frozen=True)
class ZeroShotReport:
    """The result of a probe of zero-shot classes, on all rows whose label is one of them.

    Attributes:
        view, label: the vectors, and the column of the labels.
        metrics: all figures with intervals and baselines, of the probabilities before calibration.
        trial: what a calibration on these rows does, on held-out groups; None if there are too few groups.
        left_out: label -> number of rows whose label is not one of the classes.
        unlabelled: number of rows without a label.
    """

    view: str
    label: str
    metrics: Metrics
    trial: Trial | None
    left_out: dict[str, int]
    unlabelled: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        figures = {name: self.metrics.figures[name] for name in ("accuracy", "balanced_accuracy")}
        return {
            **{name: None if figure is None else figure.value for name, figure in figures.items()},
            **{name: getattr(self, name) for name in ("view", "label", "left_out", "unlabelled")},
            "kind": "zero-shot",
            "rows": self.metrics.rows,
            "classes": len(self.metrics.classes),
            "calibration": None if self.trial is None else vars(self.trial),
            "metrics": self.metrics.to_dict(),
        }

    def __str__(self) -> str:
        return self.text()

    def text(self, per_class: bool = False) -> str:
        """Return the report as text; with `per_class` also the figures of every class."""
        names = ", ".join(list(self.left_out)[:MAX_NAMED])
        lines = [
            self.metrics.verdict(),
            "",
            self.metrics.tables(per_class),
            "",
            f"zero-shot on view {self.view}; label {self.label!r}; nothing was trained.",
            *([f"Left out: {plural(self.unlabelled, 'row')} without a label."] if self.unlabelled else []),
            *([f"Left out: {plural(sum(self.left_out.values()), 'row')} of other labels ({names})."] if names else []),
            *([str(self.trial)] if self.trial is not None else []),
        ]
        return "\n".join(lines)


def probe_zero_shot(
    store: Store, embedder: "Embedder", classes: Any, prompt: Any, label: str, ids: Sequence[int] | None
) -> ZeroShotReport:
    """Compare zero-shot classes with labels; see `Collection.probe_zero_shot`.

    Raises:
        UsageError: no row has a label that is one of the classes; invalid classes.
    """
    store.require_rows()
    rows = sort_rows(store.rows(ids))
    cells = column(rows, label)
    counts = Counter(cell for cell in cells if cell is not None)
    if classes is None:
        classes = {name: name.replace("_", " ") for name in sorted(counts, key=natural_key)}
    zero_shot = make_zero_shot(embedder, list(store.views), classes, prompt)
    kept, y, groups = labelled(rows, cells, zero_shot.classes)
    if not kept:
        raise UsageError(
            f"No row has a label in {label!r} that is one of the zero-shot classes {', '.join(read_classes(classes))}. "
            f"Labels: {', '.join(sorted(counts, key=natural_key)[:MAX_NAMED])}. Name a class by NAME=PROMPT."
        )
    logits = zero_shot.logits(read_vectors(store, zero_shot.view, np.array([rows[i].id for i in kept], np.int64)))
    metrics = evaluate(y, to_probabilities(logits, False), zero_shot.classes, groups=groups)
    left_out = {name: count for name, count in counts.items() if name not in zero_shot.classes}
    trial = calibrate(zero_shot, logits, y, groups).trial
    return ZeroShotReport(zero_shot.view, label, metrics, trial, left_out, cells.count(None))
