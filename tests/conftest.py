"""Fixtures: a generated corpus everywhere, tiny real checkpoints, and the real audio of ../shared where it is."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

import embedx
from embedx.datasets.synthetic import synthesise

SHARED = Path(os.environ.get("EMBEDX_SHARED") or Path(__file__).parents[2] / "shared")


def pytest_report_header() -> str:
    found = "found" if SHARED.is_dir() else "not there: tests on real audio and real weights are skipped"
    return f"shared data ({SHARED}): {found}"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("needs the real audio and weights of ../shared (or EMBEDX_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made corpus of 4 classes x 5 sources x 2 takes, and its manifest."""
    return synthesise(tmp_path_factory.mktemp("corpus"), takes=2, classes=4)


@pytest.fixture(scope="session")
def made(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of the made corpus, by logmel; not to be changed by a test."""
    out = tmp_path_factory.mktemp("indexes") / "made"
    embedx.extract(manifest, out=out, group="source", pooling=("mean", "max")).close()
    return out


@pytest.fixture
def collection(made: Path) -> Iterator[embedx.Collection]:
    with embedx.open(made) as opened:
        yield opened


SMALL = {  # a transformer that runs at hundreds of times real time
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"feat_extract_norm": "layer", "conv_bias": True}
# the same for those that look at a spectrogram
SPECTRAL: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "wav2vec2-bert": ("Wav2Vec2Bert", {"feature_projection_input_dim": 160}, "SeamlessM4TFeatureExtractor", {}),
    "ast": ("AST", {}, "ASTFeatureExtractor", {}),
    "whisper": ("Whisper", {"d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 4, "encoder_ffn_dim": 64,
                            "decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 64, "vocab_size": 64,
                            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
                "WhisperFeatureExtractor", {}),
    "clap": ("Clap", {"projection_dim": 16,
                      "audio_config": {"patch_embeds_hidden_size": 16, "hidden_size": 128, "depths": [1, 1, 1, 1],
                                       "num_attention_heads": [1, 2, 2, 4], "enable_fusion": False},
                      "text_config": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                                      "intermediate_size": 16, "vocab_size": 64}},
             "ClapFeatureExtractor", {"truncation": "rand_trunc"}),
}  # fmt: skip
CHECKPOINTS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    # name -> class and configuration of transformers, class and configuration of its front end
    name: (kind, options, "Wav2Vec2FeatureExtractor", {"do_normalize": normalise})
    for name, kind, options, normalise in (
        ("wav2vec2", "Wav2Vec2", {}, True),
        ("wav2vec2-large", "Wav2Vec2", {"do_stable_layer_norm": True, **LARGE}, True),
        ("hubert", "Hubert", {}, True),
        ("hubert-batch-norm", "Hubert", {"conv_pos_batch_norm": True}, True),
        ("distilhubert", "Hubert", {"num_hidden_layers": 2, "feat_proj_layer_norm": False}, False),
        ("wavlm", "WavLM", {}, False),
        ("wavlm-large", "WavLM", {"do_stable_layer_norm": True, **LARGE}, True),
        ("conformer-relative", "Wav2Vec2Conformer", {"position_embeddings_type": "relative", **LARGE}, True),
        ("conformer-rotary", "Wav2Vec2Conformer", {"position_embeddings_type": "rotary"}, True),
        ("data2vec", "Data2VecAudio", {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}, True),
        ("unispeech", "UniSpeech", {}, True),
        ("unispeech-sat", "UniSpeechSat", {}, True),
        ("hubert-wide", "Hubert", {"hidden_size": 128, "conv_dim": (64,) * 7, "intermediate_size": 256}, True),
    )
} | SPECTRAL


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a tiny checkpoint with random weights, as save_pretrained writes it."""
    import transformers

    root = tmp_path_factory.mktemp("checkpoints")

    def make(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            kind, options, front_end, front_end_options = CHECKPOINTS[name]
            torch.manual_seed(len(name))
            shape = {} if kind in ("Whisper", "Clap") else SMALL
            model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**(shape | options)))
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm1d):  # fresh ones map zero to zero, trained ones do not
                    module.bias.data.normal_()
                    module.running_mean.normal_()  # type: ignore[union-attr]
            model.save_pretrained(folder)
            getattr(transformers, front_end)(**front_end_options).save_pretrained(folder)
        return folder

    return make


VGGISH = {  # layer of torchvggish -> (scope in TensorFlow, shape of the weights in TensorFlow)
    "features.0": ("vggish/conv1", (3, 3, 1, 64)),
    "features.3": ("vggish/conv2", (3, 3, 64, 128)),
    "features.6": ("vggish/conv3/conv3_1", (3, 3, 128, 256)),
    "features.8": ("vggish/conv3/conv3_2", (3, 3, 256, 256)),
    "features.11": ("vggish/conv4/conv4_1", (3, 3, 256, 512)),
    "features.13": ("vggish/conv4/conv4_2", (3, 3, 512, 512)),
    "embeddings.0": ("vggish/fc1/fc1_1", (12_288, 4096)),
    "embeddings.2": ("vggish/fc1/fc1_2", (4096, 4096)),
    "embeddings.4": ("vggish/fc2", (4096, 128)),
}


@pytest.fixture(scope="session")
def vggish_variables() -> dict[str, NDArray[np.float32]]:
    """Random weights of VGGish at full size under TensorFlow's names, scaled so that the signal survives (He 2015)."""
    random = np.random.default_rng(0)
    variables: dict[str, NDArray[np.float32]] = {}
    for scope, shape in VGGISH.values():
        scale = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        variables[f"{scope}/weights"] = random.standard_normal(shape, dtype=np.float32) * scale
        variables[f"{scope}/biases"] = random.standard_normal(shape[-1], dtype=np.float32) * np.float32(0.1)
    return variables


@pytest.fixture(scope="session")
def vggish_tensors(vggish_variables: dict[str, NDArray[np.float32]]) -> dict[str, torch.Tensor]:
    """The same numbers as torchvggish keeps them."""
    tensors = {}
    for layer, (scope, shape) in VGGISH.items():
        axes = (3, 2, 0, 1) if len(shape) == 4 else (1, 0)
        tensors[f"{layer}.weight"] = torch.from_numpy(vggish_variables[f"{scope}/weights"].transpose(axes).copy())
        tensors[f"{layer}.bias"] = torch.from_numpy(vggish_variables[f"{scope}/biases"])
    return tensors


@pytest.fixture(scope="session")
def vggish_weights(vggish_tensors: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of them, 288 MB."""
    path = tmp_path_factory.mktemp("vggish") / "vggish.safetensors"
    save_file(vggish_tensors, path)
    return path


@pytest.fixture
def write_wav(tmp_path: Path) -> Callable[..., Path]:
    """Write a WAV of noise (or of given samples) and return its path."""

    def write(
        name: str = "a.wav", seconds: float = 1.0, rate: int = 16_000, samples: NDArray[Any] | None = None
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(len(name))
        if samples is None:
            samples = random.uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)
        soundfile.write(os.fsencode(path), samples, rate, subtype="FLOAT", format="WAV")
        return path

    return write
