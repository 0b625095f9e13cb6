"""Trained weights of Whisper tiny.en: every layer equals the library, and half precision is near."""

from pathlib import Path

import pytest
import torch
import transformers

from embedx import extractors
from tests.helpers.conformance import run


@pytest.mark.long
def test_layers_of_trained_whisper_equal_transformers(shared: Path) -> None:
    folder = shared / "weights/whisper-tiny.en"
    if not folder.is_dir():
        pytest.skip("there are no weights of Whisper")
    extractor = extractors.load(str(folder))
    random = torch.Generator().manual_seed(0)
    clips = [0.1 * torch.randn(length, generator=random).cumsum(0).sin() for length in (6_000, 40_001)]
    found = run(extractor, clips)
    front_end = transformers.AutoFeatureExtractor.from_pretrained(folder)
    encoder = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval().get_encoder()
    for i, clip in enumerate(clips):
        inputs = front_end(clip.numpy(), sampling_rate=16_000, return_tensors="pt")
        with torch.inference_mode():
            output = encoder(**inputs, output_hidden_states=True)
        for layer, true in enumerate((*output.hidden_states[:-1], output.last_hidden_state)):
            frames = found[layer][i]
            assert len(frames) == -(-len(clip) // 320)
            torch.testing.assert_close(frames, true[0, : len(frames)], atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        half = run(extractor, clips)
    for layer in extractor.layers:
        for a, b in zip(half[layer], found[layer], strict=True):
            assert torch.cosine_similarity(a.float().mean(0), b.mean(0), dim=0) > 0.99
