"""Altered copies for heads: of training rows only, in the group of their row, the same for the same seed."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import embedx
from embedx.cli import run
from embedx.errors import ModelError, UsageError
from embedx.evaluation.cross_validation import (
    Copies,
    Experiment,
    LabelledVectors,
    build_experiment,
    cross_fit,
    make_fit,
)
from embedx.evaluation.splits import SplitOptions, stratified
from embedx.evaluation.targets import LabelOptions, Targets
from embedx.heads.options import HeadOptions
from embedx.heads.training_data import make_examples
from embedx.training.altered_copies import CopyOptions, add_copies
from tests.helpers.collections import Make, clusters

WriteWav = Callable[..., Path]
CLASSES = ("low", "high")


@pytest.fixture
def sounds(tmp_path: Path, write_wav: WriteWav) -> Path:
    """Return a collection of twelve tones of 2 s, cut into windows of 1 s: six for training, two for validation."""
    lines, times = ["path,label,split"], np.arange(32_000) / 16_000
    for i in range(12):
        wave = 0.3 * np.sin(2 * np.pi * (300, 1200)[i % 2] * (1 + i / 50) * times)
        path = write_wav(f"wavs/{i}.wav", samples=wave.astype(np.float32))
        lines.append(f"{path},{CLASSES[i % 2]},{'train' if i < 6 else 'validation' if i < 8 else 'test'}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    embedx.extract(tmp_path / "table.csv", out=tmp_path / "index", model="logmel", window=1.0)
    return tmp_path / "index"


def experiment_of(collection: embedx.Collection, **split: str) -> Experiment:
    return build_experiment(collection.store, ["L0.mean"], LabelOptions(), SplitOptions(**split))  # type: ignore[arg-type]


def copies_of(collection: embedx.Collection, options: CopyOptions, seed: int = 0, **split: str) -> Copies:
    experiment = experiment_of(collection, **split)
    copies = add_copies(experiment, collection.store, collection._load_embedder, options, seed).copies
    assert copies is not None
    return copies


def test_only_training_rows_have_copies(sounds: Path) -> None:
    with embedx.open(sounds) as collection:
        experiment = experiment_of(collection, split="split")
        copies = copies_of(collection, CopyOptions(3), split="split")
        assert sorted(copies.of) == sorted(np.repeat(experiment.splits.parts[0].train, 3))
        assert {experiment.rows[i].split for i in copies.of} == {"train"}
        for i, x in zip(copies.of, copies.x, strict=True):
            assert not np.array_equal(x, experiment.x[i])
            assert np.linalg.norm(x - experiment.x[i]) < np.linalg.norm(x)


@pytest.mark.long
def test_copy_without_change_has_the_vector_of_its_row(sounds: Path, tmp_path: Path) -> None:
    """The samples are those that were embedded: the same window, channel and rate."""
    (tmp_path / "none.toml").write_text("[gain]\np = 1\nmin_db = 0\nmax_db = 0\n")
    with embedx.open(sounds) as collection:
        copies = copies_of(collection, CopyOptions(1, str(tmp_path / "none.toml")), group="path")
        assert len(copies.of) == 24
        np.testing.assert_allclose(copies.x, experiment_of(collection, group="path").x[copies.of], atol=1e-4)


@pytest.mark.long
def test_copies_depend_on_the_seed_alone(sounds: Path) -> None:
    with embedx.open(sounds) as collection:
        first, again, other = (copies_of(collection, CopyOptions(2), seed, split="split") for seed in (1, 1, 2))
        assert np.array_equal(first.x, again.x)
        assert not np.allclose(first.x, other.x, atol=1e-3)
        part = copies_of(collection, CopyOptions(1), 1, group="path")  # more rows, and fewer copies of each
        row = first.of[0]
        rows = [experiment_of(collection, split="split").rows[row].id, part.of.tolist()]
        position = [r.id for r in experiment_of(collection, group="path").rows].index(rows[0])
        np.testing.assert_allclose(part.x[part.of == position][0], first.x[first.of == row][0], atol=1e-4)


@pytest.mark.parametrize("kind", ["knn", pytest.param("logistic", marks=pytest.mark.long)])
def test_copy_of_a_test_row_is_not_trained_on(kind: str) -> None:
    """Vectors without information: with copies of test rows in training, the nearest row would be known."""
    random = np.random.default_rng(0)
    x = random.standard_normal((120, 40)).astype(np.float32)
    y = random.integers(0, 2, 120)
    targets = Targets(np.arange(120), CLASSES, y, False, np.ones(120, np.float32), 0, 0)
    copies = Copies(np.repeat(x, 3, axis=0), np.repeat(np.arange(120), 3))
    data = LabelledVectors(("L0.mean",), x, targets, stratified(y, np.arange(120) // 2, "pairs", 0), copies=copies)
    held_out = cross_fit(data, make_fit(data, HeadOptions(kind, settings={"k": 1} if kind == "knn" else {})))
    assert np.mean(held_out.logits.argmax(axis=1) == y[held_out.positions]) < 0.65
    learned = held_out.heads[0].settings["rows"]
    assert learned == 4 * len(data.splits.parts[0].train)


def test_choices_are_made_without_copies() -> None:
    random = np.random.default_rng(0)
    copies, groups = np.arange(60) >= 20, np.arange(60) % 20 // 2
    examples = make_examples(
        random.standard_normal((60, 3)), np.arange(60) % 2, CLASSES, multilabel=False, groups=groups, validation=None,
        sample_weight=None, class_weight=None, chain=(), seed=0, copies=copies,
    )  # fmt: skip
    parts = [*examples.folds(4), examples.hold_out()]
    assert len(parts) == 5
    for train, held in parts:
        assert len(held)
        assert not copies[held].any()
        assert not np.isin(groups[train], groups[held]).any()
        assert copies[train].sum() == 2 * (~copies[train]).sum()


@pytest.mark.long
def test_head_is_trained_with_copies_and_scored_without(sounds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", str(sounds), "--split", "split", "--augment", "3", "--augment-with", "noise,shift", "--json"]
    assert run(arguments) == 0
    head = json.loads(capsys.readouterr().out)["head"]
    training = head["settings"]["training"]
    assert head["settings"]["rows"] == 12 * 4 + 4  # two windows of six recordings with copies; validation without
    assert training["copies"]["of_each_row"] == 3
    assert training["copies"]["rows"] == 36
    assert list(training["copies"]["alterations"]) == ["noise", "shift"]
    with embedx.open(sounds) as collection:
        trained = collection.fit_head(augment=1, name="folds", group="path")
        assert "24 rows and 24 altered copies (noise, pitch, stretch, shift, gain)" in str(trained)
        assert trained.report is not None
        assert trained.report.rows == 24
        assert "copies" not in collection.fit_head().settings["training"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"augment": -1}, "augment is the number of altered copies"),
        ({"augment": 5000}, "0 to 1000"),
        ({"augment": 1, "augment_with": "noise,mixup"}, "mixup is for `embedx finetune`"),
        ({"augment": 1, "augment_with": "reverb"}, "no alteration 'reverb'"),
        ({"augment_with": "noise"}, "needs a number of copies"),
    ],
)
def test_invalid_options_are_refused(make: Make, options: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make(*clusters(8, 2, 1.0)).fit_head(**options)  # type: ignore[arg-type]


def test_missing_or_changed_audio_is_refused(sounds: Path, write_wav: WriteWav) -> None:
    with embedx.open(sounds) as collection:
        path = write_wav("wavs/4.wav", 2.0)
        with pytest.raises(UsageError, match=r"4\.wav has changed since it was embedded"):
            collection.fit_head(augment=1)
        path.unlink()
        with pytest.raises(UsageError, match=r"audio is needed: There is no file .*4\.wav"):
            collection.fit_head(augment=1)
        assert collection.fit_head().report is not None


def test_imported_vectors_have_no_copies(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", clusters(8, 2, 1.0)[0])
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(f"/{i}.wav,{CLASSES[i % 2]}\n" for i in range(8)))
    collection = embedx.import_vectors(tmp_path / "x.npy", metadata=tmp_path / "t.csv", out=tmp_path / "index")
    with collection, pytest.raises(ModelError, match="imported"):
        collection.fit_head(augment=1)
