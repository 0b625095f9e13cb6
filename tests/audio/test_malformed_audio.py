"""Malformed audio: every file has its expected outcome and does not affect other files."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import embedx
from tests.helpers import malformed_audio
from tests.helpers.amounts import fast_and_long
from tests.helpers.paths import ROOT

SEED = int(os.environ.get("EMBEDX_SEED", "0"))
MOST_MEMORY = 2 << 30  # bytes of the command and its decoder; torch and the libraries take 0.6 GB of them


def test_malformed_file_has_its_expected_outcome(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    expected: dict[str, str] = {}
    for source in (malformed_audio.by_format, malformed_audio.wavs, malformed_audio.encoded, malformed_audio.foreign):
        for name, data, outcome in source():
            assert name not in expected, name
            (folder / name).write_bytes(data)
            expected[name] = outcome
    expected |= no_files(folder, tmp_path)
    assert len(expected) >= 140
    begun = time.monotonic()
    with embedx.extract(folder, layout="files", out=tmp_path / "c") as collection:
        found = {
            os.path.basename(one.path): one.reason or ":".join(filter(None, ["ok", ",".join(one.flags)]))
            for one in collection.store.recordings().values()
        }
        assert np.isfinite(collection.vectors()).all()
        assert all(one.detail for one in collection.failures())
        silent = collection.rows(where="flags LIKE '%silent%'")["path"]
        assert {os.path.basename(path) for path in silent} == {
            "silent.wav", "denormal.wav", "expands.flac",
        }  # fmt: skip
    assert found.keys() == expected.keys()
    wrong = {
        name: (found[name], allowed) for name, allowed in expected.items() if found[name] not in allowed.split("|")
    }
    report("hostile files", len(expected), len(wrong), time.monotonic() - begun)
    assert wrong == {}


def no_files(folder: Path, outside: Path) -> dict[str, str]:
    """Create pipes, sockets, links and folders in a folder; return the expected outcome of each."""
    sound = malformed_audio.intact("wav")
    (outside / "secret.wav").write_bytes(sound)
    os.mkfifo(folder / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as one:
        here = os.open(folder, os.O_RDONLY)
        one.bind(f"/proc/self/fd/{here}/socket.wav" if sys.platform == "linux" else str(folder / "socket.wav"))
        os.close(here)
    for name, target in {
        "device.wav": "/dev/zero", "out.wav": "../secret.wav", "dangling.wav": "nothing.wav", "loop.wav": "loop.wav",
        "inside.wav": "intact.wav", "to-pipe.wav": "pipe.wav", "to-folder.wav": ".",
    }.items():  # fmt: skip
        (folder / name).symlink_to(target)
    (folder / ".hidden.wav").write_bytes(sound)
    (folder / "folder.wav").mkdir()
    names = ["x" * 251 + ".wav", "new\nline.wav", "\x1b[31mred.wav", os.fsdecode(b"caf\xe9.wav"), "-rf.wav", "=1+1.wav"]
    for name in names:
        (folder / name).write_bytes(sound)
    return dict.fromkeys((*names, "inside.wav"), "ok") | {
        "pipe.wav": "not-a-file", "socket.wav": "not-a-file", "device.wav": "not-a-file", "out.wav": "ok",
        "dangling.wav": "missing", "loop.wav": "unreadable", "to-pipe.wav": "not-a-file",
    }  # fmt: skip


MEASURED = """
import sys, re
from embedx.cli import run
from tests.helpers.amounts import fast_and_long
code = run(sys.argv[1:])
if sys.platform == "linux":  # what wait4 says includes the memory of the process that forked
    print("peak kB", re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(code)
"""


def attack(count: int, tmp_path: Path) -> None:
    """Embed `count` mutated files with the real command: each is embedded or named, and memory stays bounded."""
    folder = tmp_path / "in"
    for number in range(count):
        suffix, data = malformed_audio.mutant(SEED, number)
        place = folder / str(number // 1000)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.{suffix}").write_bytes(data)
    command = [sys.executable, "-c", MEASURED, "extract", str(folder), "-o", str(tmp_path / "c"), "--layout", "files"]
    begun = time.monotonic()
    with open(tmp_path / "err", "w+") as err:
        process = subprocess.Popen(
            [*command, "--json"], stdout=subprocess.DEVNULL, stderr=err, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        process.wait()
        seconds = time.monotonic() - begun
        err.seek(0)
        said = err.read()
    assert process.returncode == 3, said[-2000:]
    assert "Traceback" not in said
    if sys.platform == "linux":
        assert int(said.split("peak kB ")[1].split()[0]) * 1024 < MOST_MEMORY
    with embedx.open(tmp_path / "c") as collection:
        recordings = list(collection.store.recordings().values())
        assert len(recordings) == count
        embedded = {one.path for one in recordings if not one.reason}
        assert embedded == set(collection.rows()["path"])
        assert len(embedded) > count // 20
        assert np.isfinite(collection.vectors()).all()
        faults = [one for one in collection.failures() if not one.detail or one.reason in FAULTS]
    report("mutants", count, len(faults), seconds)
    assert [(os.path.basename(one.path), one.reason, one.detail) for one in faults] == [], f"EMBEDX_SEED={SEED}"


FAULTS = ("internal", "decoder-hang")  # ours; a crash is libsndfile's or FFmpeg's, and was survived


@fast_and_long("count", 40, 200)
def test_mutated_file_is_embedded_or_named(tmp_path: Path, count: int) -> None:
    attack(count, tmp_path)


@pytest.mark.reliability
def test_mutated_file_is_embedded_or_named_many_times(tmp_path: Path) -> None:
    attack(int(os.environ.get("EMBEDX_HOSTILE", "20000")), tmp_path)


def report(test: str, count: int, failures: int, seconds: float) -> None:
    """Append the result to the file that EMBEDX_REPORT names."""
    if path := os.environ.get("EMBEDX_REPORT"):
        line = {"test": test, "count": count, "failures": failures, "seed": SEED, "seconds": round(seconds, 1)}
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")
