"""Labels, paths and names from strangers never control a terminal and never forge a line."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import embedx
from tests.helpers.commands import Capture, outcome

ATTACK = "\x1b[2J\x1b]0;x\x07\u202egnp\u2028\r\x9b31m\nFORGED"
COMMANDS = [
    ["status"], ["status", "--failed"], ["search", "--id", "1", "--columns", "site"],
    ["search", "--id", "1", "--format", "csv"], ["search", "--id", "1", "--format", "json"],
    ["search", "--id", "1", "--format", "raven"], ["search", "--id", "1", "--format", "jsonl"],
    ["duplicates", "--threshold", "0.9", "--all"], ["duplicates", "--threshold", "0.9", "--format", "csv"],
    ["probe", "--per-class"], ["probe", "--per-class", "--sweep"], ["probe", "--label", "site"],
    ["train", "--name", "h", "--per-class"], ["heads", "list"], ["heads", "show", "h"],
    ["predict", "--head", "h"], ["predict", "--head", "h", "--format", "csv"], ["suggest", "--by", "diverse"],
    ["suggest", "--by", "diverse", "--label", ATTACK], ["label", "--set", f"site={ATTACK}"], ["label", "--log"],
    ["verify"], ["probe", "--label", ATTACK], ["search", ATTACK], ["search", "--id", "1", "--where", ATTACK],
    ["search", "--id", "1", "--view", ATTACK], ["predict", "--head", ATTACK], ["heads", "rm", ATTACK],
    ["search", "--id", "1", f"--{ATTACK}"], ["search", "--id", "1", "--columns", ATTACK], ["label", "--set", ATTACK],
    ["search", "--id", "1", "--metric", ATTACK], ["rm", "--where", f"label = '{ATTACK}x'"], ["compact"],
]  # fmt: skip


def is_harmless(text: str) -> bool:
    controls = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n", "\t"}
    return not controls and not any(line.lstrip().startswith("FORGED") for line in text.splitlines())


def test_no_command_prints_what_controls_a_terminal(tmp_path: Path, capsys: Capture) -> None:
    random = np.random.default_rng(0)
    centres = random.standard_normal((2, 8))
    classes = np.arange(40) % 2
    frame = pd.DataFrame(
        {
            "path": [f"/data/{ATTACK}/{number}{ATTACK}.wav" for number in range(40)],
            "label": [f"{'ab'[one]}{ATTACK}" for one in classes],
            "group": [f"{ATTACK}{number}" for number in range(40)],
            "site": [f"{number % 2}{ATTACK}" for number in range(40)],
            "vector": list((centres[classes] + 0.01 * random.standard_normal((40, 8))).astype(np.float32)),
        }
    )
    folder = str(tmp_path / "c")
    embedx.import_vectors(frame, out=folder, vectors="vector", name="x").close()
    harmful: dict[str, list[str]] = {}
    for command in COMMANDS:
        words = command[:2] if command[0] == "heads" else command[:1]
        code, text, log = outcome(capsys, *words, folder, *command[len(words) :])
        assert code in (0, 2, 3, 5, 7, 8), (command, log)
        if not is_harmless(text + log):
            harmful[" ".join(command)] = [line for line in (text + log).splitlines() if not is_harmless(line)][:3]
    assert harmful == {}


def test_extract_and_errors_escape_names(
    write_wav: Callable[..., Path], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = ATTACK.replace("/", "")
    write_wav(f"in/{name}/good.wav")
    write_wav(f"in/other/{name}.wav")
    (tmp_path / "in" / name / "bad.wav").write_text("text")
    (tmp_path / "in" / name / f"x.{name}").touch()
    monkeypatch.chdir(tmp_path)
    harmful: dict[str, list[str]] = {}
    for arguments in (
        ["extract", "in", "-o", name], ["extract", "in", "-o", name, "--dry-run"], ["extract", name, "-o", "c"],
        ["extract", "in", "-o", "c", "--label", f"({name}"], ["extract", "in", "-o", "c", "--model", name],
        ["status", name], ["status", name, "--failed"], ["search", name, f"in/{name}/bad.wav"],
        ["merge", name, "-o", "d"],        ["search", name, "--id", "1", "--output", f"{name}/{name}/x"],
        ["export", name, "-o", f"x.{name}"],
        ["rm", name, "--where", "id = 99"], ["compact", name], ["verify", name], [name], ["heads", "list", name],
    ):  # fmt: skip
        _, text, log = outcome(capsys, *arguments)
        if not is_harmless(text + log):
            harmful[" ".join(arguments)] = [line for line in (text + log).splitlines() if not is_harmless(line)][:3]
    assert harmful == {}
