"""R1, R2, R4, R5, R18: writers that are killed at any instant, concurrent writers, and readers beside a writer.

The expected state comes from the progress lines that the killed process had printed. EMBEDX_KILLS sets the number of
kills, EMBEDX_SEED the random seed.
"""

import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import embedx
from tests.helpers.amounts import fast_and_long
from tests.reliability.conftest import AT_ONCE, ForkServers
from tests.reliability.expected_state import Contents, complain, differ, examine, misled
from tests.reliability.fault_injection import DIE, OFTEN, Fault, ForkServer, Outcome, environment
from tests.reliability.operations import OPERATIONS, Scene
from tests.reliability.report import EVERY, report, seed

KILLS = int(os.environ.get("EMBEDX_KILLS", "20"))  # under `long`
REAL_KILLS = max(2, KILLS // 20)  # the real command takes seconds to start
CLIPS = 300  # of the corpus with many recordings
ALWAYS = OFTEN | {"embedx.ingest.pipeline.COMMIT_CLIPS": 1}
LOCKED = 4


@pytest.fixture(scope="module")
def scenes(staged: Callable[[str], Scene]) -> list[Scene]:
    """Every operation; extract three times, because it runs the longest in practice."""
    return [staged(name) for name in [*OPERATIONS, "extract", "extract"] if OPERATIONS[name].exists]


class Life:
    """A collection through kills and restarts, and its last known contents."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene = scene
        self.folder = folder
        self.collection = scene.set_up(folder)
        self.known = scene.before
        self.highest = max(ids(scene.before), default=0)

    def check(self, done: Outcome) -> str:
        """Return what is wrong after a kill, and record the contents."""
        found = examine(self.collection)
        wrong = complain(found, self.scene.before, self.scene.after)
        if len(found) < done.acknowledged:
            wrong = f"{done.acknowledged} recordings were acknowledged, {len(found)} are there"
        for path, rows in self.known.items():
            if found.get(path) != rows and path not in self.scene.changed:
                wrong = f"{path} was there before the kill, and is not as it was"
        new = {path: rows for path, rows in found.items() if path not in self.known}
        if self.scene.operation.adds and min(ids(new), default=self.highest + 1) <= self.highest:
            wrong = f"an id was given twice: {ids(new)}, {self.highest} had been given"
        if done.code not in (0, -signal.SIGKILL):
            wrong = f"exit code {done.code}: {done.err}"
        self.known, self.highest = found, max(ids(found), default=self.highest)
        return wrong

    def finish(self, server: ForkServer) -> str:
        """Run the command to its end; return what is wrong after it."""
        done = server.run(*self.scene.arguments(self.collection), root=self.folder, settings=ALWAYS)
        wrong = self.check(done)
        if done.code:
            wrong = f"after the kill: exit code {done.code}: {done.err}"
        return wrong or differ(self.known, self.scene.after) or misled(self.collection)


def ids(contents: Contents) -> list[int]:
    return [held.row.id for rows in contents.values() for held in rows]


@fast_and_long("every", 60, EVERY)
@pytest.mark.parametrize("name", OPERATIONS)
def test_kill_at_any_call_loses_nothing(
    name: str, every: int, servers: ForkServers, staged: Callable[[str], Scene], tmp_path: Path
) -> None:
    begun, places, scene = time.monotonic(), itertools.count(), staged(name)

    def kill(server: ForkServer, number: int) -> str:
        life = Life(scene, tmp_path / str(next(places)))
        arguments = scene.arguments(life.collection)
        done = server.run(*arguments, root=life.folder, fault=Fault(number, error=DIE))
        wrong = life.check(done) or ("" if done.code == -signal.SIGKILL else f"it lived: {done.code}")
        wrong = wrong or life.finish(server)
        shutil.rmtree(life.folder)
        return wrong

    numbers = list(range(1 + seed() % every, scene.calls + 1, every))
    failures = servers.each(numbers, kill)
    report(f"kills: {name}, at calls", len(numbers), len(failures), begun, seed())
    assert not failures, "\n".join(failures)


@fast_and_long("kills_wanted", 2, KILLS)
def test_kill_at_random_instant_loses_nothing(
    servers: ForkServers, scenes: list[Scene], tmp_path: Path, kills_wanted: int
) -> None:
    begun, places = time.monotonic(), itertools.count()

    def live(server: ForkServer, number: int) -> str:
        dice = random.Random(f"{seed()} {number}")
        scene = scenes[number % len(scenes)]
        life = Life(scene, tmp_path / str(next(places)))
        arguments = scene.arguments(life.collection)
        kills, wrong = 0, ""
        while kills < dice.randint(1, 3) and not wrong:
            instant = dice.uniform(0.001, scene.seconds)
            done = server.run(*arguments, root=life.folder, kill_after=instant, settings=ALWAYS)
            kills += done.code == -signal.SIGKILL
            wrong = life.check(done)
            if done.code == 0:
                break
        tally.append(kills)
        wrong = wrong or life.finish(server)
        shutil.rmtree(life.folder)
        return wrong

    tally: list[int] = []
    failures: list[str] = []
    numbers = itertools.count()
    while sum(tally) < kills_wanted and not failures:
        failures += servers.each(list(itertools.islice(numbers, min(20, kills_wanted) * AT_ONCE)), live)
    report("kills: random instants", sum(tally), len(failures), begun, seed())
    assert not failures, f"seed {seed()}\n" + "\n".join(failures)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 0.1 s: a few seconds of work with many commits."""
    root = tmp_path_factory.mktemp("many")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (CLIPS, 1600)).astype(np.float32)
    for number, samples in enumerate(noise):
        soundfile.write(root / f"{number:03}.wav", samples, 16_000)
    return root


def command(source: Path, out: Path, *options: str) -> "subprocess.Popen[str]":
    """Start the command as a user does, and wait for its first line."""
    arguments = [sys.executable, "-m", "embedx", "extract", str(source), "-o", str(out), "--progress", "json", *options]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stderr is not None
    first = process.stderr.readline()
    assert json.loads(first)["event"] == "plan", first + process.communicate()[1]
    return process


def finished(process: "subprocess.Popen[str]") -> Outcome:
    out, err = process.communicate(timeout=60)
    return Outcome(process.returncode, 0, out, err)


@pytest.mark.long  # tests/ingest/test_extract.py kills the real command in the fast suite
def test_kill_of_real_command_loses_nothing(many: Path, servers: ForkServers, tmp_path: Path) -> None:
    begun, dice = time.monotonic(), random.Random(seed())
    settled = servers[0].run("extract", many, "-o", tmp_path / "whole", settings={})
    assert settled.code == 0, settled.err
    started = time.monotonic()
    assert finished(command(many, tmp_path / "warm")).code == 0
    whole = examine(tmp_path / "whole")
    lasts = min(time.monotonic() - started, 4.0)
    kills, known = 0, Contents()
    out = tmp_path / "0"
    for attempt in range(REAL_KILLS):
        process = command(many, out)
        time.sleep(dice.uniform(0, lasts / 2))
        process.kill()
        done = finished(process)
        kills += done.code == -signal.SIGKILL
        found = examine(out)
        assert done.acknowledged <= len(found), f"seed {seed()}"
        assert complain(found, {}, whole) == "", f"seed {seed()}"
        assert known == {path: rows for path, rows in found.items() if path in known}, f"seed {seed()}"
        known = found
        if len(known) == len(whole) or attempt == REAL_KILLS - 1:
            assert servers[0].run("extract", many, "-o", out, settings={}).code == 0
            assert differ(examine(out), whole) == ""
            out, known = tmp_path / str(attempt + 1), {}
    report("kills: the real command", kills, 0, begun, seed())


@pytest.fixture
def writer(many: Path, servers: ForkServers, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A command that is extracting into the collection `c`."""
    process = command(many, tmp_path / "c", "--batch-seconds", "1")
    yield process
    process.kill()
    process.communicate()


def test_second_writer_is_refused_and_dead_one_holds_no_lock(
    writer: "subprocess.Popen[str]", many: Path, servers: ForkServers, tmp_path: Path
) -> None:
    writer.send_signal(signal.SIGSTOP)  # it holds the lock for as long as it is stopped
    second = servers[0].run("extract", many, "-o", tmp_path / "c")
    assert second.code == LOCKED, second.err
    assert str(writer.pid) in second.err
    assert socket.gethostname() in second.err
    assert servers[0].run("status", tmp_path / "c").code == 0  # readers do not mind
    writer.kill()
    writer.wait()  # the lock goes with the process, and that takes a moment
    assert servers[0].run("extract", many, "-o", tmp_path / "c").code == 0
    assert len(examine(tmp_path / "c")) == CLIPS


@pytest.mark.long  # tests/ingest/test_pipeline.py has a shorter one
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_run_with_a_commit(number: signal.Signals, tmp_path: Path) -> None:
    process = command(minutes(tmp_path, 300), tmp_path / "c")  # half a minute of work, with a commit every two seconds
    assert process.stderr is not None
    while not json.loads(process.stderr.readline())["recordings"]:
        pass  # nothing is embedded yet
    process.send_signal(number)
    done = finished(process)
    assert done.code == 128 + number, done.err
    assert 0 < done.acknowledged < 300
    assert done.acknowledged == len(examine(tmp_path / "c"))


def minutes(folder: Path, count: int) -> Path:
    """Return a folder with `count` names of one recording of 59 s."""
    source = folder / "minutes"
    source.mkdir()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000 * 59).astype(np.float32)
    soundfile.write(source / "000.wav", noise, 16_000)
    for i in range(1, count):
        os.link(source / "000.wav", source / f"{i:03}.wav")
    return source


@pytest.mark.long
def test_second_signal_ends_run_without_waiting_for_batch(tmp_path: Path) -> None:
    process = command(minutes(tmp_path, 30), tmp_path / "c", "--batch-seconds", "2000")  # one batch, seconds long
    assert process.stderr is not None
    process.send_signal(signal.SIGTERM)
    assert any("Stopping" in line for line in process.stderr)
    process.send_signal(signal.SIGTERM)
    outcome = finished(process)
    assert outcome.code == 128 + signal.SIGTERM
    assert "Stopping" not in outcome.err, "it took the second signal for a first one"
    assert len(examine(tmp_path / "c")) == 0, "it committed the batch"


@pytest.mark.long
def test_reader_sees_whole_recordings_while_writer_commits(servers: ForkServers, many: Path, tmp_path: Path) -> None:
    options = ("--window", 0.05, "--progress", "json")  # two rows a recording
    ready = servers[0].run("extract", many / "000.wav", "-o", tmp_path / "c", *options)
    assert ready.code == 0, ready.err
    outcomes: list[Outcome] = []

    def write() -> None:
        outcomes.append(servers[0].run("extract", many, "-o", tmp_path / "c", *options, settings=OFTEN))

    thread = threading.Thread(target=write)
    thread.start()
    seen = []
    with embedx.open(tmp_path / "c") as reader:
        while thread.is_alive():
            with reader.store.snapshot():
                rows, count, found = reader.store.rows(), len(reader), reader.store.recordings()
            assert len(rows) == count == 2 * len(found), "half a recording"
            seen.append(count)
    thread.join()
    assert outcomes[0].code == 0, outcomes[0].err
    assert seen == sorted(seen)
    assert len(set(seen)) > 10, "the reader was to see the collection grow: it waited for the writer"
