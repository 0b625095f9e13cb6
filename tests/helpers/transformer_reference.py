"""The library's own forward pass of speech transformers on one clip at a time: the reference for fast encoders."""

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.fast.encoder import FastEncoder
from embedx.extractors.huggingface import Transformer
from tests.helpers.conformance import EXACT, run

NAMES = ("wav2vec2", "wav2vec2-large", "hubert", "hubert-batch-norm", "distilhubert", "unispeech", "unispeech-sat")


def clips_of(*lengths: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(7)
    return [torch.rand(n, generator=random) * 0.8 - 0.3 for n in lengths]


def by_hand(model: Any, clip: Tensor, normalise: bool) -> list[Tensor]:
    """Return the hidden states [T, D] of the model of transformers for one clip."""
    wave = (clip - clip.mean()) / torch.sqrt(clip.var(correction=0) + 1e-7) if normalise else clip
    with torch.inference_mode():
        output = model(wave[None], output_hidden_states=True)
    return [state[0] for state in (*output.hidden_states[:-1], output.last_hidden_state)]


CLIPS = [*clips_of(16_000, 400, 401, 16_000, 719, 40_001, 9_999), torch.zeros(3_000)]


@cache
def expected(folder: Path, normalise: bool) -> list[list[Tensor]]:
    """Return the hidden states of each of the clips."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    return [by_hand(model, clip, normalise) for clip in CLIPS]


def assert_both_precisions(config: transformers.HubertConfig) -> None:
    """Compare the frames of every layer, and their mean in bfloat16, with the library on one clip."""
    torch.manual_seed(0)
    model = transformers.HubertModel(config).eval().requires_grad_(False)
    clips = clips_of(24_000, 400, 5_000)
    states = [by_hand(model, clip, True) for clip in clips]
    extractor = FastEncoder(Transformer(Checkpoint("here", model, {}, {})))
    exact = run(extractor, clips)
    with torch.autocast("cpu", torch.bfloat16):
        half = run(extractor, clips)
    for i, layer in itertools.product(range(len(clips)), extractor.layers):
        true = states[i][layer]
        assert (exact[layer][i] - true).abs().max() < EXACT, (layer, i)
        cosine = F.cosine_similarity(half[layer][i].double().mean(0), true.double().mean(0), dim=0)
        assert 1 - cosine < 1e-4, (layer, i)
