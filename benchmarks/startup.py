"""Measure the start-up time of short commands, and write the part of BENCHMARKS.md. Takes half a minute.

Each run is a new process. Each command runs once before, so files are in the page cache and modules are compiled.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import soundfile
import torch
import transformers
from page import ROOT, commit, write_part

from embedx.bench.speed.roofline import name_device
from embedx.processes.cores import count_cores

TURNS = 5


def commands(folder: Path) -> dict[str, tuple[list[str], str]]:
    """Return name -> (arguments of embedx, target in seconds)."""
    clip, hubert = folder / "clip.wav", folder / "hubert"
    soundfile.write(clip, np.random.default_rng(0).uniform(-0.5, 0.5, 80_000), 16_000)
    torch.manual_seed(0)
    transformers.HubertModel(transformers.HubertConfig()).save_pretrained(hubert)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(hubert)
    extract = ["extract", str(clip), "-o", str(folder / "c")]
    return {
        "`embedx --help`": (["--help"], "0.3"),
        "`embedx extract` of one file of 5 s, logmel": (extract, "3"),
        "`embedx extract` of the same, a folder of HuBERT-base's shape": (
            [*extract, "--model", str(hubert)],
            "5",
        ),
    }


def clocked(arguments: list[str], folder: Path) -> float:
    """Return the seconds that a command takes, from the start to the end of its process."""
    subprocess.run(["rm", "-rf", str(folder / "c")], check=True)
    command = [sys.executable, "-m", "embedx", *arguments]
    begun = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=True)
    return time.perf_counter() - begun


def table(folder: Path) -> list[str]:
    """Return a table of all commands, measured in alternating turns."""
    targets = commands(folder)
    times_by_name: dict[str, list[float]] = {name: [] for name in targets}
    for _ in range(1 + TURNS):
        for name, (arguments, _) in targets.items():
            times_by_name[name].append(clocked(arguments, folder))
    lines = ["| command | s, median | range | target: below |", "|---|---|---|---|"]
    for name, (_, target) in targets.items():
        times = times_by_name[name][1:]
        lines.append(f"| {name} | {median(times):.2f} | {min(times):.2f} to {max(times):.2f} | {target} |")
    return lines


def main() -> None:
    """Measure, and write the part of BENCHMARKS.md."""
    with tempfile.TemporaryDirectory() as folder:
        lines = table(Path(folder))
    head = (
        f"Made by `python benchmarks/startup.py` on {time.strftime('%Y-%m-%d')} at commit {commit()}: {count_cores()} "
        f"cores of {name_device('cpu')}, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, Python {platform.python_version()}. {TURNS} runs each, in alternating turns, "
        "each a new process; files are in the page cache.\n"
    )
    print("\n".join(lines))
    write_part("Start-up", "\n".join([head, *lines]))


if __name__ == "__main__":
    main()
