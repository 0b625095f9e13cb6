"""Run the reliability tests many times, and write RELIABILITY.md from the counts that they report.

    python benchmarks/reliability.py                      all parts; takes hours
    python benchmarks/reliability.py kills faults         some parts
    python benchmarks/reliability.py --scale 0.01         all parts, with 1 % of the repetitions

Each test appends its counts to the file named by EMBEDX_REPORT. The table contains only these counts.
"""

import argparse
import datetime
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
OUT = ROOT / "RELIABILITY.md"
COLUMNS = ("test", "count", "failures", "seed", "seconds")
LIBRARIES = ("embedx", "numpy", "torch", "soundfile", "av")


@dataclass(frozen=True)
class Part:
    """One kind of test: its files, the number of repetitions, and what it shows."""

    tests: tuple[str, ...]  # patterns of files in tests/
    counts: dict[str, int]  # environment variable -> number at scale 1
    proves: str


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
    "sabotage": Part(("reliability/test_harness_detects_faults.py",), {}, "the tests detect deliberately broken code"),
    "damage": Part(("collection/test_verify.py",), {"EMBEDX_DAMAGES": 50_000}, "damage is detected and reported"),
    "machine": Part(
        ("store/test_state_machine.py",),
        {"EMBEDX_MACHINES": 2000, "EMBEDX_STEPS": 100},
        "a store behaves like a dict under random operations",
    ),
    "hostile": Part(
        ("audio/test_malformed_audio.py",), {"EMBEDX_HOSTILE": 20_000}, "malformed audio files are embedded or reported"
    ),
}


def main() -> int:
    """Run the parts, write the table, and return 1 if a part failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of: {', '.join(PARTS)} [default: all]")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the repetitions of a full run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    unknown = set(options.parts) - PARTS.keys()
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}")
    lines: list[dict[str, Any]] = []
    codes = {}
    for name in options.parts or PARTS:
        codes[name] = run(PARTS[name], options.scale, options.seed, lines)
    options.out.write_text(write(lines, codes, options.scale), encoding="utf-8")
    print(f"{options.out}: {len(lines)} rows")
    return int(any(code not in (0, None) for code in codes.values()))


def run(part: Part, scale: float, seed: int, lines: list[dict[str, Any]]) -> int | None:
    """Run the tests of a part, append their reports to `lines`, and return pytest's exit code; None without tests."""
    files = sorted({str(file) for pattern in part.tests for file in (ROOT / "tests").glob(pattern)})
    if not files:
        return None
    counts = {name: str(max(1, round(count * scale))) for name, count in part.counts.items()}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report")
        variables = {"EMBEDX_EVERY": "1"} | os.environ | counts
        variables |= {"EMBEDX_SEED": str(seed), "EMBEDX_REPORT": str(report)}
        command = [sys.executable, "-m", "pytest", "-m", "reliability or not reliability", *files]
        code = subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode
        if report.exists():
            lines += [json.loads(line) for line in report.read_text().splitlines()]
    return code


def write(lines: list[dict[str, Any]], codes: dict[str, int | None], scale: float) -> str:
    """Return RELIABILITY.md."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    parts = [f"- {name}: {PARTS[name].proves}{verdict(code)}" for name, code in codes.items()]
    left_out = [name for name in PARTS if name not in codes]
    if left_out:
        parts.append(f"- not run: {', '.join(left_out)}")
    table = [COLUMNS, tuple("---" for _ in COLUMNS), *([line[name] for name in COLUMNS] for line in lines)]
    return "\n".join(
        [
            "# Reliability",
            "",
            "Made by `make reliability`. The counts are the repetitions that the tests reported, "
            f"at {scale:g} times the repetitions of a full run.",
            "",
            f"{datetime.date.today()}, commit {commit.stdout.strip() or 'unknown'}, {os.cpu_count()} cores, "
            f"{platform.platform()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {versions}",
            "",
            *parts,
            "",
            *("| " + " | ".join("" if cell is None else str(cell) for cell in row) + " |" for row in table),
            "",
        ]
    )


def verdict(code: int | None) -> str:
    """Return the result of a part as text.

    >>> verdict(0), verdict(1), verdict(None)
    ('', ' (**FAILED**)', ' (no tests found)')
    """
    return " (no tests found)" if code is None else " (**FAILED**)" if code else ""


if __name__ == "__main__":
    sys.exit(main())
