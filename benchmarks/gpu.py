"""Compare extraction on a GPU with its targets and with common alternatives, and write the part of BENCHMARKS.md.

Takes less than 8 minutes on an H100: `PYTHONPATH=. python benchmarks/gpu.py [--out FILE]`. Weights and clips are random
with a fixed seed. `--small --device cpu` runs every line in a minute on any machine; its figures are meaningless.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import soundfile
import torch
import torchaudio
import transformers
from extraction import BATCH, RATE, Floats, Way, bundle_loop, cosine, embedder_of, operations, plain_loop, way_of
from page import commit, write_part

import embedx
from embedx import extractors
from embedx.bench.speed.roofline import name_device
from embedx.extractors.base import Extractor
from embedx.extractors.fast.norms import is_fused
from embedx.processes.cores import count_cores

TARGETS = {"wav2vec2-large": 0.40, "wav2vec2-base": 0.30}  # share of the bfloat16 peak on equal clips of 10 s
TIMES, BUSY = 10.0, 0.90  # targets: speed-up over the plain loop with mixed lengths; busy share of the GPU with files
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
SHAPES: dict[str, dict[str, Any]] = {
    "wav2vec2-large": LARGE,
    "wav2vec2-base": {},
    "wav2vec2-large-lv60": LARGE | {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
}
SMALL = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "conv_dim": (64,) * 7,
}
KERNELS = {"cuda": ("kernel",), "cpu": ("cpu_op",)}  # categories of a trace that are work of the device


@dataclass(frozen=True)
class Setting:
    """The size of the measurement, and the device."""

    device: str
    small: bool
    seconds: float  # for each figure
    files: int

    def wait(self) -> None:
        """Wait until the device has finished its work."""
        if self.device == "cuda":
            torch.cuda.synchronize()


@dataclass(frozen=True)
class Model:
    """A model with random weights: in transformers, and with both backends of embedx."""

    name: str
    config: Any
    folder: str
    plain: Any
    fast: Extractor
    reference: Extractor


def peak(setting: Setting, dtype: torch.dtype) -> float:
    """Return the peak operations per second of a product of square matrices, the best of five turns."""
    size, turns = (256, 2) if setting.small else (8192 if dtype == torch.bfloat16 else 4096, 20)
    x, y = (torch.randn(size, size, device=setting.device).to(dtype) for _ in range(2))
    taken = [clocked(setting, lambda: [x @ y for _ in range(turns)]) for _ in range(6)]
    return 2 * size**3 * turns / min(taken[1:])


def clocked(setting: Setting, work: Callable[[], Any]) -> float:
    """Return the seconds that the work takes."""
    setting.wait()
    begun = time.perf_counter()
    work()
    setting.wait()
    return time.perf_counter() - begun


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
    yield "60 % of the time from the first kernel to the last, divided by that time, by torch.profiler.\n"
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
    """Profiles a run, however short it is.

    Attributes:
        kernels: the events of all kernels.
        seconds: from the begin of the first kernel to the end of the last.
        busy: the share of the middle 60 % of these seconds in which a kernel ran.
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
        with self.profiler:
            torch.ones(1, device=self.device).add_(1)

    def __enter__(self) -> Self:
        self.profiler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.profiler.stop()
        self.kernels = self._read()
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


class Tight:
    """An extractor on a CPU that raises the out-of-memory error of a GPU above a number of samples."""

    def __init__(self, inner: Extractor, most: int) -> None:
        self.inner, self.most, self.refused = inner, most, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def to(self, device: str) -> "Tight":
        """Return self."""
        return self

    def frames(self, waves: torch.Tensor, *rest: Any) -> Any:
        """Raise OutOfMemoryError, or call the inner extractor."""
        if waves.numel() > self.most:
            self.refused += 1
            raise torch.OutOfMemoryError("no room")
        return self.inner.frames(waves, *rest)


def halving(setting: Setting, model: Model) -> Iterator[str]:
    """Yield lines on batches that do not fit into memory: no vector is lost or different."""
    random = np.random.default_rng(3)
    shortest, size = (0.3, 8.0) if setting.small else (1.0, 600.0)
    lengths = (
        np.exp(random.uniform(np.log(shortest), np.log(10 * shortest), 60 if setting.small else 1000)) * RATE
    ).astype(int)
    clips = [random.standard_normal(n, dtype=np.float32) * np.float32(0.1) for n in lengths]
    how: dict[str, Any] = {"device": setting.device, "precision": "float32"}
    expected = way_of(embedder_of(model.fast, batch_seconds=size / 20, **how))(clips)
    if setting.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        model_bytes = torch.cuda.memory_allocated()
        way_of(embedder_of(model.fast, batch_seconds=size, **how))(clips)
        most = torch.cuda.max_memory_allocated()
        torch.cuda.empty_cache()
        limit = torch.cuda.memory_reserved() + 0.4 * (most - model_bytes)
        torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
        before = torch.cuda.memory_stats()["num_ooms"]
        embedder = embedder_of(model.fast, batch_seconds=size, **how)
        found = way_of(embedder)(clips)
        refused = torch.cuda.memory_stats()["num_ooms"] - before
        torch.cuda.set_per_process_memory_fraction(1.0)
        room = f"{limit / 1e9:.1f} GB where {most / 1e9:.1f} GB are needed"
    else:
        tight = Tight(model.fast, int(size * RATE / 2))
        embedder = embedder_of(tight, batch_seconds=size, **how)
        found, refused, room = way_of(embedder)(clips), tight.refused, "half of the memory that is needed"
    wrong = max(1 - cosine(a, b) for a, b in zip(found, expected, strict=True))
    apart = max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))
    yield f"## A batch that does not fit, {model.name}, float32; target: halved without loss\n"
    yield (
        f"Batches of {size:g} s with {room}: {refused} did not fit, and later batches held "
        f"{embedder.budget / RATE:.0f} s. {len(found)} vectors of {len(clips)} clips. Compared with batches of "
        f"{size / 20:g} s, their numbers differ by at most {apart:.0e}, and 1 - cos is at most {max(wrong, 0):.0e}."
    )


def make(name: str, setting: Setting, folder: Path) -> Model:
    """Return a model with random weights."""
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(**(SHAPES[name] | (SMALL if setting.small else {})))
    plain = transformers.Wav2Vec2Model(config).eval()
    plain.save_pretrained(folder / name)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder / name)
    plain.set_attn_implementation("eager")
    place = str(folder / name)
    fast, reference = (extractors.load(place, backend=backend).to(setting.device) for backend in ("fast", "reference"))
    return Model(name, config, place, plain.to(setting.device), fast, reference)


def describe(setting: Setting, peaks: dict[str, float]) -> str:
    """Return the device and the versions."""
    name = name_device("cpu")
    fused = is_fused(torch.device(setting.device, 0), 1024, torch.bfloat16)
    if setting.device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            driver = subprocess.run(asked, capture_output=True, text=True).stdout.split("\n")[0]
        except OSError:
            driver = "unknown"
        name = f"{torch.cuda.get_device_name()} ({memory:.0f} GiB, driver {driver}, CUDA {torch.version.cuda}), {name}"
    return (
        f"Made by `python benchmarks/gpu.py` on {time.strftime('%Y-%m-%d')} at commit {commit()}: {name}, "
        f"{count_cores()} cores; torch {torch.__version__}, transformers {transformers.__version__}, torchaudio "
        f"{torchaudio.__version__}, Python {platform.python_version()}. Random weights. TF32 is off throughout. Square "
        f"products reach {peaks['bfloat16'] / 1e12:.1f} TFLOP/s in bfloat16 (8192) and {peaks['float32'] / 1e12:.1f} "
        f"in float32 (4096): the peaks below. Norms are {'' if fused else 'not '}fused by Triton.\n"
    )


def sections(setting: Setting, names: Sequence[str], folder: Path) -> Iterator[str]:
    """Yield all lines of the part of BENCHMARKS.md."""
    peaks = {"bfloat16": peak(setting, torch.bfloat16), "float32": peak(setting, torch.float32)}
    yield describe(setting, peaks)
    models = []
    for name in names:
        model = make(name, setting, folder)
        models.append(model)
        yield from equal_clips(setting, model, peaks)
        yield ""
        if name in TARGETS:
            yield from mixed_lengths(setting, model)
            yield ""
    (folder / "wavs").mkdir()
    yield from from_files(setting, models[:2], folder / "wavs", peaks)
    yield ""
    yield from halving(setting, models[-1])


def main() -> None:
    """Measure everything, and write the part of BENCHMARKS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write to this file instead of BENCHMARKS.md")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to test that everything runs")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    parser.add_argument("--files", type=int, default=8000, help="WAV files")
    options = parser.parse_args()
    if options.small and options.out is None:
        parser.error("the figures of --small do not belong in BENCHMARKS.md; give --out")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; --small --device cpu runs without one")
    warnings.filterwarnings("ignore")
    if options.device == "cpu":
        torch.set_num_threads(1)  # the profiler sees each operator once
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    setting = Setting(options.device, options.small, options.seconds, options.files)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for line in sections(setting, list(SHAPES), Path(folder)):
            print(line, flush=True)
            lines.append(line)
            if options.out is not None:  # keep finished lines if the rest is interrupted
                options.out.write_text("# GPU\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
    if options.out is None:
        write_part("GPU", "\n".join(lines))


if __name__ == "__main__":
    main()
