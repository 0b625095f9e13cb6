"""Leaderboards of setups that are all equally good, or that have all learned nothing: how often a board marks one as
worse than the best, or says that something was learned. Boards have 1 to 30 setups and 2 to 10 folds. Boards with a
clear difference show how often it is found. The intervals of heads that have learned are for the mean score of heads
trained on as many rows of the same kind.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from claims import Claim
from numpy.typing import NDArray

from embedx.bench.leaderboard import WORSE, Board, boards
from embedx.bench.results import Result
from embedx.bench.significance import LEVEL

LIMIT = 0.03  # of false alarms
FOLDS, SETUPS = (2, 3, 4, 5, 10), (1, 2, 5, 30)
TRIALS = 1500  # boards of a world at scale 1
CLASSES = 4
SIZES = (12, 40, 150)  # test rows of a fold
DIMENSIONS = 8  # of the vectors of heads

Scores = NDArray[np.float64]  # accuracies [M, K] of setups and folds
Rows = NDArray[np.int64]  # test rows [K] of the folds
Random = np.random.Generator


@dataclass(frozen=True)
class World:
    """A way to make boards of setups that do not differ.

    Attributes:
        name: what is special, in words.
        draw: returns accuracies for an expected accuracy, a number of setups, and the test rows of the folds.
        accuracy: the expected accuracy, the same for all setups.
        has_chance: whether this is the accuracy of a constant answer.
        uneven: whether folds differ in size.
    """

    name: str
    draw: Callable[[Random, float, int, Rows], Scores]
    accuracy: float = 1 / CLASSES
    has_chance: bool = True
    uneven: bool = False


def simulate(scale: float, seed: int) -> list[Claim]:
    """Return how often boards claim what is false, and how often they find what is true."""
    random = np.random.default_rng(seed)
    counts: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for world in WORLDS:
        for folds, setups in designs(max(4, round(TRIALS * scale))):
            rows = draw_rows(random, folds, world.uneven)
            board = make_board(world.draw(random, world.accuracy, setups, rows), rows)
            if world.has_chance:
                counts["a setup is named best", "all worlds"].append(board.best is not None)
            for group in (world.name, f"{folds:2} folds", f"{setups:2} setup{'s' * (setups > 1)}"):
                if setups > 1:
                    counts["a setup is called worse", group].append(
                        any(e.p is not None and e.p < LEVEL for e in board.entries)
                    )
                if world.has_chance:
                    counts["something was learned", group].append(bool(board.learned))
    false = [
        Claim(f"{what}, falsely: {group}", float(np.mean(wrong)), len(wrong), high=LIMIT)
        for (what, group), wrong in sorted(counts.items())
    ]
    return [*false, *simulate_constant(random, scale), *simulate_power(random, scale), *cover_means(random, scale)]


def designs(trials: int) -> Iterator[tuple[int, int]]:
    """Yield numbers of folds and setups, each pair equally often."""
    pairs = [(folds, setups) for folds in FOLDS for setups in SETUPS]
    for trial in range(trials):
        yield pairs[(trial * 7) % len(pairs)]  # 7 has no factor in common with 20: a few trials use all numbers


def draw_rows(random: Random, folds: int, uneven: bool) -> Rows:
    """Return the number of test rows of each fold."""
    return random.choice(SIZES, folds) if uneven else np.full(folds, random.choice(SIZES))


def make_board(scores: Scores, rows: Rows, chance: float = 1 / CLASSES) -> Board:
    """Return the board of setups with these accuracies; the balanced accuracy is the same."""
    total = int(rows.sum())
    table = [
        Result(
            task="simulated", model="m", layer=setup, pooling="mean", head="logistic", shots="all", seed=0,
            fold=str(fold), rows_train=total - int(rows[fold]), rows_test=int(rows[fold]), classes=CLASSES, split="",
            leaky=False, duplicates=0, accuracy=float(score), balanced_accuracy=float(score), chance=chance,
        )
        for setup, line in enumerate(scores)
        for fold, score in enumerate(line)
    ]  # fmt: skip
    return boards(table)[0]


def independent(random: Random, accuracy: float, setups: int, rows: Rows) -> Scores:
    """Every row of every setup is right or wrong by itself."""
    return random.binomial(rows, accuracy, (setups, len(rows))) / rows


def alike(random: Random, accuracy: float, setups: int, rows: Rows) -> Scores:
    """Setups are right on mostly the same rows."""
    scores = np.empty((setups, len(rows)))
    for fold, count in enumerate(rows):
        common, own = random.random((1, count)) < accuracy, random.random((setups, count)) < accuracy
        scores[:, fold] = np.where(random.random((setups, count)) < 0.8, common, own).mean(axis=1)
    return scores


def grouped(random: Random, accuracy: float, setups: int, rows: Rows) -> Scores:
    """The four rows of a recording are all right or all wrong."""
    groups = np.maximum(rows // 4, 2)
    return random.binomial(groups, accuracy, (setups, len(rows))) / groups


def unstable(random: Random, accuracy: float, setups: int, rows: Rows) -> Scores:
    """Each setup has its own spread over folds, from 0 to 0.15, besides that of the rows."""
    spread = random.uniform(0, 0.15, (setups, 1))
    moved = accuracy + spread * random.choice([-1.0, 1.0], (setups, len(rows)))
    return random.binomial(rows, np.clip(moved, 0, 1)) / rows


def continuous(random: Random, accuracy: float, setups: int, rows: Rows) -> Scores:
    """Scores are normal with a spread that is larger than that of the rows, and hard folds are hard for all."""
    hard = random.normal(0, 0.1, (1, len(rows)))
    return np.clip(accuracy + hard + random.normal(0, 0.15, (setups, len(rows))), 0, 1)


def lucky_training(random: Random, accuracy: float, setups: int, rows: Rows) -> Scores:
    """A part of the luck of a setup is the same on all folds, because they share training rows."""
    shared, own = 0.1 / len(rows) ** 0.5, 0.1 * (1 - 1 / len(rows)) ** 0.5
    luck = random.normal(0, shared, (setups, 1))
    return random.normal(accuracy + luck, own, (setups, len(rows)))


def unstable_half(random: Random, accuracy: float, setups: int, rows: Rows) -> Scores:
    """As `lucky_training`, with half of the setups ten times as stable."""
    spread = np.where(np.arange(setups) < setups / 2, 1.0, 0.1)[:, None]
    return accuracy + spread * (lucky_training(random, accuracy, setups, rows) - accuracy)


def half_constant(random: Random, accuracy: float, setups: int, rows: Rows) -> Scores:
    """Half of the setups are constant answers, which have no spread."""
    scores = independent(random, accuracy, setups, rows)
    scores[: setups // 2] = accuracy
    return scores


def cross_validated(random: Random, accuracy: float, setups: int, rows: Rows) -> Scores:
    """Heads on vectors of noise, each trained on the other folds, as on a real board."""
    labels = random.permutation(np.resize(np.arange(CLASSES), rows.sum()))
    vectors = (random.standard_normal((len(labels), DIMENSIONS)) for _ in range(setups))
    return np.array([cross_validate(x, labels, rows)[0] for x in vectors])


def cross_validated_recordings(random: Random, accuracy: float, setups: int, rows: Rows) -> Scores:
    """As `cross_validated`, with recordings of four alike rows and one class, each in one fold."""
    recordings = -(-rows // 4)
    kept = np.concatenate([np.arange(count * 4) < size for count, size in zip(recordings, rows, strict=True)])
    of = np.repeat(np.arange(recordings.sum()), 4)[kept]
    labels = random.permutation(np.resize(np.arange(CLASSES), recordings.sum()))[of]
    scores = []
    for _ in range(setups):
        shared = random.standard_normal((recordings.sum(), DIMENSIONS))[of]
        scores.append(cross_validate(shared + random.standard_normal(shared.shape), labels, rows)[0])
    return np.array(scores)


def cross_validate(
    vectors: Scores, labels: Rows, rows: Rows, new: tuple[Scores, Rows] | None = None
) -> tuple[Scores, float]:
    """Return the balanced accuracies [K] of heads (nearest class mean) in K folds, and their mean on new rows."""
    fold_of, hot = np.repeat(np.arange(len(rows)), rows), np.eye(CLASSES)[labels]
    scores, on_new = np.empty(len(rows)), []
    for fold in range(len(rows)):
        train, test = fold_of != fold, fold_of == fold
        means = hot[train].T @ vectors[train] / np.maximum(hot[train].sum(axis=0), 1)[:, None]
        scores[fold] = balanced_accuracy(vectors[test], labels[test], means)
        on_new.append(balanced_accuracy(*new, means) if new else np.nan)
    return scores, float(np.mean(on_new))


def balanced_accuracy(vectors: Scores, labels: Rows, means: Scores) -> float:
    """Return the mean over classes of the share of rows that are nearest to the mean of their class."""
    nearest = (vectors @ means.T - (means**2).sum(axis=1) / 2).argmax(axis=1)
    return float(np.mean([(nearest[labels == label] == label).mean() for label in np.unique(labels)]))


def cover_means(random: Random, scale: float) -> list[Claim]:
    """Return how often the interval of a score over folds holds the mean score of such heads on new rows."""
    trials, claims = max(10, round(500 * scale)), []
    centres = 2 * np.eye(CLASSES, DIMENSIONS)
    for size, each, alike_rows in ((40, 1, 0.0), (40, 4, 0.7), (160, 8, 0.7)):
        for folds in (3, 5, 10):
            rows, ends, true = np.full(folds, size), [], []
            recording = np.repeat(np.arange(folds * size // each), each)
            for _ in range(trials):
                labels = random.integers(CLASSES, size=len(recording))[recording]
                shared = random.normal(0, alike_rows, (len(recording), DIMENSIONS))[recording]
                x = centres[labels] + shared + random.standard_normal(shared.shape)
                y_new = np.arange(1000) % CLASSES
                x_new = centres[y_new] + np.hypot(1, alike_rows) * random.standard_normal((1000, DIMENSIONS))
                scores, mean = cross_validate(x, labels, rows, (x_new, y_new))
                score = make_board(scores[None], rows).entries[0].scores["balanced_accuracy"]
                ends.append((score.low or 0, score.high or 1))
                true.append(mean)
            held = np.mean([low <= np.mean(true) <= high for low, high in ends])
            what = f"interval of the mean over {folds} folds of {size} rows, {each} in a recording"
            claims.append(Claim(what, float(held), trials, low=0.93))
    return claims


WORLDS = (
    World("independent rows", independent),
    World("unequal folds", independent, uneven=True),
    World("two classes", independent, 0.5, has_chance=False),
    World("accuracy of 0.99, many ties", independent, 0.99, has_chance=False),
    World("accuracy of 0.02, many ties", independent, 0.02, has_chance=False),
    World("setups right on the same rows", alike),
    World("setups right on the same rows, accuracy of 0.9", alike, 0.9, has_chance=False),
    World("rows of a recording alike", grouped),
    World("rows of a recording alike, unequal folds, accuracy of 0.9", grouped, 0.9, has_chance=False, uneven=True),
    World("unequal spread over folds", unstable),
    World("normal scores with hard folds", continuous, 0.5, has_chance=False),
    World("luck of overlapping training parts", lucky_training, 0.5, has_chance=False),
    World("luck of overlapping training parts, half of the setups stable", unstable_half, 0.5, has_chance=False),
    World("half of the setups constant", half_constant),
    World("cross-validated heads on noise", cross_validated),
    World("cross-validated heads on noise, recordings of one class each", cross_validated_recordings),
)


def simulate_constant(random: Random, scale: float) -> list[Claim]:
    """Return how often a constant answer with the highest accuracy is named best beside setups that have learned."""
    trials, wrong, named = max(10, round(200 * scale)), 0, 0
    for _ in range(trials):
        folds, rows = int(random.choice(FOLDS[2:])), 100
        learned = random.binomial(rows, 0.75, (3, folds)) / rows
        board = make_unbalanced_board(learned, rows)
        wrong += board.best is not None and board.best.setup.model == "constant"
        named += board.best is not None and board.best.setup.model == "learned"
    return [
        Claim("a constant answer of the highest accuracy is named best", wrong / trials, trials, high=0),
        Claim("a setup that has learned is named best instead, 4 folds or more", named / trials, trials, low=0.9),
    ]


def make_unbalanced_board(balanced: Scores, rows: int) -> Board:
    """Return a board on which a constant answer has an accuracy of 0.9, and the others have 0.8."""
    table = []
    lines = [("constant", np.full(balanced.shape[1], 0.5), 0.9), *(("learned", line, 0.8) for line in balanced)]
    for setup, (model, line, accuracy) in enumerate(lines):
        table += [
            Result(
                task="simulated", model=model, layer=setup, pooling="mean", head="logistic", shots="all", seed=0,
                fold=str(fold), rows_train=rows * (len(line) - 1), rows_test=rows, classes=2, split="", leaky=False,
                duplicates=0, accuracy=accuracy, balanced_accuracy=float(score), majority=0.9, chance=0.5,
            )
            for fold, score in enumerate(line)
        ]  # fmt: skip
    return boards(table)[0]


def simulate_power(random: Random, scale: float) -> list[Claim]:
    """Return how often clear differences are found with 5 folds, and what was learned is seen."""
    trials = max(10, round(300 * scale))
    found: dict[str, int] = defaultdict(int)
    rows, more = np.full(5, 40), np.full(5, 100)
    for _ in range(trials):
        two = make_board(np.vstack([independent(random, p, 1, more) for p in (0.9, 0.7)]), more)
        found["2 setups, accuracies 0.9 and 0.7, 100 rows: found"] += two.entries[1].mark == WORSE
        many = make_board(np.vstack([independent(random, 0.95, 3, rows), independent(random, 0.3, 27, rows)]), rows)
        worse = {e.setup.layer for e in many.entries if e.mark == WORSE}
        found["30 setups, 3 of accuracy 0.95 and 27 of 0.3, 40 rows: most differences found"] += len(worse) > 13
        layers = np.vstack([independent(random, 0.9, 1, more), independent(random, 0.6, 12, more)])
        worse = {e.setup.layer for e in make_board(layers, more).entries if e.mark == WORSE}
        found["13 setups, one of accuracy 0.9 and 12 of 0.6, 100 rows: most differences found"] += len(worse) > 6
        board = make_board(alike(random, 0.5, 13, rows), rows)
        found["13 setups, accuracy 0.5, chance 0.25, 40 rows: learned"] += bool(board.learned)
        one = make_board(independent(random, 0.5, 1, rows), rows)
        found["1 setup, accuracy 0.5, chance 0.25, 40 rows: learned"] += bool(one.learned)
    return [Claim(f"5 folds, {what}", count / trials, trials, low=0.8) for what, count in found.items()]
