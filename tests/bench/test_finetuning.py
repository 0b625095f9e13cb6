"""Fine-tuning as a setup: the rows, folds and figures of the heads, with its cost, and nothing from the test rows."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedx.bench.cases import open_case
from embedx.bench.config import make_plan
from embedx.bench.finetune_spec import KINDS, read_finetunes
from embedx.bench.finetuning import FinetuneJob, prepare
from embedx.bench.fits import draw_part
from embedx.bench.leaderboard import boards
from embedx.bench.report.build import write_report
from embedx.bench.report.published import pair_with_boards
from embedx.bench.report.tables import list_boards
from embedx.bench.results import FINETUNED, Result, extend_table, read_table
from embedx.bench.runner import run
from embedx.errors import Interrupted, UsageError
from tests.helpers.bench_results import result

QUICK = "epochs=2, batch_size=8, learning_rate=0.002, head_rate=0.01, max_seconds=0.3"
Checkpoint = Callable[[str], Path]


@pytest.fixture(scope="session")
def tones(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic corpus with a column of two folds by source."""
    rows = list(csv.DictReader(manifest.read_text(encoding="utf-8").splitlines()))
    out = tmp_path_factory.mktemp("tones") / "tones.csv"
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "fold"])
        writer.writeheader()
        for row in rows:
            writer.writerow(
                row | {"path": str(manifest.parent / row["path"]), "fold": "ab"[int(row["source"][-1]) % 2]}
            )
    return out


def bench(task: Path | str, out: Path, model: Path | str, **options: Any) -> list[Result]:
    given = {
        "finetune": f"full({QUICK}),lora({QUICK})",
        "head": "prototype",
        "device": "cpu",
        "layers": "last",
    } | options
    return run(make_plan(task=str(task), model=str(model), out=str(out), **given))


def tuned(rows: list[Result]) -> list[Result]:
    return [row for row in rows if row.layer == FINETUNED]


@pytest.mark.long
def test_finetuned_setups_have_the_folds_rows_and_costs_of_the_heads(
    tones: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    rows = bench(tones, tmp_path / "out", checkpoint("hubert"))
    heads = {row.fold: row for row in rows if row.layer != FINETUNED}
    assert {(row.head, row.fold) for row in tuned(rows)} == {
        (f"{kind}({QUICK})", fold) for kind in ("full", "lora") for fold in "ab"
    }
    for row in tuned(rows):
        twin = heads[row.fold]
        same = ("rows_train", "rows_test", "classes", "data", "split", "duplicates", "majority", "chance", "model")
        assert [getattr(row, name) for name in same] == [getattr(twin, name) for name in same]
        assert row.seconds is not None
        assert row.embed_seconds is not None
        assert twin.embed_seconds is not None
        assert row.parameters is not None
        assert twin.parameters is not None
        assert row.seconds > (twin.seconds or 0)
    costs = {row.head.partition("(")[0]: row.parameters for row in rows}
    assert costs["prototype"] < costs["lora"] < costs["full"]  # type: ignore[operator]
    assert read_table(tmp_path / "out") == rows
    assert not list((tmp_path / "out/finetuning").iterdir())  # checkpoints of finished fits are gone
    assert tuned(bench(tones, tmp_path / "out", checkpoint("hubert"))) == tuned(rows)  # nothing is computed again
    text = list_boards(boards(rows))
    assert "fine-tuned" in text
    assert f"{costs['full']:,}" in text
    pytest.importorskip("matplotlib")
    assert "fine-tuned" in write_report(tmp_path / "out").read_text()


@pytest.mark.parametrize("leaky", [False, True])
def test_no_group_is_in_two_parts_of_a_finetuning_unless_the_split_is_leaky(
    made: Path, tmp_path: Path, leaky: bool
) -> None:
    (spec,) = read_finetunes("full")
    plan = make_plan(task={"data": str(made), "group": "source"}, out=str(tmp_path), leaky=leaky)
    case = open_case(plan, plan.task[0], None, str(made))
    crossing = 0
    for part in case.splits.parts:
        data, _ = prepare(FinetuneJob(case, spec, "all", 0, (part.name,), str(tmp_path)), part, 16_000, None)
        used = [data.part.train, data.part.validation, data.part.test]
        assert all(map(len, used))
        assert sorted(np.concatenate(used)) == list(range(len(case.ids)))
        assert np.array_equal(data.part.test, part.test)
        groups = [set(case.splits.groups[rows]) for rows in used]
        crossing += len(groups[0] & groups[1]) + len(groups[0] & groups[2]) + len(groups[1] & groups[2])
        few = draw_part(case, part, 2, 0)
        few_data, _ = prepare(FinetuneJob(case, spec, 2, 0, (part.name,), str(tmp_path)), few, 16_000, None)
        assert len(few_data.part.train) == 8
        assert not len(few_data.part.validation)
    assert (crossing > 0) == leaky


@pytest.mark.long
def test_model_from_scratch_is_trained_on_the_rows_of_the_task_and_has_no_heads(tones: Path, tmp_path: Path) -> None:
    rows = bench(tones, tmp_path / "out", "scratch:cnn", finetune=f"full({QUICK}),lora", shots="2,all")
    assert {(row.model, row.layer, row.shots, row.fold) for row in rows} == {
        ("scratch:cnn", FINETUNED, shots, fold) for shots in (2, "all") for fold in "ab"
    }
    assert {row.rows_train for row in rows if row.shots == 2} == {8}
    assert {row.head for row in rows} == {f"full({QUICK})"}


@pytest.mark.long
def test_finetuning_that_was_stopped_goes_on(tones: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    plan = make_plan(task=str(tones), model=str(checkpoint("hubert")), finetune=f"full({QUICK})", head="prototype",
                     device="cpu", layers="last", out=str(tmp_path / "out"))  # fmt: skip
    steps: list[str] = []

    def stop() -> int:
        return 15 if len(steps) > 3 else 0

    with pytest.raises(Interrupted):
        run(plan, lambda progress: steps.append(progress.what) if "step" in progress.what else None, interrupted=stop)
    assert list((tmp_path / "out/finetuning").glob("*/checkpoint-*"))
    whole = run(replace(plan, out=tmp_path / "whole"))
    figures = [(row.fold, row.log_loss) for row in tuned(run(plan))]
    assert figures == [(row.fold, row.log_loss) for row in tuned(whole)]


@pytest.mark.long
def test_model_that_cannot_be_trained_is_a_failure_and_the_others_go_on(
    tones: Path, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    seen: list[Any] = []
    plan = make_plan(task=str(tones), model=["logmel", "scratch:nothing"], finetune="full(epochs=1)", head="prototype",
                     out=str(tmp_path / "out"))  # fmt: skip
    rows = run(plan, seen.append)
    assert {row.head for row in rows} == {"prototype"}
    assert any("logmel" in failure and "cannot be fine-tuned" in failure for failure in seen[-1].failures)
    assert any("scratch:nothing" in failure for failure in seen[-1].failures)


def test_ways_of_finetuning_are_read_and_checked() -> None:
    specs = read_finetunes(["full", "lora(lora=4, layer=weighted),frozen( epochs=3 )", "full"])
    assert [str(spec) for spec in specs] == ["full", "lora(lora=4, layer=weighted)", "frozen(epochs=3)"]
    assert [str(spec) for spec in read_finetunes([str(spec) for spec in specs])] == [str(spec) for spec in specs]
    options = specs[1].options("m", seed=3)
    assert (options.lora, options.layer, options.seed, options.freeze) == (4, "weighted", 3, "none")
    assert specs[2].options("m").freeze == "encoder"
    assert read_finetunes("full(precision=bfloat16)")[0].options("m").precision == "bfloat16"
    for text in (
        "half",
        "full(",
        "full(folds=a)",
        "full(epochs=0)",
        "full(epochs=x)",
        "full(balanced=2)",
        "lora(lora)",
    ):
        with pytest.raises(UsageError):
            read_finetunes(text)
    assert set(KINDS) == {"full", "lora", "frozen"}


def test_table_of_an_older_version_without_costs_is_read(tmp_path: Path) -> None:
    extend_table(tmp_path, [result(), result("2")])
    file = tmp_path / "results.csv"
    lines = [line.split(",") for line in file.read_text().splitlines()]
    kept = [i for i, name in enumerate(lines[0]) if name not in ("embed_seconds", "parameters")]
    file.write_text("".join(",".join(line[i] for i in kept) + "\n" for line in lines))
    assert read_table(tmp_path) == [result(), result("2")]


def test_costs_are_shown_where_a_setup_is_finetuned_and_published_results_are_of_probes_only() -> None:
    cost = {"seconds": 2.0, "embed_seconds": 1.0, "parameters": 1234}
    rows = [result(fold, task="esc50", model="yamnet", **cost) for fold in "12345"]
    assert "seconds" not in list_boards(boards(rows))
    better = {"layer": FINETUNED, "pooling": "", "head": "full", "accuracy": 1.0, **cost, "parameters": 5_000_000}
    rows += [result(fold, task="esc50", model="yamnet", **better) for fold in "12345"]
    (board,) = boards(rows)
    assert [(entry.seconds, entry.parameters) for entry in board.entries] == [(3.0, 5_000_000), (3.0, 1234)]
    assert "5,000,000" in list_boards([board])
    for pair in pair_with_boards([board]):
        assert pair.ours is not None
        assert pair.ours.score < 1
