"""Heads of a collection: fitting, scores, files, comparison with the previous head, prediction."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import embedx
from embedx.cli import run
from embedx.errors import RecipeMismatch, StoreError, UsageError
from embedx.heads.head import Head
from embedx.store.records import Row
from embedx.store.store import Store
from embedx.training import active_learning
from tests.helpers.collections import DIM, Make, clusters


def test_head_equals_scikit_learn_on_all_rows_and_folds(make: Make) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, labels = clusters(300, 4, spread=2.0)
    collection = make(x, labels, fold=[i % 5 // 1 for i in np.random.default_rng(0).integers(0, 5, 300).tolist()])
    trained = collection.fit_head(C=0.1)
    y = np.array(labels, dtype=str)
    by_hand = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000)).fit(x, y)
    assert trained.classes == tuple(by_hand.classes_)
    assert np.abs(trained.predict_proba(x) - by_hand.predict_proba(x)).max() < 1e-5
    report = collection.probe(C=0.1)
    assert trained.report is not None
    assert trained.report.figures["accuracy"] == report.metrics.figures["accuracy"]
    assert report.accuracy < np.mean(by_hand.predict(x) == y)  # held out, not fitted
    again = collection.head("label-logistic")
    assert np.array_equal(again.predict_proba(x), trained.predict_proba(x))
    assert again.metrics["held_out"]["figures"]["accuracy"]["value"] == report.accuracy
    assert again.settings["training"]["rows"] == [[1, 300]]


def test_head_predicts_with_numpy_alone(make: Make, tmp_path: Path) -> None:
    x, labels = clusters(240, 4, spread=3.0)
    collection = make(x, labels)
    trained = collection.fit_head(C=1000.0)
    np.save(tmp_path / "x.npy", x)
    code = """
import sys
class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("numpy", "embedx"):
            raise ImportError(f"{name} is not on this machine")
sys.meta_path.insert(0, Only())
import numpy as np
from embedx.heads import Head
head = Head.load(sys.argv[1])
np.save(sys.argv[3], head.predict_proba(np.load(sys.argv[2]), calibrated=True))
"""
    subprocess.run(
        [sys.executable, "-c", code, str(trained.folder), str(tmp_path / "x.npy"), str(tmp_path / "p.npy")], check=True
    )
    assert np.array_equal(np.load(tmp_path / "p.npy"), trained.predict_proba(x, calibrated=True))


def test_test_part_is_never_used_for_training(make: Make) -> None:
    x, labels = clusters(200, 2, spread=1.0)
    parts = ["train"] * 100 + ["validation"] * 40 + ["test"] * 60
    first = make(x, labels, stage=list(parts)).fit_head(split="stage", C=1.0)
    x[140:] += 100.0  # the tested rows move; what was learned does not
    second = make(x, labels, stage=list(parts)).fit_head(split="stage", C=1.0)
    assert first.settings["training"]["rows"] == [[1, 140]]
    assert first.metrics["calibration"] == second.metrics["calibration"]
    assert first.arrays.keys() == second.arrays.keys()
    for name, array in first.arrays.items():
        assert np.array_equal(array, second.arrays[name], equal_nan=True)
    assert first.report is not None
    assert first.report.rows == 60


@pytest.mark.long
def test_calibration_lowers_error_on_new_rows(make: Make) -> None:
    x, labels = clusters(240, 6, spread=4.0)  # few rows and hardly a penalty: far too sure of itself
    for method in ("temperature", "isotonic"):
        noted = make(x, labels).fit_head(C=1000.0, calibration=method).metrics
        assert noted["calibration"]["after"]["ece"] < noted["calibration"]["before"]["ece"]
        assert noted["calibration"]["after"]["log_loss"] < noted["calibration"]["before"]["log_loss"]
        assert sum(bar["rows"] for bar in noted["reliability"]["after"]) == 240
    plain = make(x, labels).fit_head(calibration="none")
    assert not plain.calibrated
    with pytest.raises(UsageError, match="not calibrated"):
        plain.predict_proba(x, calibrated=True)


@pytest.mark.long
def test_label_gain_is_measured_on_the_same_test_rows(make: Make) -> None:
    x, labels = clusters(300, 6, spread=2.5)
    collection = make(x, labels)
    assert collection.fit_head(where="id <= 40", C=0.1).gain is None  # nothing to compare with
    assert collection.fit_head(where="id <= 40", C=0.1).gain is None  # nothing was added
    gain = collection.fit_head(C=0.1).gain
    assert gain is not None
    assert (gain.rows_before, gain.rows_after) == (40, 300)
    assert gain.after > gain.before + 0.1
    assert 0 < gain.low < gain.after - gain.before < gain.high
    assert gain.after == pytest.approx(collection.probe(C=0.1).accuracy)


@pytest.mark.parametrize("groups", [6, 30])
def test_label_gain_says_that_its_interval_is_rough_where_groups_are_few(make: Make, groups: int) -> None:
    x, labels = clusters(120, 2, spread=1.0)
    collection = make(x, labels, group=[f"site {i // 2 % groups}" for i in range(120)])
    assert collection.fit_head(where="id <= 60", kind="prototype", calibration="none", permutations=0).gain is None
    gain = collection.fit_head(kind="prototype", calibration="none", permutations=0).gain
    assert gain is not None
    assert gain.groups == groups
    assert ("of only 6 groups" in str(gain)) == (groups == 6)


def test_one_example_per_class_is_enough_for_prototypes(make: Make) -> None:
    x, labels = clusters(3, 3, spread=0.1)
    trained = make(x, labels).fit_head(kind="prototype")
    assert trained.report is None
    assert "Not scored" in str(trained)
    assert trained.predict(x).tolist() == labels


def test_head_on_vectors_of_another_recipe_is_refused(make: Make, collection: embedx.Collection) -> None:
    x, labels = clusters(60, 3, spread=0.5)
    head = make(x, labels).fit_head()
    with pytest.raises(RecipeMismatch, match="weights: '00' for the head"):
        collection.predict(head=head)


def test_damaged_head_is_named(make: Make) -> None:
    x, labels = clusters(60, 3, spread=0.5)
    collection = make(x, labels)
    folder = collection.fit_head().folder
    (file,) = folder.glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match=r"safetensors is damaged"):
        collection.head()


def test_weighted_layers_use_all_layers_and_other_kinds_one(make: Make) -> None:
    x, labels = clusters(60, 3, spread=0.5)
    with pytest.raises(UsageError, match=r"no view 'L7\.mean'"):
        make(x, labels).fit_head(view="L7.mean")
    with pytest.raises(UsageError, match="needs two views or more"):
        make(x, labels).fit_head(kind="weighted-layers")
    with pytest.raises(UsageError, match="Unknown kind of head 'forest'"):
        make(x, labels).fit_head(kind="forest")
    with pytest.raises(UsageError, match="logistic has no setting 'hidden'"):
        make(x, labels).fit_head(hidden=3)
    with pytest.raises(UsageError, match="not allowed as the name of a head"):
        make(x, labels).fit_head(name="../escape")


# -- predictions ---------------------------------------------------------------------------------------------------


def test_prediction_of_rows_equals_prediction_of_files(made: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(made, tmp_path / "c")
    with embedx.open(tmp_path / "c") as collection:
        collection.fit_head("label")
        stored = collection.predict(k=4)
        paths = [one.path for one in stored]
        heard = collection.predict(paths, k=4)
        assert [one.path for one in heard] == paths
        assert np.abs(heard.proba - stored.proba).max() < 1e-4
        assert [one.labels for one in heard] == [one.labels for one in stored]
        frame = stored.to_pandas()
        assert list(frame) == ["id", "path", "start_s", "end_s", "label"] + [
            f"{name}{rank}" for rank in (1, 2, 3, 4) for name in ("top", "probability")
        ]
        assert (frame["label"] == frame["top1"]).all()
        assert np.allclose(stored.proba.sum(axis=1), 1)
        with pytest.raises(UsageError, match="cannot be combined with audio"):
            collection.predict(paths, where="id = 1")


def test_predictions_are_aggregated_per_recording(make: Make) -> None:
    x, labels = clusters(60, 3, spread=0.5)
    paths = [f"/{i % 3}-{i // 6}.wav" for i in range(60)]
    collection = make(x, labels, paths)
    collection.fit_head()
    windows = collection.predict()
    for aggregate, combine in (("mean", np.mean), ("max", np.max)):
        merged = collection.predict(per="recording", aggregate=aggregate)
        assert [one.path for one in merged] == list(dict.fromkeys(paths))
        for one, scores in zip(merged, merged.proba, strict=True):
            mine = [i for i, window in enumerate(windows) if window.path == one.path]
            assert scores == pytest.approx(combine(windows.proba[mine], axis=0))


@pytest.mark.long  # tests/heads/test_calibration.py compares thresholds with an exhaustive search
def test_thresholds_for_target_precision_hold_on_new_rows(make: Make) -> None:
    random = np.random.default_rng(5)
    centres = random.standard_normal((3, DIM))
    y = random.integers(0, 3, 3000)
    x = (centres[y] + 2.5 * random.standard_normal((3000, DIM))).astype(np.float32)
    labels: list[str | None] = [f"c{i}" if n < 1500 else None for n, i in enumerate(y)]
    collection = make(x, labels)
    collection.fit_head()
    new = collection.predict(where="label IS NULL")
    plain = np.mean([one.labels == (f"c{y[one.id - 1]}",) for one in new])  # type: ignore[operator]
    assert plain < 0.85
    sure = [one for one in collection.predict(where="label IS NULL", precision=0.95) if one.labels]
    assert 100 < len(sure) < 1500
    assert np.mean([one.labels == (f"c{y[one.id - 1]}",) for one in sure]) > 0.92  # type: ignore[operator]


def test_predict_with_bad_file_names_it_and_continues(made: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(made, tmp_path / "c")
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    with embedx.open(tmp_path / "c") as collection:
        collection.fit_head("label")
        good = collection.rows()["path"].iloc[0]
        predictions = collection.predict([tmp_path / "bad.wav", good])
        assert [one.path for one in predictions] == [good]
        assert "bad.wav" in predictions.failures[0].detail


# -- suggestions ---------------------------------------------------------------------------------------------------


def two_classes(make: Make) -> tuple[embedx.Collection, np.ndarray]:
    """Labels for the clear rows of two classes; 100 rows without one, from clear to undecided."""
    random = np.random.default_rng(0)
    along = np.concatenate([np.repeat([-3.0, 3.0], 40), np.linspace(-3, 3, 100)])
    x = np.zeros((180, DIM), np.float32)
    x[:, 0] = along
    x[:, 1:] = 0.3 * random.standard_normal((180, DIM - 1))
    labels: list[str | None] = [*["a"] * 40, *["b"] * 40, *[None] * 100]
    return make(x, labels, site=[f"s{i % 4}" for i in range(180)]), along


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of vectors that are read at a time, with low limits."""
    sizes: list[int] = []
    read = active_learning.read_vectors

    def count(store: Store, rows: Sequence[Row], view: str | Sequence[str]) -> NDArray[np.float32]:
        sizes.append(len(rows))
        return read(store, rows, view)

    monkeypatch.setattr(active_learning, "read_vectors", count)
    monkeypatch.setattr(active_learning, "BLOCK", 7)
    monkeypatch.setattr(active_learning, "MAX_CANDIDATES", 20)
    return sizes


def test_margin_and_uncertainty_suggest_undecided_rows(make: Make, counted: list[int]) -> None:
    collection, along = two_classes(make)
    collection.fit_head()
    for by in ("margin", "uncertainty"):
        counted.clear()
        found = collection.suggest(by=by, n=10)
        assert max(counted) <= 10
        assert all(one.id > 80 for one in found)
        assert max(abs(along[one.id - 1]) for one in found) < 1.0
    assert found.label == "label"
    clear = collection.suggest(by="band", of_class="a", score_band=(0.9, 1.0), n=100)
    assert clear
    assert all(along[one.id - 1] < 0 for one in clear)


def test_diverse_suggestions_are_far_from_labelled_rows_and_each_other(make: Make) -> None:
    random = np.random.default_rng(0)
    corners = np.eye(DIM)[:6]
    of = np.repeat(np.arange(6), 20)
    x = (corners[of] + 0.02 * random.standard_normal((120, DIM))).astype(np.float32)
    labels: list[str | None] = ["known" if i == 0 else None for i in of]
    found = make(x, labels).suggest(by="diverse", n=5)
    assert sorted(of[one.id - 1] for one in found) == [1, 2, 3, 4, 5]
    assert all(one.suggested is None for one in found)


def test_suggestions_alternate_over_a_column(make: Make) -> None:
    collection, _ = two_classes(make)
    collection.fit_head()
    sites = collection.rows()["site"]
    for by in ("margin", "diverse", "random"):
        chosen = [sites[one.id] for one in collection.suggest(by=by, n=8, stratify="site")]
        assert sorted(chosen) == ["s0", "s0", "s1", "s1", "s2", "s2", "s3", "s3"]


def test_diverse_suggestions_come_from_a_sample_of_many_rows(make: Make, counted: list[int]) -> None:
    x = np.random.default_rng(0).standard_normal((120, DIM)).astype(np.float32)
    labels = [*["known"] * 30, *[None] * 90]
    collection = make(x, labels, site=["rare" if i % 30 == 0 else "common" for i in range(120)])
    sites = collection.rows()["site"]
    chosen = [sites[one.id] for one in collection.suggest(by="diverse", n=20, stratify="site")]
    assert sorted(chosen) == ["common"] * 17 + ["rare"] * 3
    assert max(counted) <= 20


@pytest.mark.long
def test_suggestions_labelled_give_a_better_head(make: Make, tmp_path: Path) -> None:
    x, labels = clusters(400, 5, spread=2.0)
    known: list[str | None] = [label if i < 30 else None for i, label in enumerate(labels)]
    collection = make(x, known)
    collection.fit_head(name="birds")
    import pandas as pd

    table = pd.DataFrame(collection.suggest(by="margin", n=100).columns())
    assert table["label"].isna().all()
    table["label"] = [labels[i - 1] for i in table["id"]]
    table.to_csv(tmp_path / "next.csv", index=False)
    assert collection.label(tmp_path / "next.csv").rows == 100
    assert not [name for name in collection.store.columns if name.startswith("_")]
    gain = collection.fit_head(name="birds").gain
    assert gain is not None
    assert (gain.rows_before, gain.rows_after) == (30, 130)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"by": "magic"}, "by must be one of margin"),
        ({"n": 0}, "n must be 1 or more"),
        ({"by": "band"}, "requires score_band"),
        ({"by": "band", "score_band": (0.9, 0.1)}, "the lower one first"),
        ({"of_class": "z"}, "no class 'z'"),
        ({"head": "other"}, "no head 'other'"),
    ],
)
def test_invalid_suggest_options_are_refused(make: Make, options: dict[str, object], message: str) -> None:
    collection, _ = two_classes(make)
    collection.fit_head(C=1.0, calibration="none", permutations=0)
    with pytest.raises(UsageError, match=message):
        collection.suggest(**options)  # type: ignore[arg-type]


def test_head_json_is_valid_json(make: Make) -> None:
    x, labels = clusters(60, 3, spread=0.5)
    trained = make(x, labels).fit_head()
    said = json.loads(json.dumps(trained.to_dict(), allow_nan=False))
    assert said["classes"] == ["c0", "c1", "c2"]
    assert isinstance(trained, Head)


def test_head_that_is_replaced_learns_its_column_again(make: Make) -> None:
    x, species = clusters(60, 3, spread=0.1)
    collection = make(x, ["folder"] * 30 + ["other"] * 30, species=[f"{name};all" for name in species])
    first = collection.fit_head("species", name="birds", separator=";", kind="prototype")
    assert first.multilabel
    again = collection.fit_head(name="birds", kind="prototype")
    assert again.classes == first.classes
    assert again.settings["training"]["separator"] == ";"
    assert collection.fit_head("label", name="birds", kind="prototype").classes == ("folder", "other")
    assert collection.fit_head(name="new", kind="prototype").classes == ("folder", "other")
    assert run(["train", str(collection.folder), "--name", "birds", "--kind", "prototype"]) == 0
    assert collection.head("birds").settings["training"]["label"] == "label"
