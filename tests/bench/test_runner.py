"""The benchmark runner: every setup is fitted once, on training rows only, with any number of processes."""

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

import embedx
from embedx.bench.artifacts import load_maps, load_predictions, read_about
from embedx.bench.config import Plan, make_plan
from embedx.bench.fits import FitJob, compute
from embedx.bench.leaderboard import boards
from embedx.bench.results import EVERY_LAYER, Result, key, read_table
from embedx.bench.runner import BenchProgress, run
from embedx.cli import run as command
from embedx.errors import Interrupted, UsageError
from embedx.heads.fitting import fit
from tests.helpers.collections import DIM, Make
from tests.helpers.predictions import value

HEADS = "logistic(C=0.1),knn(k=3),prototype"


SAME = [name for name in Result.__dataclass_fields__ if name not in ("seconds", "embed_seconds", "made")]


def values(rows: list[Result]) -> dict[Any, tuple[Any, ...]]:
    return {key(row): tuple(getattr(row, name) for name in SAME) for row in rows}


def write_manifest(folder: Path, manifest: Path, **columns: Callable[[dict[str, str]], str]) -> Path:
    """Write a manifest of the synthetic corpus with columns computed from path, label and source."""
    rows = list(csv.DictReader(manifest.read_text(encoding="utf-8").splitlines()))
    rows = [row | {name: make(row) for name, make in columns.items()} for row in rows]
    rows = [row | {"path": str(manifest.parent / row["path"])} for row in rows]
    out = folder / "sounds.csv"
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return out


@pytest.fixture(scope="session")
def layered(manifest: Path, checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of the synthetic corpus with every layer of a tiny transformer."""
    out = tmp_path_factory.mktemp("indexes") / "layered"
    embedx.extract(manifest, out=out, model=str(checkpoint("hubert")), layers="all", group="source").close()
    return out


@pytest.fixture
def plan(made: Path, tmp_path: Path) -> Plan:
    return make_plan(task=f"sounds={made}", head=HEADS, shots="1,2,all", seeds=2, out=str(tmp_path / "out"))


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of fits of each computed job."""
    seen: list[int] = []

    def counting(job: FitJob) -> Any:
        seen.append(len(job.parts))
        return compute(job)

    monkeypatch.setattr("embedx.bench.runner.compute", counting)
    return seen


def test_bench_has_a_row_for_every_setup_shot_seed_and_fold(layered: Path, tmp_path: Path) -> None:
    network = "weighted-layers(max_epochs=1)"
    rows = run(make_plan(task=str(layered), head=f"prototype,{network}", shots=[2, "all"], seeds=2, out=str(tmp_path)))
    few = {(2, 0), (2, 1)}
    wanted = {("prototype", layer, *one) for layer in range(4) for one in {*few, ("all", 0)}}
    wanted |= {(network, EVERY_LAYER, *one) for one in {*few, ("all", 0), ("all", 1)}}
    found = {(row.head, row.layer, row.shots, row.seed, row.fold) for row in rows}
    assert found == {(*one, str(fold)) for one in wanted for fold in range(1, 6)}
    assert len(rows) == len(found)
    assert {row.model for row in rows} == {"hubert"}
    assert {row.rows_train for row in rows if row.shots == 2} == {8}
    assert {(row.rows_train, row.rows_test, row.classes) for row in rows if row.shots == "all"} == {(32, 8, 4)}
    assert values(read_table(tmp_path)) == values(rows)


def test_bench_scores_equal_scikit_learn(manifest: Path, tmp_path: Path) -> None:
    source = write_manifest(tmp_path, manifest, fold=lambda row: row["source"][-1])
    models = {
        "logistic(C=0.1)": make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000)),
        "knn(k=3, weights=uniform)": make_pipeline(Normalizer(), KNeighborsClassifier(3)),
    }
    plan = make_plan(task=str(source), model="logmel", head=",".join(models), pooling="max", out=str(tmp_path / "out"))
    rows = {(row.head, row.fold): row for row in run(plan)}
    with embedx.open(next((tmp_path / "out/collections").iterdir())) as collection:
        x, frame = collection.vectors(view="L0.max"), collection.rows()
    y, folds = frame["label"].to_numpy(), frame["fold"].to_numpy()
    assert len(rows) == 2 * 5
    for head, model in models.items():
        for fold in "01234":
            test = folds.astype(str) == fold
            model.fit(x[~test], y[~test])
            said, row = model.predict(x[test]), rows[head, fold]
            assert row.accuracy == pytest.approx(accuracy_score(y[test], said))
            assert row.balanced_accuracy == pytest.approx(balanced_accuracy_score(y[test], said))
            assert row.macro_f1 == pytest.approx(f1_score(y[test], said, average="macro", zero_division=0))
            assert (row.rows_train, row.rows_test, row.majority, row.chance) == (32, 8, 0.25, 0.25)
            if head.startswith("logistic"):
                proba = model.predict_proba(x[test])
                assert row.log_loss == pytest.approx(log_loss(y[test], proba, labels=model.classes_), abs=1e-4)
                assert row.C == 0.1


def test_bench_by_groups_gains_nothing_from_a_leak(manifest: Path, tmp_path: Path) -> None:
    """Every source has a random class: only a leaky split could predict it."""
    drawn = np.random.default_rng(1).permutation(20) % 4
    sources = sorted({row["source"] for row in csv.DictReader(manifest.read_text(encoding="utf-8").splitlines())})
    source = write_manifest(tmp_path, manifest, label=lambda row: f"c{drawn[sources.index(row['source'])]}")
    asked: dict[str, Any] = {"model": "logmel", "head": ["logistic(C=1)", "knn(k=1)"], "out": str(tmp_path / "out")}
    task = {"data": str(source), "group": "source"}
    fair = run(make_plan(task=task, **asked))
    leaky = run(make_plan(task=task, leaky=True, **asked))
    for head in ("logistic(C=1)", "knn(k=1)"):
        assert np.mean([row.accuracy for row in fair if row.head == head]) < 0.4
        assert np.mean([row.accuracy for row in leaky if row.head == head]) > 0.5
    assert not any(row.leaky for row in fair)
    assert all(row.leaky and "leaky" in row.split for row in leaky)
    assert len(read_table(tmp_path / "out")) == len(fair) + len(leaky)  # one never stands in for the other


def test_bench_chooses_settings_on_training_rows(manifest: Path, tmp_path: Path) -> None:
    """With a validation part, that part decides C; few-shot fits do not use it."""
    parts = {"0": "train", "1": "train", "2": "train", "3": "validation", "4": "test"}
    source = write_manifest(tmp_path, manifest, split=lambda row: parts[row["source"][-1]])
    plan = make_plan(task=str(source), model="logmel", shots="2,all", seeds=2, out=str(tmp_path / "out"))
    rows = run(plan)
    assert {(row.shots, row.rows_train, row.rows_test) for row in rows} == {(2, 8, 8), ("all", 32, 8)}
    with embedx.open(next((tmp_path / "out/collections").iterdir())) as collection:
        x, frame = collection.vectors(), collection.rows()
    learn = (frame["split"] != "test").to_numpy()
    classes = sorted(set(frame["label"]))
    y = np.array([classes.index(label) for label in frame["label"]])
    validation = (frame["split"] == "validation").to_numpy()[learn]
    head = fit("logistic", x[learn], y[learn], classes, groups=frame["source"].to_numpy()[learn], validation=validation)
    (row,) = [row for row in rows if row.shots == "all"]
    assert head.settings["C"] == row.C
    assert row.accuracy == pytest.approx((head.predict_proba(x[~learn]).argmax(axis=1) == y[~learn]).mean())


def test_bench_results_do_not_depend_on_embedding_order(manifest: Path, tmp_path: Path) -> None:
    """A resumed extraction numbers its rows in another order; folds, samples and vectors follow the files."""
    source = write_manifest(tmp_path, manifest)
    header, *lines = source.read_text(encoding="utf-8").splitlines()
    backwards = tmp_path / "backwards.csv"
    backwards.write_text("\n".join([header, *lines[::-1]]), encoding="utf-8")
    found = []
    for number, one in enumerate((source, backwards)):
        task = {"name": "sounds", "data": str(one), "group": "source"}
        asked: dict[str, Any] = {
            "head": "logistic(C=1),knn",
            "shots": "2,all",
            "seeds": 2,
            "out": str(tmp_path / str(number)),
        }
        found.append(values(run(make_plan(task=task, model="logmel", **asked))))
    assert found[0] == found[1]


def test_bench_of_multilabel_data_is_scored(manifest: Path, tmp_path: Path) -> None:
    source = write_manifest(tmp_path, manifest, tags=lambda row: f"{row['label']};{'xy'[int(row['source'][-1]) % 2]}")
    task = {"data": str(source), "label": "tags", "separator": ";", "group": "source"}
    rows = run(make_plan(task=task, model="logmel", head="logistic(C=0.1)", out=str(tmp_path / "out")))
    assert len(rows) == 5
    for row in rows:
        assert row.accuracy is None
        assert row.majority is None
        assert row.map is not None
        assert row.chance is not None
        assert row.map > row.chance
    assert boards(rows)[0].metric == "map"


@pytest.mark.long
def test_bench_second_run_fits_only_new_setups(plan: Plan, made: Path, fitted: list[int]) -> None:
    first = run(plan)
    assert sum(fitted) == len(first) == 3 * (2 * 2 + 1) * 5
    fitted.clear()
    assert values(run(plan)) == values(first)
    assert fitted == []
    more = make_plan(task=f"sounds={made}", head=HEADS, shots="1,4,all", seeds=3, out=str(plan.out))
    rows = run(more)
    assert sum(fitted) == 3 * (1 + 3) * 5  # one more seed of 1 shot, three of 4 shots
    assert len(read_table(plan.out)) == len(first) + sum(fitted)
    assert values(rows).items() >= {one: row for one, row in values(first).items() if one.shots != 2}.items()


def test_bench_after_changed_labels_or_vectors_fits_again(manifest: Path, tmp_path: Path, fitted: list[int]) -> None:
    def again(label: Callable[[dict[str, str]], str], **options: Any) -> list[Result]:
        fitted.clear()
        source = write_manifest(tmp_path, manifest, label=label)
        task = {"name": "sounds", "data": str(source), "group": "source"}
        return run(make_plan(task=task, model="logmel", head="knn", out=str(tmp_path / "out"), **options))

    first = again(lambda row: row["label"])
    assert again(lambda row: row["label"]) == first
    assert fitted == []
    again(lambda row: row["label"].upper())
    assert sum(fitted) == 5
    again(lambda row: row["label"].upper(), window=1.0)  # the same key, other vectors
    assert sum(fitted) == 5
    assert len(read_table(tmp_path / "out")) == 5


def test_task_that_cannot_be_used_is_named_and_the_others_run(
    manifest: Path, tmp_path: Path, fitted: list[int]
) -> None:
    unlabelled = tmp_path / "unlabelled.csv"
    unlabelled.write_text("path\n" + "\n".join(line.split(",")[0] for line in manifest.read_text().splitlines()[1:]))
    tasks = {name: {"name": name, "data": str(path)} for name, path in (("bad", unlabelled), ("good", manifest))}
    seen: list[str] = []

    def note(progress: BenchProgress) -> None:
        seen[:] = progress.failures

    rows = run(make_plan(task=list(tasks.values()), model="logmel", head="knn", out=str(tmp_path / "out")), note)
    assert {row.task for row in rows} == {"good"}
    assert sum(failure.startswith("bad with logmel: ") for failure in seen) == 1
    with pytest.raises(UsageError, match="label"):
        run(make_plan(task=tasks["bad"], model="logmel", head="knn", out=str(tmp_path / "alone")))


def test_bench_interrupted_by_signal_continues_next_time(plan: Plan, fitted: list[int]) -> None:
    with pytest.raises(Interrupted) as raised:
        run(plan, interrupted=lambda: signal.SIGINT if len(fitted) == 4 else 0)
    assert raised.value.exit_code == 130
    left = read_table(plan.out)
    assert len(left) == sum(fitted) == 4 * 5
    fitted.clear()
    rows = run(plan)
    assert sum(fitted) == len(rows) - len(left)
    assert values(rows).items() >= values(left).items()


@pytest.mark.long
def test_bench_killed_run_keeps_finished_fits(plan: Plan, made: Path, fitted: list[int]) -> None:
    code = (
        "from embedx.bench import make_plan, run, runner; runner.WRITE_SECONDS = runner.WRITE_SHARE = 0\n"
        f"run(make_plan(task='sounds={made}', head={HEADS!r}, shots='1,2,all', seeds=2, out={str(plan.out)!r}),"
        " lambda progress: print(progress.done, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        done = 0
        while done < 20:
            done = int(process.stdout.readline())
        process.kill()
    left = len(read_table(plan.out))
    assert 75 > left >= 20
    assert len(run(plan)) == 75
    assert sum(fitted) == 75 - left


@pytest.mark.long
def test_bench_results_do_not_depend_on_processes(made: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"task": str(made), "head": "logistic(inner_folds=2),mlp(max_epochs=3)"}
    one = run(make_plan(out=str(tmp_path / "one"), **asked))
    two = run(make_plan(out=str(tmp_path / "two"), jobs=2, **asked))
    assert values(one) == values(two)
    kept = load_predictions(tmp_path / "one", key(one[0])), load_predictions(tmp_path / "two", key(one[0]))
    assert kept[0] is not None
    assert kept[1] is not None
    order = [np.lexsort((each.proba[:, 0], each.folds)) for each in kept if each]
    np.testing.assert_array_equal(kept[0].proba[order[0]], kept[1].proba[order[1]])


def test_bench_keeps_the_best_heads_and_predictions(plan: Plan) -> None:
    rows = run(plan)
    board = boards(rows)[0]
    best = [row for row in rows if row.shots == "all" and row.head == board.entries[0].setup.head]
    kept = load_predictions(plan.out, key(best[0]))
    assert kept is not None
    for row in best:
        inside = kept.folds == row.fold
        assert (kept.proba[inside].argmax(axis=1) == kept.truth[inside]).mean() == pytest.approx(row.accuracy)
    ((task, view),) = load_maps(plan.out)
    assert (task, view) == ("sounds", "logmel L0.mean")
    about = read_about(plan.out)
    assert set(about["recipes"]) >= {row.recipe for row in rows}
    assert {"embedx", "Python", "scikit-learn"} <= set(about["versions"])


def test_bench_with_failing_fit_names_it_and_continues(plan: Plan, made: Path) -> None:
    told: list[BenchProgress] = []
    asked = make_plan(task=str(made), head="PCA(16)+knn,knn", shots="1,all", out=str(plan.out))
    rows = run(asked, told.append)
    assert len(rows) == 3 * 5  # four rows have no 16 directions
    assert len(told[-1].failures) == 5
    assert "PCA(16)" in told[-1].failures[0]
    assert "shots 1" in told[-1].failures[0]
    assert told[-1].done == told[-1].total == 20


def test_bench_command_prints_leaderboard_and_writes_report(
    made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["bench", "probe", "--task", f"sounds={made}", "--head", HEADS, "--jobs", "1", "-o", str(out)]
    words += ["--shots", "1,all"]
    assert command([*words, "--format", "csv", "--progress", "json"]) == 0
    printed, told = capfd.readouterr()
    listed = list(csv.DictReader(printed.splitlines()))
    assert {(row["head"], row["shots"]) for row in listed} == {
        (head, shots) for head in ("logistic(C=0.1)", "knn(k=3)", "prototype") for shots in ("1", "all")
    }
    rows = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert rows[-1]["stage"] == "fit"
    assert rows[-1]["done"] == rows[-1]["total"] == 30
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "sounds" in page
    assert "embedx" in read_about(out)["commands"][0]
    assert command(["bench", "report", str(out), "--metric", "log_loss", "--format", "markdown"]) == 0
    printed = capfd.readouterr().out
    assert printed.count("###") == 1
    assert "Log loss over training rows per class" in printed


def test_bench_command_counts_and_names_failures(
    manifest: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = write_manifest(tmp_path, manifest, source=lambda row: row["source"])
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    with source.open("a", encoding="utf-8") as file:
        file.write(f"{broken},bell,bell9\n")
    words = [
        "bench",
        "probe",
        "--task",
        str(source),
        "--model",
        "logmel",
        "--head",
        "knn",
        "--jobs",
        "1",
        "--no-report",
    ]
    assert command([*words, "-o", str(tmp_path / "out")]) == 3
    told = capfd.readouterr().err
    assert "failed:" in told
    assert "broken.wav" in told
    assert not (tmp_path / "out/report.html").exists()


@pytest.mark.parametrize("kind", ["sites", "recordings", "labels", "test part"])
def test_probe_train_and_bench_rank_alike(kind: str, make: Make, tmp_path: Path) -> None:
    """The ranks are those of one head: without signal, the class shares of unequal sites change nothing."""
    random = np.random.default_rng(3)
    site = np.repeat(np.arange(5), [90, 60, 120, 30, 60])
    x = random.standard_normal((360, DIM)).astype(np.float32)
    y = (random.random(360) < np.array([0.2, 0.8, 0.3, 0.7, 0.5])[site]).astype(int)
    classes = [f"c{i}" for i in y]
    columns: dict[str, list[Any]] = {"fold": site.tolist()}
    options: dict[str, Any] = {}
    if kind == "recordings":  # folds are made by embedx
        columns = {}
    if kind == "labels":  # some folds lack a label
        classes = [f"{name};{'rare' if i % 97 == 0 else 'often'}" for i, name in enumerate(classes)]
        options = {"separator": ";"}
    if kind == "test part":
        columns = {"stage": ["test" if i == 2 else "train" for i in site]}
        options = {"split": "stage"}
    collection = make(x, classes, **columns)
    probed = collection.probe(C=0.1, **options).metrics
    trained = collection.fit_head(C=0.1, calibration="none", **options).report
    assert trained is not None
    task = {"data": str(collection.folder), "name": "sites", **options}
    rows = run(make_plan(task=task, head="logistic(C=0.1)", out=str(tmp_path / "out")))
    (board,) = boards(rows, "macro_auc")
    for name in ("macro_auc", "map", "d_prime"):
        mean = board.entries[0].scores[name].mean
        assert value(probed, name) == value(trained, name) == pytest.approx(mean, abs=1e-9), name
        assert mean == pytest.approx(np.mean([getattr(row, name) for row in rows]))
    if kind == "sites":
        assert value(probed, "macro_auc") == pytest.approx(0.5, abs=0.1)  # pooled over the heads it is 0.3
