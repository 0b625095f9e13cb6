import csv
import json
import multiprocessing
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embedx.bench.artifacts import (
    Map,
    Predictions,
    load_maps,
    load_predictions,
    map_file,
    note_run,
    predictions_file,
    read_about,
    save_map,
    save_predictions,
)
from embedx.bench.results import COLUMNS, EVERY_LAYER, FILE, Result, extend_table, key, read_table
from embedx.errors import UsageError
from tests.helpers.bench_results import result

PROMISED = (
    "task model layer pooling head shots seed fold rows_train rows_test classes split leaky duplicates C accuracy "
    "balanced_accuracy macro_f1 macro_auc map log_loss ece d_prime majority chance seconds embed_seconds parameters "
    "made embedx recipe data"
).split()


def test_results_table_has_promised_columns_and_round_trips(tmp_path: Path) -> None:
    rows = [
        result(task="=1+1", model='a "b", c', fold="'tis\nso", made="2026-01-01T00:00:00+00:00"),
        result("2", layer=EVERY_LAYER, shots=8, leaky=True, C=1e-300, accuracy=None, task="1e5", head="NA"),
    ]
    assert extend_table(tmp_path, rows) == rows == read_table(tmp_path)
    header = (tmp_path / FILE).read_text().splitlines()[0].split(",")
    assert header == PROMISED == list(COLUMNS) == [one.name for one in fields(Result) if one.name != "more"]


def test_results_table_is_read_by_pandas(tmp_path: Path) -> None:
    extend_table(tmp_path, [result(), result("2", leaky=True, shots=4)])
    frame = pd.read_csv(tmp_path / FILE)
    assert frame["leaky"].tolist() == [False, True]
    assert frame["accuracy"].tolist() == [0.1 + 0.2] * 2
    assert frame["shots"].tolist() == ["all", "4"]
    assert frame["C"].isna().all()


def test_results_table_saved_by_spreadsheet_is_read(tmp_path: Path) -> None:
    extend_table(tmp_path, [result()])
    text = (tmp_path / FILE).read_text().replace("false", "FALSE").replace("\n", "\r\n")
    (tmp_path / FILE).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_table(tmp_path) == [result()]


def test_results_row_with_same_key_replaces_the_older(tmp_path: Path) -> None:
    extend_table(tmp_path, [result(), result("2")])
    every = extend_table(tmp_path, [result(accuracy=1.0), result("3")])
    assert [(row.fold, row.accuracy) for row in every] == [("1", 1.0), ("2", 0.1 + 0.2), ("3", 0.1 + 0.2)]
    assert read_table(tmp_path) == every
    assert key(result(split="random", leaky=True)) != key(result()), "a leaky fit would replace a fair one"


def test_results_columns_of_newer_version_are_kept(tmp_path: Path) -> None:
    extend_table(tmp_path, [result()])
    frame = pd.read_csv(tmp_path / FILE, dtype=str, keep_default_na=False)
    frame["topological_charm"] = "0.7"
    frame.to_csv(tmp_path / FILE, index=False)
    extend_table(tmp_path, [result("2")])
    again = pd.read_csv(tmp_path / FILE, dtype=str, keep_default_na=False)
    assert again["topological_charm"].tolist() == ["0.7", ""]
    assert read_table(tmp_path)[0].more == {"topological_charm": "0.7"}


def test_results_file_that_is_torn_or_foreign_is_refused_and_kept(tmp_path: Path) -> None:
    extend_table(tmp_path, [result(), result("2")])
    whole = (tmp_path / FILE).read_bytes()
    line = whole.splitlines(keepends=True)
    damages = {
        "last line is incomplete": whole[:-1],
        "cells": line[0] + line[1].replace(b",", b"", 1),
        "no column 'task'": b"name,age\nx,3\n",
        "the same name": line[0].replace(b"recipe", b"recipe,C"),
        "not UTF-8": whole.replace(b"yamnet", b"\xff"),
        "layer in row 1 is 'two'": whole.replace(b"yamnet,0", b"yamnet,two"),
        "leaky in row 1 is 'perhaps'": whole.replace(b"false", b"perhaps"),
        "no column": b"\n",
    }
    for why, damaged in damages.items():
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(UsageError, match=f"{why}.*was not changed"):
            read_table(tmp_path)
        with pytest.raises(UsageError, match=why):
            extend_table(tmp_path, [result("3")])
        assert (tmp_path / FILE).read_bytes() == damaged


def test_results_prefix_has_whole_rows_or_is_refused(tmp_path: Path) -> None:
    rows = [result(str(i)) for i in range(3)]
    extend_table(tmp_path, rows)
    whole = (tmp_path / FILE).read_bytes()
    for size in range(len(whole)):
        (tmp_path / FILE).write_bytes(whole[:size])
        try:
            found = read_table(tmp_path)
        except UsageError:
            continue
        assert found == rows[: len(found)]
        assert whole[:size].endswith(b"\n")


def test_failed_write_keeps_the_older_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extend_table(tmp_path, [result()])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("embedx.filesystem.atomic.os.replace", full)
        with pytest.raises(OSError, match="No space"):
            extend_table(tmp_path, [result("2")])
    assert read_table(tmp_path) == [result()]
    assert extend_table(tmp_path, [result("2")]) == [result(), result("2")]


def extend_often(folder: Path, worker: int) -> None:
    for i in range(8):
        extend_table(folder, [result(f"{worker}-{i}")])


def test_results_extended_by_several_processes_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=extend_often, args=(tmp_path, i)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert len(read_table(tmp_path)) == 24


def predictions(fold: str, rows: int = 4, seed: int = 0, classes: tuple[str, ...] = ("a", "b")) -> Predictions:
    random = np.random.default_rng(seed)
    proba = random.dirichlet([1] * len(classes), rows).astype(np.float32)
    truth = random.integers(len(classes), size=rows)
    return Predictions(classes, truth, proba, np.full(rows, fold), np.arange(rows))


def test_predictions_of_folds_are_merged_and_a_fold_is_replaced(tmp_path: Path) -> None:
    assert load_predictions(tmp_path, key(result())) is None
    for fold, seed in (("1", 0), ("10", 1), ("1", 2)):
        save_predictions(tmp_path, key(result(fold)), predictions(fold, seed=seed))
    found = load_predictions(tmp_path, key(result()))
    assert found is not None
    assert found.folds.tolist() == ["10"] * 4 + ["1"] * 4
    np.testing.assert_array_equal(
        found.proba, np.concatenate([predictions("10", seed=1).proba, predictions("1", seed=2).proba])
    )
    assert not found.multilabel
    assert load_predictions(tmp_path, key(result(seed=1))) is None
    save_predictions(tmp_path, key(result()), predictions("1", classes=("a", "b", "c")))
    newest = load_predictions(tmp_path, key(result()))
    assert newest is not None
    assert newest.classes == ("a", "b", "c")
    assert set(newest.folds) == {"1"}, "rows of other classes were mixed in"


def test_maps_with_any_names_round_trip(tmp_path: Path) -> None:
    picture = Map(np.eye(3, 2, dtype=np.float32), np.array(["a/b", "<&>", "🦜"]), ("PC 1", "PC 2"))
    save_map(tmp_path, "../esc", "m L0.mean", picture)
    ((name, found),) = load_maps(tmp_path).items()
    assert name == ("../esc", "m L0.mean")
    assert found.labels.tolist() == picture.labels.tolist()
    assert found.axes == picture.axes
    np.testing.assert_array_equal(found.points, picture.points)


def test_damaged_artifact_names_its_file(tmp_path: Path) -> None:
    save_predictions(tmp_path, key(result()), predictions("1"))
    save_map(tmp_path, "t", "v", Map(np.zeros((3, 2), np.float32), np.array(["a"] * 3), ("x", "y")))
    note_run(tmp_path, command="c")
    cases: dict[Path, Callable[[], object]] = {
        predictions_file(tmp_path, key(result())): lambda: load_predictions(tmp_path, key(result())),
        map_file(tmp_path, "t", "v"): lambda: load_maps(tmp_path),
        tmp_path / "about.json": lambda: read_about(tmp_path),
    }
    for file, load in cases.items():
        whole = file.read_bytes()
        for damaged in (b"", b"PK", whole[: len(whole) // 2], b"x" * 100, b"[]"):
            file.write_bytes(damaged)
            with pytest.raises(UsageError, match=file.name):
                load()


def test_run_information_is_merged(tmp_path: Path) -> None:
    note_run(tmp_path, command="first", tasks={"a": {"protocol": "p"}}, recipes={"f1": {"layers": [0]}})
    note_run(tmp_path, command="second", versions={"numpy": "2"}, tasks={"b": {}})
    note_run(tmp_path, command="first")
    about = read_about(tmp_path)
    assert about["commands"] == ["second", "first"]
    assert set(about["tasks"]) == {"a", "b"}
    assert about["versions"] == {"numpy": "2"}
    assert json.loads((tmp_path / "about.json").read_text()) == about


def test_replacing_a_result_keeps_other_fields(tmp_path: Path) -> None:
    row = replace(result(), C=0.1, seconds=1.5, recipe="ab", embedx="0.1.0", d_prime=2.0, duplicates=3)
    extend_table(tmp_path, [row])
    assert read_table(tmp_path) == [row]
    with open(tmp_path / FILE, newline="") as handle:
        assert len(list(csv.reader(handle))) == 2
