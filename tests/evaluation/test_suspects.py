"""Planted errors in labels are found, with few false alarms."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import embedx
from embedx.errors import UsageError
from embedx.evaluation import suspects
from embedx.evaluation.cross_validation import Experiment


def planted(out: Path, seed: int, noise: float, share: float = 0.05) -> tuple[embedx.Collection, set[int]]:
    """Return a collection of 5 classes in 60 groups with some wrong labels, and the ids of these rows."""
    random = np.random.default_rng(seed)
    rows, classes = 600, 5
    groups = np.arange(rows) % 60
    centres, of_group = random.standard_normal((classes, 24)), 0.3 * random.standard_normal((60, 24))
    y = random.integers(0, classes, rows)
    x = centres[y] + of_group[groups] + noise * random.standard_normal((rows, 24))
    wrong = random.random(rows) < share
    labels = np.where(wrong, (y + random.integers(1, classes, rows)) % classes, y)
    table = pd.DataFrame(
        {"path": [f"{i}.wav" for i in range(rows)], "label": [f"c{i}" for i in labels], "group": groups}
    )
    table["wrong"] = wrong.astype(int)
    collection = embedx.import_vectors(x.astype(np.float32), out=out, metadata=table, label="label", group="group")
    return collection, set(collection.rows("wrong = 1").index)


@pytest.mark.parametrize("others", [None, pytest.param(120, id="sample")])
@pytest.mark.parametrize(
    ("noise", "precision", "recall"),
    [(0.5, 0.95, 0.85), pytest.param(1.0, 0.9, 0.8, marks=pytest.mark.long)],
)
def test_planted_errors_are_found(
    noise: float, precision: float, recall: float, others: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if others:  # the limits of a large collection, of whose training rows a fourth are in the sample
        monkeypatch.setattr(suspects, "MAX_ROWS", 100)
        monkeypatch.setattr(suspects, "MAX_OTHERS", others)
    found, right, errors = 0, 0, 0
    for seed in range(2):
        collection, wrong = planted(tmp_path / str(seed), seed, noise)
        with collection:
            report = collection.probe(permutations=0, suspect_labels=True, C=0.1)
        assert report.suspects is not None
        ids = {suspect.id for suspect in report.suspects}
        found, right, errors = found + len(ids), right + len(ids & wrong), errors + len(wrong)
        assert all(suspect.label != suspect.suggested for suspect in report.suspects)
        assert f"Suspect labels: {len(ids)} rows" in report.text()
        assert report.suspects_among == report.to_dict()["suspects_among"] == others
        assert ("among a sample of 120 rows of each training part" in report.text()) == bool(others)
    assert right / found >= precision and right / errors >= recall


def test_clean_labels_have_hardly_a_suspect(tmp_path: Path) -> None:
    collection, _ = planted(tmp_path / "c", 7, noise=0.5, share=0.0)
    with collection:
        report = collection.probe(permutations=0, suspect_labels=True, C=0.1)
        assert report.suspects is not None and len(report.suspects) <= 3
        assert collection.probe(permutations=0, C=0.1).suspects is None


def test_several_labels_per_row_are_refused(collection: embedx.Collection) -> None:
    with pytest.raises(UsageError, match="one class per row"):
        collection.probe(separator=";", suspect_labels=True)


def test_only_rows_that_the_head_contradicts_are_compared_if_there_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection, _ = planted(tmp_path / "c", 0, 0.5)
    counts: list[int] = []
    look = suspects.neighbours_against

    def counted(experiment: Experiment, asked: NDArray[np.bool_]) -> NDArray[np.float64]:
        counts.append(int(asked.sum()))
        return look(experiment, asked)

    monkeypatch.setattr(suspects, "neighbours_against", counted)
    with collection:
        everything = collection.probe(permutations=0, suspect_labels=True, C=0.1).suspects
        monkeypatch.setattr(suspects, "MAX_ROWS", 599)
        assert collection.probe(permutations=0, suspect_labels=True, C=0.1).suspects == everything
    assert everything is not None
    assert counts[0] == 600
    assert len(everything) <= counts[1] < 90
