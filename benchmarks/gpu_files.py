"""From files to a collection on a GPU, and the share of the time in which it computes."""

import contextlib
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import soundfile
import torch
from extraction import RATE, operations
from gpu_models import Model, Setting

import embedx
from embedx.processes.cores import count_cores

BUSY = 0.90  # target: busy share of the GPU
KERNELS = {"cuda": ("kernel",), "cpu": ("cpu_op",)}  # categories of a trace that are work of the device


def from_files(setting: Setting, models: Sequence[Model], folder: Path, peaks: dict[str, float]) -> Iterator[str]:
    """Yield a table: from 16 kHz WAV files to a collection, and how busy the device is."""
    random, length = np.random.default_rng(2), (1 if setting.small else 10) * RATE
    files = []
    for i in range(setting.files):
        path = folder / f"{i:06}.wav"
        if i < 100:
            soundfile.write(path, random.uniform(-0.5, 0.5, length), RATE, subtype="PCM_16")
        else:
            os.link(folder / f"{i % 100:06}.wav", path)
        files.append(str(path))
    Watch(setting).warm_up()
    yield f"## From {len(files)} WAV files of {length // RATE} s, 16 kHz, to a collection; target: busy {BUSY:.0%}\n"
    yield f"`embedx.extract` with `--workers auto` on {count_cores()} cores. Busy: union of all kernels in the middle"
    yield "60 % of the time from the first kernel to the last, divided by that time, by torch.profiler; nan where the"
    yield "profiler saw none, and the time is that of the whole run.\n"
    yield "| model | precision | x real time, first to last kernel | share of the peak | kernels | busy |"
    yield "|---|---|---|---|---|---|"
    places: Counter[str] = Counter()
    for model, precision in [(one, "bfloat16") for one in models] + [(models[0], "float32")]:
        some = files if precision == "bfloat16" or setting.small else files[: len(files) // 4]
        with tempfile.TemporaryDirectory() as out:
            options: dict[str, Any] = {"device": setting.device, "precision": precision}
            with Watch(setting) as watch:
                embedx.extract(some, model=model.folder, out=Path(out) / "c", layout="files", **options).close()
        times = len(some) * length / RATE / watch.seconds
        share = times * operations(length, model.config) / length * RATE / peaks[precision]
        yield f"| {model.name} | {precision} | {times:.0f} | {share:.1%} | {len(watch.kernels)} | {watch.busy:.1%} |"
        if not places:
            for one in watch.kernels:
                places[one["name"]] += one["dur"]
    total = places.total() or 1
    yield f"\nTime per kernel, {models[0].name} in bfloat16:\n"
    yield "| kernel | of the time in kernels |"
    yield "|---|---|"
    yield from (f"| `{name[:90].replace('|', ' ')}` | {spent / total:.1%} |" for name, spent in places.most_common(12))


class Watch:
    """Profiles a run, however short it is. Where the profiler does not work, its seconds are measured all the same.

    Attributes:
        kernels: the events of all kernels.
        seconds: from the begin of the first kernel to the end of the last; without kernels those of the whole run.
        busy: the share of the middle 60 % of these seconds in which a kernel ran; NaN without kernels.
    """

    def __init__(self, setting: Setting) -> None:
        self.device = setting.device
        self.kernels: list[dict[str, Any]] = []
        self.seconds, self.busy = float("nan"), float("nan")
        if self.device == "cuda":
            self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
        else:  # also of the thread that computes the batches, which is not the one that starts the profiler
            threads = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
            activities = [torch.profiler.ProfilerActivity.CPU]
            self.profiler = torch.profiler.profile(activities=activities, experimental_config=threads)

    def warm_up(self) -> None:
        """Start the profiler once."""
        with self:
            torch.ones(1, device=self.device).add_(1)

    def __enter__(self) -> Self:
        self.begun, self.is_on = time.perf_counter(), False
        with contextlib.suppress(RuntimeError, AssertionError):  # a machine that lets nobody count kernels
            self.profiler.start()
            self.is_on = True
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.begun
        if self.is_on:
            with contextlib.suppress(RuntimeError):
                self.profiler.stop()
                self.kernels = self._read()
        if not self.kernels:
            return
        intervals = [(one["ts"], one["ts"] + one["dur"]) for one in self.kernels]
        first, last = min(begin for begin, _ in intervals), max(end for _, end in intervals)
        low, high = first + 0.2 * (last - first), last - 0.2 * (last - first)
        inside = [(max(begin, low), min(end, high)) for begin, end in intervals if begin < high and end > low]
        self.seconds, self.busy = (last - first) / 1e6, covered(inside) / (high - low)

    def _read(self) -> list[dict[str, Any]]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "trace.json"
            self.profiler.export_chrome_trace(str(file))
            events = json.loads(file.read_text(encoding="utf-8", errors="replace"))["traceEvents"]
        return [one for one in events if one.get("cat") in KERNELS[self.device] and "dur" in one]


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals.

    >>> covered([(0, 2), (5, 6), (1, 3), (1, 2)])
    4.0
    """
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
