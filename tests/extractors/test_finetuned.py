"""Fine-tuned folders in the rest of embedx: extract, a layer of the head, predict."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import embedx
from embedx.errors import ModelError
from embedx.extractors.finetuned import FinetunedClassifier, HeadExtractor
from embedx.extractors.loading import load
from embedx.extractors.pooled_heads import HeadSettings, PooledHead
from tests.helpers.conformance import run
from tests.helpers.finetuning import Checkpoint, train_tones, write_tones

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return write_tones(tmp_path_factory.mktemp("tones"))


@pytest.mark.parametrize(
    ("name", "pooling"), [("hubert", "native"), ("whisper", "native"), ("whisper", "mean"), ("ast", "max")]
)
def test_encoder_and_layers_of_the_head_are_extractors(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path, name: str, pooling: str
) -> None:
    result = train_tones(
        tones, checkpoint(name), tmp_path / "m", epochs=1, shared=6, hidden=5, pooling=pooling, max_seconds=1.0
    )
    model = str(result.folder)
    with embedx.extract(tones.head(6), model=model, out=tmp_path / "c") as collection:
        assert collection.vectors().shape == (6, 32)
        assert collection.recipe.extractor == "finetuned"
    for part, dim in (("shared", 6), ("head", 5)):
        with embedx.extract(tones.head(6), model=f"{model}?layer={part}", out=tmp_path / part) as collection:
            assert collection.vectors().shape == (6, dim)
        assert len(embedx.open(tmp_path / part)) == 6
    with pytest.raises(ModelError, match="no part of a fine-tuned model"):
        load(f"{model}?layer=tail")


def test_vectors_of_the_head_do_not_depend_on_the_batch(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path
) -> None:
    result = train_tones(tones, checkpoint("hubert"), tmp_path / "m", epochs=1, shared=6, activation="tanh")
    extractor = load(f"{result.folder}?layer=shared")
    clips = [torch.rand(n) - 0.5 for n in (4000, 9000, 500)]
    together = run(extractor, clips, pad=50, rubbish=3.0)[0]
    for clip, found in zip(clips, together, strict=True):
        torch.testing.assert_close(found, run(extractor, [clip])[0][0], atol=1e-5, rtol=0)


def test_head_of_prepared_clips_is_that_of_their_waves(checkpoint: Checkpoint) -> None:
    encoder = load(str(checkpoint("ast")))
    head = PooledHead(HeadSettings({"label": ("a", "b")}, (), encoder.dim, encoder.layers[-1:], shared=6))
    extractor, classifier = HeadExtractor(encoder, head.eval(), "shared"), FinetunedClassifier(encoder, head)
    clips = [torch.rand(n) - 0.5 for n in (9000, 4000)]
    with torch.inference_mode():
        prepared = extractor.prepare([clip.numpy() for clip in clips])
        ((_, frames, _),) = extractor.encode(prepared, (0,))
        torch.testing.assert_close(list(frames), run(extractor, clips)[0])
        waves = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
        scores = classifier.scores(waves, torch.tensor([9000, 4000]))
        torch.testing.assert_close(classifier.prepared_scores(prepared), scores)


def test_predictions_of_files_equal_those_of_the_training(
    checkpoint: Checkpoint, tones: pd.DataFrame, tmp_path: Path
) -> None:
    result = train_tones(tones, checkpoint("hubert"), tmp_path / "m", epochs=3)
    test = tones[tones.split == "test"]
    predictions = embedx.predict(list(test.path), model=str(result.folder))
    labels = dict(zip(test.path, test.label, strict=True))
    right = [one.labels == (labels[one.path],) for one in predictions]
    figure = result.metrics["label"].figures["accuracy"]
    assert figure is not None
    assert np.mean(right) == pytest.approx(figure.value)


def test_outputs_of_both_kinds_keep_theirs_in_predictions(tones: pd.DataFrame, tmp_path: Path) -> None:
    low = {"epochs": 1, "learning_rate": 1e-6, "head_rate": 1e-6}  # so that no class of three has more than a half
    result = train_tones(tones, "scratch:lstm", tmp_path / "m", labels=("label", "low", "tonal"), **low)
    table = embedx.predict(list(tones.path), model=str(result.folder), k=3).to_pandas()
    sums = {
        name: table[[f"{name}_probability{i}" for i in range(1, 1 + classes)]].sum(axis=1)
        for name, classes in (("label", 3), ("labels", 2))
    }
    np.testing.assert_allclose(sums["label"], 1, atol=1e-5)  # one class is true
    assert np.abs(sums["labels"] - 1).max() > 0.01  # each class for itself
    assert (table["label_label"] == table["label_top1"]).all()
