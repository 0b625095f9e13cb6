"""Measure extraction of up to 100 000 recordings, and write the part of BENCHMARKS.md.

    python benchmarks/growth.py                        1 000, 10 000 and 100 000 files; half an hour, 1.5 GB of disk
    python benchmarks/growth.py --files 200,2000       fewer
    python benchmarks/growth.py --json                 print the figures, do not change BENCHMARKS.md

The files are 0.3 s WAV files at 8 kHz, so that the time outside of the model is visible. Each run is a new process that
loads the model before the measurement. The smallest corpus is measured again before and after each other corpus,
because on a busy machine only times from the same minutes are comparable. The cost of commits is measured in two ways,
because other threads run at the same time: as processor time inside commits, and by runs without commits.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from page import ROOT, commit, write_part

Figures = dict[str, float]
TURNS = 5
COMMANDS = {  # command on an unchanged corpus -> additional arguments
    "nothing to do": (),
    "dry run": ("--dry-run",),
    "nothing to do, with a manifest of labels": ("--label", "species"),
}


def main() -> None:
    """Write the corpora, measure, and write the part of BENCHMARKS.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", default="1000,10000,100000")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("SOURCE", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--forget", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        source, out = options.child
        print(json.dumps(extract(source, out, options.forget)))
        return
    sizes = [int(size) for size in options.files.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), sizes)
    if options.json:
        print(json.dumps(figures))
    else:
        write_part("Growth", describe(figures))


def measure(folder: Path, sizes: list[int]) -> dict[str, Any]:
    """Return the figures of runs on corpora of these sizes, and of repeated runs on the largest."""
    for size in sizes:
        write_corpus(folder / str(size), size)
    runs: list[Figures] = []
    for size in [sizes[0], *(one for larger in sizes[1:] for one in (larger, sizes[0]))]:
        out = folder / f"out-{len(runs)}"
        done = run([__file__, "--child", str(folder / str(size)), str(out)])
        runs.append({"files": size} | json.loads(done.stdout))
        if size == sizes[-1]:
            largest = out
    turns = [
        [
            timed_run(folder, sizes[-2], f"turn-{turn}-{name}", more)
            for name, more in (("kept", []), ("lost", ["--forget"]))
        ]
        for turn in range(TURNS)
    ]
    source = str(folder / str(sizes[-1]))
    again = {name: do_again(source, largest, name, more) for name, more in COMMANDS.items()}
    return {"runs": runs, "again": again, "kept against lost": median(kept / lost for kept, lost in turns)}


def timed_run(folder: Path, size: int, name: str, more: list[str]) -> float:
    """Return the seconds that a run on a corpus takes."""
    done = run([__file__, "--child", str(folder / str(size)), str(folder / name), *more])
    return float(json.loads(done.stdout)["seconds"])


def write_corpus(folder: Path, size: int) -> None:
    """Write short WAV files of noise, 1 000 per folder, and a manifest with a label and two more columns."""
    random = np.random.default_rng(size)
    lines = ["path,species,site,night"]
    for number in range(size):
        file = folder / f"night{number // 1000:03d}" / f"{number:06d}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(file), "wb") as opened:
            opened.setnchannels(1)
            opened.setsampwidth(2)
            opened.setframerate(8000)
            opened.writeframes(random.integers(-9000, 9000, 2400, "<i2").tobytes())
        lines.append(f"{file},{number % 10},{number % 7},{number // 1000}")
    folder.with_suffix(".csv").write_text("\n".join(lines) + "\n")


def extract(source: str, out: str, forget: bool) -> Figures:
    """Extract a corpus in this process; return seconds, CPU seconds, those within commits, and peak memory in MB.

    Args:
        source, out: the corpus and the collection.
        forget: commit nothing.
    """
    import embedx
    import embedx.embedding.embedder  # with torch, before the clock starts
    from embedx.audio.decoder_pool import DECODERS
    from embedx.store.store import Store

    spent = [0.0]

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*given: Any) -> Any:
            begun = time.thread_time()
            result = None if forget else work(*given)
            spent[0] += time.thread_time() - begun
            return result

        return measured

    Store.add = timed(Store.add)  # type: ignore[method-assign]
    begun, worked = time.perf_counter(), time.process_time()
    embedx.extract(source, out=out, layout="files").close()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - worked
    DECODERS.stop_idle()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": seconds,
        "cpu_s": cpu + children.ru_utime + children.ru_stime,
        "commit_s": spent[0],
        "memory_mb": peak_memory(),
    }


def peak_memory() -> float:
    """Return the peak memory of this process, in MB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def do_again(source: str, out: Path, name: str, more: tuple[str, ...]) -> Figures:
    """Run the command on a corpus that is already embedded; return its wall time and processor time in seconds."""
    words = ["-m", "embedx", "extract", f"{source}.csv" if "label" in name else source, "-o", str(out), *more]
    if "label" in name:
        run(words)  # the first time it writes the labels
    else:
        words += ["--layout", "files"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    run(words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - begun, "cpu_s": cpu}


def run(words: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run Python in a new process."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], env=variables, stdout=subprocess.PIPE, text=True, check=True)


def describe(figures: dict[str, Any]) -> str:
    """Return the part of BENCHMARKS.md."""
    runs = figures["runs"]
    small = [one for one in runs if one["files"] == runs[0]["files"]]
    lines = []
    for place, one in enumerate(runs):
        if place == 0 or one["files"] != runs[0]["files"]:
            near = [runs[place - 1], runs[place + 1]] if place else small
            same = small if place == 0 else [one]
            shown = {name: mean(each[name] for each in same) for name in one}
            ratio = per_thousand(shown, "cpu_s") / mean(per_thousand(each, "cpu_s") for each in near)
            lines.append(
                f"| {one['files']} | {per_thousand(shown, 'seconds'):.2f} | {per_thousand(shown, 'cpu_s'):.2f} | "
                f"{ratio:.2f} | {shown['commit_s'] / shown['cpu_s']:.2%} | {shown['memory_mb']:.0f} |"
            )
    again = [f"| {name} | {one['seconds']:.1f} | {one['cpu_s']:.1f} |" for name, one in figures["again"].items()]
    return "\n".join(
        [
            f"Made by `python benchmarks/growth.py` on {time.strftime('%Y-%m-%d')} at commit {commit()}: "
            f"{os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}, "
            f"Python {platform.python_version()}. 0.3 s WAV files at 8 kHz with logmel; the times are without "
            "loading the model and with building the index.",
            "",
            f"| files | s per 1 000 | CPU s per 1 000 | CPU relative to {runs[0]['files']} files before and after | "
            "share of CPU time in commits | peak memory, MB |",
            "|---|---|---|---|---|---|",
            *lines,
            "",
            f"A run on {runs[1]['files']} files takes {figures['kept against lost']:.3f} times as long as one that "
            f"commits nothing and builds no index (median of {TURNS} turns).",
            "",
            f"| run again on {runs[-2]['files']} files, whole command | s | CPU s |",
            "|---|---|---|",
            *again,
        ]
    )


def per_thousand(one: Figures, name: str) -> float:
    """Return a figure per 1 000 files."""
    return one[name] / one["files"] * 1000


if __name__ == "__main__":
    main()
