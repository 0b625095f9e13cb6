"""Zero-shot: names of classes by CLAP's text encoder and by YAMNet's own classes; calibration on labelled rows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers

import embedx
from embedx.errors import ModelError, UsageError
from embedx.training.zero_shot import ZeroShot, calibrate, read_classes
from tests.helpers.checkpoints import add_tokenizer
from tests.helpers.commands import outcome
from tests.helpers.hub_classifiers import clips_of

WORDS = "dog, rain, dog rain"


@pytest.fixture(scope="module")
def clap(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny CLAP whose scores differ clearly between clips."""
    folder = tmp_path_factory.mktemp("clap")
    model = transformers.ClapModel.from_pretrained(checkpoint("clap"))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        model.logit_scale_a.fill_(5.0)
    model.save_pretrained(folder)
    transformers.ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)
    add_tokenizer(folder)
    return str(folder)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    for name, clip in zip("abc", clips_of(48_000, 90_000, 20_000), strict=True):
        soundfile.write(folder / f"{name}.wav", clip.numpy(), 48_000, subtype="FLOAT")
    return folder


def test_clap_gives_the_scores_of_the_pipeline_for_files_and_stored_vectors(
    clap: str, sounds: Path, tmp_path: Path
) -> None:
    pipeline = transformers.pipeline("zero-shot-audio-classification", model=clap, device="cpu")
    found = embedx.predict(sounds, model=clap, zero_shot=WORDS, k=3)
    for one in found:
        samples, _ = soundfile.read(one.path, dtype="float32")
        expected = pipeline(samples, candidate_labels=["dog", "rain", "dog rain"])
        assert [name for name, _ in one.top] == [answer["label"] for answer in expected]
        np.testing.assert_allclose([p for _, p in one.top], [answer["score"] for answer in expected], atol=1e-5)
    assert np.ptp(found.proba, axis=0).max() > 0.01
    with embedx.extract(sounds, out=tmp_path / "c", model=clap) as collection:
        (sounds / "c.wav").rename(sounds / "c.moved")  # the audio is not needed
        np.testing.assert_allclose(collection.predict(zero_shot=WORDS).proba, found.proba, atol=1e-6)
        (sounds / "c.moved").rename(sounds / "c.wav")
        again = collection.predict(sounds, zero_shot=["dog", "rain", "dog rain"])
        np.testing.assert_allclose(again.proba, found.proba, atol=1e-6)


@pytest.mark.long
def test_prompts_and_templates_change_the_scores(clap: str, sounds: Path) -> None:
    plain = embedx.predict(sounds, model=clap, zero_shot=WORDS).proba
    others: list[dict[str, Any]] = [
        {"zero_shot": {"dog": ["dog", "rain dog dog"], "rain": "rain", "both": "dog rain"}},
        {"zero_shot": WORDS, "prompt": "{}"},
        {"zero_shot": WORDS, "prompt": ["{}", "rain {} dog"]},
    ]
    for options in others:
        assert np.abs(embedx.predict(sounds, model=clap, **options).proba - plain).max() > 1e-4


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"zero_shot": "dog"}, UsageError, "at least two classes"),
        ({"zero_shot": "dog, dog"}, UsageError, "the same name"),
        ({"zero_shot": "dog,,rain"}, UsageError, "empty prompt"),
        ({"zero_shot": 3}, UsageError, "is a text such as"),
        ({"zero_shot": {"dog": None, "rain": "rain"}}, UsageError, "is a text such as"),
        ({"zero_shot": "a" * 200_000 + ", b"}, UsageError, "is a text such as"),
        ({"zero_shot": "a, b", "windw": 1}, UsageError, "Did you mean window"),
        ({"zero_shot": "a, b", "prompt": "a sound"}, UsageError, "needs {}"),
        ({"prompt": "a {}"}, UsageError, "belongs to zero-shot"),
        ({"zero_shot": "a, b", "model": "logmel"}, ModelError, "cannot name classes"),
    ],
)
def test_invalid_classes_are_refused(
    clap: str, sounds: Path, options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        embedx.predict(sounds, **{"model": clap, **options})


def test_texts_are_read_with_names_prompts_and_quotes() -> None:
    assert read_classes(' dog=bark|growl ,"Child speech, kid speaking"') == {
        "dog": ("bark", "growl"),
        "Child speech, kid speaking": ("Child speech, kid speaking",),
    }


def make_scores(rows: int, scale: float) -> tuple[ZeroShot, np.ndarray, np.ndarray]:
    """Return classes, logits that are `scale` times as large as calibrated ones, and true classes drawn from these."""
    random = np.random.default_rng(0)
    logits = 2 * random.standard_normal((rows, 3))
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = np.array([random.choice(3, p=row) for row in proba])
    members = ((0,), (1,), (2,))
    return ZeroShot(("a", "b", "c"), "L0.mean", np.eye(3), np.zeros(3), 1.0, members, False), scale * logits, y


def test_calibration_finds_the_temperature_of_labelled_rows() -> None:
    classes, logits, y = make_scores(600, scale=8.0)
    found = calibrate(classes, logits, y, np.arange(600))
    assert found.trial is not None
    assert found.trial.kept
    assert found.temperature == pytest.approx(8.0, rel=0.15)


@pytest.mark.parametrize(("rows", "scale"), [(600, 1.0), (4, 8.0)])
def test_calibration_is_not_kept_without_evidence(rows: int, scale: float) -> None:
    classes, logits, y = make_scores(rows, scale)
    assert calibrate(classes, logits, y, np.arange(rows)).temperature == 1.0


def test_probe_compares_classes_with_labels(
    clap: str, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "clips.csv"
    lines = [f"{sounds / name}.wav,{label}" for name, label in zip("abc", ("dog", "rain", "owl"), strict=True)]
    table.write_text("\n".join(["path,label", *lines]) + "\n")
    with embedx.extract(table, out=tmp_path / "c", model=clap) as collection:
        report = collection.probe_zero_shot("dog, rain")
        found = {one.path: one.labels[0] for one in collection.predict(zero_shot="dog, rain")}
    right = [found[str(sounds / f"{name}.wav")] == label for name, label in (("a", "dog"), ("b", "rain"))]
    figure = report.metrics.figures["accuracy"]
    assert figure is not None
    assert (figure.value, report.metrics.rows, report.left_out) == (float(np.mean(right)), 2, {"owl": 1})
    folder = str(tmp_path / "c")
    code, text, _ = outcome(capsys, "probe", folder, "--format", "json", "--zero-shot")
    assert (code, json.loads(text)["classes"], json.loads(text)["rows"]) == (0, 3, 3)
    for words, problem in (
        (["--zero-shot", "a, b"], "No row has a label"),
        (["--zero-shot", "a, b", "--kind", "knn"], "does not take --kind"),
        (["--prompt", "a {}"], "--prompt belongs to --zero-shot"),
    ):
        code, _, errors = outcome(capsys, "probe", folder, *words)
        assert (code, problem in errors) == (2, True), errors
