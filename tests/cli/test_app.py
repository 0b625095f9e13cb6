"""The command line as a user meets it: what it prints, where, and its exit codes."""

import csv
import io
import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
import soundfile

import embedx
from embedx.cli.app import load_command, run

WriteWav = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
COMMAND = [sys.executable, "-m", "embedx"]


def outcome(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process and return exit code, stdout and stderr."""
    code = run([str(one) for one in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


# -- extract -------------------------------------------------------------------------------------------------------


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


def test_extract_off_terminal_prints_progress_as_sentences(
    manifest: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = outcome(capsys, "extract", str(manifest), "-o", str(tmp_path / "a"))[2]
    assert re.fullmatch(r"Embedding 40 recordings: about 40 rows, [\d.]+ kB of vectors\.\n", log)
    monkeypatch.setattr("embedx.cli.progress.TEXT_SECONDS", 0.0)
    log = outcome(capsys, "extract", str(manifest), "-o", str(tmp_path / "b"))[2]
    sentence = r"\d+ of 40 recordings done, 0 failed, [\d.]+ h of audio per hour(, about \d+ s left)?\."
    assert all(re.fullmatch(sentence, line) for line in log.splitlines()[1:])
    assert len(log.splitlines()) > 2
    assert outcome(capsys, "extract", str(manifest), "-o", str(tmp_path / "c"), "--progress", "none")[2] == ""


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
    assert "same command goes on" in log
    assert "Traceback" not in log
    with embedx.open(out) as collection:
        assert 1 <= len(collection) < 30


# -- search --------------------------------------------------------------------------------------------------------


@pytest.fixture
def query(made: Path) -> str:
    with embedx.open(made) as collection:
        return str(collection.rows()["path"].iloc[4])


def test_search_prints_table(made: Path, query: str, capsys: Capture) -> None:
    code, text, _ = outcome(capsys, "search", str(made), query, "-k", "3", "--columns", "source")
    lines = text.splitlines()
    assert code == 0
    assert lines[0].split() == ["id", "score", "file", "start", "end", "label", "source"]
    assert lines[1].split()[:2] == ["5", "1.0000"]
    assert query in lines[1]
    assert len(lines) == 4


def test_search_prints_json_and_csv(made: Path, query: str, capsys: Capture) -> None:
    where = "label = 'clock'"
    hits = json.loads(outcome(capsys, "search", str(made), query, "--where", where, "-k", "4", "--format", "json")[1])
    assert [hit["label"] for hit in hits] == ["clock"] * 4
    assert list(hits[0]) == ["id", "score", "path", "start_s", "end_s", "label", "meta"]
    text = outcome(capsys, "search", str(made), "--id", "5", "--format", "csv", "--columns", "source")[1]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 10
    assert list(rows[0]) == ["id", "score", "path", "start_s", "end_s", "label", "source"]
    assert "5" not in {row["id"] for row in rows}


def test_search_with_where_without_match_is_empty(made: Path, capsys: Capture) -> None:
    assert outcome(capsys, "search", str(made), "--id", "5", "--where", "id < 0", "--format", "json")[:2] == (0, "[]\n")
    assert outcome(capsys, "search", str(made), "--id", "5", "--where", "id < 0")[0] == 0


def test_search_output_is_safe_for_terminals_and_spreadsheets(
    tmp_path: Path, write_wav: WriteWav, capsys: Capture
) -> None:
    evil = write_wav("in/=cmd\x1b[31m.wav")
    frame_path = tmp_path / "m.csv"
    frame_path.write_text(f'path,label\n"{evil}","=HYPERLINK(1)\x1b[0m"\n')
    out = str(tmp_path / "c")
    assert outcome(capsys, "extract", str(frame_path), "-o", out)[0] == 0
    for form in ("table", "csv", "json"):
        text = outcome(capsys, "search", out, "--id", "1", "--include-self", "--format", form)[1]
        assert "\x1b" not in text
        assert form != "csv" or "'=HYPERLINK" in text


def test_search_of_names_that_are_not_utf8_keeps_their_bytes(tmp_path: Path, write_wav: WriteWav) -> None:
    name = os.fsdecode(b"in/caf\xe9/\xff.wav")
    path = write_wav(name)
    write_wav("in/other/a.wav")
    out = tmp_path / "c"
    for command in (
        ["extract", str(tmp_path / "in"), "-o", str(out)],
        ["search", str(out), str(path), "-k", "1"],
        ["search", str(out), str(path), "-k", "1", "--format", "csv"],
        ["search", str(out), str(path), "-k", "1", "--format", "json"],
        ["search", str(out), str(path) + "#0-0.5", "-k", "1"],
    ):
        done = subprocess.run([*COMMAND, *map(os.fsencode, command)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    with embedx.open(out) as collection:
        assert os.fsencode(collection.rows()["path"].iloc[0]).endswith(b"caf\xe9/\xff.wav")
        assert os.path.exists(collection.search(id=2)[0].path)
        assert collection.rows()["label"].tolist() == ["caf\\xe9", "other"]


def test_search_help_has_headings_and_fits_a_screen(capsys: Capture) -> None:
    text = outcome(capsys, "search", "--help")[1]
    headings = re.findall(r"^(\w[^:]*):", text, re.MULTILINE)
    assert [one.split(" (")[0] for one in headings] == [
        "Usage",
        "Instead of QUERY",
        "Which rows",
        "Selection of hits",
        "Output",
        "Model",
        "Other",
    ]
    options = {line.split()[0] for line in text.splitlines() if line.startswith("  -")}
    for param in load_command("search").params:
        assert not isinstance(param, click.Option) or param.opts[0] in options


def test_search_by_like_and_unlike_works(made: Path, query: str, capsys: Capture) -> None:
    common = ("search", str(made), "--format", "json", "-k", "40")
    hits = json.loads(outcome(capsys, *common, "--like", query, "--like", "17", "--unlike", "30")[1])
    with embedx.open(made) as collection:
        expected = collection.search(like=[query, 17], unlike=[30], k=40)
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
    assert {17, 30} & {hit["id"] for hit in hits} == set()


def test_search_with_radius_band_and_grouping_works(made: Path, query: str, tmp_path: Path, capsys: Capture) -> None:
    made = shutil.copytree(made, tmp_path / "c")  # another metric leaves another index

    def ids(*options: str) -> list[int]:
        return [
            hit["id"]
            for hit in json.loads(outcome(capsys, "search", str(made), query, "--format", "json", *options)[1])
        ]

    with embedx.open(made) as collection:
        for options, ways in (
            (["--radius", "0.9"], {"radius": 0.9}),
            (["--score-band", "0.2", "0.9", "-k", "4"], {"score_band": (0.2, 0.9), "k": 4}),
            (["--metric", "l2", "--score-band", "-90", "-20"], {"score_band": (-90, -20), "metric": "l2"}),
            (["--group-by", "label"], {"group_by": "label"}),
            (["--merge"], {"merge": True}),
            (["--diverse", "0.4", "--exact"], {"diverse": 0.4}),
            (["--align", "--include-self"], {"align": True}),
        ):
            found = ids(*options)
            assert found == [hit.id for hit in collection.search(query, **ways)]
            assert found
    table = outcome(capsys, "search", str(made), query, "--align")[1].splitlines()
    assert table[0].split() == ["id", "score", "file", "start", "end", "query_start", "label"]


def test_search_of_many_queries_prints_one_table(made: Path, query: str, tmp_path: Path, capsys: Capture) -> None:
    manifest = tmp_path / "queries.csv"
    (tmp_path / "text.wav").write_text("text")
    manifest.write_text(f"path,start,end\n{query},,\n{query},0.5,1\n{tmp_path}/text.wav,,\n{tmp_path}/gone.wav,,\n")
    code, text, log = outcome(capsys, "search", str(made), "--queries", str(manifest), "-k", "2", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert code == 3
    assert list(rows[0]) == ["query", "id", "score", "path", "start_s", "end_s", "label"]
    assert [row["query"] for row in rows] == [query, query, f"{query}#0.5-1", f"{query}#0.5-1"]
    assert rows[0]["path"] == query
    assert len(log.splitlines()) == 2
    assert "text.wav is no audio" in log
    assert "no file" in log
    lines = outcome(capsys, "search", str(made), "--queries", str(manifest), "-k", "2", "--format", "jsonl")[
        1
    ].splitlines()
    assert [json.loads(line)["id"] for line in lines] == [int(row["id"]) for row in rows]
    assert outcome(capsys, "search", str(made), "--queries", str(manifest))[1].startswith("query ")


def test_search_writes_parquet(made: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "hits.parquet"
    arguments = ("search", str(made), "--id", "5", "--format", "parquet", "--output", str(out))
    assert outcome(capsys, *arguments) == (0, "", "")
    with embedx.open(made) as collection:
        pd.testing.assert_frame_equal(
            pd.read_parquet(out), collection.search(id=5).to_pandas(), check_dtype=False, rtol=0, atol=0
        )
    assert outcome(capsys, *arguments, "--where", "id < 0") == (0, "", "")
    assert list(pd.read_parquet(out).columns) == ["id", "score", "path", "start_s", "end_s", "label"]
    assert os.listdir(tmp_path) == ["hits.parquet"]
    piped = subprocess.run([*COMMAND, *arguments[:-2]], capture_output=True, check=True).stdout
    assert len(pd.read_parquet(io.BytesIO(piped))) == 10
    main, terminal = pty.openpty()
    done = subprocess.run([*COMMAND, *arguments[:-2]], stdout=terminal, stderr=subprocess.PIPE, check=False)
    os.close(terminal)
    os.close(main)
    assert done.returncode == 2
    assert b"cannot be printed on a terminal" in done.stderr


def test_search_parquet_holds_mixed_metadata_and_any_names(
    tmp_path: Path, write_wav: WriteWav, capsys: Capture
) -> None:
    paths = [str(write_wav(os.fsdecode(name))) for name in (b"0.wav", b"1.wav", b"\xff.wav")]
    frame = pd.DataFrame({"path": pd.Series(paths, dtype=object), "score": [1, 2, 3], "mixed": [1, "a", None]})
    frame["list"] = pd.Series([[1], [2, 3], None], dtype=object)
    embedx.extract(frame, out=tmp_path / "c").close()
    out = str(tmp_path / "hits.parquet")
    assert (
        outcome(
            capsys, "search", str(tmp_path / "c"), "--id", "1", "--include-self", "--format", "parquet", "--output", out
        )[0]
        == 0
    )
    found = pd.read_parquet(out).set_index("id").sort_index()
    assert found["score_"].tolist() == [1, 2, 3]
    assert found["mixed"].tolist()[:2] == ["1", '"a"']
    assert found["path"].iloc[2].endswith("\\xff.wav")


def test_search_writes_audacity_labels(made: Path, query: str, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "labels.txt"
    outcome(capsys, "search", str(made), query, "-k", "3", "--format", "audacity", "--output", str(out))
    with embedx.open(made) as collection:
        hits = collection.search(query, k=3)
    assert out.read_text().splitlines() == [
        f"{hit.start_s:.6f}\t{hit.end_s:.6f}\t{hit.score:.4f} {hit.label} {os.path.basename(hit.path)}" for hit in hits
    ]


def test_search_writes_raven_selection_table(made: Path, query: str, capsys: Capture) -> None:
    text = outcome(capsys, "search", str(made), query, "-k", "3", "--format", "raven")[1]
    table = pd.read_csv(io.StringIO(text), sep="\t")
    assert list(table.columns)[:9] == [
        *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
        *("Low Freq (Hz)", "High Freq (Hz)", "Begin Path", "File Offset (s)"),
    ]
    assert table["Selection"].tolist() == [1, 2, 3]
    assert table["Channel"].tolist() == [1, 1, 1]
    assert set(table["High Freq (Hz)"]) == {8000.0}
    with embedx.open(made) as collection:
        hits = collection.search(query, k=3).to_pandas()
    assert table["id"].tolist() == hits["id"].tolist()
    assert table["Begin Path"].tolist() == hits["path"].tolist()
    np.testing.assert_allclose(table["File Offset (s)"], hits["start_s"], atol=1e-6)
    np.testing.assert_allclose(table["End Time (s)"], hits["end_s"], atol=1e-6)


def test_search_output_file_is_written_whole_or_not_at_all(made: Path, tmp_path: Path, capsys: Capture) -> None:
    arguments = ("search", str(made), "--id", "5", "--output")
    code, _, log = outcome(capsys, *arguments, str(tmp_path / "missing" / "hits.txt"))
    assert (code, f"There is no folder {tmp_path / 'missing'}." in log) == (2, True)
    code, _, log = outcome(capsys, *arguments, str(tmp_path))
    assert (code, f"{tmp_path} is a folder" in log) == (2, True)
    assert outcome(capsys, *arguments, "/dev/null") == (0, "", "")
    assert not Path("/dev/null").is_file()
    assert os.listdir(tmp_path) == []


def test_search_saves_clips_and_names_missing_files(tmp_path: Path, write_wav: WriteWav, capsys: Capture) -> None:
    paths = [write_wav(f"in/{name}.wav") for name in "abc"]
    collection, clips = str(tmp_path / "c"), tmp_path / "clips"
    embedx.extract(tmp_path / "in", out=collection).close()
    paths[1].unlink()
    code, _, log = outcome(capsys, "search", collection, "--id", "1", "--include-self", "--save-clips", str(clips))
    assert code == 3
    assert "2 clips saved" in log
    assert "b.wav" in log
    assert sorted(one.name.split("_")[2] for one in clips.iterdir()) == ["a", "c"]
    queries = ("--queries", str(tmp_path / "in"), "-k", "1", "--save-clips", str(tmp_path / "many"))
    assert outcome(capsys, "search", collection, *queries)[0] == 0
    assert sorted(one.name for one in (tmp_path / "many").iterdir()) == ["0001_a", "0002_c"]


# -- the rest ------------------------------------------------------------------------------------------------------


def test_probe_command_prints_scores(made: Path, capsys: Capture) -> None:
    code, text, _ = outcome(capsys, "probe", str(made))
    assert code == 0
    assert "linear probe" in text
    report = json.loads(outcome(capsys, "probe", str(made), "--format", "json", "--where", "label <> 'bell'")[1])
    assert report["classes"] == 3
    assert report["accuracy"] > 0.5


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
    ):
        assert re.search(rf"^{line}$", text, re.MULTILINE), line
    facts = json.loads(outcome(capsys, "status", str(made), "--format", "json")[1])
    assert facts["recipe"]["resampler"] == "soxr-hq"
    assert facts["last_run"]["precision"] == "float32"
    monkeypatch.delenv("EMBEDX_YAMNET_WEIGHTS", raising=False)
    models = {row["name"]: row for row in json.loads(outcome(capsys, "models", "--format", "json")[1])}
    assert models["logmel"]["weights"] == "none needed"
    assert models["yamnet"]["weights"] == "set EMBEDX_YAMNET_WEIGHTS"
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


# -- wrong input: a sentence that helps, the documented exit code ----------------------------------------------------


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
    (["extract", "EMPTY", "-o", "OUT"], 8, r"No audio was found.*\.wav"),
    (["extract", "WAV", "-o", "OUT", "--model", "hubrt"], 7, "Unknown model 'hubrt'"),
    (["extract", "WAV", "-o", "OUT", "--model", "EMPTY"], 7, "holds no config.json"),
    (["extract", "WAV", "-o", "OUT", "--layers", "12"], 2, "no layers '12'. It has the layers 0"),
    (["extract", "WAV", "-o", "OUT", "--pooling", "median"], 2, "mean, sum, max"),
    (["extract", "WAV", "-o", "OUT", "--window", "-1"], 2, "window is in seconds"),
    (["extract", "WAV", "-o", "OUT", "--layout", "esc"], 2, "esc50"),
    (["extract", "WAV", "-o", "OUT", "--device", "cuda:99999"], 2, "GPU|device"),
    (["extract", "WAV"], 2, "Missing option"),
    (["extract", "WAV", "-o", "MADE"], 7, "poolings: stored"),
    (["extract", "WAV", "-o", "EMPTY/../wavs"], 2, "is no collection"),
    (["search", "missing", "--id", "1"], 2, "no collection in missing"),
    (["search", "MADE"], 2, "Give one of"),
    (["search", "MADE", "missing.wav"], 2, "no file missing.wav"),
    (["search", "MADE", "TEXT"], 2, "no audio"),
    (["search", "MADE", "WAV#5-9"], 2, "1 s long"),
    (["search", "MADE", "--id", "1", "--where", "nope = 1"], 2, "no such column: nope"),
    (["search", "MADE", "--id", "1", "--where", "DROP TABLE rows"], 2, "can only compare"),
    (["search", "MADE", "--id", "1", "--view", "L1.mean"], 2, "L0.mean, L0.max"),
    (["search", "MADE", "--id", "1", "--merge", "--align"], 2, "merge and align do not go together"),
    (["search", "MADE", "--id", "1", "--queries", "WAV"], 2, "--queries and --id cannot be used together"),
    (["search", "MADE", "--text", "dog"], 7, "sound only"),
    (["search", "MADE", "--queries", "missing.csv"], 2, "no file or folder missing.csv"),
    (["duplicates", "MADE", "--threshold", "0"], 2, "above 0"),
    (["duplicates", "MADE", "--view", "L1.mean"], 2, "L0.mean, L0.max"),
    (["search", "MADE", "--id", "1", "--columns", "nope"], 2, "no column nope.*source"),
    (["search", "MADE", "--vector", "missing.npy"], 2, "missing.npy"),
    (["probe", "MADE", "--label", "species"], 2, "No row has a 'species'.*source"),
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


def test_full_disk_exits_with_6_and_loses_nothing(manifest: Path, tmp_path: Path) -> None:
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
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with embedx.open(out) as collection:
        assert len(collection) == 40


# -- heads -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of the made collection, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "own"))


def test_train_predict_and_heads_work_together(own: Path, tmp_path: Path, capsys: Capture) -> None:
    code, text, _ = outcome(capsys, "train", str(own), "--setting", "C=0.1", "--report", str(tmp_path / "r.png"))
    assert code == 0
    assert "Calibration (temperature): ECE" in text
    assert "No near-duplicates across the split" in text or "have a duplicate in the training rows" in text
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    said = json.loads(outcome(capsys, "train", str(own), "--kind", "knn", "--name", "near", "--json")[1])
    assert (said["exit_code"], said["name"], said["head"]["kind"]) == (0, "near", "knn")
    listed = json.loads(outcome(capsys, "heads", "list", str(own), "--format", "json")[1])
    assert [one["name"] for one in listed] == ["label-logistic", "near"]
    assert json.loads(outcome(capsys, "heads", "show", str(own), "near")[1])["settings"]["k"] == 5
    audio = str(embedx.open(own).rows()["path"].iloc[0])
    code, text, errors = outcome(capsys, "predict", str(own), audio)
    assert (code, "several heads" in errors) == (2, True)
    code, text, _ = outcome(capsys, "predict", str(own), audio, "--head", "near", "-k", "2", "--format", "jsonl")
    assert code == 0
    assert json.loads(text)["label"] == json.loads(text)["top1"]
    for name in ("h.onnx", "h.pt2"):
        assert outcome(capsys, "heads", "export", str(own), "near", "-o", str(tmp_path / name))[0] == 0
        assert (tmp_path / name).stat().st_size > 1000
    assert outcome(capsys, "heads", "rm", str(own), "near")[0] == 0
    assert [one["name"] for one in json.loads(outcome(capsys, "heads", "list", str(own), "--format", "json")[1])] == [
        "label-logistic"
    ]


def test_predict_writes_audacity_labels_per_recording(own: Path, tmp_path: Path, capsys: Capture) -> None:
    outcome(capsys, "train", str(own), "--setting", "C=0.1")
    (tmp_path / "bad.wav").write_bytes(b"x")
    paths = [str(path) for path in embedx.open(own).rows()["path"].iloc[:2]]
    code, _, errors = outcome(capsys, "predict", str(own), *paths, "--format", "audacity")
    assert (code, "there are 2. Use --output FOLDER/" in errors) == (2, True)
    out = tmp_path / "labels"
    code, _, errors = outcome(
        capsys, "predict", str(own), *paths, str(tmp_path / "bad.wav"), "--format", "audacity", "--output", f"{out}/"
    )
    assert (code, "bad.wav" in errors) == (3, True)
    assert len(list(out.iterdir())) == 2
    start, end, words = sorted(out.iterdir())[0].read_text().rstrip("\n").split("\t")
    assert float(start) == 0 < float(end)
    assert re.fullmatch(r"\w+ [01]\.\d{3}", words)


def test_suggest_writes_table_to_fill_in(own: Path, tmp_path: Path, capsys: Capture) -> None:
    outcome(capsys, "train", str(own), "--setting", "C=0.1", "--name", "h")
    code, _, errors = outcome(capsys, "suggest", str(own))
    assert (code, "Every row has a 'label'" in errors) == (8, True)
    outcome(capsys, "label", str(own), "--set", "label=", "--where", "id % 2 = 0")
    table = tmp_path / "next.csv"
    assert outcome(capsys, "suggest", str(own), "-n", "5", "--format", "csv", "--output", str(table))[0] == 0
    lines = table.read_text().splitlines()
    assert lines[0] == "id,path,start_s,end_s,label,_suggested,_probability,_value"
    assert len(lines) == 6
    filled = [lines[0], *(line.replace(",,", ",bell,", 1) for line in lines[1:])]
    table.write_text("\n".join(filled) + "\n")
    code, text, _ = outcome(capsys, "label", str(own), str(table), "--json")
    assert (code, json.loads(text)["changed"]) == (0, 5)


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["train", "OWN", "--setting", "C"], 2, "NAME=VALUE"),
        (["train", "OWN", "--setting", "trees=9"], 2, "no setting 'trees'. Its settings: C"),
        (["train", "OWN", "--head-model", "PCA(x)"], 2, "is no step"),
        (["train", "OWN", "--head-model", "PCA(9999)"], 2, "asks for 9999 directions"),
        (["train", "OWN", "--leaky", "--folds", "source"], 2, "Give only one of folds"),
        (["predict", "OWN"], 2, "no head in"),
        (["heads", "show", "OWN", "x"], 2, "no head 'x'"),
        (["heads", "rm", "OWN", "../x"], 2, "no head"),
        (["suggest", "OWN", "--by", "margin"], 2, "no head"),
    ],
)
def test_invalid_input_to_head_commands_is_refused(
    own: Path, capsys: Capture, words: list[str], code: int, message: str
) -> None:
    found, _, errors = outcome(capsys, *(str(own) if word == "OWN" else word for word in words))
    assert found == code
    assert message in errors
    assert "Traceback" not in errors


def test_sweep_prints_line_per_view(made: Path, capsys: Capture) -> None:
    code, text, _ = outcome(capsys, "probe", str(made), "--sweep", "--group", "source")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines() if line.startswith("L0.")] == ["L0.mean", "L0.max"]
    said = json.loads(outcome(capsys, "probe", str(made), "--sweep", "--view", "*.max", "--format", "json")[1])
    assert [one["view"] for one in said["views"]] == ["L0.max"]
    code, _, errors = outcome(capsys, "probe", str(made), "--sweep", "--kind", "knn")
    assert (code, "does not take --kind" in errors) == (2, True)
