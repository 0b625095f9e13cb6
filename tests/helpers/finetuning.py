"""A small corpus of tones, and fine-tuning of tiny checkpoints with random weights on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import soundfile
import torch

from embedx.finetune.options import FinetuneOptions
from embedx.finetune.result import Finetuned

RATE = 16_000
PITCHES = {"low": 200.0, "middle": 700.0, "high": 2400.0}
QUICK: dict[str, Any] = {"epochs": 6, "batch_size": 6, "learning_rate": 2e-3, "head_rate": 1e-2, "device": "cpu"}
Checkpoint = Callable[[str], Path]
Module = TypeVar("Module", bound=torch.nn.Module)


def write_tones(folder: Path, speakers: int = 5, takes: int = 2) -> pd.DataFrame:
    """Write tones of three pitches by several speakers, 0.2 to 0.5 s long, and return their manifest."""
    random, rows = np.random.default_rng(0), []
    folder.mkdir(parents=True, exist_ok=True)
    for speaker in range(speakers):
        for label, pitch in PITCHES.items():
            for take in range(takes):
                length = int(random.integers(RATE // 5, RATE // 2))
                times = np.arange(length) / RATE
                tone = np.sin(2 * np.pi * pitch * (1 + 0.05 * speaker) * times) * random.uniform(0.2, 0.8)
                samples = tone + random.normal(0, 0.02, length)
                path = folder / f"{label}_{speaker}_{take}.wav"
                soundfile.write(path, samples.astype(np.float32), RATE)
                rows.append(
                    {
                        "path": str(path),
                        "label": label,
                        "speaker": f"s{speaker}",
                        "split": "test" if speaker == 0 else "validation" if speaker == 1 else "train",
                        "low": "yes" if label == "low" else "no",
                        "tonal": "no" if label == "high" else "yes",
                        "tags": {"low": "low;deep", "middle": "deep", "high": ";"}[label],
                    }
                )
    return pd.DataFrame(rows)


def train_tones(frame: pd.DataFrame, model: Path | str, out: Path, **options: Any) -> Finetuned:
    """Fine-tune a model on tones with few epochs."""
    from embedx.finetune.run import finetune  # imports the trainer of transformers: seconds, which few tests need

    names = ("resume", "overwrite", "report", "interrupted", "trials", "given")
    of_run = {name: options.pop(name) for name in names if name in options}
    return finetune(frame, out, FinetuneOptions(str(model), **{**QUICK, **options}), **of_run)


def without_chance(module: Module) -> Module:
    """Put a module in training mode without dropout, and its batch norms in evaluation mode, to compare two passes."""
    module.train()
    for part in module.modules():
        for name, value in vars(part).items():
            if "dropout" in name and isinstance(value, float):
                setattr(part, name, 0.0)
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        if isinstance(part, torch.nn.BatchNorm1d):
            part.eval()
    return module
