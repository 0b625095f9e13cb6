"""Encoders that run on clips of equal length: every layer equals transformers on one clip."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from embedx import extractors
from tests.helpers.conformance import EXACT, Checkpoint, run
from tests.helpers.encoder_checkpoints import ENCODERS

SECONDS = (0.31, 1.0, 2.743, 1.0)


def library(folder: Path, name: str) -> tuple[Any, Any]:
    """Return the model and the front end of a checkpoint as transformers loads them."""
    import transformers

    tiny = ENCODERS[name]
    model = getattr(transformers, tiny.model).from_pretrained(folder).eval()
    return model, transformers.AutoFeatureExtractor.from_pretrained(folder)


def hidden_states(output: Any) -> list[Tensor]:
    """Return the states [T, D] of all layers; the last one is `last_hidden_state`."""
    return [state[0] for state in (*output.hidden_states[:-1], output.last_hidden_state)]


def sew(model: Any, inputs: dict[str, Tensor]) -> list[Tensor]:
    output = model(**inputs, output_hidden_states=True)
    return [*(state[0].repeat_interleave(2, dim=0) for state in output.hidden_states), output.last_hidden_state[0]]


def encoder(model: Any, inputs: dict[str, Tensor]) -> list[Tensor]:
    return hidden_states(model.get_encoder()(**inputs, output_hidden_states=True))


def parakeet(model: Any, inputs: dict[str, Tensor]) -> list[Tensor]:
    output = getattr(model, "encoder", model)(**inputs, output_hidden_states=True)
    return [states[output.attention_mask[0].bool()] for states in hidden_states(output)]


BY_HAND: dict[str, Callable[[Any, dict[str, Tensor]], list[Tensor]]] = {
    "sew": sew,
    "sew-d": sew,
    "parakeet": parakeet,
    "parakeet-ctc": parakeet,
}


@pytest.mark.parametrize("name", ENCODERS)
def test_every_layer_equals_transformers_on_one_clip(name: str, checkpoint: Checkpoint) -> None:
    extractor = extractors.load(str(checkpoint(name)))
    model, front_end = library(checkpoint(name), name)
    assert extractor.sample_rate == front_end.sampling_rate
    random = torch.Generator().manual_seed(5)
    clips = [torch.rand(round(s * extractor.sample_rate), generator=random) - 0.4 for s in SECONDS]
    found = run(extractor, clips, pad=321)
    for i, clip in enumerate(clips):
        inputs = dict(front_end(clip.numpy(), sampling_rate=extractor.sample_rate, return_tensors="pt"))
        with torch.inference_mode():
            expected = BY_HAND.get(name, encoder)(model, inputs)
        assert len(expected) == len(extractor.layers)
        for layer, states in enumerate(expected):
            torch.testing.assert_close(found[layer][i], states, atol=EXACT, rtol=EXACT)
