"""A signal stops a run within seconds, also while a long batch is computed or a large model is loaded."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

import embedx
from embedx.extractors import logmel
from embedx.extractors.logmel import LogMelStatistics
from tests.helpers.collections import embedded
from tests.helpers.paths import ROOT
from tests.helpers.processes import linux, wait_until

WriteWav = Callable[..., Path]

SLOW = """
import time
from pathlib import Path
from embedx.extractors.logmel import LogMelStatistics

class Slow(LogMelStatistics):
    def frames(self, waves, lengths, layers):
        if waves.abs().max() > 0.9:  # the loud recording never ends, in many small steps
            Path("started").touch()
            while True:
                time.sleep(0.001)
        yield from super().frames(waves, lengths, layers)

def make():
    return Slow()

def load_for_ever():
    Path("started").touch()
    while True:
        time.sleep(0.001)
"""


@linux
@pytest.mark.long
@pytest.mark.parametrize(
    "factory, number",
    [
        ("make", signal.SIGTERM),
        ("make", signal.SIGINT),
        ("load_for_ever", signal.SIGINT),
    ],
)
def test_signal_stops_a_batch_or_a_load_that_does_not_end(
    factory: str, number: signal.Signals, write_wav: WriteWav, tmp_path: Path
) -> None:
    """What was finished before is committed, and the exit code and the JSON are those of an interrupted run."""
    for i in range(4):
        write_wav(f"in/{i}.wav", samples=np.full(16_000, 1.0 if i == 2 else 0.1 * (i + 1), np.float32))
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, "-m", "embedx", "extract", "in", "-o", "c", "--model", f"slow:{factory}", "--json"]
    process = subprocess.Popen(
        [*command, "--batch-seconds", "1", "--workers", "0"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: (tmp_path / "started").exists())
    process.send_signal(number)
    out, log = process.communicate(timeout=60)
    assert process.returncode == 128 + number, log
    assert json.loads(out)["exit_code"] == 128 + number
    assert "same command again" in log
    if factory == "make":
        assert embedded(tmp_path / "c") == 2


@pytest.mark.long
def test_finished_recordings_are_committed_while_a_long_batch_runs(
    write_wav: WriteWav, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The long batch ends only when another reader has seen the recordings before it."""
    for i in range(3):
        write_wav(f"in/{i}.wav", samples=np.full(16_000, 1.0 if i == 2 else 0.1 * (i + 1), np.float32))

    class Waiting(LogMelStatistics):
        def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Any:
            if waves.abs().max() > 0.9:
                wait_until(lambda: embedded(tmp_path / "c") == 2)
            yield from super().frames(waves, lengths, layers)

    monkeypatch.setattr(logmel, "load", lambda *_, **__: Waiting())
    with embedx.extract(tmp_path / "in", out=tmp_path / "c", batch_seconds=1) as collection:
        assert len(collection) == 3
