"""The models of the measurements on a GPU, with random weights, and the peaks of the device."""

import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchaudio
import transformers
from page import commit

from embedx import extractors
from embedx.bench.speed.roofline import name_device
from embedx.extractors.base import Extractor
from embedx.extractors.fast.norms import is_fused
from embedx.processes.cores import count_cores

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
SHAPES: dict[str, dict[str, Any]] = {
    "wav2vec2-large": LARGE,
    "wav2vec2-base": {},
    "wav2vec2-large-lv60": LARGE | {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
}
SMALL = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "conv_dim": (64,) * 7,
}


@dataclass(frozen=True)
class Setting:
    """The size of the measurement, and the device."""

    device: str
    small: bool
    seconds: float  # for each figure
    files: int

    def wait(self) -> None:
        """Wait until the device has finished its work."""
        if self.device == "cuda":
            torch.cuda.synchronize()


@dataclass(frozen=True)
class Model:
    """A model with random weights: in transformers, and with both backends of embedx."""

    name: str
    config: Any
    folder: str
    plain: Any
    fast: Extractor
    reference: Extractor


def make(name: str, setting: Setting, folder: Path) -> Model:
    """Return a model with random weights."""
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(**(SHAPES[name] | (SMALL if setting.small else {})))
    plain = transformers.Wav2Vec2Model(config).eval()
    plain.save_pretrained(folder / name)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder / name)
    plain.set_attn_implementation("eager")
    place = str(folder / name)
    fast, reference = (extractors.load(place, backend=backend).to(setting.device) for backend in ("fast", "reference"))
    return Model(name, config, place, plain.to(setting.device), fast, reference)


def peak(setting: Setting, dtype: torch.dtype) -> float:
    """Return the peak operations per second of a product of square matrices, the best of five turns."""
    size, turns = (256, 2) if setting.small else (8192 if dtype == torch.bfloat16 else 4096, 20)
    x, y = (torch.randn(size, size, device=setting.device).to(dtype) for _ in range(2))
    taken = [clocked(setting, lambda: [x @ y for _ in range(turns)]) for _ in range(6)]
    return 2 * size**3 * turns / min(taken[1:])


def clocked(setting: Setting, work: Callable[[], Any]) -> float:
    """Return the seconds that the work takes."""
    setting.wait()
    begun = time.perf_counter()
    work()
    setting.wait()
    return time.perf_counter() - begun


def describe(setting: Setting, peaks: dict[str, float]) -> str:
    """Return the device and the versions."""
    name = name_device("cpu")
    fused = is_fused(torch.device(setting.device, 0), 1024, torch.bfloat16)
    if setting.device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            driver = subprocess.run(asked, capture_output=True, text=True).stdout.split("\n")[0]
        except OSError:
            driver = "unknown"
        name = f"{torch.cuda.get_device_name()} ({memory:.0f} GiB, driver {driver}, CUDA {torch.version.cuda}), {name}"
    return (
        f"Made by `python benchmarks/gpu.py` on {time.strftime('%Y-%m-%d')} at commit {commit()}: {name}, "
        f"{count_cores()} cores; torch {torch.__version__}, transformers {transformers.__version__}, torchaudio "
        f"{torchaudio.__version__}, Python {platform.python_version()}. Random weights. TF32 is off throughout. Square "
        f"products reach {peaks['bfloat16'] / 1e12:.1f} TFLOP/s in bfloat16 (8192) and {peaks['float32'] / 1e12:.1f} "
        f"in float32 (4096): the peaks below. Norms are {'' if fused else 'not '}fused by Triton.\n"
    )
