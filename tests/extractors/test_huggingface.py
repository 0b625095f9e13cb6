"""Transformers: every layer equals the library on one clip; front ends; fine-tuned checkpoints."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from embedx import extractors
from embedx.errors import ModelError
from embedx.extractors import spectrogram
from embedx.extractors.checkpoints import load_checkpoint
from tests.helpers.checkpoints import SPECTRAL
from tests.helpers.conformance import EXACT, Checkpoint, run
from tests.helpers.random_models import TRANSFORMERS, make_pickle

SPEECH = tuple(name for name in TRANSFORMERS if name not in SPECTRAL)  # over the waveform


@pytest.mark.filterwarnings("ignore:Support for mismatched")  # from the WavLM of transformers
@pytest.mark.parametrize("name", SPEECH)
def test_every_layer_equals_transformers_on_one_clip(name: str, checkpoint: Checkpoint) -> None:
    from transformers import AutoFeatureExtractor, AutoModel

    folder = checkpoint(name)
    extractor = extractors.load(str(folder), backend="reference")
    front_end, model = AutoFeatureExtractor.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    clips = [torch.rand(n) - 0.4 for n in (2_240, 400, 16_000, 80_001)]
    found = run(extractor, clips)
    for i, clip in enumerate(clips):
        inputs = front_end(clip.numpy(), sampling_rate=16_000, return_tensors="pt")
        with torch.inference_mode():
            output = model(**inputs, output_hidden_states=True)
        for layer in extractor.layers:
            last = layer == extractor.layers[-1]
            expected = output.last_hidden_state if last else output.hidden_states[layer]
            torch.testing.assert_close(found[layer][i], expected[0], atol=EXACT, rtol=0)


CLIPS = [torch.rand(n, generator=torch.Generator().manual_seed(n)) - 0.4 for n in (15_600, 4_000, 80_001, 48_000)]


def by_hand(folder: Path, clip: Tensor, rate: int = 16_000) -> Any:
    """Return the output of transformers' own front end and model for one clip."""
    from transformers import AutoFeatureExtractor, AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    inputs = AutoFeatureExtractor.from_pretrained(folder)(clip.numpy(), sampling_rate=rate, return_tensors="pt")
    with torch.inference_mode():
        if model.config.model_type == "whisper":
            return model.get_encoder()(**inputs, output_hidden_states=True)
        if model.config.model_type == "clap":
            return model.get_audio_features(**inputs)
        return model(**inputs, output_hidden_states=True)


@pytest.mark.parametrize("name", ["wav2vec2-bert", "whisper"])
def test_valid_frames_equal_transformers(name: str, checkpoint: Checkpoint) -> None:
    extractor = extractors.load(str(checkpoint(name)))
    found = run(extractor, CLIPS)
    for i, clip in enumerate(CLIPS):
        output = by_hand(checkpoint(name), clip)
        for layer in extractor.layers:
            last = layer == extractor.layers[-1]
            expected = (output.last_hidden_state if last else output.hidden_states[layer])[0]
            assert len(found[layer][i]) == pytest.approx(len(clip) / 320, abs=2)
            torch.testing.assert_close(found[layer][i], expected[: len(found[layer][i])], atol=EXACT, rtol=0)


def test_ast_tokens_equal_transformers(checkpoint: Checkpoint) -> None:
    extractor = extractors.load(str(checkpoint("ast")))
    clips = [*CLIPS, torch.rand(extractor.max_samples or 0) - 0.5]
    found = run(extractor, clips)
    for i, clip in enumerate(clips):
        output = by_hand(checkpoint("ast"), clip)
        for layer in extractor.layers:
            last = layer == extractor.layers[-1]
            states = (output.last_hidden_state if last else output.hidden_states[layer])[0, 2:]  # patch tokens, F x T
            in_time = states.reshape(12, 101, -1).transpose(0, 1).flatten(0, 1)
            torch.testing.assert_close(found[layer][i], in_time[: len(found[layer][i])], atol=EXACT, rtol=0)
    assert len(found[0][-1]) == 1212
    assert len(found[0][1]) == 12  # 23 mel frames hold one column of patches


def test_clap_equals_transformers(checkpoint: Checkpoint) -> None:
    extractor = extractors.load(str(checkpoint("clap")))
    assert (extractor.sample_rate, extractor.max_samples) == (48_000, 480_000)
    found = run(extractor, CLIPS)[0]
    for i, clip in enumerate(CLIPS):
        torch.testing.assert_close(
            found[i], by_hand(checkpoint("clap"), clip, 48_000).pooler_output, atol=EXACT, rtol=0
        )


def test_spectrogram_model_without_front_end_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    shutil.copytree(checkpoint("whisper"), tmp_path / "w")
    (tmp_path / "w/preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"no preprocessor_config\.json"):
        extractors.load(str(tmp_path / "w"))


def test_checkpoint_pickle_is_read_only_if_allowed(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "pickle"
    shutil.copytree(checkpoint("hubert"), folder)
    make_pickle(folder)
    with pytest.raises(ModelError, match="--allow-pickle"):
        extractors.load(str(folder))
    allowed = extractors.load(str(folder), allow_pickle=True)
    assert allowed.weights == extractors.load(str(checkpoint("hubert"))).weights


def test_weights_hash_depends_on_numbers_and_not_on_path(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = checkpoint("hubert")
    first = extractors.load(str(folder)).weights
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert extractors.load(str(moved)).weights == first
    tensors = load_file(moved / "model.safetensors")
    tensors["encoder.layer_norm.bias"] += 1e-6
    save_file(tensors, moved / "model.safetensors", metadata={"format": "pt"})
    assert extractors.load(str(moved)).weights != first
    assert extractors.load(str(checkpoint("wavlm"))).weights != first


@pytest.mark.parametrize(
    "name, kind",
    [
        ("hubert", "HubertForCTC"),
        ("wav2vec2", "Wav2Vec2ForSequenceClassification"),
        ("wav2vec2", "Wav2Vec2ForPreTraining"),
        ("wavlm", "WavLMForXVector"),
        ("wav2vec2-bert", "Wav2Vec2BertForCTC"),
        ("ast", "ASTForAudioClassification"),
        ("whisper", "WhisperForConditionalGeneration"),
    ],
)
def test_fine_tuned_checkpoint_is_loaded_as_its_encoder(
    name: str, kind: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    import transformers

    shutil.copytree(checkpoint(name), tmp_path / "tuned")
    config = transformers.AutoConfig.from_pretrained(checkpoint(name), vocab_size=64)
    tuned = getattr(transformers, kind)(config)
    tuned.base_model.load_state_dict(transformers.AutoModel.from_pretrained(checkpoint(name)).state_dict())
    tuned.save_pretrained(tmp_path / "tuned")
    clip = [torch.rand(16_000) - 0.5]
    plain, found = (
        run(extractors.load(str(checkpoint(name))), clip),
        run(extractors.load(str(tmp_path / "tuned")), clip),
    )
    assert found.keys() == plain.keys()
    for layer in plain:
        torch.testing.assert_close(found[layer][0], plain[layer][0])


def test_clap_embeds_text_in_audio_space(checkpoint: Checkpoint, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    shutil.copytree(checkpoint("clap"), tmp_path / "clap")
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "dog": 2, "rain": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>").save_pretrained(tmp_path / "clap")
    extractor = spectrogram.Clap(load_checkpoint(str(tmp_path / "clap"), ("clap",), allow_pickle=False))
    with torch.inference_mode():
        texts = extractor.embed_text(["dog", "a dog in the rain"])
        alone = extractor.embed_text(["dog"])
    assert texts.shape == (2, extractor.dim)
    torch.testing.assert_close(texts[:1], alone, atol=EXACT, rtol=0)


def test_checkpoint_without_front_end_is_normalised_with_warning(
    checkpoint: Checkpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(checkpoint("hubert"), folder)
    (folder / "preprocessor_config.json").unlink()
    assert extractors.load(str(folder)).weights == extractors.load(str(checkpoint("hubert"))).weights
    assert "do_normalize = true" in caplog.text
