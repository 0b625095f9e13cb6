"""Memory of models: the peak of a forward pass of 10 s on a processor, with published sizes and random weights.

Run it with MALLOC_MMAP_THRESHOLD_=65536, so that freed memory goes back to the system at once.
"""

import gc
import re
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.families import FAMILIES
from embedx.extractors.huggingface import Transformer

SECONDS = 10
WAVE = {"do_normalize": True, "sampling_rate": 16_000}
DAC = {"decoder_hidden_size": 64}  # the decoder is not used
PE = {"audio_config": {"num_hidden_layers": 2}, "text_config": {"num_hidden_layers": 1}}
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    # name -> classes of transformers, configuration, front end, model type
    "HuBERT-base": ("Hubert", {}, WAVE, "hubert"),
    "SEW": ("SEW", {}, WAVE, "sew"),
    "SEW-D": ("SEWD", {}, WAVE, "sew-d"),
    "Moonshine": ("Moonshine", {}, WAVE, "moonshine"),
    "Speech2Text": ("Speech2Text", {}, {"sampling_rate": 16_000}, "speech_to_text"),
    "EnCodec": ("Encodec", {}, {"sampling_rate": 24_000}, "encodec"),
    "Mimi": ("Mimi", {}, {"sampling_rate": 24_000}, "mimi"),
    "DAC 16 kHz": ("Dac", {**DAC, "downsampling_ratios": [2, 4, 5, 8]}, {"hop_length": 320}, "dac"),
    "DAC 44.1 kHz": ("Dac", {**DAC, "sampling_rate": 44_100}, {"sampling_rate": 44_100, "hop_length": 512}, "dac"),
    "PE-Audio": ("PeAudio", PE, {"sampling_rate": 48_000, "hop_length": 1920}, "pe_audio"),
}


def resident(peak: bool) -> int:
    """Return the memory of this process in bytes, now or at its peak since `measure` cleared it."""
    found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@torch.inference_mode()
def measure(name: str) -> None:
    """Print the memory of a model."""
    classes, options, front_end, kind = MODELS[name]
    model = getattr(transformers, f"{classes}Model")(getattr(transformers, f"{classes}Config")(**options)).eval()
    extractor = FAMILIES.get(kind, Transformer)(Checkpoint(name, model, front_end, {"model_type": kind}))
    count = SECONDS * extractor.sample_rate
    gc.collect()
    before, start = resident(peak=False), time.process_time()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    list(extractor.frames(torch.rand(1, count) - 0.5, torch.tensor([count]), extractor.layers[-1:]))
    size = resident(peak=True) - before
    seconds = time.process_time() - start
    print(
        f"{name:14} {size / count:6.0f} B per sample {size / SECONDS / 1e6:6.1f} MB per s {seconds:6.1f} s", flush=True
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for model_name in MODELS:
        measure(model_name)
