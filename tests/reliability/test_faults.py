"""R1, R2, R9: the disk fails at any one call, or is full from that call on; nothing acknowledged is lost.

Every command that changes a collection runs once for each of its calls that change files, with that call failing.
"""

import errno
import itertools
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from embedx.store.schema import FILE_NAME
from tests.helpers.amounts import fast_and_long
from tests.reliability.conftest import ForkServers
from tests.reliability.expected_state import complain, differ, examine, misled
from tests.reliability.fault_injection import Fault, ForkServer
from tests.reliability.operations import OPERATIONS, OPTIONS, Scene
from tests.reliability.report import EVERY, report, seed

USAGE, DISK = 2, 6
SLACK = 12  # calls beyond those of an undisturbed run: what is done about a failure can fail as well

PAIRS = int(os.environ.get("EMBEDX_PAIRS", "0"))  # of calls that fail in one run, by chance; 0: every pair


def strike(server: ForkServer, scene: Scene, fault: Fault, folder: Path) -> str:
    """Run an operation with a fault and again without; return what is wrong."""
    collection = scene.set_up(folder)
    done = server.run(*scene.arguments(collection), root=folder, fault=fault)
    found = examine(collection)
    wrong = complain(found, scene.before, scene.after)
    if done.code not in (0, DISK) or "Traceback" in done.err:
        wrong = f"exit code {done.code}: {done.err}"
    elif done.code == 0 and differ(found, scene.after):
        wrong = f"exit code 0, but {differ(found, scene.after)}"
    elif done.acknowledged > len(found):
        wrong = f"{done.acknowledged} recordings were acknowledged, {len(found)} are there"
    if not wrong:
        again = server.run(*scene.arguments(collection), root=folder)
        final = examine(collection)
        wrong = differ(final, scene.after) or misled(collection)
        if again.code:
            wrong = f"again: exit code {again.code}: {again.err}"
    shutil.rmtree(folder)
    return wrong


@fast_and_long("every", 80, EVERY)
@pytest.mark.parametrize("name", OPERATIONS)
def test_failing_call_loses_nothing(
    name: str, every: int, servers: ForkServers, staged: Callable[[str], Scene], tmp_path: Path
) -> None:
    begun, scene = time.monotonic(), staged(name)
    faults = [
        Fault(number, 0, error, lasting)
        for number in range(1, scene.calls + SLACK)
        for error, lasting in ((errno.ENOSPC, False), (errno.EIO, False), (errno.ENOSPC, True))
        if not lasting or number % EVERY == 0
    ][::every]
    places = itertools.count()

    def work(server: ForkServer, fault: Fault) -> str:
        return strike(server, scene, fault, tmp_path / str(next(places)))

    failures = servers.each(faults, work)
    report(f"faults: {name}, every call", len(faults), len(failures), begun)
    assert not failures, "\n".join(failures)


@fast_and_long("every", 20, EVERY)
def test_collection_on_full_disk_can_be_read(
    every: int, servers: ForkServers, staged: Callable[[str], Scene], tmp_path: Path
) -> None:
    scene = staged("extract")
    full = Fault(1, lasting=True)

    def read(server: ForkServer, number: int) -> str:
        folder = tmp_path / str(number)
        collection = scene.set_up(folder)
        server.run(*scene.arguments(collection), root=folder, fault=Fault(number, lasting=True))
        if not (collection / FILE_NAME).exists():
            return ""
        status = server.run("status", collection, root=folder, fault=full)
        search = server.run("search", collection, "--id", 1, root=folder, fault=full)
        there = any(held.row.id == 1 for rows in examine(collection).values() for held in rows)
        if status.code or search.code != (0 if there else USAGE):
            return f"status {status.code}, search {search.code}: {status.err}{search.err}"
        return ""

    failures = servers.each(list(range(1, scene.calls + 1, every)), read)
    assert not failures, "\n".join(failures)


@pytest.mark.reliability
@pytest.mark.parametrize("name", OPERATIONS)
def test_two_failing_calls_lose_nothing(
    name: str, servers: ForkServers, staged: Callable[[str], Scene], tmp_path: Path
) -> None:
    begun, dice, places = time.monotonic(), random.Random(seed()), itertools.count()
    scene = staged(name)
    pairs = list(itertools.combinations(range(1, scene.calls + SLACK), 2))
    chosen = dice.sample(pairs, min(PAIRS, len(pairs)) if PAIRS else len(pairs))
    faults = [Fault(*pair, dice.choice((errno.ENOSPC, errno.EIO))) for pair in chosen]

    def work(server: ForkServer, fault: Fault) -> str:
        return strike(server, scene, fault, tmp_path / str(next(places)))

    failures = servers.each(faults, work)
    report(f"faults: {name}, pairs of {len(pairs)}", len(faults), len(failures), begun, seed())
    assert not failures, f"seed {seed()}\n" + "\n".join(failures)


def test_index_of_another_store_is_not_used(servers: ForkServers, corpus: Path, tmp_path: Path) -> None:
    for name in "ab":  # as many rows each, by the same recipe
        shutil.copytree(corpus, tmp_path / name)
    for number, sound in enumerate(sorted((tmp_path / "b").rglob("*.wav"))):
        samples, rate = soundfile.read(sound)
        soundfile.write(sound, np.random.default_rng(number).permutation(samples) * (0.2 + 0.1 * number), rate)
    for name in "ab":
        assert servers[0].run("extract", tmp_path / name, "-o", tmp_path / f"{name}s", *OPTIONS).code == 0
    shutil.rmtree(tmp_path / "bs" / "index")
    shutil.copytree(tmp_path / "as" / "index", tmp_path / "bs" / "index")
    assert misled(tmp_path / "bs") == ""
    assert misled(tmp_path / "as") == ""
