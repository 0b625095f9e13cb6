"""Take a batch apart on a GPU: are the vectors right, how fast is each way to run it, and which kernels take the time.

    PYTHONPATH=. python benchmarks/gpu_probe.py [--device cpu --small]

Each part is tried by itself: one that fails says why, and the others go on. Read the output in its order: what is
wrong above explains figures below. `--small --device cpu` runs every line in seconds; its figures are meaningless.
"""

import argparse
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from extraction import RATE, Floats, operations
from gpu_models import SHAPES, Model, Setting, clocked, make, peak

from embedx.embedding.forward import Forward, exact_float32
from embedx.embedding.workers import Room, Worker, make_workers, run_in_order
from embedx.extractors.devices import DTYPES
from embedx.extractors.fast.norms import is_fused, join, join_by_triton

NAMES = ("wav2vec2-base", "wav2vec2-large")  # the models of which a batch is taken apart
LENGTHS_S = (0.03, 0.3, 1.0, 1.1, 2.5, 6.0, 6.0)  # clips whose vectors are compared


class Probe:
    """The parts of the probe for one setting."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting, self.folder = setting, folder
        self.device = torch.device(setting.device, 0)
        self.peaks: dict[str, float] = {}
        self.begun = time.perf_counter()

    def say(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        print(f"[{time.perf_counter() - self.begun:5.1f}] {text}", flush=True)

    def attempt(self, name: str, part: Callable[..., None], *arguments: Any) -> None:
        """Run a part; print what it raises."""
        try:
            with exact_float32:
                part(*arguments)
        except Exception as error:  # the other parts are still worth their time
            self.say(f"FAILED {name}: {type(error).__name__}: {str(error)[:300]}")
            traceback.print_exc(limit=-4, file=sys.stdout)

    def find_peaks(self) -> None:
        """Print the peak rates of matrix products."""
        self.peaks = {name: peak(self.setting, DTYPES[name]) for name in ("bfloat16", "float32")}
        self.say("peaks: " + ", ".join(f"{name} {value / 1e12:.1f} TFLOP/s" for name, value in self.peaks.items()))

    def compare_norms(self) -> None:
        """Print where Triton's norms are not used, and by how much they differ."""
        if self.setting.device == "cpu":
            return
        for dim in (768, 1024):
            for name, dtype in DTYPES.items():
                if is_fused(self.device, dim, dtype):
                    self.say(f"norms of {dim} in {name} are fused")
                    continue
                norm = torch.nn.LayerNorm(dim, device=self.device)
                x, branch = torch.randn(2, 9, dim, device=self.device)
                pairs = zip(
                    *(way(x, branch.to(dtype), norm, dtype, True) for way in (join_by_triton(), join)), strict=True
                )
                apart = max((ours.float() - true.float()).abs().max().item() for ours, true in pairs)
                self.say(f"norms of {dim} in {name} are NOT fused: they differ by {apart:.0e}")

    def compare_attention(self) -> None:
        """Print the error of attention over clips of unequal length, compared with each clip alone."""
        if self.setting.device == "cpu":
            return
        from torch.nn.attention.varlen import varlen_attn

        counts = [499, 37, 1, 1500, 128]
        bounds = torch.tensor([0, *np.cumsum(counts)], device=self.device, dtype=torch.int32)
        for heads, width in ((12, 64), (16, 64), (4, 32)):
            qkv = torch.randn(sum(counts), 3, heads, width, device=self.device).to(torch.bfloat16)
            q, k, v = qkv.unbind(1)
            found: Any = varlen_attn(q, k, v, bounds, bounds, max(counts), max(counts))
            errors = []
            for ours, *clip in zip(*(one.split(counts) for one in (found, q, k, v)), strict=True):
                single = (one.float().transpose(0, 1)[None] for one in clip)
                true = F.scaled_dot_product_attention(*single)[0].transpose(0, 1)
                errors.append(((ours.float() - true).norm() / true.norm()).item())
            self.say(
                f"attention, {heads} heads of {width}: relative error {max(errors):.0e}; bfloat16 has 1e-3 to 1e-2"
            )

    def compare_vectors(self, name: str) -> None:
        """Print how far the vectors are from those of the reference on the CPU, and a batch from single clips."""
        model = make(name, self.setting, self.folder)
        random = np.random.default_rng(1)
        clips = [random.standard_normal(round(s * RATE), dtype=np.float32) * np.float32(0.1) for s in LENGTHS_S]
        layers = (0, model.fast.layers[-1])
        worker = make_workers(model.fast, self.setting.device, 1)[0]

        def forward(precision: str) -> Forward:
            return Forward(layers, ("mean", "max"), precision, 10**12)

        found = {precision: worker.run(forward(precision), clips) for precision in DTYPES}
        alone = [worker.run(forward("float32"), [clip]) for clip in clips]
        reference = Worker(model.reference.to("cpu"), "cpu", Room())
        true = [reference.run(forward("float32"), [clip]) for clip in clips]
        for precision, vectors in found.items():
            parts = []
            for view, ours in vectors.items():
                expected = np.concatenate([one[view] for one in true])
                cosines = (ours * expected).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(expected, axis=1)
                apart = np.abs(ours - expected).max() / np.abs(expected).max()
                parts.append(f"{view} {apart:.0e} (1 - cos {max(0.0, 1 - cosines.min()):.0e})")
            self.say(f"{name}, {precision}, against the reference on the CPU: {', '.join(parts)}")
        apart = max(
            float(np.abs(ours[i] - alone[i][view][0]).max() / np.abs(alone[i][view]).max())
            for view, ours in found["float32"].items()
            for i in range(len(clips))
        )
        self.say(f"{name}, float32, a batch against single clips: {apart:.0e} of the largest number")

    def take_apart(self, name: str, precision: str) -> None:
        """Print times of a batch: one stream, two streams, beside a busy thread; its memory, and its kernels."""
        model = make(name, self.setting, self.folder)
        each, total = (1, 4) if self.setting.small else (10, 600)
        random = np.random.default_rng(0)
        clips = [random.standard_normal(each * RATE, dtype=np.float32) * np.float32(0.1) for _ in range(total // each)]
        forward = Forward(model.fast.layers[-1:], ("mean",), precision, 10**12)
        work = operations(each * RATE, model.config) * len(clips)
        one, *_ = workers = make_workers(model.fast, self.setting.device, 2)
        one.run(forward, clips)
        if self.setting.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        turns = 2 if self.setting.small else 6
        seconds = min(clocked(self.setting, lambda: one.run(forward, clips)) for _ in range(turns))
        share = work / seconds / self.peaks.get(precision, float("nan"))
        self.say(f"{name}, {precision}, one stream: {1e3 * seconds:.1f} ms a batch, {total / seconds:.0f} x real time, "
                 f"{work / seconds / 1e12:.0f} TFLOP/s, {share:.0%} of the peak")  # fmt: skip
        if self.setting.device == "cuda":
            held = torch.cuda.max_memory_allocated() - before
            self.say(f"{name}, {precision}: {held / 1e9:.1f} GB beside the weights")
        for is_busy in (False, True):
            for interval in (5e-3, 1e-4):
                seconds = self._stream_time(workers, forward, clips, is_busy, interval)
                share = work / seconds / self.peaks.get(precision, float("nan"))
                beside = ", beside a busy thread" if is_busy else ""
                self.say(f"{name}, {precision}, {len(workers)} streams{beside}, switch interval {1e3 * interval:g} ms: "
                         f"{1e3 * seconds:.1f} ms a batch, {share:.0%} of the peak")  # fmt: skip
        self._list_kernels(f"{name}, {precision}", model, forward, clips)

    def _stream_time(
        self, workers: Sequence[Worker], forward: Forward, clips: Sequence[Floats], is_busy: bool, interval: float
    ) -> float:
        """Return the seconds of a batch when all workers have work, perhaps beside a thread that computes in Python."""
        turns = 4 if self.setting.small or is_busy else 16
        stop = threading.Event()
        other = threading.Thread(target=keep_busy, args=(stop,))
        before = sys.getswitchinterval()
        sys.setswitchinterval(interval)
        try:
            if is_busy:
                other.start()
            run = run_in_order(workers, lambda worker, batch: worker.run(forward, batch), [clips] * turns)
            return clocked(self.setting, lambda: list(run)) / turns
        finally:
            stop.set()
            sys.setswitchinterval(before)
            if is_busy:
                other.join()

    def _list_kernels(self, title: str, model: Model, forward: Forward, clips: Sequence[Floats]) -> None:
        """Print the kernels of a batch that take most of the time."""
        worker = make_workers(model.fast, self.setting.device, 1)[0]
        activity = torch.profiler.ProfilerActivity
        is_gpu = self.setting.device == "cuda"
        with torch.profiler.profile(activities=[activity.CUDA if is_gpu else activity.CPU]) as seen:
            worker.run(forward, clips)
            self.setting.wait()
        events: Any = seen.key_averages()
        spent = sorted(
            ((one.self_device_time_total if is_gpu else one.self_cpu_time_total, one.count, one.key) for one in events),
            reverse=True,
        )
        total = sum(time_us for time_us, _, _ in spent) or 1
        self.say(f"{title}: {sum(count for _, count, _ in spent)} kernels and copies take {total / 1e3:.1f} ms")
        for time_us, count, key in spent[:14]:
            print(f"      {time_us / total:6.1%} {time_us / 1e3:8.2f} ms {count:5d} x {key[:100]}")

    def keep_memory(self) -> None:
        """Print what the process keeps after several runs of one embedder."""
        if self.setting.device == "cpu":
            return
        from extraction import embedder_of, way_of

        model = make(NAMES[0], self.setting, self.folder)
        way = way_of(embedder_of(model.fast, batch_seconds=600, device="cuda", precision="bfloat16"))
        clips = [np.zeros(10 * RATE, np.float32)] * 120
        kept = []
        for _ in range(4):
            way(clips)
            kept.append(f"{torch.cuda.memory_reserved() / 1e9:.1f}")
        self.say(f"GB that the process keeps after 1 to 4 runs: {', '.join(kept)}")


def keep_busy(stop: threading.Event) -> None:
    """Compute in Python until `stop` is set, as a thread that writes rows does."""
    while not stop.is_set():
        sum(range(1000))


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to test that everything runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        probe = Probe(Setting(options.device, options.small, 1.0, 0), Path(folder))
        probe.attempt("peaks", probe.find_peaks)
        probe.attempt("norms", probe.compare_norms)
        probe.attempt("attention", probe.compare_attention)
        for name in SHAPES:
            probe.attempt(f"vectors of {name}", probe.compare_vectors, name)
        for name in NAMES:
            probe.attempt(f"a batch of {name}", probe.take_apart, name, "bfloat16")
        probe.attempt("memory", probe.keep_memory)
        probe.attempt("a batch in float32", probe.take_apart, NAMES[-1], "float32")
        probe.say("end")


if __name__ == "__main__":
    main()
