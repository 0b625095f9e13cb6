"""Run the reliability tests many times, and write RELIABILITY.md from the counts that they report.

    python benchmarks/reliability.py                      all parts; takes hours
    python benchmarks/reliability.py kills faults         some parts
    python benchmarks/reliability.py --scale 0.01         all parts, with 1 % of the repetitions
    python benchmarks/reliability.py kills=0.2 damage=1   a scale for each part

As many parts run at a time as there are cores. Each test appends its counts to the file named by EMBEDX_REPORT. The
tables contain only these counts. Parts that are not run keep their section in the file.
"""

import argparse
import datetime
import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from page import commit

from embedx.bench.speed.roofline import name_device

ROOT = Path(__file__).parents[1]
OUT = ROOT / "RELIABILITY.md"
HEAD = """# Reliability

Made by `make reliability`, part by part. The counts are the repetitions that the tests reported.
"""
SECTION = re.compile(r"^## (\w+)\n\n(.*?)(?=\n## |\Z)", re.MULTILINE | re.DOTALL)
COLUMNS = ("test", "count", "failures", "seed", "seconds")
LIBRARIES = ("embedx", "numpy", "torch", "soundfile", "av")


@dataclass(frozen=True)
class Part:
    """One kind of test: its files, the number of repetitions, and what it shows."""

    tests: tuple[str, ...]  # patterns of files in tests/
    counts: dict[str, int]  # environment variable -> number at scale 1
    proves: str
    processes: int = 1  # that share the repetitions, each with a seed of its own


@dataclass(frozen=True)
class Result:
    """What the tests of a part reported."""

    code: int | None  # pytest's exit code; None without tests
    lines: list[dict[str, Any]] = field(default_factory=list)  # rows of the table


PARTS = {
    "kills": Part(
        ("reliability/test_kills.py",), {"EMBEDX_KILLS": 2000}, "kill -9 at any moment loses no committed data"
    ),
    "faults": Part(
        ("reliability/test_faults.py",),
        {"EMBEDX_PAIRS": 5000},
        "one or two failing system calls, or a full disk, lose no committed data",
    ),
    "power": Part(
        ("reliability/test_durability.py",),
        {"EMBEDX_CUTS": 50},
        "a power cut after any system call loses no committed data",
    ),
    "sabotage": Part(
        ("reliability/test_harness_detects_faults.py",),
        {"EMBEDX_BUG_STEP": 1},
        "the tests detect deliberately broken code",
    ),
    "damage": Part(
        ("collection/test_verify.py", "heads/test_files.py"),
        {"EMBEDX_DAMAGES": 50_000, "EMBEDX_FLIPS": 40_000},
        "damage is detected and reported",
        processes=4,
    ),
    "machine": Part(
        ("store/test_state_machine.py",),
        {"EMBEDX_MACHINES": 2000, "EMBEDX_STEPS": 100},
        "a store behaves like a dict under random operations",
    ),
    "answers": Part(
        ("store/test_filters.py", "collection/test_concurrency.py"),
        {"EMBEDX_FILTERS": 100_000, "EMBEDX_CONDITIONS": 500_000, "EMBEDX_ANSWERS": 3000, "EMBEDX_THREADS": 500},
        "random filters are answered as pandas answers them or refused, and an answer beside a writer is of one state",
    ),
    "hostile": Part(
        ("audio/test_malformed_audio.py",), {"EMBEDX_HOSTILE": 20_000}, "malformed audio files are embedded or reported"
    ),
    "service": Part(
        ("cli/test_serve_processes.py", "server/test_changes_under_load.py", "server/test_hostile_requests.py"),
        {"EMBEDX_SERVICE_KILLS": 30, "EMBEDX_SERVICE_ROUNDS": 60, "EMBEDX_SERVICE_REQUESTS": 20_000},
        "kills, changes and hostile requests harm neither the service nor its answers",
    ),
}


def main() -> int:
    """Run the parts, write the table, and return 1 if a part failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART[=SCALE]", help=f"of: {', '.join(PARTS)} [default: all]")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the repetitions of a full run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    wanted = [part.partition("=") for part in options.parts or PARTS]
    unknown = {name for name, _, _ in wanted} - PARTS.keys()
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}")
    scales = {name: float(scale or options.scale) for name, _, scale in wanted}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {pool.submit(run, PARTS[name], scale, options.seed): name for name, scale in scales.items()}
        for result in as_completed(running):
            name = running[result]
            write_section(options.out, name, describe(PARTS[name], scales[name], result.result()))
    return int(any(result.result().code not in (0, None) for result in running))


def run(part: Part, scale: float, seed: int) -> Result:
    """Run the tests of a part."""
    files = sorted({str(file) for pattern in part.tests for file in (ROOT / "tests").glob(pattern)})
    if not files:
        return Result(None)
    counts = {name: str(max(1, round(count * scale / part.processes))) for name, count in part.counts.items()}
    with ThreadPoolExecutor(part.processes) as pool:
        results = list(pool.map(lambda number: run_once(files, counts, seed + number), range(part.processes)))
    return Result(max(one.code or 0 for one in results), [line for one in results for line in one.lines])


def run_once(files: list[str], counts: dict[str, str], seed: int) -> Result:
    """Run tests in one process."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report")
        variables = {"EMBEDX_EVERY": "1"} | os.environ | counts
        variables |= {"EMBEDX_SEED": str(seed), "EMBEDX_REPORT": str(report)}
        command = [sys.executable, "-m", "pytest", "-m", "reliability or not reliability", *files]
        code = subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode
        lines = report.read_text().splitlines() if report.exists() else []
    return Result(code, [json.loads(line) for line in lines])


def describe(part: Part, scale: float, result: Result) -> str:
    """Return the section of a part: where and how often its tests ran, and what they reported."""
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    table = [COLUMNS, tuple("---" for _ in COLUMNS), *([line[name] for name in COLUMNS] for line in result.lines)]
    return "\n".join(
        [
            f"{part.proves[0].upper()}{part.proves[1:]}{verdict(result.code)}.",
            "",
            f"{datetime.date.today()}, {scale:g} times the repetitions of a full run, commit "
            f"{commit()}, {name_device('cpu')}, {os.cpu_count()} cores, {platform.platform()}, "
            f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {versions}",
            "",
            *("| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |" for row in table),
            "",
        ]
    )


def write_section(out: Path, part: str, text: str) -> None:
    """Replace the section of a part in RELIABILITY.md; the other sections stay."""
    sections = dict(SECTION.findall(out.read_text(encoding="utf-8"))) if out.exists() else {}
    sections[part] = text
    missing = [name for name in PARTS if name not in sections]
    head = HEAD + (f"\nNot run: {', '.join(missing)}.\n" if missing else "")
    written = [f"## {name}\n\n{sections[name]}" for name in PARTS if name in sections]
    out.write_text("\n".join([head, *written]), encoding="utf-8")
    print(f"{out}: {part}")


def verdict(code: int | None) -> str:
    """Return the result of a part as text.

    >>> verdict(0), verdict(1), verdict(None)
    ('', ' (**FAILED**)', ' (no tests found)')
    """
    return " (no tests found)" if code is None else " (**FAILED**)" if code else ""


if __name__ == "__main__":
    sys.exit(main())
