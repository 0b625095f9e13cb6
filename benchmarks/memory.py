"""Memory of models: the peak of a forward pass on a processor, with published sizes and random weights.

The clip has 10 s, or 30 s where the model pads to it. Run it with MALLOC_MMAP_THRESHOLD_=65536, so that freed memory
goes back to the system at once, and with names of models, or without for all of them.
"""

import gc
import re
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers

from embedx.extractors.base import padded_samples
from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.families import FAMILIES
from embedx.extractors.huggingface import Transformer

SECONDS = 10
WAVE = {"do_normalize": True, "sampling_rate": 16_000}
DAC = {"decoder_hidden_size": 64}  # the decoder is not used
PE = {"audio_config": {"num_hidden_layers": 2}, "text_config": {"num_hidden_layers": 1}}
QWEN = {"encoder_layers": 8}  # of 32: only the states that are kept grow with the layers
GEMMA = {  # a small vocabulary: the tables of tokens are weights, and weights are not counted
    "text_config": {"vocab_size": 8, "pad_token_id": 0, "bos_token_id": 7, "eos_token_id": 1},
    "audio_config": {},
    "vision_config": None,
    "audio_token_id": 5,
}
MARKS = {"boa_token": "<begin>", "audio_token": "<audio>", "eoa_token": "<end>"}
PARTS = {  # models whose encoder is a class of its own: module and class
    "SpeechT5": ("speecht5.modeling_speecht5", "SpeechT5EncoderWithSpeechPrenet"),
    "Qwen2AudioEncoder": ("qwen2_audio.modeling_qwen2_audio", "Qwen2AudioEncoder"),
}
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
    "SpeechT5": ("SpeechT5", {}, {"do_normalize": False, "sampling_rate": 16_000}, "speecht5"),
    "Qwen2-Audio": ("Qwen2AudioEncoder", QWEN, {"feature_size": 128}, "qwen2_audio"),
    "EmbeddingGemma2": ("EmbeddingGemma2", GEMMA, {}, "embedding_gemma2"),
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
    config = getattr(transformers, f"{classes}Config")(**options)
    if classes in PARTS:
        module, part = PARTS[classes]
        model = getattr(import_module(f"transformers.models.{module}"), part)(config).eval()
    else:
        model = getattr(transformers, f"{classes}Model")(config).eval()
    extractor = FAMILIES.get(kind, Transformer)(Checkpoint(name, model, front_end, {"model_type": kind}))
    if kind == "embedding_gemma2":
        extractor.__dict__["tokenizer"] = make_tokenizer()
    count = padded_samples(extractor, SECONDS * extractor.sample_rate)
    gc.collect()
    before, start = resident(peak=False), time.process_time()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    list(extractor.frames(torch.rand(1, count) - 0.5, torch.tensor([count]), extractor.layers[-1:]))
    size = resident(peak=True) - before
    seconds = time.process_time() - start
    per_second = size / count * extractor.sample_rate / 1e6
    print(f"{name:15} {size / count:6.0f} B per sample {per_second:6.1f} MB per s {seconds:6.1f} s", flush=True)


def make_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer with the marks around audio."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    names = ("<pad>", "<unk>", "dog", "rain", *MARKS.values(), "<bos>")
    numbers = {name: number for number, name in enumerate(names)}
    words = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))  # noqa: S106 -- no password
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 7)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, extra_special_tokens=MARKS)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for model_name in sys.argv[1:] or MODELS:
        measure(model_name)
