"""Measure the effect of reading ahead and of several threads, and write the part of BENCHMARKS.md.

`make bench` runs it; 5 minutes on two cores. Both ways run in turn in one process, several times: of times that vary
with what else the machine does, the ratio within a turn is what holds.
"""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import soundfile
import torch
import transformers
from numpy.typing import NDArray
from page import ROOT, commit, write_part

import embedx
from embedx import extractors
from embedx.audio.windows import Window
from embedx.embedding.embedder import BATCH_SECONDS, Embedder
from embedx.embedding.forward import Forward
from embedx.embedding.gpu_process import GpuProcess, RemoteWorker
from embedx.embedding.workers import Worker, make_workers, run_in_order
from embedx.processes.cores import count_cores
from embedx.recipe import Recipe

SHARED = Path(os.environ.get("EMBEDX_SHARED") or ROOT.parent / "shared")
TURNS = 3
RATE = 16_000
PARALLEL = [  # backend, precision, and how many clips of which lengths
    ("fast", "float32", 5.0, 5.0, 24),
    ("fast", "bfloat16", 5.0, 5.0, 60),
    ("fast", "float32", 0.2, 0.8, 200),
    ("fast", "bfloat16", 0.2, 0.8, 600),
    ("reference", "float32", 1.0, 9.0, 24),
]
PARALLEL_TURNS = 5


def models(folder: Path) -> Iterator[tuple[str, str, int]]:
    """Yield (name, what --model takes, how many recordings of the corpus)."""
    yield "logmel", "logmel", 400
    if SHARED.is_dir():
        yield "yamnet", f"yamnet:{SHARED / 'weights/yamnet'}", 400
    transformers.HubertModel(transformers.HubertConfig()).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    yield "hubert-base, random weights", str(folder), 40


def corpus(folder: Path) -> tuple[str, list[str]]:
    """Return a name and the files of ESC-10, or of as many seconds of made noise where that is not."""
    if SHARED.is_dir():
        return "ESC-10 (44.1 kHz OGG, 5 s each)", sorted(map(str, (SHARED / "data/esc10").rglob("*.ogg")))
    for i in range(400):
        noise = np.random.default_rng(i).uniform(-0.5, 0.5, 220_500)
        soundfile.write(folder / f"{i:03}.flac", noise, 44_100)
    return "noise (44.1 kHz FLAC, 5 s each)", sorted(map(str, folder.glob("*.flac")))


def run(files: list[str], model: str, workers: int | str) -> tuple[float, float]:
    """Extract into a new collection; return its wall time, and seconds of audio per second of it."""
    seen: list[embedx.Progress] = []
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        embedx.extract(files, model=model, workers=workers, on_progress=seen.append, out=Path(folder) / "c").close()
        seconds = time.perf_counter() - begun
    assert seen[-1].embedded == len(files)
    return seconds, seen[-1].seconds / seconds


def in_turn(files: list[str], model: str) -> tuple[float, float]:
    """Extract with one decoder that waits for the model, and with one batch at a time."""
    with patch("embedx.ingest.prefetch.share_work", lambda *_: 1):
        return run(files, model, 0)


def end_to_end(folder: Path) -> Iterator[str]:
    """Yield a table: from files to a finished collection, with both methods."""
    name, files = corpus(folder)
    yield f"{name}, files to a finished collection with its index; median of {TURNS} turns, without imports.\n"
    yield "| model | files | in turn, x real time | pipeline, x real time | ratio, median (range) |"
    yield "|---|---|---|---|---|"
    for model_name, model, count in models(folder / "model"):
        run(files[:40], model, "auto")  # starts the processes, and fills the page cache
        ways: tuple[Callable[[], tuple[float, float]], ...] = (
            lambda: in_turn(files[:count], model),  # noqa: B023  # called at once
            lambda: run(files[:count], model, "auto"),  # noqa: B023
        )
        turns = np.array([[way()[1] for way in ways] for _ in range(TURNS)])
        ratios = turns[:, 1] / turns[:, 0]
        speeds = " | ".join(f"{speed:.0f}" for speed in np.median(turns, axis=0))
        spread = f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
        yield f"| {model_name} | {min(count, len(files))} | {speeds} | {spread} |"
        print(model_name, turns.tolist(), flush=True)


def threads_or_processes(folder: Path) -> Iterator[str]:
    """Yield a table: one thread per core, as embedx does on a CPU, and one process per core, on the same batches.

    The processes are those that embedx uses for several GPUs.
    """
    yield "| model | clips | threads, x real time | processes, x real time | time of threads to that of processes |"
    yield "|---|---|---|---|---|"
    cores, dice = count_cores(), np.random.default_rng(0)
    for backend, precision, least, most, count in PARALLEL:
        extractor = extractors.load(str(folder), backend=backend)
        recipe = Recipe("huggingface", str(folder), extractor.weights, RATE, extractor.layers[-1:], ("mean",))
        embedder = Embedder(extractor, recipe, device="cpu", precision=precision)
        forward = embedder.forward
        clips = [dice.uniform(-0.5, 0.5, int(n * RATE)).astype(np.float32) for n in dice.uniform(least, most, count)]
        pairs = [(None, Window(0.0, 0.0, clip)) for clip in clips]
        batches = [[window.samples for _, window in batch] for batch in embedder._batches(iter(pairs))]
        processes = [GpuProcess("cpu", embedder.model, forward, 1) for _ in range(cores)]
        ways: tuple[Sequence[Worker | RemoteWorker], ...] = (
            make_workers(extractor, "cpu", cores),
            [process.workers[0] for process in processes],
        )
        taken = np.array([[clocked(workers, forward, batches) for workers in ways] for _ in range(1 + PARALLEL_TURNS)])[
            1:
        ]
        del processes, ways
        ratios, seconds = taken[:, 0] / taken[:, 1], sum(map(len, clips)) / RATE
        speeds = " | ".join(f"{seconds / best:.1f}" for best in np.median(taken, axis=0))
        spread = f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
        name = f"hubert-base, {backend}, {precision}"
        lengths = f"{least:g} s" if least == most else f"{least:g} to {most:g} s"
        yield f"| {name} | {count} of {lengths} | {speeds} | {spread} |"


def clocked(
    workers: Sequence[Worker | RemoteWorker], forward: Forward, batches: Sequence[Sequence[NDArray[np.float32]]]
) -> float:
    """Return the seconds that the workers need for all batches."""
    begun = time.perf_counter()
    for _ in run_in_order(workers, lambda worker, clips: worker.run(forward, clips), batches):
        pass
    return time.perf_counter() - begun


def padding() -> Iterator[str]:
    """Yield a table: samples computed per sample of audio, for several orders of 8 000 recordings."""
    yield "| lengths | any order | ascending | descending | short and long in turn |"
    yield "|---|---|---|---|---|"
    extractor = extractors.load("logmel")
    recipe = Recipe("logmel", "", extractor.weights, extractor.sample_rate, extractor.layers, ("mean",))
    for name, least, most in (("0.3 to 30 s, log-uniform", 0.3, 30.0), ("1 to 2.3 s, log-uniform", 1.0, 2.3)):
        lengths = np.exp(np.random.default_rng(0).uniform(np.log(least), np.log(most), 8_000))
        up = np.sort(lengths)
        found = []
        for order in (lengths, up, up[::-1], np.stack([up[:4000], up[:3999:-1]], axis=1).ravel()):
            embedder = Embedder(extractor, recipe)
            silence = (np.broadcast_to(np.float32(0), round(length * 16_000)) for length in order)
            for _ in embedder._batches(iter([(None, Window(0.0, 0.0, one)) for one in silence])):
                pass
            found.append(f"{embedder.padding:.3f}")
        yield f"| {name} | {' | '.join(found)} |"


def priority() -> str:
    """Return a remark if this process runs at real-time priority (`chrt -r 1`), where other load does not matter."""
    ordinary = not hasattr(os, "sched_getscheduler") or os.sched_getscheduler(0) == os.SCHED_OTHER
    return "" if ordinary else ", at real-time priority"


def main() -> None:
    """Measure everything, and write the part of BENCHMARKS.md."""
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model").mkdir()
        table = "\n".join(end_to_end(Path(folder)))
        parallel = "\n".join(threads_or_processes(Path(folder) / "model"))
    parts = [
        f"Made by `benchmarks/pipeline.py` on {time.strftime('%Y-%m-%d')} at commit {commit()}: {count_cores()} "
        f"CPU cores (load {os.getloadavg()[0]:.1f}{priority()}), {torch.get_num_threads()} threads of torch, "
        f"{versions}.\n",
        "`In turn`: one decoder waits for the model, which computes one batch at a time on all cores. `Pipeline`: "
        "`--workers auto`.\n",
        table,
        "\n## One thread per core, or one process per core\n",
        f"Both compute the same batches in alternating turns; median of {PARALLEL_TURNS} turns (range).\n",
        parallel,
        f"\n## Padding: samples computed per sample of audio, batches of {BATCH_SECONDS['cpu']:g} s\n",
        *padding(),
    ]
    write_part("Pipeline", "\n".join(parts))


if __name__ == "__main__":
    main()
