"""The command `extract`: progress, signals, what it embeds."""

import json
import os
import pty
import re
import signal
import subprocess
import termios
from pathlib import Path

import numpy as np
import pytest
import soundfile

import embedx
from tests.helpers.commands import COMMAND, Capture, WriteWav, outcome


def test_extract_twice_embeds_only_missing_files(manifest: Path, tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "c")
    arguments = ("extract", str(manifest), "-o", out, "--pooling", "mean,max")
    code, text, log = outcome(capsys, *arguments, "--progress", "json")
    assert code == 0
    assert re.search(
        r"recordings: 40 \(40 embedded now, 0 already there, 0 failed\); 40 windows, [\d.]+ h of audio", text
    )
    assert f"{out}: 40 rows" in text
    assert "L0.mean (256), L0.max (256)" in text
    events = [json.loads(line) for line in log.splitlines()]  # and nothing else
    assert [event["event"] for event in events][-1] == "summary"
    assert events[0] == {"event": "plan", "recordings": 40, "expected_rows": 40, "expected_bytes": 40 * 2 * 256 * 4}
    assert {"recordings", "total", "failures", "audio_hours_per_hour", "eta_s"} <= events[1].keys()
    assert events[-2]["recordings"] == events[-2]["total"] == 40
    code, text, log = outcome(capsys, *arguments)
    assert (code, log) == (0, "")
    assert "0 embedded now" in text
    assert "40 already there" in text


def test_flags_are_in_rows_status_and_summary(write_wav: WriteWav, tmp_path: Path, capsys: Capture) -> None:
    data = write_wav("in/good.wav").read_bytes()
    (tmp_path / "in/cut.wav").write_bytes(data[:-1000])
    (tmp_path / "in/more.wav").write_bytes(data + b"\1" * 9_999)
    out = str(tmp_path / "c")
    code, text, _ = outcome(capsys, "extract", str(tmp_path / "in"), "-o", out, "--layout", "files")
    assert code == 0
    assert f"may be incomplete: 1 trailing-data, 1 truncated; to list them: embedx status {out} --flagged" in text
    code, text, _ = outcome(capsys, "extract", str(tmp_path / "in"), "-o", f"{out}2", "--layout", "files", "--json")
    assert json.loads(text)["flags"] == {"trailing-data": 1, "truncated": 1}
    code, text, _ = outcome(capsys, "status", out, "--format", "json")
    assert json.loads(text)["flags"] == {"trailing-data": 1, "truncated": 1}
    code, text, _ = outcome(capsys, "status", out, "--flagged", "--format", "json")
    expected = {"cut.wav": "truncated", "more.wav": "trailing-data"}
    assert {os.path.basename(row["path"]): row["flags"] for row in json.loads(text)} == expected
    with embedx.open(out) as collection:
        rows = collection.rows()
        assert {os.path.basename(row["path"]): row["flags"] for _, row in rows.iterrows()} == expected | {
            "good.wav": ""
        }
        assert len(collection.rows(where="flags LIKE '%trailing-data%'")) == 1
    assert outcome(capsys, "status", out, "--flagged", "--failed")[0] == 2


def test_summary_names_the_failures_of_this_run_first(write_wav: WriteWav, tmp_path: Path, capsys: Capture) -> None:
    write_wav("in/good.wav")
    (tmp_path / "in/a.wav").write_text("old")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/c.wav").write_text("of another source")
    for source in ("in", "other"):
        assert outcome(capsys, "extract", tmp_path / source, "-o", tmp_path / "c")[0] == 3
    (tmp_path / "in/b.wav").write_text("new")
    _, text, _ = outcome(capsys, "extract", tmp_path / "in", "-o", tmp_path / "c")
    summary, first, second, *_ = text[text.index("failed: ") :].splitlines()
    assert summary == "failed: 2 not-audio; 1 of them in earlier runs (--retry-failed)"
    assert ("b.wav" in first, "a.wav" in second, "c.wav" in text) == (True, True, False)


def test_working_folder_that_was_removed_is_named(
    write_wav: WriteWav, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wav("in/good.wav")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, _, log = outcome(capsys, "extract", tmp_path / "in", "-o", tmp_path / "c")
    assert (code, "The working folder does not exist any more" in log) == (6, True)


def test_extract_with_bad_file_names_it_and_exits_with_3(write_wav: WriteWav, tmp_path: Path, capsys: Capture) -> None:
    write_wav("in/good.wav")
    (tmp_path / "in/text.wav").write_text("text")
    (tmp_path / "in/empty.flac").touch()
    out = str(tmp_path / "c")
    code, text, _ = outcome(capsys, "extract", str(tmp_path / "in"), "-o", out)
    assert code == 3
    assert "failed: 1 empty, 1 not-audio" in text
    assert "text.wav" in text
    code, text, _ = outcome(capsys, "extract", str(tmp_path / "in"), "-o", out, "--json")
    summary = json.loads(text)
    assert code == summary["exit_code"] == 3
    assert summary["failures"] == {"empty": 1, "not-audio": 1}
    assert (summary["recordings"], summary["already_there"], summary["rows"]) == (3, 1, 1)
    code, text, _ = outcome(capsys, "status", out, "--failed", "--format", "json")
    assert {os.path.basename(row["path"]): row["reason"] for row in json.loads(text)} == {
        "empty.flac": "empty",
        "text.wav": "not-audio",
    }


@pytest.mark.long
def test_extract_on_terminal_shows_progress_bar(manifest: Path, tmp_path: Path) -> None:
    main, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 100))
    command = [*COMMAND, "extract", str(manifest), "-o", str(tmp_path / "c")]
    process = subprocess.Popen(command, stderr=terminal, stdout=subprocess.PIPE)
    os.close(terminal)
    seen = b""
    while True:
        try:
            data = os.read(main, 4096)
        except OSError:  # the other side was closed
            break
        if not data:
            break
        seen += data
    os.close(main)
    assert process.stdout is not None
    printed = process.stdout.read().decode()
    process.stdout.close()
    assert process.wait() == 0
    assert b"40/40" in seen
    assert b"h audio/h" in seen
    assert b"0 failed" in seen
    assert b"{" not in seen
    assert "recordings: 40" in printed


def test_extract_of_paths_from_stdin_works(manifest: Path, tmp_path: Path) -> None:
    paths = "\n".join(str(path) for path in sorted(manifest.parent.glob("bell/*.wav")))
    command = [*COMMAND, "extract", "-", "-o", str(tmp_path / "c"), "--label", r"(bell\d)-", "--json"]
    done = subprocess.run(command, input=paths, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["rows"] == 10
    with embedx.open(tmp_path / "c") as collection:
        assert set(collection.rows()["label"]) == {f"bell{i}" for i in range(5)}


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_extract_interrupted_by_signal_commits_and_returns_its_code(tmp_path: Path, number: signal.Signals) -> None:
    for i in range(30):
        soundfile.write(tmp_path / f"{i}.wav", np.random.default_rng(i).uniform(-1, 1, 16_000 * 59), 16_000)
    out = tmp_path / "c"
    command = [*COMMAND, "extract", str(tmp_path), "-o", str(out), "--batch-seconds", "10"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(number)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "same command again" in log
    assert "Traceback" not in log
    with embedx.open(out) as collection:
        assert len(collection) < 30  # a loaded machine may have had nothing to commit yet


def test_extract_with_labels_from_folder_names_says_so(write_wav: WriteWav, tmp_path: Path, capsys: Capture) -> None:
    for name in ("dog", "cat"):
        write_wav(f"in/{name}/1.wav")

    def printed(name: str, *options: str) -> str:
        return outcome(capsys, "extract", str(tmp_path / "in"), "-o", str(tmp_path / name), *options)[1]

    assert "labels: 2, from folder names; --layout files for none\n" in printed("a")
    assert "labels:" not in printed("b", "--layout", "files")
    assert "labels: 2, from file paths\n" in printed("c", "--label", "(.)/")
