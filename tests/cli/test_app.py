"""The command line: output, error messages and exit codes."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import embedx
from tests.helpers.commands import Capture, WriteWav, outcome


def test_extract_off_terminal_prints_progress_as_sentences(
    manifest: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = outcome(capsys, "extract", str(manifest), "-o", str(tmp_path / "a"))[2]
    assert re.fullmatch(r"To embed: 40 recordings, about 40 rows, [\d.]+ kB of vectors\.\n", log)
    monkeypatch.setattr("embedx.cli.progress.TEXT_SECONDS", 0.0)
    log = outcome(capsys, "extract", str(manifest), "-o", str(tmp_path / "b"))[2]
    sentence = r"\d+ of 40 recordings done, 0 failed, [\d.]+ h of audio per hour(, about \d+ s left)?\."
    assert all(re.fullmatch(sentence, line) for line in log.splitlines()[1:])
    assert len(log.splitlines()) > 2
    assert outcome(capsys, "extract", str(manifest), "-o", str(tmp_path / "c"), "--progress", "none")[2] == ""


def test_status_and_models_print_their_facts(
    made: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = outcome(capsys, "status", str(made))[1]
    for line in (
        r"rows +40",
        r"extractor +logmel",
        r"views +L0\.mean 256, L0\.max 256",
        r"failed +none",
        r"window_s +none",
        r"last_run\.precision +float32",
    ):
        assert re.search(rf"^{line}$", text, re.MULTILINE), line
    facts = json.loads(outcome(capsys, "status", str(made), "--format", "json")[1])
    assert facts["recipe"]["resampler"] == "soxr-hq"
    assert facts["last_run"]["precision"] == "float32"
    monkeypatch.delenv("EMBEDX_YAMNET_WEIGHTS", raising=False)
    models = {row["name"]: row for row in json.loads(outcome(capsys, "models", "--format", "json")[1])}
    assert models["logmel"]["weights"] == "none needed"
    assert models["yamnet"]["weights"] == "set EMBEDX_YAMNET_WEIGHTS"
    assert models["yamnet"]["good_for"] == "events, music"
    assert all(row["good_for"] for row in models.values())
    (tmp_path / "yamnet.safetensors").touch()
    monkeypatch.setenv("EMBEDX_YAMNET_WEIGHTS", str(tmp_path))
    models = {row["name"]: row for row in json.loads(outcome(capsys, "models", "--format", "json")[1])}
    assert models["yamnet"]["weights"] == "here"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_printed(shell: str, capsys: Capture) -> None:
    code, text, _ = outcome(capsys, "completion", shell)
    assert code == 0
    assert "_EMBEDX_COMPLETE" in text


def test_completion_completes_commands_and_options() -> None:
    environment = os.environ | {"_EMBEDX_COMPLETE": "bash_complete", "COMP_WORDS": "embedx sea", "COMP_CWORD": "1"}
    code = "import sys; sys.argv[0] = 'embedx'; from embedx.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "plain,search"


def test_version_is_printed(capsys: Capture) -> None:
    assert outcome(capsys, "--version")[:2] == (0, f"embedx, version {embedx.__version__}\n")


def test_closed_pipe_is_no_error(made: Path) -> None:
    code = f"set -o pipefail; {sys.executable} -m embedx search {made} --id 1 -k 40 --format csv | head -n 1"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("id,score")


def newer(folder: Path) -> None:
    with sqlite3.connect(folder / "store.db") as db:
        db.execute("PRAGMA user_version = 99")


def damaged(folder: Path) -> None:
    data = bytearray((folder / "store.db").read_bytes())
    data[100:32_768] = b"\xff" * 32_668  # all of the first page behind the header: the list of tables
    (folder / "store.db").write_bytes(data)


def overwritten(folder: Path) -> None:
    (folder / "store.db").write_bytes(b"something else altogether")


@pytest.mark.parametrize("damage", [newer, damaged, overwritten])
def test_damaged_or_newer_store_exits_with_5(
    made: Path, tmp_path: Path, capsys: Capture, damage: Callable[[Path], None]
) -> None:
    shutil.copytree(made, tmp_path / "c")
    damage(tmp_path / "c")
    for arguments in (["status"], ["search", "--id", "1"]):
        code, text, log = outcome(capsys, arguments[0], str(tmp_path / "c"), *arguments[1:])
        assert (code, text) == (5, "")
        assert "store.db" in log


WRONG: list[tuple[list[str], int, str]] = [
    (["extract", "missing/", "-o", "OUT"], 2, "no file or folder missing/"),
    (["extract", "EMPTY", "-o", "OUT"], 8, r"There is no audio.*\.wav"),
    (["extract", "WAV", "-o", "OUT", "--model", "hubrt"], 7, "Unknown model 'hubrt'"),
    (["extract", "WAV", "-o", "OUT", "--model", "EMPTY"], 7, "contains no config.json"),
    (["extract", "WAV", "-o", "OUT", "--layers", "12"], 2, "no layers '12'. Its layers are 0"),
    (["extract", "WAV", "-o", "OUT", "--pooling", "median"], 2, "mean, sum, max"),
    (["extract", "WAV", "-o", "OUT", "--window", "-1"], 2, "window must be from"),
    (["extract", "WAV", "-o", "OUT", "--layout", "esc"], 2, "esc50"),
    (["extract", "WAV", "-o", "OUT", "--device", "cuda:99999"], 2, "GPU|device"),
    (["extract", "WAV"], 2, "Missing option"),
    (["extract", "WAV", "-o", "MADE", "--pooling", "mean"], 7, "pooling: stored"),
    (["extract", "WAV", "-o", "EMPTY/../wavs"], 2, "is not a collection"),
    (["search", "missing", "--id", "1"], 2, "no collection in missing"),
    (["search", "MADE"], 2, "Give exactly one query"),
    (["search", "MADE", "missing.wav"], 2, "no file missing.wav"),
    (["search", "MADE", "TEXT"], 2, "cannot be read as audio"),
    (["search", "MADE", "WAV#5-9"], 2, "1 s long"),
    (["search", "MADE", "--id", "1", "--where", "nope = 1"], 2, "no such column: nope"),
    (["search", "MADE", "--id", "1", "--where", "DROP TABLE rows"], 2, "SQL condition on columns"),
    (["search", "MADE", "--id", "1", "--view", "L1.mean"], 2, "L0.mean, L0.max"),
    (["search", "MADE", "--id", "1", "--merge", "--align"], 2, "merge and align cannot be combined"),
    (["search", "MADE", "--id", "1", "--queries", "WAV"], 2, "--queries and --id cannot be used together"),
    (["search", "MADE", "--text", "dog"], 7, "cannot embed text"),
    (["search", "MADE", "--queries", "missing.csv"], 2, "no file or folder missing.csv"),
    (["duplicates", "MADE", "--threshold", "0"], 2, "above 0"),
    (["duplicates", "MADE", "--view", "L1.mean"], 2, "L0.mean, L0.max"),
    (["search", "MADE", "--id", "1", "--columns", "nope"], 2, "no metadata column nope.*source"),
    (["search", "MADE", "--vector", "missing.npy"], 2, "missing.npy"),
    (["probe", "MADE", "--label", "species"], 2, "No row has a value in the column 'species'.*source"),
    (["status", "EMPTY"], 2, "no collection"),
    (["serach", "MADE"], 2, "No such command"),
]


@pytest.mark.parametrize(
    "arguments, expected, message", WRONG, ids=lambda one: " ".join(one) if isinstance(one, list) else ""
)
def test_invalid_input_exits_with_its_code_and_a_message(
    arguments: list[str], expected: int, message: str, made: Path, tmp_path: Path, write_wav: WriteWav, capsys: Capture
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.wav").write_text("text")
    shutil.copytree(made, tmp_path / "made")
    wav = write_wav("wavs/a.wav")
    places = {"OUT": "out", "EMPTY": "empty", "TEXT": "text.wav", "MADE": "made"}
    words = []
    for word in arguments:
        for name, place in places.items():
            word = re.sub(rf"^{name}\b", str(tmp_path / place), word)
        words.append(re.sub(r"^WAV\b", str(wav), word))
    code, text, log = outcome(capsys, *words)
    assert (code, text) == (expected, "")
    assert re.search(message, log, re.DOTALL), log
    assert not (tmp_path / "out").exists()
    with embedx.open(tmp_path / "made") as collection:
        assert len(collection) == 40


def test_error_with_json_option_is_json(tmp_path: Path, capsys: Capture) -> None:
    code, text, log = outcome(capsys, "extract", str(tmp_path), "-o", str(tmp_path / "c"), "--json")
    assert code == json.loads(text)["exit_code"] == 8
    assert json.loads(text)["error"] in log


def test_second_writer_exits_with_4(made: Path, tmp_path: Path, write_wav: WriteWav, capsys: Capture) -> None:
    from embedx.store.store import Store

    embedx.extract(write_wav(), out=tmp_path / "c").close()
    with Store(tmp_path / "c", write=True):
        code, _, log = outcome(capsys, "extract", str(write_wav()), "-o", str(tmp_path / "c"))
        assert outcome(capsys, "search", str(tmp_path / "c"), "--id", "1", "--include-self")[0] == 0
    assert code == 4
    assert f"process {os.getpid()}" in log


def test_full_disk_exits_with_6_and_loses_nothing(manifest: Path, tmp_path: Path, capsys: Capture) -> None:
    """RLIMIT_FSIZE stands for the full disk: SQLite gets an error from write() either way."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), -1)); from embedx.cli import main; main()"
    )
    out = tmp_path / "c"
    arguments = ["extract", str(manifest), "-o", str(out), "--layers", "all", "--batch-seconds", "0.1"]
    limited = [sys.executable, "-c", code, "120000", *arguments]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.returncode == 6, done.stderr
    assert "cannot be read or written" in done.stderr
    assert "Traceback" not in done.stderr
    assert outcome(capsys, *arguments)[0] == 0
    with embedx.open(out) as collection:
        assert len(collection) == 40
