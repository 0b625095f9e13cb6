"""The speed of batches on a GPU: equal clips, mixed lengths, Whisper."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from extraction import BATCH, RATE, Floats, Way, bundle_loop, cosine, embedder_of, operations, plain_loop, way_of
from gpu_models import Model, Setting, clocked

from embedx import extractors
from embedx.extractors.base import Extractor

TARGETS = {"wav2vec2-large": 0.40, "wav2vec2-base": 0.30}  # share of the bfloat16 peak on equal clips of 10 s
TIMES = 10.0  # target: speed-up over the plain loop with mixed lengths
WHISPER_S = 30  # Whisper computes every clip as 30 s
WHISPER: dict[str, Any] = {
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "decoder_attention_heads": 20,
    "num_mel_bins": 128,
    "vocab_size": 51_866,
}
SMALL_WHISPER: dict[str, Any] = {
    "d_model": 64,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 128,
    "decoder_attention_heads": 2,
}


def equal_clips(setting: Setting, model: Model, peaks: dict[str, float]) -> Iterator[str]:
    """Yield a table of clips of 10 s: embedx with several batch sizes, and the alternatives."""
    length = (1 if setting.small else 10) * RATE
    random = np.random.default_rng(0)
    clips = [
        random.standard_normal(length, dtype=np.float32) * np.float32(0.1) for _ in range(4 if setting.small else 64)
    ]
    work = operations(length, model.config) / length * RATE  # for a second of audio
    sizes = (4.0, 8.0) if setting.small else (160.0, 320.0, 600.0, 1200.0)
    middle = sizes[len(sizes) // 2]
    half: dict[str, Any] = {"device": setting.device, "precision": "bfloat16"}
    ways: dict[str, tuple[Way, float]] = {}
    for size in sizes:
        ways[f"embedx, fast, bfloat16, batches of {size:g} s"] = ours(model.fast, size, **half)
    ways["embedx, reference, bfloat16"] = ours(model.reference, sizes[0], **half)
    ways["embedx, fast, float32"] = ours(model.fast, middle, device=setting.device)
    ways["embedx, reference, float32"] = ours(model.reference, sizes[0], device=setting.device)
    target = TARGETS.get(model.name)
    if target is not None:
        ways |= rivals(model)
    asked = "" if target is None else f"; target: {target:.0%} of the peak in bfloat16"
    yield f"## Equal clips of {length // RATE} s, {model.name}{asked}\n"
    yield "| | x real time | TFLOP/s | share of the peak of its dtype | clips |"
    yield "|---|---|---|---|---|"
    for name, (way, least) in ways.items():
        times, count = speed(setting, way, clips, least)
        share = times * work / peaks["bfloat16" if "bfloat16" in name else "float32"]
        yield f"| {name} | {times:.0f} | {times * work / 1e12:.1f} | {share:.1%} | {count} |"


def mixed_lengths(setting: Setting, model: Model) -> Iterator[str]:
    """Yield a table of clips of 0.3 to 30 s: speed relative to the plain loop, and accuracy of the vectors."""
    random = np.random.default_rng(1)
    longest = np.log(2 if setting.small else 30)
    lengths = (np.exp(random.uniform(np.log(0.3), longest, 12 if setting.small else 192)) * RATE).astype(int)
    clips = [random.standard_normal(n, dtype=np.float32) * np.float32(0.1) for n in lengths]
    alone = plain_loop(model.plain)
    truth = [alone([clip])[0] for clip in clips]
    size = 8.0 if setting.small else 600.0
    ways = {
        **rivals(model),
        "embedx, fast, float32": ours(model.fast, size, device=setting.device),
        "embedx, fast, bfloat16": ours(model.fast, size, device=setting.device, precision="bfloat16"),
        "embedx, reference, bfloat16": ours(model.reference, size / 4, device=setting.device, precision="bfloat16"),
    }
    batches = [lengths[start : start + BATCH] for start in range(0, len(lengths), BATCH)]
    padding = sum(max(batch) * len(batch) for batch in batches) / sum(lengths)
    yield (
        f"## Mixed lengths, 0.3 to {np.exp(longest):.0f} s, log-uniform, {model.name}; target: {TIMES:g} x the plain "
        f"loop (padding {padding:.1f})\n"
    )
    yield "| | x real time | x the plain loop | median 1 - cos to the clip alone | worst |"
    yield "|---|---|---|---|---|"
    base = 0.0
    for name, (way, least) in ways.items():
        times, _ = speed(setting, way, clips, least)
        base = base or times
        wrong = np.maximum(0, [1 - cosine(a, b) for a, b in zip(way(clips), truth, strict=True)])
        yield f"| {name} | {times:.0f} | {times / base:.2f} | {np.median(wrong):.0e} | {wrong.max():.0e} |"


def whisper(setting: Setting, peaks: dict[str, float], folder: Path) -> Iterator[str]:
    """Yield a table of the encoder of Whisper-large: every clip is computed as 30 s."""
    torch.manual_seed(0)
    config = transformers.WhisperConfig(**(SMALL_WHISPER if setting.small else WHISPER), decoder_layers=1)
    place = folder / "whisper"
    front_end = transformers.WhisperFeatureExtractor(config.num_mel_bins)
    plain = transformers.WhisperModel(config).eval()
    plain.save_pretrained(place)
    front_end.save_pretrained(place)
    extractor = extractors.load(str(place)).to(setting.device)
    encoder = plain.get_encoder().to(setting.device, torch.bfloat16)
    random, length, size = np.random.default_rng(0), WHISPER_S * RATE, 60.0 if setting.small else 600.0
    clips = [
        random.standard_normal(length, dtype=np.float32) * np.float32(0.1) for _ in range(2 if setting.small else 40)
    ]
    ways = {
        "embedx, bfloat16": ours(extractor, size, device=setting.device, precision="bfloat16"),
        "transformers, batches of 16, bfloat16": (whisper_loop(encoder, front_end), 0.0),
        "embedx, float32": ours(extractor, size, device=setting.device),
    }
    work = whisper_operations(config) / WHISPER_S
    yield f"## Clips of {WHISPER_S} s, the encoder of Whisper-large, batches of {size:g} s\n"
    yield "| | x real time | TFLOP/s | share of the peak of its dtype | GB at most | clips |"
    yield "|---|---|---|---|---|---|"
    for name, (way, least) in ways.items():
        if setting.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times, count = speed(setting, way, clips, least)
        most = torch.cuda.max_memory_allocated() / 1e9 if setting.device == "cuda" else 0.0
        share = times * work / peaks["bfloat16" if "bfloat16" in name else "float32"]
        yield f"| {name} | {times:.0f} | {times * work / 1e12:.1f} | {share:.1%} | {most:.1f} | {count} |"


def whisper_operations(config: Any) -> float:
    """Return the floating-point operations of the encoder on a clip: two per multiplication."""
    rows, dim = config.max_source_positions, config.d_model
    convolutions = 2 * rows * 3 * config.num_mel_bins * dim + rows * 3 * dim * dim
    block = rows * (4 * dim * dim + 2 * dim * config.encoder_ffn_dim) + 2 * rows * rows * dim
    return float(2 * (convolutions + config.encoder_layers * block))


def whisper_loop(encoder: Any, front_end: Any, batch: int = 16) -> Way:
    """Return the usual loop over batches, with the features of the library."""

    def embed(clips: Sequence[Floats]) -> list[Floats]:
        vectors: list[Floats] = []
        for start in range(0, len(clips), batch):
            features = front_end(clips[start : start + batch], sampling_rate=RATE, return_tensors="pt").input_features
            with torch.inference_mode():
                states = encoder(features.to(encoder.device, encoder.dtype)).last_hidden_state
            vectors += list(states.mean(dim=1).float().cpu().numpy())
        return vectors

    return embed


def ours(extractor: Extractor, batch_seconds: float, **options: Any) -> tuple[Way, float]:
    """Return embedx with this batch size, and the audio to measure with: several batches for both streams."""
    return way_of(embedder_of(extractor, batch_seconds=batch_seconds, **options)), 8 * batch_seconds


def rivals(model: Model) -> dict[str, tuple[Way, float]]:
    """Return the alternatives."""
    return {
        "plain loop, batches of 8, float32": (plain_loop(model.plain), 0.0),
        "transformers, sorted, batches of 32, bfloat16": (sorted_loop(narrow(model.plain)), 0.0),
        "torchaudio, clip by clip, float32": (bundle_loop(model.plain), 0.0),
    }


def speed(setting: Setting, way: Way, clips: Sequence[Floats], least: float = 0.0) -> tuple[float, int]:
    """Return the speed of a method as a multiple of real time, and the number of clips.

    The clips are repeated until the measurement takes some seconds and has `least` seconds of audio.
    """
    way(clips)  # warm-up
    audio = sum(map(len, clips)) / RATE
    once = clocked(setting, lambda: way(clips))
    again = max(1, round(min(setting.seconds / once, 500)), -int(-least // audio))
    many = list(clips) * again
    return audio * again / clocked(setting, lambda: way(many)), len(many)


def sorted_loop(model: Any) -> Way:
    """Return an optimised loop: bfloat16, fused attention, sorted lengths, batches of 32."""
    loop = plain_loop(model, batch=4 * BATCH)

    def embed(clips: Sequence[Floats]) -> list[Floats]:
        order = sorted(range(len(clips)), key=lambda i: -len(clips[i]))
        found = dict(zip(order, loop([clips[i] for i in order]), strict=True))
        return [found[i] for i in range(len(clips))]

    return embed


def narrow(model: Any) -> Any:
    """Return a copy in bfloat16 with the attention of torch."""
    config = type(model.config).from_dict(model.config.to_dict())
    copied = type(model)(config).to(torch.bfloat16).to(model.device).eval()
    copied.load_state_dict(model.state_dict())
    copied.set_attn_implementation("sdpa")
    return copied
