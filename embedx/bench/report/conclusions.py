"""Verdict: what a board says in words, and what its best setup is worth when the test rows did not choose it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from embedx.bench.leaderboard import LIKE_BEST, UNBOUNDED, Board, Entry, Setup, goodness, mean_of
from embedx.bench.significance import Score, set_bar
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
    """A mean score whose setup was chosen for each fold by the results on the other folds.

    The best of many setups on the test rows is too good by chance; this mean is not. It has no interval: folds choose
    with each other's help, so their spread says too little. `judged` is the same choice scored by `judge`.
    """

    setups: tuple[Setup, ...]
    score: float
    judged: float | None


@dataclass(frozen=True)
class Verdict:
    """Whether anything was learned (None if that cannot be said), and the sentences for people."""

    learned: bool | None
    text: str


def choose(board: Board, entries: Sequence[Entry]) -> Choice | None:
    """Choose for each fold the entry that is best on all others; None without two folds or a complete entry.

    The scores of the other folds come from heads that trained on this fold's rows; no head is tested on them.
    """
    entries = [entry for entry in entries if entry.rank is not None]
    if board.unit != "fold" or not entries:
        return None

    def elsewhere(entry: Entry, fold: str) -> float:
        return goodness(fmean(entry.values[board.metric][one] for one in board.units if one != fold), board.metric)

    picked = {fold: max(entries, key=lambda entry: elsewhere(entry, fold)) for fold in board.units}
    score = fmean(entry.values[board.metric][fold] for fold, entry in picked.items())
    judged = [entry.values.get(judge(board), {}).get(fold) for fold, entry in picked.items()]
    return Choice(tuple(dict.fromkeys(entry.setup for entry in picked.values())), score, mean_of(judged))


def choose_by_model(board: Board) -> dict[str, Choice]:
    """Return for every model what `choose` makes of its layers, poolings and heads; best first."""
    models: dict[str, list[Entry]] = defaultdict(list)
    for entry in board.entries:
        models[entry.setup.model].append(entry)
    found = {model: choose(board, entries) for model, entries in models.items()}
    made = {model: one for model, one in found.items() if one}
    return dict(sorted(made.items(), key=lambda item: goodness(item[1].score, board.metric), reverse=True))


def judge(board: Board) -> str:
    """Return the metric whose level of chance is known, and is the same for every constant answer."""
    return "balanced_accuracy" if "balanced_accuracy" in board.best.values else "map"


def give_verdict(board: Board) -> Verdict:
    """Say what was reached, how sure that is, and whether it is more than chance; see `set_bar`."""
    score = board.best.scores[board.metric]
    text = [f"Best: {describe(board.best.setup)}, {NAMES[board.metric]} {span(score, board.metric)}."]
    alike = sum(entry.mark == LIKE_BEST for entry in board.entries)
    if alike:
        text.append(f"{alike} of {len(board.entries) - 1} other setups cannot be told from it.")
    choice = choose(board, board.entries)
    if choice is None:
        text.append("There is one test part, so no interval says how much chance is in the choice of its rows.")
        return Verdict(None, " ".join(text))
    if len(board.entries) > 1:
        text.append(f"When the other folds choose the setup, the mean is {choice.score:.3f}.")
    learned, nothing = judge_best(board)
    accuracy = board.best.scores.get("accuracy")
    if accuracy and accuracy.low is not None and board.majority is not None and accuracy.low <= board.majority:
        text.append(
            f"An accuracy of {accuracy.mean:.3f} cannot be told from what always naming the commonest class gives "
            f"({board.majority:.3f}): look at the balanced accuracy."
        )
    return Verdict(learned, " ".join([*nothing, *text]))


def judge_best(board: Board) -> tuple[bool | None, list[str]]:
    """Return whether any setup is above chance, and the sentence that says that none is."""
    metric = judge(board)
    values = [list(entry.values.get(metric, {}).values()) for entry in board.entries]
    complete = [some for some in values if len(some) == len(board.units)]
    if board.chance is None or not complete:
        return None, []
    bar, highest = set_bar(board.chance, complete), max(map(fmean, complete))
    if highest > bar:
        return True, []
    tried = f"the highest of {len(complete)} setups" if len(complete) > 1 else "it"
    return False, [
        f"Nothing was learned that these folds can show: chance is a {NAMES[metric]} of {board.chance:.3f}, {tried} "
        f"reaches {highest:.3f}, and more than {bar:.3f} would be needed."
    ]


def describe(setup: Setup) -> str:
    """Return a setup in words."""
    return display_path(f"{setup.model} {setup.view} with {setup.head}")


def span(score: Score, metric: str) -> str:
    """Return a score with its interval, as far as the metric goes.

    >>> span(Score(0.9512, 0.06, 0.88, 1.0224), "accuracy"), span(Score(0.9512, None, None, None), "map")
    ('0.951 (95 % interval 0.880 to 1.000)', '0.951')
    """
    if score.low is None or score.high is None:
        return f"{score.mean:.3f}"
    low, high = (score.low, score.high) if metric in UNBOUNDED else (max(score.low, 0.0), min(score.high, 1.0))
    return f"{score.mean:.3f} (95 % interval {low:.3f} to {high:.3f})"


def show_half(score: Score) -> str:
    """Return a score with half the width of its interval, for a table.

    >>> show_half(Score(0.9, 0.05, 0.88, 0.92)), show_half(Score(0.9, None, None, None))
    ('0.900 ± 0.020', '0.900')
    """
    return f"{score.mean:.3f}" if score.half is None else f"{score.mean:.3f} ± {score.half:.3f}"
