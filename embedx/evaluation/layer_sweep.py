"""Layers: every view, training part and C of a logistic probe in one go, to see which layer to take.

The solver is `embedx.heads.batched_logistic.sweep`; the split, the overlap
and the choice of C inside the training rows are a probe's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError
from embedx.evaluation.cross_validation import LEAKY, Experiment, build_experiment
from embedx.heads.logistic import GRID
from embedx.store.store import Store

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ViewScore:
    """A view: mean accuracy over the test parts and its deviation (ddof 1), mean log loss, and the C of each part."""

    view: str
    accuracy: float
    deviation: float
    log_loss: float
    C: tuple[float, ...]


class ViewScores(Sequence[ViewScore]):
    """The views in the order in which they were asked for.

    Cs: the grid. accuracy: [V, P, Cs] of every view, test part and C. problem: what was asked.
    """

    def __init__(
        self, found: Sequence[ViewScore], problem: Experiment, Cs: tuple[float, ...], accuracy: NDArray[np.float64]
    ) -> None:
        self._found = list(found)
        self.problem = problem
        self.Cs = Cs
        self.accuracy = accuracy

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> ViewScore: ...
    @overload
    def __getitem__(self, index: slice) -> list[ViewScore]: ...
    def __getitem__(self, index: int | slice) -> ViewScore | list[ViewScore]:
        return self._found[index]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        splits = self.problem.splits
        return {
            "label": self.problem.label,
            "split": splits.how,
            "leaky": splits.leaky,
            "rows": len(self.problem.rows),
            "classes": len(self.problem.targets.classes),
            "overlap": self.problem.overlap.to_dict(),
            "views": [asdict(one) for one in self],
        }

    def to_pandas(self) -> "pd.DataFrame":
        """Return a frame with a line for each view."""
        import pandas as pd

        return pd.DataFrame([asdict(one) for one in self])

    def __str__(self) -> str:
        problem = self.problem
        width = max(len("view"), *(len(one.view) for one in self))
        return "\n".join([
            f"{len(problem.rows)} rows, {len(problem.targets.classes)} classes of {problem.label!r}; split by "
            f"{problem.splits.how}; C chosen inside the training rows of each part",
            *([LEAKY] if problem.splits.leaky else []),
            str(problem.overlap),
            "",
            f"{'view':<{width}}  accuracy  deviation  log loss  chosen C",
            *(
                f"{one.view:<{width}}  {one.accuracy:>8.4f}  {one.deviation:>9.4f}  {one.log_loss:>8.4f}  "
                f"{', '.join(f'{C:.2g}' for C in one.C)}"
                for one in self
            ),
            "",
            "The best of several is a little too good by chance; `embedx bench probe` says what other folds choose.",
        ])  # fmt: skip


def sweep_views(
    store: Store,
    views: Sequence[str],
    label: str = "label",
    *,
    Cs: Sequence[float] = GRID,
    ids: Sequence[int] | None = None,
    device: str = "auto",
    seed: int = 0,
    **split: Any,
) -> ViewScores:
    """Fit a logistic regression to every training part of every view for every C, and score it on the test part.

    Args:
        store, views: where the vectors are; one view after the other is read.
        label: the column with a class for each row.
        Cs: inverse strengths of the penalty to choose from.
        ids: the rows to use, all if not given.
        device: "auto", "cpu" or "cuda".
        seed, split: see `embedx.evaluation.splits.make_splits`; seed also of the inner parts by which C is chosen.

    Raises:
        UsageError: as a probe; or a row has several labels.
    """
    from embedx.heads.batched_logistic.sweep import select

    problem = build_experiment(store, views[-1:], label, ids=ids, seed=seed, **split)
    if problem.targets.multilabel:
        raise UsageError("A sweep takes one class for each row; probe several labels view by view.")
    numbers = [row.id for row in problem.rows]

    def vectors() -> Iterator[tuple[str, NDArray[np.float32]]]:
        for view in views:
            yield view, problem.x if view == views[-1] else store.vectors(view, numbers)[1]

    parts = [(np.concatenate([part.train, part.validation]), part.test) for part in problem.splits.parts]
    classes = problem.targets.classes
    groups = np.arange(len(numbers)) if problem.splits.leaky else problem.splits.groups
    made = select(vectors(), problem.targets.y, parts, Cs, groups=groups, seed=seed, classes=classes, device=device)
    accuracy, loss = made.at_chosen(made.outer.accuracy), made.at_chosen(made.outer.log_loss)  # [V, P]
    ddof = int(len(parts) > 1)
    found = [
        ViewScore(
            view, float(accuracy[v].mean()), float(accuracy[v].std(ddof=ddof)), float(loss[v].mean()),
            tuple(made.outer.Cs[place] for place in made.chosen[v]),
        )
        for v, view in enumerate(views)
    ]  # fmt: skip
    return ViewScores(found, problem, made.outer.Cs, made.outer.accuracy)
