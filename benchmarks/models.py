"""Measure the speed of the extractors, and write the table of docs/models.md; 5 minutes.

Each family has its published shape, with random weights (YAMNet with its published weights, if they are there). Speed
is seconds of audio per second of processor time on one thread, which depends little on other load: the best of three
runs over clips of 10 s in batches of the default size, with decoding left out.
"""

import argparse
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from extractors import models
from page import ROOT, commit

from embedx import extractors
from embedx.audio.windows import Window
from embedx.bench.speed.roofline import name_device
from embedx.embedding.embedder import Embedder
from embedx.recipe import Recipe

PAGE = ROOT / "docs/models.md"
CLIPS, CLIP_S, RUNS = 6, 10.0, 3
BASE: dict[str, Any] = {  # of whisper-base; the decoder is not used
    **{"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048},
    **{"decoder_layers": 1, "decoder_attention_heads": 8},
}
NAMES = {  # family of benchmarks/extractors.py -> the model of the catalogue that has this shape
    "wav2vec2": "facebook/wav2vec2-base",
    "hubert": "facebook/hubert-base-ls960",
    "distilhubert": "ntu-spml/distilhubert",
    "wavlm": "microsoft/wavlm-base-plus",
    "data2vec-audio": "facebook/data2vec-audio-base",
    "ast": "MIT/ast-finetuned-audioset-10-10-0.4593",
    "whisper": "openai/whisper-tiny",
    "clap": "laion/clap-htsat-unfused",
    **{name: name for name in ("logmel", "mfcc", "yamnet (real weights)", "vggish", "melspec-resnet18")},
}


def shapes(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, value of --model) for all models that are measured."""
    yield from ((NAMES[family], model) for family, model in models(folder, NAMES))
    place = folder / "whisper-base"
    transformers.WhisperModel(transformers.WhisperConfig(**BASE)).save_pretrained(place)
    transformers.WhisperFeatureExtractor().save_pretrained(place)
    yield "openai/whisper-base", str(place)


def speed(model: str) -> float:
    """Return seconds of audio per second of processor time."""
    extractor = extractors.load(model)
    family, source = extractors.resolve(model)
    recipe = Recipe(family, source, "", extractor.sample_rate, extractor.layers[-1:], ("mean",))
    embedder = Embedder(extractor, recipe, device="cpu")
    random = np.random.default_rng(0)
    length = round(CLIP_S * extractor.sample_rate)
    windows = [(i, Window(0.0, CLIP_S, random.standard_normal(length, np.float32) * 0.1)) for i in range(CLIPS)]
    times = []
    for _ in range(RUNS):
        begun = time.process_time()
        list(embedder.embed(windows))
        times.append(time.process_time() - begun)
    return CLIPS * CLIP_S / min(times)


def main() -> None:
    """Measure all models, and replace the section of the page."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, model in shapes(Path(folder)):
            rows.append((speed(model), name.partition(" ")[0]))
            print(rows[-1], flush=True)
    text = (
        f"Made by `python benchmarks/models.py` on {time.strftime('%Y-%m-%d')} at commit {commit()}: one thread of "
        f"{name_device('cpu')}, torch {torch.__version__}, transformers {transformers.__version__}, float32; "
        f"{'loaded, ' if load > 1 else ''}load {load:.1f} at the start. Seconds of audio per second of processor time, "
        f"for clips of {CLIP_S:g} s. The weights are random, in the published shape; those of YAMNet are the published "
        "ones.\n\n| model | times real time, one thread |\n|---|---|\n"
    )
    text += "".join(f"| {name} | {value:.{1 if value < 10 else 0}f} |\n" for value, name in sorted(rows, reverse=True))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(r"(?ms)(^## Speed\n\n).*?(?=^## |\Z)", lambda found: f"{found[1]}{text}\n", page), "utf-8")


if __name__ == "__main__":
    main()
