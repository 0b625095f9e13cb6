import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from embedx.bench.leaderboard import boards
from embedx.bench.published import find_leak, published_results
from embedx.bench.report.build import write_report
from embedx.bench.report.published import pair_with_boards, write_published
from embedx.bench.report.tables import list_boards
from embedx.bench.results import Result, extend_table
from embedx.cli import run as command
from tests.helpers.bench_results import result

OFFICIAL = "the column 'fold'"


def folds(model: str = "yamnet", score: float = 0.75, **more: object) -> list[Result]:
    made = {"task": "esc50", "model": model, "accuracy": score, "balanced_accuracy": score, "chance": 0.02}
    return [result(str(i), **made | {"split": OFFICIAL} | more) for i in range(1, 6)]


def print_published(rows: Sequence[Result], form: str = "table") -> str:
    ours = boards(rows)
    return write_published(pair_with_boards(ours), ours, form)  # type: ignore[arg-type]


def test_every_published_value_is_a_share_with_a_source() -> None:
    results = published_results()
    assert len(results) == 14 * 8 - 2 + 7 * 7 + 2 * 4 * 6
    assert all(0 <= one.score <= 1 and one.benchmark.source and one.benchmark.version for one in results)
    assert len({(one.benchmark.name, one.published_task, one.model) for one in results}) == len(results)
    by_name = {(one.benchmark.name, one.published_task, one.model): one.score for one in results}
    assert by_name["MAEB", "ESC50", "YAMNet"] == 0.797
    assert by_name["HEAR", "Speech Commands full", "PaSST base"] == 0.639
    assert by_name["X-ARES kNN", "UrbanSound8K", "data2vec"] == 0.156


@pytest.mark.parametrize(
    ("task", "model", "found"),
    [
        ("esc50", "facebook/hubert-base-ls960", 1),
        ("ESC-50", "hubert-base-ls960", 1),
        ("Esc_50", "YAMNet", 2),
        ("speech-commands", "yamnet", 3),
        ("esc50", "wav2vec2-base-960h", 0),
        ("esc10", "yamnet", 0),
    ],
)
def test_names_match_apart_from_case_hyphens_and_owner(task: str, model: str, found: int) -> None:
    assert len(pair_with_boards(boards(folds(model, task=task)))) == found


def test_ours_stands_beside_published_with_differences() -> None:
    rows = [*folds(), *folds(score=0.6, shots=8, seed=1), *folds("mine"), *folds(task="birds")]
    by_benchmark = {row["benchmark"]: row for row in csv.DictReader(io.StringIO(print_published(rows, "csv")))}
    maeb, hear = by_benchmark["MAEB"], by_benchmark["HEAR"]
    assert (float(maeb["ours"]), float(maeb["published"])) == (0.6, 0.797), "the board with 8 shots is nearest"
    assert "shots" not in maeb["differences"]
    assert "folds (official folds; theirs not stated)" in maeb["differences"]
    assert (float(hear["ours"]), float(hear["published"])) == (0.75, 0.838)
    assert hear["differences"] == "head (logistic; theirs mlp)"
    assert json.loads(print_published(rows, "json"))[0]["source"] == maeb["source"]
    for form in ("table", "markdown"):
        text = print_published(rows, form)
        assert "commit f4cc6c8b3, 2026-08-20" in text
        assert "no published result of mine on esc50" in text
        assert "no published result of the task birds" in text


def test_score_beside_published_is_not_the_luckiest_of_many_setups() -> None:
    lucky = [
        replaced
        for layer in range(3)
        for replaced in (
            result(str(i), task="esc50", layer=layer, split=OFFICIAL, accuracy=0.9 if i == layer else 0.5)
            for i in range(3)
        )
    ]
    (pair, _) = pair_with_boards(boards(lucky))
    assert pair.ours is not None
    assert pair.ours.score == pytest.approx(0.5)
    one_part = [row for row in lucky if row.fold == "0"]
    (pair, _) = pair_with_boards(boards(one_part))
    assert pair.ours is not None
    assert (pair.ours.score, pair.ours.how) == (0.9, "best of 3 setups, which is too high by chance")


@pytest.mark.parametrize(
    ("task", "split", "leaks"),
    [
        ("urbansound8k", "5 folds by recording, stratified", True),
        ("UrbanSound8K", "5 random folds", True),
        ("urbansound8k", OFFICIAL, False),
        ("urbansound8k", "5 folds by 'group', stratified", False),
        ("esc50", "5 folds by recording, stratified", False),
    ],
)
def test_random_folds_of_urbansound8k_are_warned_of(task: str, split: str, leaks: bool, tmp_path: Path) -> None:
    assert (find_leak(task, split) is not None) == leaks
    rows = folds(task=task, split=split)
    assert ("0.838 to 0.856" in list_boards(boards(rows))) == leaks
    assert ("0.838 to 0.856" in print_published(rows)) == leaks


def test_empty_table_of_published_results_has_its_columns() -> None:
    header = print_published(folds(task="birds"), "csv")
    assert header == print_published(folds(), "csv").splitlines()[0] + "\n"


def test_report_page_shows_published_results_and_the_leak(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [*folds(), *folds(task="urbansound8k", split="5 folds by recording"), *folds(task="birds")]
    extend_table(tmp_path, rows)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count("Published results") == 1
    assert "0.838" in page
    assert "hearbenchmark.com" in page
    assert page.count("Not the official folds.") == 1


def test_command_lists_published_results_without_a_benchmark(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command(["bench", "probe", "--published", "--format", "csv"]) == 0
    assert len(list(csv.DictReader(io.StringIO(capfd.readouterr().out)))) == len(published_results())
    assert command(["bench", "probe", "--published", "--task", "ESC-50", "--model", "yamnet"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[1:3]] == ["0.797", "0.838"]
    assert command(["bench", "probe", "--published", "--task", "birds"]) == 2
    assert "Known tasks: esc50, gtzan" in capfd.readouterr().err
    extend_table(tmp_path, folds())
    assert command(["bench", "probe", "--published", "-o", str(tmp_path)]) == 0
    assert "0.750" in capfd.readouterr().out
    assert command(["bench", "probe", "--published", "-o", str(tmp_path / "empty")]) == 2
