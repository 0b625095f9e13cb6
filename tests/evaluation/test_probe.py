import numpy as np
import pytest

import embedx
from embedx.errors import UsageError
from tests.helpers.collections import DIM, Make, clusters


def test_probe_of_separable_classes_is_perfect_and_noise_is_at_chance(make: Make) -> None:
    x, labels = clusters(200, 4, spread=0.3)
    report = make(x, labels).probe()
    assert report.accuracy == report.neighbour == report.balanced_accuracy == 1.0
    assert report.metrics.better_than_chance
    assert (report.rows, report.classes, report.majority) == (200, 4, 0.25)
    assert report.chance == pytest.approx(0.25, abs=0.03)
    noise = np.random.default_rng(1).standard_normal((400, DIM)).astype(np.float32)
    report = make(noise, [f"c{i % 4}" for i in range(400)]).probe()
    assert report.accuracy == pytest.approx(0.25, abs=0.08)
    assert not report.metrics.better_than_chance
    assert "NOT shown to be better than chance (p = " in str(report).splitlines()[0]


def leaky() -> tuple[np.ndarray, list[str | None], list[str]]:
    """Return data in which recordings can be recognised and labels cannot: a leaky split would score 1."""
    random = np.random.default_rng(0)
    recordings = 5 * random.standard_normal((40, DIM))
    of = np.repeat(np.arange(40), 5)
    x = (recordings[of] + 0.1 * random.standard_normal((200, DIM))).astype(np.float32)
    labels = [f"c{i}" for i in random.permutation(np.arange(40) % 2)]
    return x, [labels[i] for i in of], [f"/{i}.wav" for i in of]


def test_windows_of_one_recording_stay_on_one_side(make: Make) -> None:
    x, labels, paths = leaky()
    report = make(x, labels, paths).probe()
    assert report.split == "recording, stratified"
    assert report.accuracy < 0.75
    assert report.neighbour < 0.75


def test_rows_of_one_group_stay_on_one_side(make: Make) -> None:
    x, labels, paths = leaky()
    by_column = make(x, labels, speaker=paths).probe(group="speaker")
    by_default = make(x, labels, group=paths).probe()
    assert by_column.accuracy == by_default.accuracy < 0.75
    assert "'group'" in by_default.split


def test_folds_that_split_recording_or_group_are_refused(make: Make) -> None:
    x, labels, paths = leaky()
    folds: list[object] = [i % 5 for i in range(200)]
    with pytest.raises(UsageError, match="would split one recording or group"):
        make(x, labels, paths, fold=folds).probe()
    with pytest.raises(UsageError, match="would split one recording or group"):
        make(x, labels, group=paths, part=folds).probe(folds="part")


def test_official_folds_are_used_and_equal_scikit_learn(make: Make) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, labels = clusters(300, 3, spread=2.0)
    folds = np.random.default_rng(0).integers(1, 11, 300)
    report = make(x, labels, fold=folds.tolist()).probe(C=0.1)
    y = np.array(labels, dtype=str)
    assert [fold.name for fold in report.folds] == [str(i) for i in range(1, 11)]
    for fold in report.folds:
        test = folds == int(fold.name)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000)).fit(x[~test], y[~test])
        assert fold.accuracy == pytest.approx(model.score(x[test], y[test]))
        assert fold.rows == test.sum()


def test_rows_without_label_are_left_out_and_counted(make: Make) -> None:
    x, labels = clusters(60, 2, spread=0.1)
    labels[:7] = [None] * 7
    report = make(x, labels).probe()
    assert (report.rows, report.unlabelled) == (53, 7)
    assert "Left out: 7 rows without a label" in str(report)


def test_probe_by_metadata_column_and_filter_works(make: Make) -> None:
    x, labels = clusters(120, 3, spread=0.1)
    collection = make(x, [None] * 120, kind=list(labels), n=list(range(120)))
    report = collection.probe("kind", where="n < 90 AND kind <> 'c2'")
    assert (report.rows, report.classes) == (60, 2)


def test_probe_of_unusable_data_is_refused(make: Make) -> None:
    x, labels = clusters(20, 2, spread=0.1)
    cases: list[tuple[embedx.Collection, dict[str, object], str]] = [
        (make(x, [None] * 20), {}, "No row has a value in the column 'label'"),
        (make(x, ["dog"] * 20), {}, "At least two classes are needed; the column 'label' has 1"),
        (make(x, labels), {"label": "species"}, "Columns: label, group, split"),
        (make(x, labels), {"folds": "nothing"}, "nothing"),
        (make(x, labels, ["/a.wav"] * 20), {}, "one recording or group"),
        (make(x, labels, fold=[1] * 20), {}, "only one value"),
        (make(x, labels, fold=[1 if label == "c0" else 2 for label in labels]), {}, "fewer than two classes"),
        (make(np.tile(x, (2, 1)), ["a", "b", "c", "d"] * 10), {"folds": "label"}, "No test row has a class"),
        (make(np.tile(x, (2, 1)), ["a", "b"] * 20), {"folds": "label"}, r"fewer than two classes.*Choose a column"),
        (make(x, labels), {"C": 0.0}, "C of logistic must be a number above 0"),
        (make(x, labels), {"view": "L9.mean"}, "L0.mean"),
    ]
    for collection, options, message in cases:
        with pytest.raises(UsageError, match=message):
            collection.probe(**options)  # type: ignore[arg-type]


def test_leaky_split_on_request_scores_too_high_and_warns(make: Make) -> None:
    x, labels, paths = leaky()
    collection = make(x, labels, paths)
    report = collection.probe(leaky=True)
    assert report.accuracy > collection.probe().accuracy + 0.2
    assert report.to_dict()["leaky"] is True
    assert "LEAKY" in str(report)


def test_unbalanced_noise_is_not_better_than_majority(make: Make) -> None:
    noise = np.random.default_rng(1).standard_normal((400, DIM)).astype(np.float32)
    report = make(noise, ["c0" if i % 9 < 7 else "c1" for i in range(400)]).probe()
    assert report.accuracy > 0.7  # it looks like something
    assert report.majority == pytest.approx(0.78, abs=0.01)
    assert report.balanced_accuracy == pytest.approx(0.5, abs=0.06)
    assert not report.metrics.better_than_chance
    assert "NOT shown to be better" in str(report)
    line = next(line for line in str(report).splitlines() if line.startswith("accuracy"))
    assert line.split()[4] == f"{report.majority:.4f}"


def test_duplicates_across_split_and_classes_are_counted_and_named(make: Make) -> None:
    x, labels = clusters(100, 2, spread=1.0)
    x[50], labels[50] = x[0], "c1"  # the same sound as row 1, under another label and in another fold
    x[61], labels[61] = x[11] + 1e-3, labels[11]
    folds: list[object] = [i // 50 for i in range(100)]
    report = make(x, labels, fold=folds).probe()
    assert (report.overlap.exact, report.overlap.near, report.overlap.conflicts) == (2, 2, 2)
    first = report.overlap.pairs[0]
    assert {first.id, first.like_id} == {1, 51}
    assert {first.label, first.like_label} == {"c0", "c1"}
    assert "4 test rows and a training row look alike (2 exact, 2 near), 2 of them with another label" in str(report)
    assert "only the vectors" in str(report), "imported vectors have no audio"
    pairs = [frozenset((pair.id, pair.like_id)) for pair in report.overlap.pairs]
    assert len(pairs) == len(set(pairs)) == 2, "each pair is listed once, not in both directions"
    assert make(*clusters(100, 2, spread=1.0)).probe().overlap.rows == 0


def test_of_many_test_rows_a_sample_is_compared_with_all_training_rows(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, labels = clusters(100, 2, spread=1.0)
    x[51:91], labels[51:91] = x[1:41] + 1e-3, labels[1:41]  # near copies across the folds
    x[50], labels[50] = x[0], labels[0]  # an exact one
    collection = make(x, labels, fold=[i // 50 for i in range(100)])
    whole = collection.probe(permutations=0)
    assert whole.overlap.sampled is None
    monkeypatch.setattr("embedx.evaluation.leakage.MAX_COMPARED", 20)
    monkeypatch.setattr("embedx.evaluation.probe.MAX_QUERIES", 30)
    monkeypatch.setattr("embedx.copies.finder.MAX_SCORES", 200)  # blocks of 4 rows
    sampled = collection.probe(permutations=0)
    assert sampled.overlap.exact == whole.overlap.exact == 2
    assert 0 < sampled.overlap.near <= 20 < whole.overlap.near
    assert sampled.overlap.to_dict()["sampled"] == 20
    assert "near copies were looked for in a sample of 20 test rows" in str(sampled)
    assert {pair.id for pair in sampled.overlap.pairs} <= set(range(1, 101))
    assert sampled.retrieval["queries"].value == 30
    assert sampled.retrieval["p@1"].value == pytest.approx(whole.retrieval["p@1"].value, abs=0.3)
    assert sampled.accuracy == whole.accuracy


def test_official_test_part_alone_is_scored(make: Make) -> None:
    x, labels = clusters(200, 4, spread=1.0)
    parts = ["train"] * 120 + ["validation"] * 40 + ["test"] * 40
    report = make(x, labels, stage=list(parts)).probe(split="stage")
    assert report.rows == 40
    assert report.split == "the column 'stage'"
    assert [fold.name for fold in report.folds] == ["test"]
    assert report.retrieval["queries"].value == 40


def test_probe_of_multilabel_rows_works(make: Make) -> None:
    random = np.random.default_rng(0)
    y = random.random((100, 3)) < 0.4
    x = np.concatenate([3 * y + 0.5 * random.standard_normal((100, 3)), random.standard_normal((100, DIM - 3))], axis=1)
    names = [";".join(name for name, yes in zip("abc", row, strict=True) if yes) or ";" for row in y]
    report = make(x.astype(np.float32), list(names)).probe(separator=";")
    assert report.metrics.multilabel
    assert report.balanced_accuracy > 0.98  # mean area under the ROC curve
    assert report.accuracy > 0.85  # all three labels right
    columns: dict[str, list[object]] = {name: [bool(one) for one in y[:, i]] for i, name in enumerate("abc")}
    by_columns = make(x.astype(np.float32), [None] * 100, **columns).probe(["a", "b", "c"])
    assert by_columns.metrics.figures["macro_auc"] == report.metrics.figures["macro_auc"]


def test_probe_of_one_class_against_unlabelled_rows_works(make: Make) -> None:
    x, labels = clusters(200, 4, spread=0.5)
    labels = [label if label == "c0" else None for label in labels]
    collection = make(x, labels)
    with pytest.raises(UsageError, match="weak_negatives"):
        collection.probe()
    assert collection.probe(weak_negatives=0.1).balanced_accuracy > 0.99


@pytest.mark.parametrize("kind", ["knn", "prototype", pytest.param("mlp", marks=pytest.mark.long)])
def test_probe_with_other_head_uses_same_rows(make: Make, kind: str) -> None:
    x, labels = clusters(120, 3, spread=0.3)
    report = make(x, labels).probe(kind=kind)
    assert report.kind == kind
    assert report.accuracy > 0.95


def test_sweep_of_views_equals_probe_of_each(made_of_layers: embedx.Collection) -> None:
    scores = made_of_layers.sweep(group="source", view=["L0.*", "L3.mean"])
    assert [one.view for one in scores] == ["L0.mean", "L0.max", "L3.mean"]
    for one in scores:
        C = set(one.C)
        if len(C) == 1:  # the same for every part: then one probe with that C says the same
            probed = made_of_layers.probe(group="source", view=one.view, C=C.pop())
            assert one.accuracy == pytest.approx(probed.metrics.spread["accuracy"][0], abs=0.02)
    fixed = made_of_layers.sweep(group="source", view="L1.mean", Cs=[0.1])
    probed = made_of_layers.probe(group="source", view="L1.mean", C=0.1)
    assert fixed[0].C == (0.1,) * 5
    assert fixed[0].accuracy == pytest.approx(probed.metrics.spread["accuracy"][0], abs=0.026)  # a row of 40
    assert list(fixed.to_pandas()["view"]) == ["L1.mean"]
    assert "L1.mean" in str(fixed)
    with pytest.raises(UsageError, match=r"no view 'L9\.\*'"):
        made_of_layers.sweep(view="L9.*")
