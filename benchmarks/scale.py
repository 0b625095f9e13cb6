"""Measure what extraction in shards costs beside one run, and write the part of BENCHMARKS.md.

    python benchmarks/scale.py                        4 000 recordings in 16 shards; some minutes
    python benchmarks/scale.py --recordings 400       fewer
    python benchmarks/scale.py --json                 print the figures, do not change BENCHMARKS.md

The recordings are 2 s WAV files at 16 kHz, the model is logmel: a light model, so that the cost of shards is visible.
Each turn makes one run and one of 16 shards in new processes, in turn; the ratio is the median over the turns. The
parts (list and plan, embed, merge) are timed inside of one process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path
from statistics import median

import numpy as np
from page import ROOT, commit, write_part

from embedx.bench.speed.roofline import name_device
from embedx.collection.merge import merge_shard
from embedx.engines import extract_shards
from embedx.ingest.options import ExtractOptions
from embedx.ingest.shards import embed_shard, read_plan

TURNS = 3
SHARDS = 16
GPUS = 100


def main() -> None:
    """Write the recordings, measure, and write the part of BENCHMARKS.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--recordings", type=int, default=4000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_recordings(Path("in"), options.recordings)
        figures = {"recordings": options.recordings, **measure_parts(), "ratio": measure_ratio()}
    if options.json:
        print(json.dumps(figures))
    else:
        write_part("Shards", describe(figures))


def write_recordings(folder: Path, count: int) -> None:
    """Write 2 s of noise per file, in folders of 1 000."""
    random = np.random.default_rng(0)
    for i in range(count):
        place = folder / f"{i // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        with wave.open(str(place / f"{i:06d}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes((random.standard_normal(32_000) * 3000).astype("<i2").tobytes())


def measure_parts() -> dict[str, float]:
    """Return the seconds of each part of a run in shards."""
    start = time.monotonic()
    extract_shards("in", out="parts", shards=SHARDS, plan_only=True)
    plan_s = time.monotonic() - start
    plan = read_plan("parts")
    assert plan is not None
    options = ExtractOptions()
    embedder = options.load()
    start = time.monotonic()
    for number in range(1, SHARDS + 1):
        embed_shard(plan, number, options, embedder=embedder)
    embed_s = time.monotonic() - start
    start = time.monotonic()
    size = 0
    for number in range(1, SHARDS + 1):
        paths = [item.path for item in plan.items(number)]
        merge_shard(plan.collection(number), "merged", paths, wait=False)
        size += sum(file.stat().st_size for file in plan.collection(number).iterdir() if file.is_file())
    return {"plan_s": plan_s, "embed_s": embed_s, "merge_s": time.monotonic() - start, "bytes": size}


def measure_ratio() -> float:
    """Return the median over the turns of the seconds of a run in shards, divided by those of one run."""
    ratios = []
    for turn in range(TURNS):
        one = seconds_of("extract", "in", "-o", f"one{turn}")
        many = seconds_of("extract", "in", "-o", f"many{turn}", "--shards", str(SHARDS))
        ratios.append(many / one)
    return median(ratios)


def seconds_of(*arguments: str) -> float:
    """Return the seconds of a command in a new process."""
    start = time.monotonic()
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "embedx", *arguments], check=True, capture_output=True, env=env)
    return time.monotonic() - start


def describe(figures: dict[str, float]) -> str:
    """Return the part of BENCHMARKS.md."""
    count = figures["recordings"]
    merges, plans = count / figures["merge_s"], count / figures["plan_s"]
    plan_min, merge_min = 1e6 / plans / 60, 1e6 / merges / 60
    return f"""\
`python benchmarks/scale.py` at {commit()}, {name_device("cpu")}: {count:.0f} recordings of 2 s, logmel,
{SHARDS} shards.

| part | seconds | recordings per second |
|---|---|---|
| list the source, load the model, write the plan | {figures["plan_s"]:.1f} | {plans:.0f} |
| embed all shards, one after another | {figures["embed_s"]:.1f} | {count / figures["embed_s"]:.0f} |
| merge all shards | {figures["merge_s"]:.1f} | {merges:.0f} |

A run in {SHARDS} shards in one process takes {figures["ratio"]:.2f} times as long as one run (median of {TURNS} turns).

Projection to {GPUS} GPUs: the plan and the merge do not become faster with more machines. The merge takes
{merges:.0f} recordings per second, so it keeps up while each of {GPUS} GPUs embeds at most
{merges / GPUS:.0f} recordings per second. For a million recordings the plan takes {plan_min:.0f} min, and the
merge {merge_min:.0f} min, most of it while shards are embedded. A shard has
{figures["bytes"] / count / 1000:.1f} kB per recording here, which is what travels through Ray without a common disk.
The speed of a GPU and of a network was not measured.
"""


if __name__ == "__main__":
    main()
