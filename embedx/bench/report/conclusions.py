"""What a board says in words, and the score of its best setup when the test rows did not choose it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from embedx.bench.leaderboard import FEW_FOLDS, LIKE_BEST, Board, Entry
from embedx.bench.setups import LOWER_IS_BETTER, UNBOUNDED, Setup, goodness, mean_of
from embedx.bench.significance import Score, choose_elsewhere
from embedx.filesystem.paths import display_path

NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_auc": "macro AUC",
    "map": "mAP",
    "d_prime": "d′",
    "log_loss": "log loss",
    "ece": "calibration error",
}


@dataclass(frozen=True)
class Choice:
    """A mean score for which the setup of each fold was chosen by the results on the other folds.

    The score of the best of many setups on the test rows is too high by chance; this score is not. It has no interval,
    because the choices for different folds depend on each other.

    Attributes:
        setups: the chosen setups.
        score: the mean by the metric of the board.
        chance_score: the mean by `Board.chance_metric`.
    """

    setups: tuple[Setup, ...]
    score: float
    chance_score: float | None


@dataclass(frozen=True)
class Verdict:
    """Whether the best setup is above chance (None if that is not known), and sentences for people."""

    learned: bool | None
    text: str


def choose(board: Board, entries: Sequence[Entry]) -> Choice | None:
    """Choose for each fold the entry that is best on all other folds.

    The heads of the other folds were trained on rows of this fold but not tested on them.

    Returns:
        None if there is one test part, or no entry with results for every fold.
    """
    entries = [entry for entry in entries if entry.rank is not None]
    if board.unit != "fold" or not entries:
        return None

    table = np.array(
        [[goodness(entry.values[board.metric][fold], board.metric) for fold in board.units] for entry in entries]
    )
    chosen = [
        (fold, [entries[i] for i in best]) for fold, best in zip(board.units, choose_elsewhere(table), strict=True)
    ]
    score = fmean(fmean(entry.values[board.metric][fold] for entry in best) for fold, best in chosen)
    by_chance_metric = [
        mean_of([entry.values.get(board.chance_metric, {}).get(fold) for entry in best]) for fold, best in chosen
    ]
    setups = dict.fromkeys(entry.setup for _, best in chosen for entry in best)
    return Choice(tuple(setups), score, mean_of(by_chance_metric))


def choose_by_model(board: Board) -> dict[str, Choice]:
    """Return for every model the choice among its layers, poolings and heads; the best model first."""
    by_model: dict[str, list[Entry]] = defaultdict(list)
    for entry in board.entries:
        by_model[entry.setup.model].append(entry)
    choices = {model: choice for model, entries in by_model.items() if (choice := choose(board, entries))}
    return dict(sorted(choices.items(), key=lambda item: goodness(item[1].score, board.metric), reverse=True))


def give_verdict(board: Board) -> Verdict:
    """Say whether any setup is above chance, which is best, what it scores with its interval, and what is not known."""
    choice = choose(board, board.entries)
    sentences = [*compare_with_chance(board), *name_best(board)]
    if not board.same_data:
        sentences.append(
            "Setups were measured on different rows or labels, so their differences may come from these. Run the same "
            "command again with all models."
        )
    if choice is None:
        sentences.append(
            "There is only one test part, so the uncertainty from the choice of test rows is not known and there is no "
            "interval for it."
        )
    elif len(board.entries) > 1:
        sentences.append(f"If the other folds choose the setup for each fold, the mean is {choice.score:.3f}.")
    if board.few_folds:
        sentences.append(
            f"{FEW_FOLDS} With {len(board.units)} folds, the spread over folds is hardly known: only very large "
            "differences are significant, and most real ones are not."
        )
    accuracy = (board.leader or board.entries[0]).scores.get("accuracy")
    if accuracy and accuracy.low is not None and board.majority is not None and accuracy.low <= board.majority:
        sentences.append(
            f"The accuracy of {accuracy.mean:.3f} does not differ significantly from always predicting the most common "
            f"class ({board.majority:.3f}). Use the balanced accuracy."
        )
    return Verdict(board.learned, " ".join(sentences))


def compare_with_chance(board: Board) -> list[str]:
    """Return a sentence if no setup is significantly above chance, or if that is not known."""
    name = NAMES[board.chance_metric]
    scores = [entry.scores[board.chance_metric].mean for entry in board.entries if entry.above_chance is not None]
    if not scores or board.best:
        return []
    subject = f"the best of {len(scores)} setups" if len(scores) > 1 else "the setup"
    figures = f"chance is a {name} of {board.chance_score:.3f}, and {subject} reaches {max(scores):.3f}."
    if board.learned is False:
        return [f"No setup is significantly above chance, so none is named best: {figures}"]
    if board.learned:
        return [f"All setups together are significantly above chance, but none alone, so none is named best: {figures}"]
    few = [f"{len(board.units)} folds are too few to tell whether a setup is above chance: {figures}"]
    return few if board.few_folds else []


def name_best(board: Board) -> list[str]:
    """Return sentences about the best setup, or the one with the highest score if it may be at chance."""
    entry, metric = board.leader, board.metric
    if entry is None:
        return []
    title = "Best" if board.best else f"{'Lowest' if metric in LOWER_IS_BETTER else 'Highest'} {NAMES[metric]}"
    sentences = [f"{title}: {describe(entry.setup)}, {NAMES[metric]} {format_score(entry.scores[metric], metric)}."]
    equal = sum(other.rank == entry.rank for other in board.entries) - 1 if entry.rank else 0
    if equal:
        sentences.append(f"{equal} other setup{'s have' if equal > 1 else ' has'} the same {NAMES[metric]}.")
    ahead = board.entries.index(entry)
    if ahead:
        others = f"{ahead} setups have" if ahead > 1 else "1 setup has"
        sentences.append(
            f"{others} a better {NAMES[metric]}, but no {NAMES[board.chance_metric]} significantly above chance."
        )
    similar = sum(other.mark == LIKE_BEST for other in board.entries if other is not entry)
    if similar:
        sentences.append(f"{similar} of {len(board.entries) - 1} other setups are not significantly worse.")
    return sentences


def describe(setup: Setup) -> str:
    """Return a setup in words."""
    return display_path(f"{setup.model} {setup.view} with {setup.head}")


def format_score(score: Score, metric: str) -> str:
    """Return a score with its interval, limited to the range of the metric.

    >>> format_score(Score(0.9512, 0.06, 0.88, 1.0224), "accuracy")
    '0.951 (95 % interval 0.880 to 1.000)'
    >>> format_score(Score(0.9512, None, None, None), "map")
    '0.951'
    """
    if score.low is None or score.high is None:
        return f"{score.mean:.3f}"
    low, high = (score.low, score.high) if metric in UNBOUNDED else (max(score.low, 0.0), min(score.high, 1.0))
    return f"{score.mean:.3f} (95 % interval {low:.3f} to {high:.3f})"


def format_half(score: Score) -> str:
    """Return a score with half the width of its interval, for a table.

    >>> format_half(Score(0.9, 0.05, 0.88, 0.92)), format_half(Score(0.9, None, None, None))
    ('0.900 ± 0.020', '0.900')
    """
    return f"{score.mean:.3f}" if score.half is None else f"{score.mean:.3f} ± {score.half:.3f}"
