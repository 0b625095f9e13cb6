import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from embedx.bench.comparisons import row_ratio
from embedx.bench.leaderboard import AT_CHANCE, BEST, FEW_FOLDS, LIKE_BEST, UNTESTED, WORSE, Board, boards, rank_setups
from embedx.bench.report.conclusions import choose, choose_by_model, give_verdict
from embedx.bench.report.tables import Form, list_boards, list_lines
from embedx.bench.results import Result
from embedx.bench.setups import Setup
from embedx.bench.significance import LEVEL, choose_elsewhere, compare, summarise
from embedx.errors import UsageError
from tests.helpers.bench_results import Corpus, make_benchmark, result

FORMS: tuple[Form, ...] = ("table", "markdown", "csv", "json")


def folds(model: str, values: Sequence[float], layer: int = 0, **more: object) -> list[Result]:
    return [
        result(str(i), model=model, layer=layer, **{"accuracy": v, "balanced_accuracy": v, "majority": 0.25} | more)
        for i, v in enumerate(values, start=1)
    ]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    return make_benchmark(tmp_path_factory.mktemp("bench"))


def board_of(rows: Sequence[Result], metric: str | None = None) -> Board:
    (board,) = boards(rows, metric)
    return board


def test_means_intervals_and_ranks_equal_direct_computation(real: list[Result]) -> None:
    board = boards(real)[0]
    assert (board.task, board.shots, board.metric, board.unit, board.classes) == (
        "animals",
        "all",
        "accuracy",
        "fold",
        6,
    )
    by_hand = {}
    for entry in board.entries:
        values = [row.accuracy for row in real if row.shots == "all" and entry.setup == (
            row.model, row.layer, row.pooling, row.head)]  # fmt: skip
        x = np.array(values, float)
        assert len(x) == 5
        smooth = (x * 48 + 1) / 50  # test parts of 48 rows: their binomial variance is the lower limit
        error = (max(x.var(ddof=1), np.mean(smooth * (1 - smooth) / 48)) / 5) ** 0.5
        low, high = stats.t.interval(0.95, 4, loc=x.mean(), scale=error)
        score = entry.scores["accuracy"]
        assert [score.mean, score.deviation, score.low, score.high] == pytest.approx(
            [x.mean(), x.std(ddof=1), low, high]
        )
        by_hand[entry.setup] = x
    means = [entry.scores["accuracy"].mean for entry in board.entries]
    assert [entry.rank for entry in board.entries] == [
        1 + sum(other > mean + 1e-12 for other in means) for mean in means
    ]
    means = [by_hand[entry.setup].mean() for entry in board.entries]
    assert means == sorted(means, reverse=True)
    assert len(means) == 18


def test_significance_marks_equal_scipy(real: list[Result]) -> None:
    board = boards(real)[0]
    x = np.array([list(entry.values["accuracy"].values()) for entry in board.entries])
    pairs = [np.var(x[i] - x[j], ddof=1) for i in range(18) for j in range(i)]
    pooled = np.mean([variance for variance in pairs if variance > 0])
    expected = []
    for d in x[0] - x[1:]:  # 240 rows, five test parts of 48: ratio 48 / 192
        own = max(d.var(ddof=1), np.mean(np.abs(d) * (1 - np.abs(d)) / 48))
        factor = 1 / 5 + 48 / 192
        blended = max(own, (d.var(ddof=1) + pooled) / 2)  # four degrees of freedom each
        by_own = 2 * 18 * stats.t.sf(d.mean() / np.sqrt(blended * factor), df=8)
        by_pooled = 18 * 17 * stats.t.sf(d.mean() / np.sqrt(max(own, pooled) * factor), df=4 * 17 / 2)
        expected.append(min(1, max(by_own, by_pooled)) if d.mean() > 0 else 1.0)
    best, *others = board.entries
    assert [entry.p for entry in others] == pytest.approx(expected)
    assert [entry.mark == WORSE for entry in others] == [p < LEVEL for p in expected]
    assert {LIKE_BEST, WORSE} <= {entry.mark for entry in others}
    assert (best.mark, best.p, board.best) == (BEST, None, best)


def test_seeds_are_averaged_before_folds(real: list[Result]) -> None:
    board = boards(real)[1]
    assert board.shots == 1
    for entry in board.entries:
        assert entry.seeds == 2
        rows = [row for row in real if row.shots == 1 and row.model == entry.setup.model]
        per_fold = [np.mean([row.accuracy or 0.0 for row in rows if row.fold == fold]) for fold in board.units]
        assert entry.scores["accuracy"].mean == pytest.approx(np.mean(per_fold))
        assert entry.scores["accuracy"].deviation == pytest.approx(np.std(per_fold, ddof=1))


def test_few_shot_folds_share_their_pool_in_the_correction(real: list[Result]) -> None:
    ratios = [row.rows_test / row.rows_train for row in real if row.shots == 1]
    assert row_ratio([row for row in real if row.shots == 1]) == pytest.approx(48 / 192)
    assert min(ratios) > 1


def test_corrected_test_is_a_paired_t_test_with_wider_variance() -> None:
    d = [0.03, 0.01, 0.05, 0.02, 0.0]
    assert compare(d, 0.0) == pytest.approx(stats.ttest_1samp(d, 0, alternative="greater").pvalue)
    assert compare(d, 0.25) > compare(d, 0.0)
    assert compare([0.1] * 4, 0.25) == 1, "equal differences say nothing about their spread"
    assert 0.02 < compare([0.1] * 2, 1.0, 0.09 / 50) < 0.5
    assert compare([float("inf"), 1.0, 1.0], 0.25) == compare([float("nan"), 1.0, 1.0], 0.25) == 1
    assert summarise([0.5]).half is None


def test_corrected_test_keeps_its_level_where_plain_test_fails() -> None:
    """Compare two equal models over 10 random halves of one sample, the case of Nadeau and Bengio."""
    random = np.random.default_rng(0)
    found = {"plain": 0, "corrected": 0}
    for _ in range(200):
        d = random.standard_normal(60)
        differences = [d[random.permutation(60)[:30]].mean() for _ in range(10)]
        found["plain"] += compare(differences, 0.0) < 0.025
        found["corrected"] += compare(differences, 1.0) < 0.025
    assert found["plain"] > 30
    assert found["corrected"] < 15


def test_equal_setups_share_a_rank_and_tables_keep_the_order_of_the_board() -> None:
    board = board_of(
        [
            *folds("low", [0.1, 0.1, 0.1]), *folds("a", [0.7, 0.6, 0.5]), *folds("part", [0.9, 0.9]),
            *folds("b", [0.5, 0.6, 0.7]), *folds("best", [0.8, 0.8, 0.8]),
        ]
    )  # fmt: skip
    ranks = [(one.setup.model, one.rank) for one in board.entries]
    assert ranks == [("best", 1), ("a", 2), ("b", 2), ("low", 4), ("part", None)]
    for top in (20, 4, 2):
        _, lines = list_lines(board, top)
        assert [line.entry.setup.model for line in lines if line.entry] == [name for name, _ in ranks[:top]]


def test_ranks_of_random_boards_are_those_of_scipy() -> None:
    random = np.random.default_rng(13)
    for number in range(200):
        metric, units = ("accuracy", "log_loss")[number % 2], [str(unit) for unit in range(random.integers(1, 6))]
        values, worse = dict[Setup, dict[str, dict[str, float]]](), list[float]()  # lower is better, inf: incomplete
        for model in range(random.integers(2, 12)):
            scores = random.permutation(random.integers(0, 3, len(units)) / 10 + random.integers(0, 2) / 3)
            is_complete = len(units) == 1 or random.random() < 0.8
            by_unit = dict(zip(units, scores.tolist(), strict=True))
            values[Setup(str(model), 0, "", "")] = {metric: by_unit}
            if not is_complete:
                del by_unit[units[-1]]
            mean = math.fsum(scores) / len(scores)
            worse.append((-mean if metric == "accuracy" else mean) if is_complete else math.inf)
        ranks = rank_setups(values, metric, units)
        expected = stats.rankdata(np.round(worse, 12), method="min")
        assert [ranks[setup] for setup in values] == [
            None if math.isinf(value) else rank for value, rank in zip(worse, expected, strict=True)
        ]
        listed = [rank for rank in ranks.values() if rank is not None]
        assert list(ranks.values()) == sorted(listed) + [None] * (len(ranks) - len(listed))


def test_setup_with_missing_folds_has_no_rank_and_is_last() -> None:
    board = board_of([*folds("a", [0.5, 0.6, 0.5]), *folds("b", [0.9, 0.9])])
    assert [(one.setup.model, one.rank) for one in board.entries] == [("a", 1), ("b", None)]
    assert "have not been run on every fold" in list_boards([board])
    assert "2 of 3" in list_boards([board])
    assert list(choose_by_model(board)) == ["a"]


def test_single_test_part_gives_no_significance_and_no_conclusion() -> None:
    rows = [
        result("test", model=m, seed=s, accuracy=v + s / 100) for m, v in (("a", 0.9), ("b", 0.5)) for s in range(3)
    ]
    board = board_of(rows)
    assert (board.unit, board.units) == ("seed", ("0", "1", "2"))
    assert board.entries[1].mark == UNTESTED
    assert board.entries[0].scores["accuracy"].deviation == pytest.approx(0.01)
    assert give_verdict(board).learned is None
    assert "only one test part" in give_verdict(board).text
    assert "Highest accuracy: a L0.mean" in give_verdict(board).text
    assert "Best" not in give_verdict(board).text
    alone = board_of([result("test")])
    assert alone.entries[0].scores["accuracy"].half is None
    for form in FORMS:
        assert list_boards([alone], form)


@pytest.mark.parametrize(("folds_made", "alike"), [(5, 0.0), (5, 0.9), (3, 0.5), (10, 0.0)])
def test_many_setups_on_noise_learn_nothing(folds_made: int, alike: float) -> None:
    """Scores of 30 setups on noise: the best one is always above chance, and is rarely reported so."""
    random = np.random.default_rng(folds_made)
    best, wrong = [], 0
    for _ in range(60):
        common, own = random.standard_normal((1, folds_made)), random.standard_normal((30, folds_made))
        values = 0.25 + 0.05 * (alike**0.5 * common + (1 - alike) ** 0.5 * own)
        board = board_of([row for layer in range(30) for row in folds("m", values[layer].tolist(), layer)])
        best.append(board.entries[0].scores["balanced_accuracy"].mean)
        wrong += give_verdict(board).learned is not False
        assert board.best is None or board.learned
    assert np.mean(best) > 0.25
    assert wrong <= 5


def test_equal_differences_on_two_folds_show_no_difference() -> None:
    board = board_of([*folds("a", [0.9, 0.8], rows_test=20), *folds("b", [0.7, 0.6], rows_test=20)])
    p = board.entries[1].p
    assert p is not None
    assert p > 0.1
    assert board.entries[1].mark == LIKE_BEST


def test_scores_that_agree_on_all_folds_have_an_interval() -> None:
    low, high = (board_of(folds("a", [0.9] * 5, rows_test=n)).entries[0].scores["accuracy"].half for n in (20, 2000))
    assert low is not None
    assert high is not None
    assert low > 3 * high > 0


def test_clear_difference_is_found_with_five_folds() -> None:
    random = np.random.default_rng(0)
    values = {name: (random.binomial(100, p, 5) / 100).tolist() for name, p in (("a", 0.9), ("b", 0.7), ("c", 0.9))}
    board = board_of([row for name, v in values.items() for row in folds(name, v, rows_test=100, rows_train=400)])
    assert board.learned
    assert {entry.setup.model: entry.mark for entry in board.entries}["b"] == WORSE
    assert sorted(entry.mark for entry in board.entries[:2]) == [BEST, LIKE_BEST]


def test_constant_setups_do_not_make_noise_significant() -> None:
    noise = folds("noise", [0.28, 0.24, 0.31, 0.27, 0.26], rows_test=100, rows_train=400)
    constants = [row for layer in range(30) for row in folds("constant", [0.25] * 5, layer, rows_test=100)]
    alone, among = board_of(noise), board_of([*noise, *constants])
    for board in (alone, among):
        assert board.learned is False
        assert board.best is board.leader is None
        assert {entry.mark for entry in board.entries} == {AT_CHANCE}
        assert "none is named best" in give_verdict(board).text
        assert "Best:" not in give_verdict(board).text
        assert " best " not in list_boards([board]).split("\n\n")[1]


def test_constant_answer_of_highest_accuracy_is_not_named_best() -> None:
    constant = folds("constant", [0.9] * 5, balanced_accuracy=0.25, rows_test=100)
    learned = [
        replace(row, balanced_accuracy=0.7 + i / 100) for i, row in enumerate(folds("m", [0.8] * 5, rows_test=100))
    ]
    board = board_of([*constant, *learned])
    assert [(entry.setup.model, entry.mark) for entry in board.entries] == [("constant", AT_CHANCE), ("m", BEST)]
    assert "1 setup has a better accuracy, but no balanced accuracy significantly above chance" in list_boards([board])
    one_part = board_of([row for row in (*constant, *learned) if row.fold == "1"])
    assert [entry.mark for entry in one_part.entries] == [AT_CHANCE, UNTESTED]
    assert one_part.leader is one_part.entries[1]
    assert "Highest accuracy: m L0.mean" in give_verdict(one_part).text


@pytest.mark.parametrize(("folds_made", "has_mark"), [(2, True), (3, True), (4, False)])
def test_fewer_than_four_folds_carry_a_mark_and_a_sentence(folds_made: int, has_mark: bool) -> None:
    rows = [*folds("a", [0.9, 0.85, 0.95, 0.9][:folds_made]), *folds("b", [0.5, 0.6, 0.4, 0.5][:folds_made])]
    board = board_of(rows)
    _, lines = list_lines(board, 20)
    assert all((FEW_FOLDS in line.cells[1]) == has_mark for line in lines if line.entry)
    assert ("spread over folds is hardly known" in give_verdict(board).text) == has_mark


@pytest.mark.parametrize(("folds_made", "setups"), [(2, 5), (5, 12), (10, 30)])
def test_luck_of_overlapping_training_parts_is_no_difference(folds_made: int, setups: int) -> None:
    """The other folds share the training rows of a fold, and so the luck of a setup: they must not choose the best."""
    random, wrong = np.random.default_rng(setups), 0
    for _ in range(40):
        luck = random.normal(0, 0.1 / folds_made**0.5, (setups, 1))
        scores = random.normal(0.6 + luck, 0.1 * (1 - 1 / folds_made) ** 0.5, (setups, folds_made))
        rows = [row for layer in range(setups) for row in folds("m", scores[layer].tolist(), layer, rows_test=1000)]
        rows = [replace(row, rows_train=1000 * (folds_made - 1)) for row in rows]
        wrong += any(entry.mark == WORSE for entry in board_of(rows).entries)
    assert wrong <= 4


def test_setups_measured_on_different_data_are_said_to_be() -> None:
    rows = [*folds("a", [0.9] * 5, data="one"), *folds("b", [0.5] * 5, data="one")]
    assert "different rows" not in give_verdict(board_of(rows)).text
    assert "different rows" in give_verdict(board_of([*rows, *folds("c", [0.7] * 5, data="two")])).text


def test_equal_setups_are_not_chosen_by_the_fold_that_they_are_scored_on() -> None:
    """Two setups are equal elsewhere; the one that is lucky on this fold must not be chosen for it."""
    assert choose_elsewhere(np.array([[0.8, 0.5, 0.5], [0.4, 0.5, 0.5]]))[0].tolist() == [0, 1]
    board = board_of([*folds("a", [0.8, 0.5, 0.5]), *folds("b", [0.4, 0.5, 0.5], layer=1)])
    choice = choose(board, board.entries)
    assert choice is not None
    assert choice.score == pytest.approx((0.6 + 0.5 + 0.5) / 3)


def test_accuracy_of_unbalanced_data_is_explained(tmp_path: Path) -> None:
    corpus = Corpus(["background", "call", "song"], 60, learnable=False, shares=[0.78, 0.12, 0.10])
    board = board_of(make_benchmark(tmp_path, "trap", corpus, whole=False))
    verdict = give_verdict(board)
    assert board.entries[0].scores["accuracy"].mean > 0.7
    assert board.best is None
    assert verdict.learned is False
    assert "No setup is significantly above chance" in verdict.text
    assert "does not differ significantly from always predicting the most common class" in verdict.text
    text = list_boards([board])
    assert text.index("(majority)") < text.index("hubert-base"), "the majority is above what was learned"
    assert board.plotted_metrics == ["accuracy", "balanced_accuracy"]


def test_learnable_data_is_reported_as_learned(real: list[Result]) -> None:
    verdict = give_verdict(boards(real)[0])
    assert verdict.learned is True
    assert "No setup" not in verdict.text


def test_choice_for_a_fold_uses_only_other_folds() -> None:
    values = {0: [1.0, 0.2, 0.2], 1: [0.2, 1.0, 0.2], 2: [0.2, 0.2, 1.0], 3: [0.4, 0.4, 0.4]}
    board = board_of([row for layer, v in values.items() for row in folds("m", v, layer)])
    choice = choose(board, board.entries)
    assert choice is not None
    assert board.entries[0].scores["accuracy"].mean == pytest.approx(1.4 / 3)
    assert choice.score == pytest.approx(0.2), "each fold is scored by what was good elsewhere"


def test_log_loss_ranks_lower_as_better() -> None:
    rows = [*folds("a", [0.5] * 3, log_loss=2.0), *folds("b", [0.5] * 3, log_loss=1.0)]
    assert [one.setup.model for one in board_of(rows, "log_loss").entries] == ["b", "a"]


def test_leaky_results_are_listed_apart_and_marked() -> None:
    rows = [*folds("a", [0.5, 0.6]), *folds("a", [0.9, 0.9], split="random", leaky=True)]
    fair, leaky = boards(rows)
    assert not fair.leaky
    assert leaky.leaky
    for form in FORMS[:2]:
        assert "LEAKY" not in list_boards([fair], form)
        assert "LEAKY" in list_boards([leaky], form)
    assert [row["leaky"] for row in csv.DictReader(io.StringIO(list_boards([fair, leaky], "csv")))] == ["false", "true"]


def test_multilabel_results_are_ranked_by_average_precision() -> None:
    rows = [*folds("a", [0.0] * 5), *folds("b", [0.0] * 5)]
    rows = [
        result(r.fold, model=r.model, accuracy=None, map=0.5 + 0.2 * (r.model == "b"), macro_auc=0.9, chance=0.1)
        for r in rows
    ]
    board = board_of(rows)
    assert (board.metric, board.entries[0].setup.model, board.chance_metric) == ("map", "b", "macro_auc")
    assert board.baselines("map") == pytest.approx({"majority": 0.1, "chance": 0.1})
    assert give_verdict(board).learned is True
    assert "macro AUC" in list_boards([board])


def test_machine_readable_lists_hold_all_results(real: list[Result]) -> None:
    every = boards(real)
    rows = list(csv.DictReader(io.StringIO(list_boards(every, "csv", top=1))))
    assert len(rows) == sum(len(board.entries) for board in every)
    for row, entry in zip(rows, (entry for board in every for entry in board.entries), strict=True):
        assert float(row["accuracy"]) == entry.scores["accuracy"].mean
        assert float(row["balanced_accuracy_low"]) == entry.scores["balanced_accuracy"].low
        assert row["mark"] == entry.mark
    first = json.loads(list_boards(every, "json"))[0]
    assert first["entries"][0]["values"]["accuracy"] == every[0].entries[0].values["accuracy"]
    assert first["verdict"]["learned"] is True
    assert first["chosen_by_other_folds"][0]["model"]


def test_text_lists_hold_the_top_and_escape_names() -> None:
    board = board_of([*folds("a|b*<c>\x1b[31m", [0.9, 0.8]), *folds("z", [0.1, 0.2])])
    table, markdown = list_boards([board], top=1), list_boards([board], "markdown", top=1)
    assert "\x1b" not in table + markdown
    assert "1 more setup" in table
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "\\<c\\>" in markdown


def test_list_of_unusable_results_is_refused() -> None:
    with pytest.raises(UsageError, match="Choose one of: accuracy"):
        boards([result()], "acuracy")
    with pytest.raises(UsageError, match="no results with d_prime"):
        boards([result()], "d_prime")
    with pytest.raises(UsageError, match="no results yet"):
        boards([])
