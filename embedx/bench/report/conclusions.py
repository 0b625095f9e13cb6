"""What a board says in words, and the score of its best setup when the test rows did not choose it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from embedx.bench.leaderboard import LIKE_BEST, UNBOUNDED, Board, Entry, Setup, goodness, mean_of
from embedx.bench.significance import Score, significant_score
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
        chance_score: the mean by `chance_metric`.
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

    def score_elsewhere(entry: Entry, fold: str) -> float:
        by_fold = entry.values[board.metric]
        return goodness(fmean(by_fold[other] for other in board.units if other != fold), board.metric)

    chosen = {fold: max(entries, key=lambda entry: score_elsewhere(entry, fold)) for fold in board.units}
    score = fmean(entry.values[board.metric][fold] for fold, entry in chosen.items())
    by_chance_metric = [entry.values.get(chance_metric(board), {}).get(fold) for fold, entry in chosen.items()]
    return Choice(tuple(dict.fromkeys(entry.setup for entry in chosen.values())), score, mean_of(by_chance_metric))


def choose_by_model(board: Board) -> dict[str, Choice]:
    """Return for every model the choice among its layers, poolings and heads; the best model first."""
    by_model: dict[str, list[Entry]] = defaultdict(list)
    for entry in board.entries:
        by_model[entry.setup.model].append(entry)
    choices = {model: choice for model, entries in by_model.items() if (choice := choose(board, entries))}
    return dict(sorted(choices.items(), key=lambda item: goodness(item[1].score, board.metric), reverse=True))


def chance_metric(board: Board) -> str:
    """Return a metric by which every constant answer has the same, known score."""
    return "balanced_accuracy" if "balanced_accuracy" in board.best.values else "map"


def give_verdict(board: Board) -> Verdict:
    """Say what the best setup scores, with its interval, and whether it is above chance; see `significant_score`."""
    score = board.best.scores[board.metric]
    sentences = [f"Best: {describe(board.best.setup)}, {NAMES[board.metric]} {format_score(score, board.metric)}."]
    similar = sum(entry.mark == LIKE_BEST for entry in board.entries)
    if similar:
        sentences.append(f"{similar} of {len(board.entries) - 1} other setups do not differ significantly from it.")
    choice = choose(board, board.entries)
    if choice is None:
        sentences.append(
            "There is only one test part, so the uncertainty from the choice of test rows is not known and there is no "
            "interval for it."
        )
        return Verdict(None, " ".join(sentences))
    if len(board.entries) > 1:
        sentences.append(f"If the other folds choose the setup for each fold, the mean is {choice.score:.3f}.")
    learned, warnings = compare_with_chance(board)
    accuracy = board.best.scores.get("accuracy")
    if accuracy and accuracy.low is not None and board.majority is not None and accuracy.low <= board.majority:
        sentences.append(
            f"The accuracy of {accuracy.mean:.3f} does not differ significantly from always predicting the most common "
            f"class ({board.majority:.3f}). Use the balanced accuracy."
        )
    return Verdict(learned, " ".join([*warnings, *sentences]))


def compare_with_chance(board: Board) -> tuple[bool | None, list[str]]:
    """Return whether any setup is significantly above chance, and a sentence if none is."""
    metric = chance_metric(board)
    values = [list(entry.values.get(metric, {}).values()) for entry in board.entries]
    complete = [by_fold for by_fold in values if len(by_fold) == len(board.units)]
    if board.chance is None or not complete:
        return None, []
    needed, highest = significant_score(board.chance, complete), max(map(fmean, complete))
    if highest > needed:
        return True, []
    subject = f"the best of {len(complete)} setups" if len(complete) > 1 else "the setup"
    return False, [
        f"No setup is significantly above chance: chance is a {NAMES[metric]} of {board.chance:.3f}, {subject} reaches "
        f"{highest:.3f}, and more than {needed:.3f} is needed."
    ]


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
