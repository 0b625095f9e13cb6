"""Layer sweep: logistic probes of every view, fold and C together, to see which layer to use.

The solver is `embedx.heads.batched_logistic.sweep`. The split, the check for near-duplicates and the choice of C inside
the training rows are those of a probe.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.evaluation.cross_validation import LEAKY, Experiment, build_experiment, read_vectors
from embedx.evaluation.splits import SplitOptions
from embedx.evaluation.targets import LabelOptions
from embedx.heads.batched_logistic.sweep import Selection
from embedx.heads.logistic import C_GRID
from embedx.metrics.report import align
from embedx.store.store import Store
from embedx.text import plural

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ViewScore:
    """The score of one view.

    Attributes:
        view: its name.
        accuracy: mean over the test parts.
        deviation: standard deviation over the test parts (ddof 1).
        log_loss: mean over the test parts, in nats.
        C: the chosen inverse penalty strength of each part.
    """

    view: str
    accuracy: float
    deviation: float
    log_loss: float
    C: tuple[float, ...]


class ViewScores(Sequence[ViewScore]):
    """The scores of views, in the order in which the views were given.

    Attributes:
        experiment: the rows, labels and split.
        Cs: the grid of C.
        accuracy: [V, P, Cs] of every view, test part and C.
    """

    def __init__(
        self, scores: Sequence[ViewScore], experiment: Experiment, Cs: tuple[float, ...], accuracy: NDArray[np.float64]
    ) -> None:
        self._scores = list(scores)
        self.experiment = experiment
        self.Cs = Cs
        self.accuracy = accuracy

    def __len__(self) -> int:
        return len(self._scores)

    @overload
    def __getitem__(self, index: int) -> ViewScore: ...
    @overload
    def __getitem__(self, index: slice) -> list[ViewScore]: ...
    def __getitem__(self, index: int | slice) -> ViewScore | list[ViewScore]:
        return self._scores[index]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        experiment = self.experiment
        return {
            "label": experiment.label,
            "split": experiment.splits.how,
            "leaky": experiment.splits.leaky,
            "rows": len(experiment.rows),
            "classes": len(experiment.targets.classes),
            "overlap": experiment.overlap.to_dict(),
            "views": [asdict(score) for score in self],
        }

    def to_pandas(self) -> "pd.DataFrame":
        """Return a frame with one row per view."""
        import pandas as pd

        return pd.DataFrame([asdict(score) for score in self])

    def __str__(self) -> str:
        experiment = self.experiment
        best = max(self, key=lambda score: score.accuracy)
        table = [["view", "accuracy", "deviation", "log loss", "chosen C"]]
        for score in self:
            numbers = [f"{value:.4f}" for value in (score.accuracy, score.deviation, score.log_loss)]
            table.append([score.view, *numbers, ", ".join(f"{C:.2g}" for C in score.C)])
        return "\n".join([
            f"Highest accuracy: {best.view}, {best.accuracy:.4f} (mean of {plural(len(best.C), 'test part')}); "
            f"{plural(len(self), 'view')}, {plural(len(experiment.rows), 'row')}, "
            f"{plural(len(experiment.targets.classes), 'class')}.",
            *([LEAKY] if experiment.splits.leaky else []),
            str(experiment.overlap),
            "",
            align(table),
            "",
            f"Label {experiment.label!r}; split by {experiment.splits.how}; C is chosen inside the training rows.",
            "The best of several views is slightly too good by chance; `embedx bench probe` shows by how much.",
        ])  # fmt: skip


def sweep_views(
    store: Store,
    views: Sequence[str],
    labels: LabelOptions,
    split: SplitOptions,
    *,
    Cs: Sequence[float] = C_GRID,
    ids: Sequence[int] | None = None,
    device: str = "auto",
) -> ViewScores:
    """Fit a logistic regression for every training part, view and C, and score it on the test part.

    Args:
        store: the store of the collection.
        views: the views to compare; they are read one after the other.
        labels: which column holds the labels; one class per row.
        split: how to split the rows. Its seed is also that of the inner folds on which C is chosen.
        Cs: inverse penalty strengths to choose from.
        ids: the rows to use; all if None.
        device: "auto", "cpu" or "cuda".

    Returns:
        The score of each view, in the order of `views`.

    Raises:
        UsageError: as `embedx.evaluation.probe.probe`; or the rows have several labels.
    """
    from embedx.heads.batched_logistic.sweep import select

    experiment = build_experiment(store, views[-1:], labels, split, ids=ids)
    targets = experiment.targets
    if targets.multilabel:
        raise UsageError("A sweep needs one class per row. For multi-label data probe the views one by one.")
    row_ids = np.array([row.id for row in experiment.rows], np.int64)

    def vectors() -> Iterator[tuple[str, NDArray[np.float32]]]:
        for view in views:
            yield view, experiment.x if view == views[-1] else read_vectors(store, view, row_ids)

    selection = select(
        vectors(),
        targets.y,
        [(part.learned, part.test) for part in experiment.splits.parts],
        Cs,
        groups=experiment.splits.inner_groups,
        seed=split.seed,
        classes=targets.classes,
        device=device,
    )
    return ViewScores(score_views(views, selection), experiment, selection.outer.Cs, selection.outer.accuracy)


def score_views(views: Sequence[str], selection: Selection) -> list[ViewScore]:
    """Return the score of each view at the chosen Cs."""
    outer = selection.outer
    accuracy, loss = selection.at_chosen(outer.accuracy), selection.at_chosen(outer.log_loss)  # [V, P]
    ddof = int(accuracy.shape[1] > 1)
    return [
        ViewScore(
            view=view,
            accuracy=float(accuracy[v].mean()),
            deviation=float(accuracy[v].std(ddof=ddof)),
            log_loss=float(loss[v].mean()),
            C=tuple(outer.Cs[place] for place in selection.chosen[v]),
        )
        for v, view in enumerate(views)
    ]
