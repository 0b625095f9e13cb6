"""Encoders that run on clips of equal length: every layer equals transformers on one clip."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import embedx
from embedx import extractors
from embedx.errors import UsageError
from tests.helpers.conformance import EXACT, Checkpoint, run
from tests.helpers.encoder_checkpoints import ENCODERS, WITH_TEXT

SECONDS = (0.31, 0.8, 1.243, 0.8)


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


def latents(model: Any, inputs: dict[str, Tensor]) -> list[Tensor]:
    waves = inputs["input_values"]
    if model.config.model_type == "mimi":
        return [model.encoder(waves).latents[0].T]
    waves = waves / (waves.pow(2).mean().sqrt() + 1e-8) if getattr(model.config, "normalize", False) else waves
    return [model.encoder(waves)[0].T]


def qwen(model: Any, inputs: dict[str, Tensor]) -> list[Tensor]:
    tower = getattr(getattr(model, "model", model), "audio_tower", model)
    *states, last = hidden_states(tower(inputs["input_features"], output_hidden_states=True))
    return [*states, last.repeat_interleave(2, dim=0)]


def pe_audio(model: Any, inputs: dict[str, Tensor]) -> list[Tensor]:
    return [model(input_ids=torch.tensor([[7, 2]]), **inputs).audio_embeds]


def gemma(model: Any, inputs: dict[str, Tensor]) -> list[Tensor]:
    mask = inputs["input_features_mask"].bool()
    count = int(model.audio_tower(inputs["input_features"], mask).attention_mask.sum())
    tokens = torch.tensor([[7, 4, *[5] * count, 6]])
    return [
        model(tokens, input_features=inputs["input_features"], input_features_mask=mask)
        .last_hidden_state[0]
        .mean(0)[None]
    ]


BY_HAND: dict[str, Callable[[Any, dict[str, Tensor]], list[Tensor]]] = {
    "sew": sew,
    "sew-d": sew,
    "parakeet": parakeet,
    "parakeet-ctc": parakeet,
    "canary": parakeet,
    **dict.fromkeys(("mimi", "encodec", "dac"), latents),
    **dict.fromkeys(("qwen2-audio", "qwen2-audio-tower"), qwen),
    "pe-audio": pe_audio,
    "embedding-gemma2": gemma,
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
        sound = [clip.numpy()] if name == "embedding-gemma2" else clip.numpy()  # as the library's processors pass it
        inputs = dict(front_end(sound, sampling_rate=extractor.sample_rate, return_tensors="pt"))
        with torch.inference_mode():
            expected = BY_HAND.get(name, encoder)(model, inputs)
        assert len(expected) == len(extractor.layers)
        for layer, states in enumerate(expected):
            count = len(found[layer][i])  # the library's states go on after the clip where it is padded to a length
            assert count == len(states) or extractor.padded_samples(len(clip)) == extractor.max_samples  # type: ignore[attr-defined]
            torch.testing.assert_close(found[layer][i], states[:count], atol=EXACT, rtol=EXACT)


@pytest.mark.parametrize("name", WITH_TEXT)
def test_text_is_embedded_as_by_transformers_and_alone_as_with_others(name: str, checkpoint: Checkpoint) -> None:
    extractor: Any = extractors.load(str(checkpoint(name)))
    model, front_end = library(checkpoint(name), name)
    with torch.inference_mode():
        texts = extractor.embed_text(["dog", "dog rain rain dog"])
        tokens = torch.tensor([[7, 2]])
        if name == "pe-audio":
            inputs = front_end(torch.rand(3_200).numpy(), sampling_rate=extractor.sample_rate, return_tensors="pt")
            expected = model(input_ids=tokens, **inputs).text_audio_embeds
        else:
            expected = model(tokens).last_hidden_state.mean(dim=1)
        torch.testing.assert_close(texts[:1], expected, atol=EXACT, rtol=EXACT)
        torch.testing.assert_close(texts[:1], extractor.embed_text(["dog"]), atol=EXACT, rtol=EXACT)
    assert texts.shape == (2, extractor.dim)
    with pytest.raises(UsageError, match="Use a shorter text"):
        extractor.embed_text(["dog " * 99])


@pytest.mark.parametrize("name", WITH_TEXT)
def test_collection_is_made_in_threads_and_searched_by_text(
    name: str, checkpoint: Checkpoint, write_wav: Callable[..., Path], tmp_path: Path
) -> None:
    for i in range(6):
        write_wav(f"sounds/{i}.wav", seconds=0.1 + 0.2 * (i // 2))
    model = str(checkpoint(name))
    with embedx.extract(tmp_path / "sounds", model=model, out=tmp_path / "c", batch_seconds=0.2) as made:
        assert len(made) == 6
        assert len(made.search(text="dog", k=3)) == 3
