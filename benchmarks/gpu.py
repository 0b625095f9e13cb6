"""Compare extraction on a GPU with its targets and with common alternatives, and write the part of BENCHMARKS.md.

`PYTHONPATH=. python benchmarks/gpu.py [--out FILE]` takes 6 minutes at most. Weights and clips are random with a fixed
seed. The parts run in the order of their importance, each with a limit in seconds; one that fails or takes too long
says so, and the others go on. `--small --device cpu` runs every line on any machine; its figures are meaningless.
"""

import argparse
import contextlib
import gc
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import torch
from gpu_files import from_files
from gpu_heads import compare_mlp, compare_sweep
from gpu_memory import halving
from gpu_models import Model, Setting, describe, make, peak
from gpu_speed import equal_clips, mixed_lengths, whisper
from page import write_part

BASE, LARGE, NORMED = "wav2vec2-base", "wav2vec2-large", "wav2vec2-large-lv60"
LEAST_S = 5.0  # left, or a part is not begun
TOTAL_S = 360.0


class OutOfTimeError(Exception):
    """A part has taken longer than its limit."""


@dataclass(frozen=True)
class Part:
    """A part of the measurement.

    Attributes:
        name: for `--parts`.
        limit_s: seconds after which it is stopped.
        lines: yields the lines of its table.
    """

    name: str
    limit_s: float
    lines: Callable[[], Iterator[str]]


class Bench:
    """What the parts have in common: the peaks of the device, and each model, made once."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting, self.folder = setting, folder
        self.model: Callable[[str], Model] = cache(lambda name: make(name, setting, folder))

    @cached_property
    def peaks(self) -> dict[str, float]:
        """The peak operations per second of each dtype."""
        return {"bfloat16": peak(self.setting, torch.bfloat16), "float32": peak(self.setting, torch.float32)}

    def describe(self) -> Iterator[str]:
        """Yield the device and the versions."""
        yield describe(self.setting, self.peaks)

    def equal(self, name: str) -> Iterator[str]:
        """Yield the table of equal clips."""
        return equal_clips(self.setting, self.model(name), self.peaks)

    def mixed(self, name: str) -> Iterator[str]:
        """Yield the table of mixed lengths."""
        return mixed_lengths(self.setting, self.model(name))

    def files(self) -> Iterator[str]:
        """Yield the table from files to a collection."""
        (self.folder / "wavs").mkdir()
        models = [self.model(name) for name in (LARGE, BASE)]
        return from_files(self.setting, models, self.folder / "wavs", self.peaks)

    def parts(self) -> list[Part]:
        """Return all parts, the most important first."""
        return [
            Part("device", 30, self.describe),
            Part("base", 40, lambda: self.equal(BASE)),
            Part("large", 50, lambda: self.equal(LARGE)),
            Part("mixed-base", 40, lambda: self.mixed(BASE)),
            Part("files", 80, self.files),
            Part("halving", 40, lambda: halving(self.setting, self.model(BASE))),
            Part("whisper", 50, lambda: whisper(self.setting, self.peaks, self.folder)),
            Part("sweep", 50, lambda: compare_sweep(self.setting)),
            Part("mlp", 30, lambda: compare_mlp(self.setting)),
            Part("mixed-large", 40, lambda: self.mixed(LARGE)),
            Part("large-lv60", 40, lambda: self.equal(NORMED)),
        ]


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in the main thread after some seconds; a call into a library ends first."""

    def stop(*_: object) -> None:
        raise OutOfTimeError(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def measure(parts: Sequence[Part], total_s: float, slower: float, add: Callable[[str], None]) -> list[str]:
    """Run parts one after the other, whatever happens in one of them.

    Args:
        parts: what is measured.
        total_s: seconds for all parts together.
        slower: a factor of all limits.
        add: gets each line as soon as it is known.

    Returns:
        The names of the parts that failed, took too long, or were not begun.
    """
    end, failed = time.monotonic() + slower * total_s, []
    for part in parts:
        left = end - time.monotonic()
        try:
            if left < LEAST_S:
                raise OutOfTimeError("not begun, no time was left")
            with limited(min(slower * part.limit_s, left)):
                for line in part.lines():
                    add(line)
        except Exception as error:  # the other parts are still worth their time
            failed.append(part.name)
            traceback.print_exc()
            add(f"\n**{part.name}: {type(error).__name__}: {str(error)[:300]}**")
        add("")
        gc.collect()
    return failed


def main() -> None:
    """Measure everything, and write the part of BENCHMARKS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write to this file instead of BENCHMARKS.md")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to test that everything runs")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    parser.add_argument("--files", type=int, default=8000, help="WAV files")
    parser.add_argument("--parts", nargs="+", help="names of parts; default: all")
    parser.add_argument("--total", type=float, default=TOTAL_S, help="seconds for all parts together")
    parser.add_argument("--slower", type=float, default=1.0, help="multiply all limits, for a slow or loaded machine")
    options = parser.parse_args()
    if options.small and options.out is None:
        parser.error("the figures of --small do not belong in BENCHMARKS.md; give --out")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; --small --device cpu runs without one")
    warnings.filterwarnings("ignore")
    if options.device == "cpu":
        torch.set_num_threads(1)  # the profiler sees each operator once
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    lines: list[str] = []

    def add(line: str) -> None:
        print(line, flush=True)
        lines.append(line)
        if options.out is not None:  # what is known is kept if the rest is interrupted
            options.out.write_text("# GPU\n\n" + "\n".join(lines) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Setting(options.device, options.small, options.seconds, options.files), Path(folder))
        parts = [part for part in bench.parts() if options.parts is None or part.name in options.parts]
        failed = measure(parts, options.total, options.slower, add)
    if options.out is None and not failed:
        write_part("GPU", "\n".join(lines))
    if failed:
        sys.exit(f"Without a figure: {', '.join(failed)}. BENCHMARKS.md is only written if every part has one.")


if __name__ == "__main__":
    main()
