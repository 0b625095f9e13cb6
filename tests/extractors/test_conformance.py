"""The conformance suite: what every extractor promises, on every layer."""

import json
import os
import shutil
import sys
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.fft
import soundfile
import soxr
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from embedx import extractors
from embedx.errors import ModelError
from embedx.extractors import spectrogram, yamnet
from embedx.extractors.base import Extractor
from embedx.extractors.checkpoints import load_checkpoint
from embedx.extractors.melspec import LogMel, count_patches, patches
from embedx.extractors.yamnet import Network
from tests.helpers.checkpoints import CHECKPOINTS, SPECTRAL
from tests.helpers.conformance import EXACT, Checkpoint, ConformanceTests, clips_for, run
from tests.helpers.paths import SHARED

TRANSFORMERS = tuple(name for name in CHECKPOINTS if name != "hubert-wide")
SPEECH = tuple(name for name in TRANSFORMERS if name not in SPECTRAL)  # over the waveform
NAMES = ("logmel", "mfcc", "yamnet", "vggish", "melspec-resnet18", *TRANSFORMERS)


@pytest.fixture(scope="module", params=NAMES)
def extractor(
    request: pytest.FixtureRequest, checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Extractor:
    name: str = request.param
    if name in TRANSFORMERS:
        return extractors.load(str(checkpoint(name)), backend="reference")
    if name == "yamnet":  # real weights where they are, random ones elsewhere
        path = SHARED / "weights/yamnet/yamnet.safetensors"
        return extractors.load(f"yamnet:{path if path.exists() else random_yamnet(tmp_path_factory.mktemp('yamnet'))}")
    if name == "vggish":
        return extractors.load(f"vggish:{request.getfixturevalue('vggish_weights')}")
    if name == "melspec-resnet18":
        return extractors.load(f"{name}:{random_resnet18(tmp_path_factory.mktemp(name))}")
    return extractors.load(name)


class TestEveryFamily(ConformanceTests):
    pass


def random_resnet18(folder: Path) -> Path:
    models = pytest.importorskip("torchvision.models", reason="needs torchvision, which is optional")
    torch.manual_seed(0)
    path = folder / "resnet18.safetensors"
    save_file(models.resnet18().state_dict(), path)
    return path


def random_yamnet(folder: Path) -> Path:
    torch.manual_seed(0)
    path = folder / "yamnet.safetensors"
    save_file(Network().state_dict(), path)
    return path


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs_with_exact_front_end(extractor: Extractor, dtype: torch.dtype) -> None:
    clips = clips_for(extractor)[:3]
    exact = run(extractor, clips)
    with torch.autocast("cpu", dtype):
        half = run(extractor, clips)
    for layer in extractor.layers:
        for a, b in zip(half[layer], exact[layer], strict=True):
            assert a.shape == b.shape
            assert torch.isfinite(a).all()
            cosine = torch.nn.functional.cosine_similarity(a.float().mean(dim=0), b.mean(dim=0), dim=0)
            # tiny random models say nothing of bfloat16; `make bench` measures true shapes, where the lowest is 0.9996
            assert dtype == torch.bfloat16 or cosine > 0.99


# -- speech transformers: equal to the library run by hand ---------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Support for mismatched")  # transformers' WavLM, run by hand
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
    assert "waves are normalised" in caplog.text


# -- mfcc and melspec-resnet18 -------------------------------------------------------------------------------------


def test_mfcc_is_cosine_transform_of_log_mel_and_its_slope() -> None:
    clip = clips_for(extractors.load("mfcc"))[3]
    (found,) = run(extractors.load("mfcc"), [clip])[0]
    cepstrum = scipy.fft.dct(LogMel(0.01)(clip[None])[0].double().numpy(), type=2, norm="ortho")[:, :20]
    np.testing.assert_allclose(found[:, :20], cepstrum[2:-2], atol=1e-4)
    slopes = [np.polyfit(np.arange(-2, 3), cepstrum[t - 2 : t + 3], 1)[0] for t in range(2, len(cepstrum) - 2)]
    np.testing.assert_allclose(found[:, 20:], slopes, atol=1e-4)


def test_mfcc_of_steady_tone_has_no_slope() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000, dtype=torch.float64) / 16_000).float()
    assert run(extractors.load("mfcc"), [tone])[0][0][:, 20:].abs().max() < 1e-4


def test_melspec_resnet18_without_torchvision_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ModelError, match="pip install torchvision"):
        extractors.load("melspec-resnet18")


def test_melspec_resnet18_equals_torchvision_on_patch_image(tmp_path: Path) -> None:
    path = random_resnet18(tmp_path)
    from torchvision.models import resnet18

    network = resnet18().eval()
    network.load_state_dict(load_file(path))
    hidden: list[Tensor] = []
    network.avgpool.register_forward_hook(lambda module, given, output: hidden.append(output.flatten(1)))
    extractor = extractors.load(f"melspec-resnet18:{path}")
    clip = clips_for(extractor)[3]
    grey = (LogMel(0.01)(clip[None])[0, 48:144] - np.log(0.01)) / (5 - np.log(0.01))
    channels = zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    network(torch.stack([(grey - mean) / std for mean, std in channels])[None])
    torch.testing.assert_close(run(extractor, [clip])[0][0][1:2], hidden[0], atol=1e-4, rtol=1e-4)


def test_melspec_resnet18_refuses_other_weights(tmp_path: Path) -> None:
    tensors = load_file(random_resnet18(tmp_path))
    del tensors["layer3.1.conv2.weight"]
    save_file(tensors | {"layer5.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=r"(?s)layer3\.1\.conv2\.weight.*layer5\.weight"):
        extractors.load(f"melspec-resnet18:{tmp_path / 'other.safetensors'}")
    with pytest.raises(ModelError, match="no weights at"):
        extractors.load(f"melspec-resnet18:{tmp_path / 'nowhere.safetensors'}")


def test_melspec_resnet18_without_network_names_local_alternative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchvision", reason="needs torchvision, which is optional")

    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(ModelError, match=r"resnet18-\w+\.pth elsewhere.*melspec-resnet18:PATH --allow-pickle"):
        extractors.load("melspec-resnet18")


# -- what cannot be loaded -----------------------------------------------------------------------------------------


def break_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def drop_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layers.1.final_layer_norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def add_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layers.9.final_layer_norm.weight"] = torch.zeros(32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def make_text_model(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))


def make_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


BREAKAGES: dict[str, Callable[[Path], object]] = {
    "cannot be loaded": break_weights,
    r"missing: encoder\.layers\.1\.final_layer_norm\.weight": drop_weight,
    r"unexpected: encoder\.layers\.9\.final_layer_norm\.weight": add_weight,
    "type 'bert', not an audio encoder": make_text_model,
    "holds no config.json": lambda folder: (folder / "config.json").unlink(),
    "config.json cannot be read": lambda folder: (folder / "config.json").write_text("{"),
    "a pickle .*, which can run code: allow it": make_pickle,
    "weights in .* cannot be loaded": lambda folder: (folder / "model.safetensors").unlink(),
}


@pytest.mark.parametrize("message", BREAKAGES)
def test_broken_checkpoint_is_refused_with_reason(checkpoint: Checkpoint, tmp_path: Path, message: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(checkpoint("hubert"), folder)
    BREAKAGES[message](folder)
    with pytest.raises(ModelError, match=message):
        extractors.load(str(folder))


@pytest.mark.parametrize(
    "name, message",
    [
        ("logmle", "Did you mean 'logmel'"),
        ("hubert", "Known names"),
        ("./nowhere", "no model folder"),
        ("yamnet:/nowhere.safetensors", "EMBEDX_YAMNET_WEIGHTS"),
        ("yamnet", "EMBEDX_YAMNET_WEIGHTS"),
        ("someone/model-that-is-not-there", "no network.*--model FOLDER"),
    ],
)
def test_unknown_model_is_refused_with_suggestions(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("EMBEDX_YAMNET_WEIGHTS", raising=False)
    with pytest.raises(ModelError, match=message):
        extractors.load(name)


def test_yamnet_is_found_by_variable_folder_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = random_yamnet(tmp_path)
    monkeypatch.setenv("EMBEDX_YAMNET_WEIGHTS", str(path))
    names = ["yamnet", f"yamnet:{path}", f"yamnet:{tmp_path}", str(path), str(tmp_path)]
    assert len({extractors.load(name).weights for name in names}) == 1
    assert {extractors.resolve(name)[0] for name in names} == {"yamnet"}


def test_yamnet_refuses_other_weights(tmp_path: Path) -> None:
    save_file({"conv0.weight": torch.zeros(1)}, tmp_path / "yamnet.safetensors")
    with pytest.raises(ModelError, match=r"conv1\.weight"):
        extractors.load(f"yamnet:{tmp_path}")


# -- golden values of an independent implementation ----------------------------------------------------------------


def test_front_end_of_sine_peaks_at_its_band() -> None:
    """The figures of VGGish's published front end for 3 s of 1 kHz, from an independent float64 implementation."""
    sine = torch.sin(2 * torch.pi * 1000 * torch.arange(48_000, dtype=torch.float64) / 16_000).float()
    found = patches(LogMel(0.01)(sine[None]), hop=96)[0]
    assert found.shape == (3, 96, 64)
    values = {
        0: -4.48313,
        1: -4.27083,
        10: -3.47829,
        20: 4.77504,
        21: 2.26222,
        22: -0.58961,
        31: -4.17908,
        63: -4.60116,
    }
    for band, value in values.items():
        assert found[0, 0, band] == pytest.approx(value, abs=1e-4)
    assert found.mean() == pytest.approx(-3.429619, abs=1e-4)
    assert found.std(correction=0) == pytest.approx(2.126577, abs=1e-4)


def test_front_end_equals_the_reference(shared: Path) -> None:
    golden = np.load(shared / "reference/frontend_golden.npz", allow_pickle=False)
    clip = torch.from_numpy(golden["clip_16k"])[None]
    for offset, name in ((0.01, "clip_vggish_logmel"), (0.001, "clip_yamnet_logmel")):
        np.testing.assert_allclose(LogMel(offset)(clip)[0].numpy(), golden[name], atol=1e-4)


def test_yamnet_equals_the_reference(shared: Path) -> None:
    golden = np.load(shared / "reference/yamnet_golden.npz", allow_pickle=False)
    extractor = yamnet.load(str(shared / "weights/yamnet"))
    clips = []
    for name in golden["files"]:
        samples, rate = soundfile.read(shared / "data/esc10/audio" / str(name), dtype="float32", always_2d=True)
        clips.append(torch.from_numpy(soxr.resample(samples.mean(axis=1), rate, 16_000, quality="HQ")))
    (found,) = run(extractor, clips).values()
    assert [len(one) for one in found] == golden["n_patches"].tolist()
    np.testing.assert_allclose([one.mean(dim=0) for one in found], golden["mean_embedding"], atol=1e-4)
    np.testing.assert_allclose([one.amax(dim=0) for one in found], golden["max_embedding"], atol=1e-3)
    np.testing.assert_allclose([extractor.scores(one).mean(dim=0) for one in found], golden["mean_scores"], atol=1e-4)


def test_patch_count_equals_patches_cut() -> None:
    for n in (15_600, 15_759, 23_279, 23_280, 80_016, 160_000):
        cut = patches(LogMel(0.01)(torch.zeros(1, n)), hop=48)
        assert count_patches(torch.tensor([n]), 48).item() == cut.shape[1]


def test_import_of_extractors_loads_no_torch() -> None:
    import subprocess

    code = "import sys, embedx.extractors.catalogue; print('torch' in sys.modules, 'transformers' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert found.stdout.strip() == "False False"
