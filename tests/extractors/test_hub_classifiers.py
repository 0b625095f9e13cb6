"""Classifiers of transformers: the scores of the library's pipeline, in any batch; what is refused."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from embedx.errors import ModelError, UsageError
from embedx.extractors.classifier import LABEL, Classifier, ScoringExtractor
from embedx.extractors.hub_classifiers import load
from tests.helpers.hub_classifiers import CLASSES, CLASSIFIERS, clips_of, make_classifier

FAST = ("wav2vec2-large-sum",)
NAMES = [pytest.param(name, marks=[] if name in FAST else [pytest.mark.long]) for name in CLASSIFIERS]


def pipeline_scores(folder: Path, clips: list[Tensor]) -> Tensor:
    """Return the scores [N, C] of the library's pipeline."""
    pipeline = transformers.pipeline("audio-classification", model=str(folder), device="cpu")
    found = [{one["label"]: one["score"] for one in pipeline(clip.numpy(), top_k=None)} for clip in clips]
    return torch.tensor([[scores[name] for name in CLASSES] for scores in found])


def batch_scores(classifier: Classifier, clips: list[Tensor]) -> Tensor:
    """Return the scores of clips in one batch, with garbage in the padding."""
    waves = torch.full((len(clips), max(map(len, clips))), 0.7)
    for wave, clip in zip(waves, clips, strict=True):
        wave[: len(clip)] = clip
    with torch.inference_mode():
        return classifier.scores(waves, torch.tensor(list(map(len, clips))))[LABEL]


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_pipeline_in_any_batch(name: str, tmp_path: Path) -> None:
    classifier = load(str(make_classifier(tmp_path, name)))
    clips = clips_of(16_000, 4_000, 24_001, max(classifier.min_samples, 3_000), 7_777)
    expected = pipeline_scores(tmp_path, clips)
    assert expected.std(dim=0).max() > 1e-3  # the clips differ by far more than the tolerance
    for order in ([0, 1, 2, 3, 4], [4, 2, 0], [1]):
        assert (batch_scores(classifier, [clips[i] for i in order]) - expected[order]).abs().max() < 1e-5


@pytest.mark.long
@pytest.mark.parametrize("name", ["wav2vec2", "ast", "whisper"])
def test_scores_of_the_shortest_clips_are_those_of_the_pipeline(name: str, tmp_path: Path) -> None:
    classifier = load(str(make_classifier(tmp_path, name)))
    clips = clips_of(800, classifier.min_samples)
    assert (batch_scores(classifier, clips) - pipeline_scores(tmp_path, clips)).abs().max() < 1e-5


def test_multi_label_scores_are_those_of_the_pipeline(tmp_path: Path) -> None:
    classifier = load(str(make_classifier(tmp_path, "wav2vec2", problem_type="multi_label_classification")))
    clips = clips_of(8_000, 5_000)
    scores = batch_scores(classifier, clips)
    assert classifier.multi_label
    assert (scores - pipeline_scores(tmp_path, clips)).abs().max() < 1e-5
    assert (scores.sum(dim=1) - 1).abs().max() > 0.1


def test_scoring_extractor_yields_one_frame_of_scores(tmp_path: Path) -> None:
    classifier = load(str(make_classifier(tmp_path, "wav2vec2")))
    extractor = ScoringExtractor(classifier)
    waves, lengths = torch.rand(2, 4_000), torch.tensor([4_000, 2_000])
    with torch.inference_mode():
        ((layer, frames, counts),) = extractor.frames(waves, lengths, (0,))
        assert torch.equal(frames[:, 0], classifier.scores(waves, lengths)[LABEL])
    assert (layer, counts.tolist(), extractor.dim) == (0, [1, 1], len(CLASSES))


@pytest.mark.parametrize("name", ["ast", pytest.param("whisper", marks=pytest.mark.long)])
def test_scores_of_prepared_clips_are_those_of_their_waves(name: str, tmp_path: Path) -> None:
    """Then the waves need not go to a GPU and back for a spectrogram that is computed on the CPU."""
    classifier = load(str(make_classifier(tmp_path, name)))
    extractor, clips = ScoringExtractor(classifier), clips_of(8_000, 3_000)
    expected = batch_scores(classifier, clips)
    with torch.inference_mode():
        ((_, frames, counts),) = extractor.encode(extractor.prepare([clip.numpy() for clip in clips]), (0,))
    assert (frames[:, 0] - expected).abs().max() < 1e-6
    assert counts.tolist() == [1, 1]


def test_encoder_without_a_classifier_is_refused_by_name(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path, "wav2vec2")
    transformers.AutoModel.from_pretrained(folder).save_pretrained(folder)
    with pytest.raises(ModelError, match="has no trained classifier"):
        load(str(folder))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"problem_type": "regression"}, "predicts numbers"),
        ({"id2label": {"0": 7, "1": "no"}}, "cannot be loaded|no name"),
        ({"id2label": {"3": "a", "4": "b", "5": "c", "6": "d", "7": "e"}}, "no name"),
        ({"model_type": "bert"}, "does not support"),
        ({"num_hidden_layers": 9}, "do not fit|cannot be loaded"),
        ({"layer_weights": 3, "add_adapter": True}, "cannot be loaded"),
    ],
)  # fmt: skip
def test_unusable_config_is_a_model_error(change: dict[str, object], text: str, tmp_path: Path) -> None:
    path = make_classifier(tmp_path, "wav2vec2") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=text):
        load(str(tmp_path))


def test_fast_backend_is_refused_where_it_lacks_the_state(tmp_path: Path) -> None:
    folder = str(make_classifier(tmp_path, "wavlm-sum"))
    assert getattr(load(folder), "backend", "") == "reference"
    with pytest.raises(UsageError, match="fast backend"):
        load(folder, backend="fast")
