from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import embedx
from embedx.errors import UsageError
from embedx.probe import never_split, split_rows
from embedx.recipe import Recipe
from embedx.store import Recording, Row, Store

DIM = 20
Make = Callable[..., embedx.Collection]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a collection out of vectors, labels and metadata; one recording per `path` (default: per row)."""

    def build(
        x: np.ndarray, labels: list[str | None], paths: list[str] | None = None, **columns: list[object]
    ) -> embedx.Collection:
        recipe = Recipe("logmel", "", "00", 16_000, (0,), ("mean",))
        groups = columns.pop("group", [None] * len(x))
        with Store.create(tmp_path / f"c{len(list(tmp_path.iterdir()))}", recipe, DIM) as store:
            rows = [
                Row(
                    i + 1, (paths or [f"/{i}.wav" for i in range(len(x))])[i], 0.0, 1.0, labels[i],
                    groups[i], None, (), {name: values[i] for name, values in columns.items()},  # type: ignore[arg-type]
                )
                for i in range(len(x))
            ]  # fmt: skip
            batch = [
                (Recording(path, 1, 1, "[]"), [(row, {"L0.mean": x[row.id - 1]}) for row in rows if row.path == path])
                for path in dict.fromkeys(row.path for row in rows)
            ]
            store.add(batch, store.start_run({}))
            return embedx.open(store.folder)

    return build


def clusters(n: int, classes: int, spread: float, seed: int = 0) -> tuple[np.ndarray, list[str | None]]:
    random = np.random.default_rng(seed)
    centres = random.standard_normal((classes, DIM))
    y = np.arange(n) % classes
    return (centres[y] + spread * random.standard_normal((n, DIM))).astype(np.float32), [f"c{i}" for i in y]


def test_what_can_be_told_apart_is_and_noise_is_at_chance(make: Make) -> None:
    x, labels = clusters(200, 4, spread=0.3)
    report = make(x, labels).probe()
    assert report.accuracy == report.neighbour == report.balanced_accuracy == 1.0
    assert (report.rows, report.classes, report.chance, report.majority) == (200, 4, 0.25, 0.25)
    noise = np.random.default_rng(1).standard_normal((400, DIM)).astype(np.float32)
    assert make(noise, [f"c{i % 4}" for i in range(400)]).probe().accuracy == pytest.approx(0.25, abs=0.08)


def leaky() -> tuple[np.ndarray, list[str | None], list[str]]:
    """Every recording is recognisable, its label is not: windows on both sides of a split would score 1."""
    random = np.random.default_rng(0)
    recordings = 5 * random.standard_normal((40, DIM))
    of = np.repeat(np.arange(40), 5)
    x = (recordings[of] + 0.1 * random.standard_normal((200, DIM))).astype(np.float32)
    labels = [f"c{i}" for i in random.permutation(np.arange(40) % 2)]
    return x, [labels[i] for i in of], [f"/{i}.wav" for i in of]


def test_windows_of_one_recording_are_never_on_both_sides(make: Make) -> None:
    x, labels, paths = leaky()
    report = make(x, labels, paths).probe()
    assert report.split == "recording, stratified"
    assert report.accuracy < 0.75
    assert report.neighbour < 0.75


def test_groups_are_never_on_both_sides(make: Make) -> None:
    x, labels, paths = leaky()
    by_column = make(x, labels, speaker=paths).probe(group="speaker")
    by_default = make(x, labels, group=paths).probe()
    assert by_column.accuracy == by_default.accuracy < 0.75
    assert "'group'" in by_default.split


def test_folds_that_split_a_recording_or_a_group_are_refused(make: Make) -> None:
    x, labels, paths = leaky()
    folds: list[object] = [i % 5 for i in range(200)]
    with pytest.raises(UsageError, match="several folds"):
        make(x, labels, paths, fold=folds).probe()
    with pytest.raises(UsageError, match="several folds"):
        make(x, labels, group=paths, part=folds).probe(folds="part")


def test_official_folds_are_taken_and_equal_scikit_learn_by_hand(make: Make) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, labels = clusters(300, 3, spread=2.0)
    folds = np.random.default_rng(0).integers(1, 11, 300)
    report = make(x, labels, fold=folds.tolist()).probe()
    y = np.array(labels, dtype=str)
    assert [fold.name for fold in report.folds] == [str(i) for i in range(1, 11)]
    for fold in report.folds:
        test = folds == int(fold.name)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000)).fit(x[~test], y[~test])
        assert fold.accuracy == pytest.approx(model.score(x[test], y[test]))
        assert fold.rows == test.sum()
    assert report.accuracy == pytest.approx(np.mean([fold.accuracy for fold in report.folds]))


def test_rows_without_a_label_are_left_out_and_counted(make: Make) -> None:
    x, labels = clusters(60, 2, spread=0.1)
    labels[:7] = [None] * 7
    report = make(x, labels).probe()
    assert (report.rows, report.unlabelled) == (53, 7)
    assert "7 rows without a label" in str(report)


def test_metadata_columns_and_filters(make: Make) -> None:
    x, labels = clusters(120, 3, spread=0.1)
    collection = make(x, [None] * 120, kind=list(labels), n=list(range(120)))
    report = collection.probe("kind", where="n < 90 AND kind <> 'c2'")
    assert (report.rows, report.classes) == (60, 2)


def test_what_cannot_be_probed_says_why(make: Make) -> None:
    x, labels = clusters(20, 2, spread=0.1)
    cases: list[tuple[embedx.Collection, dict[str, object], str]] = [
        (make(x, [None] * 20), {}, "No row has a 'label'"),
        (make(x, ["dog"] * 20), {}, "two classes or more; the column 'label' has 1"),
        (make(x, labels), {"label": "species"}, "Columns: label, group, split"),
        (make(x, labels), {"folds": "nothing"}, "nothing"),
        (make(x, labels, ["/a.wav"] * 20), {}, "one recording or group"),
        (make(x, labels, fold=[1] * 20), {}, "one value only"),
        (make(x, labels, fold=[1 if label == "c0" else 2 for label in labels]), {}, "fewer than two classes"),
        (make(x, labels), {"C": 0.0}, "C must be positive"),
        (make(x, labels), {"view": "L9.mean"}, "L0.mean"),
    ]
    for collection, options, message in cases:
        with pytest.raises(UsageError, match=message):
            collection.probe(**options)  # type: ignore[arg-type]


def test_groups_that_share_a_recording_stay_together() -> None:
    assert len(set(never_split(["a", "a", "b", "b", "c"], ["1", "2", "2", "3", "4"]).tolist())) == 2
    rows = [Row(i, f"/{i // 2}.wav", 0, 1, "x", None, None, (), {}) for i in range(20)]
    parts, _ = split_rows(rows, np.array(["a", "b"] * 10), None, None)
    assert all(parts[i] == parts[i + 1] for i in range(0, 20, 2))
