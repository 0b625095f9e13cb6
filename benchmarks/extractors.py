"""Measure half precision, memory and accuracy of the extractors, and write the part of BENCHMARKS.md.

`make bench` runs it; 10 minutes.

Half precision: each family in its published shape, with random weights (YAMNet with its published weights if there are
some); the mean-pooled last layer in bfloat16 and float16 compared with float32. Memory: one recording of 10 h.
Accuracy: a linear probe on ESC-10, if the data set is there.
"""

import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import transformers
from page import commit, write_part
from safetensors.torch import save_file

import embedx
from embedx import extractors
from embedx.audio.windows import Window
from embedx.datasets.synthetic import CLASSES, synthesise_clip
from embedx.embedding.embedder import Embedder
from embedx.extractors.vggish import Network as VGGish
from embedx.recipe import Recipe

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("EMBEDX_SHARED") or ROOT.parent / "shared")
SPEECH = "Wav2Vec2FeatureExtractor"
LARGE = {"feat_extract_norm": "layer", "conv_bias": True, "num_hidden_layers": 6}
SHAPES: dict[
    str, tuple[str, dict[str, Any], str]
] = {  # family -> class of transformers, changes to its default configuration, class of the front end
    "wav2vec2": ("Wav2Vec2", {}, SPEECH),
    "wav2vec2, layer norm": ("Wav2Vec2", {"do_stable_layer_norm": True, **LARGE}, SPEECH),
    "wav2vec2-conformer": ("Wav2Vec2Conformer", LARGE, SPEECH),
    "hubert": ("Hubert", {}, SPEECH),
    "distilhubert": ("Hubert", {"num_hidden_layers": 2, "feat_proj_layer_norm": False}, SPEECH),
    "wavlm": ("WavLM", {}, SPEECH),
    "data2vec-audio": ("Data2VecAudio", {}, SPEECH),
    "unispeech-sat": ("UniSpeechSat", {}, SPEECH),
    "wav2vec2-bert": ("Wav2Vec2Bert", {"num_hidden_layers": 6}, "SeamlessM4TFeatureExtractor"),
    "ast": ("AST", {}, "ASTFeatureExtractor"),
    "whisper": ("Whisper", {}, "WhisperFeatureExtractor"),
    "clap": ("Clap", {"audio_config": {"enable_fusion": False}}, "ClapFeatureExtractor"),
}


def models(folder: Path, names: Collection[str] = tuple(SHAPES)) -> Iterator[tuple[str, str]]:
    """Yield (family, value of --model), and write a checkpoint with random weights for each of the named families."""
    yield "logmel", "logmel"
    yield "mfcc", "mfcc"
    if SHARED.is_dir():
        yield "yamnet (real weights)", f"yamnet:{SHARED / 'weights/yamnet'}"
    torch.manual_seed(0)
    save_file(VGGish().state_dict(), folder / "vggish.safetensors")
    yield "vggish", f"vggish:{folder / 'vggish.safetensors'}"
    if importlib.util.find_spec("torchvision"):
        from torchvision.models import resnet18

        save_file(resnet18().state_dict(), folder / "resnet18.safetensors")
        yield "melspec-resnet18", f"melspec-resnet18:{folder / 'resnet18.safetensors'}"
    for name in [name for name in SHAPES if name in names]:
        kind, changes, front_end = SHAPES[name]
        place = folder / "checkpoint"
        config = getattr(transformers, f"{kind}Config")(**changes)
        getattr(transformers, f"{kind}Model")(config).save_pretrained(place)
        options = {"truncation": "rand_trunc"} if kind == "Clap" else {}
        getattr(transformers, front_end)(**options).save_pretrained(place)
        yield name, str(place)


def clips(rate: int) -> list[tuple[int, Window]]:
    """Return six synthetic sounds of different lengths as windows at a sample rate."""
    import soxr

    made = []
    for i, name in enumerate(list(CLASSES)[:6]):
        samples, own = synthesise_clip(name, i % 5, 0)
        samples = soxr.resample(samples, own, rate, quality="HQ").astype(np.float32)
        made.append((i, Window(0.0, len(samples) / rate, samples)))
    return made


def half_precision() -> Iterator[str]:
    """Yield a table of the lowest cosine between half precision and float32 over six clips, per family."""
    yield "| family | shape | bfloat16 | float16 |"
    yield "|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models(Path(folder)):
            extractor = extractors.load(model)
            family, source = extractors.resolve(model)
            recipe = Recipe(family, source, "", extractor.sample_rate, extractor.layers[-1:], ("mean",))
            windows = clips(extractor.sample_rate)

            def vectors(precision: str) -> dict[int, np.ndarray]:
                embedder = Embedder(extractor, recipe, precision=precision)  # noqa: B023  # called at once
                return {key: one[recipe.default_view] for key, one, _ in embedder.embed(windows)}  # noqa: B023

            exact = vectors("float32")
            lowest = []
            for precision in ("bfloat16", "float16"):
                found = vectors(precision)
                lowest.append(min(cosine(found[key], exact[key]) for key in exact))
            shape = f"{len(extractor.layers) - 1} x {extractor.dim}"
            yield f"| {name} | {shape} | {lowest[0]:.6f} | {lowest[1]:.6f} |"
            print(name, lowest, flush=True)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine of two vectors, in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


MEASURE = """
import sys, threading, time, embedx
from embedx import extractors
extractors.load("logmel"), extractors.load("logmel")
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e9
base, peak = resident(), [0.0]
def watch():
    while True:
        peak[0] = max(peak[0], resident())
        time.sleep(0.05)
threading.Thread(target=watch, daemon=True).start()
begun = time.perf_counter()
collection = embedx.extract(sys.argv[1], out=sys.argv[2])
print(len(collection), peak[0] - base, time.perf_counter() - begun)
"""


def long_recording(hours: int) -> str:
    """Return a sentence on the memory that one long recording needs in addition to the loaded model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.wav"
        minute = np.random.default_rng(0).integers(-9_000, 9_000, 60 * 16_000, dtype=np.int16)
        with soundfile.SoundFile(path, "w", 16_000, 1, subtype="PCM_16") as file:
            for _ in range(60 * hours):
                file.write(minute)
        command = [sys.executable, "-c", MEASURE, str(path), str(Path(folder) / "c")]
        rows, peak, seconds = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        size = path.stat().st_size / 1e9
    return (
        f"One recording of {hours} h ({size:.2f} GB of 16 kHz WAV) becomes {rows} windows of 10 s with logmel in "
        f"{float(seconds):.0f} s; the process uses at most {float(peak):.2f} GB more than the loaded model."
    )


def esc10() -> Iterator[str]:
    """Yield a table of linear probes on the official folds of ESC-10."""
    yield "| model | linear probe | nearest neighbour | files to vectors, s |"
    yield "|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        for model in ("logmel", "mfcc", f"yamnet:{SHARED / 'weights/yamnet'}"):
            name = model.partition(":")[0]
            begun = time.perf_counter()
            with embedx.extract(SHARED / "data/esc10", model=model, out=Path(folder) / name) as collection:
                seconds = time.perf_counter() - begun
                report = collection.probe()
            yield f"| {name} | {report.accuracy:.4f} | {report.neighbour:.4f} | {seconds:.1f} |"


def section(title: str, text: Callable[[], Iterator[str]] | str) -> str:
    """Return a section of the page."""
    return f"## {title}\n\n{text if isinstance(text, str) else chr(10).join(text())}\n"


def main() -> None:
    """Measure everything, and write the part of BENCHMARKS.md."""
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    parts = [
        f"Made by `make bench` on {time.strftime('%Y-%m-%d')} at commit {commit()}: {device}, {versions}.\n",
        section("Half precision: lowest cosine to float32 over six clips, mean of the last layer", half_precision),
        section("Memory of a long recording", long_recording(10)),
    ]
    if SHARED.is_dir():
        parts.append(section("ESC-10, five official folds", esc10))
    write_part("Benchmarks", "\n".join(parts))


if __name__ == "__main__":
    main()
