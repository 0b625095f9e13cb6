"""Tiny classifiers of transformers with random weights, whose scores differ clearly between clips."""

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from tests.helpers.checkpoints import LARGE, SMALL, SPECTRAL

CLASSES = ("yes", "no", "up", "down", "silence")
MAX_SCALE = 30.0  # of the last layer; Whisper's states of short clips hardly differ, and rounding errors grow with it
SPEECH = {**SMALL, "classifier_proj_size": 24}
WHISPER = {**SPECTRAL["whisper"][1], "classifier_proj_size": 24}
SUM = {"use_weighted_layer_sum": True}
WAVE = "Wav2Vec2FeatureExtractor"
CLASSIFIERS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    # name -> class and configuration of transformers, class and configuration of its front end
    "wav2vec2": ("Wav2Vec2ForSequenceClassification", SPEECH, WAVE, {}),
    "wav2vec2-sum": ("Wav2Vec2ForSequenceClassification", {**SPEECH, **SUM}, WAVE, {}),
    "wav2vec2-large-sum": (
        "Wav2Vec2ForSequenceClassification", {**SPEECH, **SUM, **LARGE, "do_stable_layer_norm": True}, WAVE,
        {"return_attention_mask": True},
    ),
    "hubert-sum": ("HubertForSequenceClassification", {**SPEECH, **SUM}, WAVE, {"do_normalize": False}),
    "wavlm-sum": ("WavLMForSequenceClassification", {**SPEECH, **SUM}, WAVE, {"do_normalize": False}),
    "conformer-sum": (
        "Wav2Vec2ConformerForSequenceClassification",
        {**SPEECH, **SUM, **LARGE, "position_embeddings_type": "relative"}, WAVE, {},
    ),
    "data2vec": (
        "Data2VecAudioForSequenceClassification",
        {**SPEECH, "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}, WAVE, {},
    ),
    "unispeech-sat": ("UniSpeechSatForSequenceClassification", SPEECH, WAVE, {}),
    "wav2vec2-bert-sum": (
        "Wav2Vec2BertForSequenceClassification", {**SPEECH, **SUM, "feature_projection_input_dim": 160},
        "SeamlessM4TFeatureExtractor", {},
    ),
    "ast": ("ASTForAudioClassification", SMALL, "ASTFeatureExtractor", {}),
    "whisper": ("WhisperForAudioClassification", WHISPER, "WhisperFeatureExtractor", {}),
    "whisper-sum": ("WhisperForAudioClassification", {**WHISPER, **SUM}, "WhisperFeatureExtractor", {}),
    "sew": (
        "SEWForSequenceClassification",
        {**SPEECH, "conv_kernel": (10, 3, 1, 3, 1, 3, 1), "conv_stride": (5, 2, 1, 2, 1, 2, 1), "squeeze_factor": 2},
        WAVE, {},
    ),
}  # fmt: skip


def make_classifier(folder: Path, name: str, **settings: Any) -> Path:
    """Save a classifier of `CLASSIFIERS` in a folder, as save_pretrained writes it; settings go into its config."""
    kind, options, front_end_class, front_end_options = CLASSIFIERS[name]
    torch.manual_seed(len(name))
    model_class = getattr(transformers, kind)
    names: dict[str, Any] = {"id2label": dict(enumerate(CLASSES)), "label2id": {c: i for i, c in enumerate(CLASSES)}}
    model = model_class(model_class.config_class(**{**names, **options, **settings})).eval()
    front_end = getattr(transformers, front_end_class)(**front_end_options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        logits = torch.cat([run(model, front_end, clip) for clip in clips_of(16_000, 9_000, 5_000)])
        last = model.classifier.dense if name == "ast" else model.classifier
        scale = (1 / logits.std(dim=0)).clamp(max=MAX_SCALE)
        last.weight *= scale[:, None]
        last.bias.copy_((last.bias - logits.mean(dim=0)) * scale)
    model.save_pretrained(folder)
    front_end.save_pretrained(folder)
    return folder


def run(model: Any, front_end: Any, clip: Tensor) -> Tensor:
    """Return the logits [1, C] of one clip by the library."""
    inputs = front_end(clip.numpy(), sampling_rate=front_end.sampling_rate, return_tensors="pt")
    logits: Tensor = model(**inputs).logits
    return logits


def clips_of(*lengths: int) -> list[Tensor]:
    """Return clips of noise and tones with different spectra."""
    random = torch.Generator().manual_seed(7)
    tones = [torch.sin(torch.arange(n) * (0.05 + 0.2 * i)) * 0.4 for i, n in enumerate(lengths)]
    return [tone + torch.rand(len(tone), generator=random) * 0.4 - 0.2 for tone in tones]
