"""Fine-tuning from the source to the folder of the model."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from safetensors.torch import load_file

from embedx.errors import AudioError, ModelError, UsageError
from tests.helpers.finetuning import Checkpoint, train_tones


@pytest.mark.long
def test_tiny_set_is_learned_by_heart(checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path) -> None:
    """The rows to test on are copies of the training rows, so that the figures are those of what was learned."""
    few = tones[tones.split == "train"].head(6).assign(split="train")
    copies = few.assign(split="test", path=[str(tmp_path / Path(path).name) for path in few.path])
    for path, copy in zip(few.path, copies.path, strict=True):
        Path(copy).write_bytes(Path(path).read_bytes())
    frame = pd.concat([few, copies])
    result = train_tones(frame, checkpoint("wav2vec2-large"), tmp_path / "m", epochs=40, dropout=0.0, metric="loss")
    assert result.metrics["label"].figures["accuracy"].value == 1.0  # type: ignore[union-attr]
    assert "6 test rows sound like a row of the training" in result.notes[0]
    assert [entry["loss"] for entry in result.history if "loss" in entry][-1] < 0.1


def test_folder_holds_the_model_its_arguments_and_figures(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path
) -> None:
    result = train_tones(tones, checkpoint("hubert"), tmp_path / "m", epochs=2, shared=8)
    names = {path.name for path in result.folder.iterdir()}
    assert names == {
        "config.json", "model.safetensors", "preprocessor_config.json", "head.safetensors", "finetune.json",
        "arguments.json", "metrics.json", "loss.png",
    }  # fmt: skip
    assert (result.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((result.folder / "metrics.json").read_text())
    figure = metrics["outputs"]["label"]["figures"]["balanced_accuracy"]
    assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
    assert (metrics["train_rows"], metrics["validation_rows"], metrics["test_rows"]) == (18, 6, 6)


NATIVE = ("wav2vec2", "whisper", "ast", "wav2vec2-bert", "wavlm", "data2vec", "hubert", "wav2vec2-large")


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.long
@pytest.mark.parametrize("layer", ["last", "weighted"])
def test_plain_transformers_gives_the_same_probabilities(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path, name: str, layer: str
) -> None:
    if layer == "weighted" and name in ("ast", "wav2vec2-large"):
        pytest.skip("transformers has no such head")
    from embedx.extractors.finetuned import load_classifier

    result = train_tones(
        tones,
        checkpoint(name),
        tmp_path / "m",
        epochs=1,
        layer=layer,
        shared=0 if name == "ast" else 8,
        max_seconds=1.0,
    )
    assert result.plain
    plain = transformers.AutoModelForAudioClassification.from_pretrained(result.folder).eval()
    front_end = transformers.AutoFeatureExtractor.from_pretrained(result.folder)
    classifier = load_classifier(str(result.folder))
    random = np.random.default_rng(1)
    for length in (5000, 9000):
        wave = random.normal(0, 0.1, length).astype(np.float32)
        with torch.inference_mode():
            inputs = front_end(wave, sampling_rate=16_000, return_tensors="pt")
            expected = plain(**inputs).logits.softmax(dim=1)[0]
            found = classifier.scores(torch.from_numpy(wave)[None], torch.tensor([length]))["label"][0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert [plain.config.id2label[i] for i in range(3)] == list(classifier.outputs["label"])


class Killed(Exception):
    """Stands for a kill in the middle of training."""


@pytest.mark.long
@pytest.mark.parametrize("when", ["between", "torn"])
def test_killed_training_goes_on_and_ends_with_the_same_weights(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path, when: str
) -> None:
    model = checkpoint("wav2vec2-large")
    whole = train_tones(tones, model, tmp_path / "whole", epochs=3, dropout=0.3)

    def kill(values: dict[str, object]) -> None:
        if values.get("step") == 8:
            raise Killed

    with pytest.raises(Killed):
        train_tones(tones, model, tmp_path / "killed", epochs=3, dropout=0.3, report=kill)
    if when == "torn":  # the kill came while a checkpoint was written
        torn = tmp_path / "killed" / "checkpoints" / "checkpoint-8"
        torn.mkdir(exist_ok=True)
        (torn / "model.safetensors").write_bytes(b"half")
    resumed: list[object] = []
    again = train_tones(
        tones, model, tmp_path / "killed", epochs=3, dropout=0.3,
        report=lambda values: resumed.append(values.get("resumed")),
    )  # fmt: skip
    assert 6 in resumed
    for name in ("model.safetensors", "head.safetensors"):
        first, second = load_file(whole.folder / name), load_file(again.folder / name)
        assert all(torch.equal(first[key], second[key]) for key in first), name
    assert not (again.folder / "checkpoints").exists()


@pytest.mark.long
def test_interrupted_training_with_other_options_is_refused(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path
) -> None:
    model = checkpoint("wav2vec2-large")

    def kill(values: dict[str, object]) -> None:
        if "validation_loss" in values and values["step"] == 6:
            raise Killed

    with pytest.raises(Killed):
        train_tones(tones, model, tmp_path / "m", epochs=3, report=kill)
    with pytest.raises(UsageError, match=r"other options \(dropout, head_rate\)"):
        train_tones(tones, model, tmp_path / "m", epochs=3, dropout=0.5, head_rate=0.1)
    with pytest.raises(UsageError, match="other recordings or labels"):
        train_tones(tones.assign(label=tones.label[::-1].to_numpy()), model, tmp_path / "m", epochs=3)
    assert train_tones(tones, model, tmp_path / "m", epochs=1, resume=False).facts["steps"] == 3
    with pytest.raises(UsageError, match="holds a trained model"):
        train_tones(tones, model, tmp_path / "m", epochs=1)
    assert train_tones(tones, model, tmp_path / "m", epochs=1, overwrite=True)


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "outputs"),
    [
        ({"labels": ("low", "tonal")}, {"labels": ("low", "tonal")}),
        ({"labels": ("label", "speaker"), "shared": 6, "hidden": 5, "activation": "gelu", "layer_norm": True},
         {"label": ("high", "low", "middle"), "speaker": ("s0", "s1", "s2", "s3", "s4")}),
        ({"labels": ("tags",), "separator": ";", "pooling": "max", "layer": "weighted"}, {"label": ("deep", "low")}),
    ],
    ids=["yes-no", "two-outputs", "separator"],
)  # fmt: skip
def test_outputs_and_heads(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path, options: dict[str, object],
    outputs: dict[str, tuple[str, ...]],
) -> None:  # fmt: skip
    from embedx.extractors.finetuned import load_classifier

    result = train_tones(tones, checkpoint("wav2vec2-large"), tmp_path / "m", epochs=2, **options)
    classifier = load_classifier(str(result.folder))
    assert classifier.outputs == outputs
    assert result.metrics.keys() == outputs.keys()
    scores = classifier.scores(torch.rand(2, 6000) - 0.5, torch.tensor([6000, 4000]))
    for name, classes in outputs.items():
        assert scores[name].shape == (2, len(classes))
        assert result.metrics[name].multilabel == (classes in (("low", "tonal"), ("deep", "low")))


@pytest.mark.long
@pytest.mark.parametrize(
    "options", [{"freeze": "encoder"}, {"freeze": "2"}, {"lora": 4}, {"freeze": "features"}], ids=str
)
def test_only_what_is_asked_for_is_trained(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path, options: dict[str, object]
) -> None:
    model = checkpoint("wav2vec2-large")
    result = train_tones(tones, model, tmp_path / "m", epochs=2, **options)
    before, after = (load_file(folder / "model.safetensors") for folder in (model, result.folder))
    after = {key.removeprefix("wav2vec2."): value for key, value in after.items()}
    changed = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert not any("feature_extractor" in key for key in changed)
    if "lora" in options:
        assert changed
        assert all("layers." in key and key.endswith("weight") for key in changed)
    elif options["freeze"] == "encoder":
        assert changed == set()
    elif options["freeze"] == "2":
        assert {key.split(".")[2] for key in changed if ".layers." in key} == {"2"}
    assert result.facts["trained_parameters"] < result.facts["parameters"]


@pytest.mark.long
def test_bad_input_is_named_in_a_sentence(checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path) -> None:
    model, out = checkpoint("wav2vec2-large"), tmp_path / "m"
    with pytest.raises(UsageError, match="At least two classes"):
        train_tones(tones.assign(label="one"), model, out)
    with pytest.raises(UsageError, match="nothing"):
        train_tones(tones, model, out, labels=("nothing",))
    with pytest.raises(UsageError, match="must name rows to train on and rows to test on"):
        train_tones(tones.assign(split="train"), model, out, split="split")
    with pytest.raises(UsageError, match="would split one recording or group"):
        leak = tones.assign(path=tones.path.where(tones.split != "test", tones.path[tones.split == "train"].iloc[0]))
        leak = leak.assign(start=np.arange(len(leak)) * 0.001, end=0.15 + np.arange(len(leak)) * 0.001)
        train_tones(leak, model, out, split="split")
    with pytest.raises(ModelError, match="There is no model folder"):
        train_tones(tones, "./nothing/here", out)
    with pytest.raises(UsageError, match="freeze=9"):
        train_tones(tones, model, out, freeze="9")
    missing = tones.assign(path=[f"{path}.gone" for path in tones.path])
    with pytest.raises(AudioError, match="None of the 30 recordings can be read"):
        train_tones(missing, model, out)
    silent = tones.copy()
    import soundfile

    soundfile.write(tmp_path / "silent.wav", np.zeros(8000, np.float32), 16_000)
    silent["path"] = [str(tmp_path / "silent.wav")] * len(silent)
    silent["start"] = np.arange(len(silent)) * 0.01
    silent["end"] = silent.start + 0.1
    with pytest.raises(UsageError, match="All recordings are silent"):
        train_tones(silent, model, out, leaky=True)


@pytest.mark.long
def test_label_that_a_part_lacks_is_noted(checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path) -> None:
    frame = tones[(tones.split != "validation") | (tones.label != "low")]
    result = train_tones(frame, checkpoint("wav2vec2-large"), tmp_path / "m", epochs=1)
    assert any("No validation row has the class low" in note for note in result.notes)
    frame = tones[(tones.split != "train") | (tones.label != "high")]
    result = train_tones(frame, checkpoint("wav2vec2-large"), tmp_path / "n", epochs=1)
    assert any("No training row has the class high" in note for note in result.notes)


def test_scratch_model_is_trained_saved_and_loaded(tones: pd.DataFrame, tmp_path: Path) -> None:
    from embedx.extractors.finetuned import load, load_classifier

    result = train_tones(tones, "scratch:cnn", tmp_path / "m", epochs=2)
    assert not result.plain
    assert load(str(result.folder)).dim == 256
    assert load_classifier(str(result.folder)).outputs == {"label": ("high", "low", "middle")}
    with pytest.raises(UsageError, match="lora needs a checkpoint"):
        train_tones(tones, "scratch:cnn", tmp_path / "n", lora=4)


@pytest.mark.long
def test_augmentation_changes_training_rows_only_and_resumes_alike(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path
) -> None:
    model, augment = checkpoint("wav2vec2-large"), "noise,shift,gain,mixup,specaugment"
    plain = train_tones(tones, model, tmp_path / "plain", epochs=2)
    first = train_tones(tones, model, tmp_path / "first", epochs=2, augment=augment)
    again = train_tones(tones, model, tmp_path / "again", epochs=2, augment=augment)
    weights = [load_file(result.folder / "head.safetensors")["linear.0.weight"] for result in (plain, first, again)]
    assert torch.equal(weights[1], weights[2])
    assert not torch.equal(weights[0], weights[1])
    with pytest.raises(UsageError, match="echoes"):
        train_tones(tones, model, tmp_path / "m", augment="echoes")


@pytest.mark.long
def test_search_takes_the_best_trial_and_resumes(checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path) -> None:
    model = checkpoint("wav2vec2-large")
    result = train_tones(tones, model, tmp_path / "m", epochs=2, trials=2, given=("pooling", "layer"))
    trials = result.facts["trials"]
    assert len(trials) == 2
    assert all("pooling" not in trial["options"] for trial in trials)
    best = max(trial["figure"] for trial in trials if trial["figure"] is not None)
    assert result.validation == pytest.approx(best)
