"""Measure which way is best for how many labels, and write the table of docs/finetune.md.

Digits of FSDD by speakers that are not in the training rows, with Whisper tiny.en: a head on frozen vectors, LoRA, full
fine-tuning and a model from scratch, with few and with all training rows. It needs the recordings and the weights in
shared/ beside the repository. `--small` takes fewer rows and epochs, and prints only.
"""

import argparse
import csv
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from page import ROOT, commit

from embedx.bench import make_plan, run
from embedx.bench.leaderboard import Board, Entry, boards
from embedx.bench.speed.roofline import name_device

SHARED = Path(os.environ.get("EMBEDX_SHARED", ROOT.parent / "shared"))
RECORDINGS, WHISPER = SHARED / "data" / "fsdd" / "recordings", SHARED / "weights" / "whisper-tiny.en"
PAGE, HEADING = ROOT / "docs" / "finetune.md", "## Which way for how many labels"
COMMON = "batch_size=8, max_seconds=2, pooling=mean, precision=bfloat16, hold_out=false"
SETTINGS = {
    "full": "start=probe, average=0.5, learning_rate=5e-5, freeze=features",
    "lora": "start=probe",
    "scratch": "learning_rate=1e-3",
}
NAMES = {
    "logistic": "head on frozen vectors (`embedx train`)",
    "lora": "LoRA (`--lora 8 --start probe`)",
    "full": "full fine-tuning (`--start probe --average 0.5`)",
    "scratch": "small CNN from scratch",
}


def write_manifest(file: Path, takes: int) -> int:
    """Write the first takes of each digit and speaker as a manifest, and return the number of rows."""
    rows = []
    for path in sorted(RECORDINGS.glob("*.wav")):
        digit, speaker, take = path.stem.split("_")
        if int(take) < takes:
            rows.append({"path": str(path), "label": digit, "speaker": speaker})
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, ["path", "label", "speaker"])
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def name_of(entry: Entry) -> str:
    """Return the key of a setup in `NAMES`."""
    return "scratch" if entry.setup.model.startswith("scratch") else entry.setup.head.partition("(")[0]


def write_table(by_shots: list[Board]) -> list[str]:
    """Return the scores of every way over numbers of labels, with its cost, as the lines of a Markdown table."""
    head = [f"{board.shots} of each class" if board.shots != "all" else "all rows" for board in by_shots]
    lines = [
        "| way | " + " | ".join(head) + " | seconds of a fit | trained parameters |",
        "|---" * (len(head) + 3) + "|",
    ]
    for key, name in NAMES.items():
        entries = [next((entry for entry in board.entries if name_of(entry) == key), None) for board in by_shots]
        cells = []
        for board, entry in zip(by_shots, entries, strict=True):
            best = max(one.scores["accuracy"].mean for one in board.entries)
            score = entry.scores["accuracy"] if entry else None
            half = "" if score is None or score.half is None else f" ± {score.half:.2f}"
            text = "" if score is None else f"{score.mean:.2f}{half}"
            cells.append(f"**{text}**" if score is not None and score.mean == best else text)
        last = entries[-1]
        seconds = f"{last.seconds:.0f}" if last and last.seconds is not None else ""
        parameters = f"{last.parameters:,}" if last and last.parameters is not None else ""
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {seconds} | {parameters} |")
    return lines


def measure(takes: int, epochs: int) -> str:
    """Run the benchmark, and return the text of the section."""
    ways = {
        key: f"(epochs={4 * epochs if key == 'scratch' else epochs}, {COMMON}, {settings})"
        for key, settings in SETTINGS.items()
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = write_manifest(folder / "rows.csv", takes)
        task = {"name": "digits", "data": str(folder / "rows.csv"), "label": "label", "folds": "speaker",
                "group": "speaker"}  # fmt: skip
        common: dict[str, Any] = {
            "task": [task],
            "layers": "last",
            "shots": [2, 5, "all"],
            "device": "cpu",
            "out": str(folder / "out"),
        }
        started = time.monotonic()
        run(make_plan(model=str(WHISPER), finetune=["full" + ways["full"], "lora" + ways["lora"]], **common))
        results = run(make_plan(model="scratch:cnn", finetune="full" + ways["scratch"], **common))
        minutes = (time.monotonic() - started) / 60
        by_shots = sorted(boards_of(folder), key=lambda board: board.shots == "all")
        per_class = round(results[-1].rows_train / results[-1].classes)
    return "\n".join(
        [
            f"Accuracy on FSDD: ten spoken digits, {rows} recordings of 4 speakers, Whisper tiny.en. Each fold tests "
            f"on a speaker who is not in the training rows; all rows are {per_class} of each class. Mean over folds ± "
            "half of its 95 % interval, the best of each column in bold. Seconds are those of one fit on all rows with "
            "reading or embedding its rows. The head embeds with Whisper's whole context of 30 s; fine-tuning has one "
            "of 2 s, and starts from a head with this context. Its rate and average are near those that were chosen "
            "above on trainings with some of the same recordings, so its figures may be a little too high.",
            "",
            *write_table(by_shots),
            "",
            f"Made by `benchmarks/finetune_labels.py` ({epochs} epochs, {4 * epochs} of the CNN, steps of 8 rows; "
            f"{name_device('cpu')}, {os.getloadavg()[0]:.0f} processes wanted its {os.cpu_count()} cores, commit "
            f"{commit()}, {minutes:.0f} minutes). Other sounds may give another order: "
            "`embedx bench probe --finetune full,lora` measures it on yours (benchmark.md).",
        ]
    )


def boards_of(folder: Path) -> list[Board]:
    """Return the boards of the results in a folder."""
    from embedx.bench.results import read_table

    return boards(read_table(folder / "out"), "accuracy")


def replace_section(page: str, text: str) -> str:
    r"""Return a page with the section under `HEADING` replaced, or added at the end.

    >>> replace_section(f"# A\n\n{HEADING}\n\nold\n\n## B\n\nkept\n", "new").replace(HEADING, "## X")
    '# A\n\n## X\n\nnew\n\n## B\n\nkept\n'
    """
    section = f"{HEADING}\n\n{text.strip()}\n"
    pattern = re.compile(rf"^{re.escape(HEADING)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if not pattern.search(page):
        return f"{page.rstrip()}\n\n{section}"
    return pattern.sub(lambda match: section + "\n", page).rstrip() + "\n"


def main() -> None:
    """Measure, and write the section of docs/finetune.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="fewer rows and epochs; print only")
    small = parser.parse_args().small
    text = measure(*((1, 1) if small else (5, 5)))
    print(text)
    if not small:
        PAGE.write_text(replace_section(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
