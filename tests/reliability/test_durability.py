"""R1: acknowledged data survives a power cut. A log of all system calls shows what was flushed at each moment.

After every call the power is cut: one folder is built from what had been flushed by then, and one with a random part
of the rest. Both must open as stores with everything that was acknowledged.
"""

import itertools
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from embedx.store.lock import LOCK_NAME, SECTOR
from embedx.store.schema import FILE_NAME
from tests.helpers.amounts import fast_and_long
from tests.reliability.conftest import ForkServers
from tests.reliability.expected_state import complain, differ, examine
from tests.reliability.operations import OPERATIONS, Scene
from tests.reliability.report import EVERY, report, seed
from tests.reliability.syscall_log import Call, Disk, acknowledged, read_log

STDOUT = 1
CUTS = int(os.environ.get("EMBEDX_CUTS", "1"))  # after each call, with a random part of what had not been flushed
AGAIN = 8  # the command is run again after every 8th power cut


@pytest.fixture(params=list(OPERATIONS))
def recorded(
    request: pytest.FixtureRequest, servers: ForkServers, staged: Callable[[str], Scene], tmp_path: Path
) -> tuple[Scene, Path, list[Call]]:
    """An operation, the folder in which it ran, and the log of its system calls."""
    scene = staged(request.param)
    collection = scene.set_up(tmp_path / "recorded")
    done = servers[0].run(*scene.arguments(collection), root=tmp_path / "recorded", syscall_log=tmp_path / "syscalls")
    assert done.code == 0, done.err
    return scene, tmp_path / "recorded", list(read_log(tmp_path / "syscalls"))


def test_acknowledged_recording_is_flushed_to_disk(recorded: tuple[Scene, Path, list[Call]]) -> None:
    scene, root, calls = recorded
    disk = Disk(root, scene.start)
    said = 0
    for call in calls:
        if call.name == "rename":
            moved = disk.now[call.path]
            assert moved and not moved.pending, f"{call.path} is renamed before it is flushed"
        disk.apply(call)
        if acknowledged(call) or (call.name == "say" and call.data.strip() and call.offset == STDOUT):
            said += 1
            lost = [path for path in disk.unsafe() if Path(path).name.startswith(FILE_NAME)]
            lock = disk.now.get(f"{root}/c/{LOCK_NAME}")  # its first sector, which names the process, is not flushed
            lost += [LOCK_NAME] if lock and any(offset >= SECTOR for offset, _ in lock.pending) else []
            assert not lost, f"{call.data!r} was said before {lost} were flushed"
    assert said
    assert not [change for change in disk.pending if len(change) == 2], "a rename was never flushed"


@fast_and_long("every", 20, EVERY)
def test_power_cut_after_any_call_loses_nothing(
    recorded: tuple[Scene, Path, list[Call]], servers: ForkServers, tmp_path: Path, every: int
) -> None:
    scene, root, calls = recorded
    begun, dice = time.monotonic(), random.Random(seed())
    disk = Disk(root, scene.start)
    promised, cuts, failures = 0, itertools.count(), []
    printed = False
    for number, call in enumerate(calls, start=1):
        disk.apply(call)
        promised = max(promised, acknowledged(call))
        printed = printed or (call.name == "say" and call.offset == STDOUT and bool(call.data.strip()))
        if number % every:
            continue
        for luck in (None, *[dice] * CUTS):
            folder = tmp_path / f"cut{next(cuts)}"
            disk.cut_power(folder, luck)
            wrong = look(scene, folder / "c", promised, printed)
            if not wrong and number % AGAIN == 0:
                wrong = finish(servers, scene, folder)
            if wrong:
                failures.append(f"call {number} ({call.name} {Path(call.path).name}), {luck and 'with luck'}: {wrong}")
            shutil.rmtree(folder)
    report(f"power cuts: {scene.operation.name}, after every call", next(cuts), len(failures), begun, seed())
    assert not failures, f"seed {seed()}\n" + "\n".join(failures)


def look(scene: Scene, collection: Path, promised: int, printed: bool) -> str:
    """Return what is wrong with a collection after a power cut."""
    try:
        found = examine(collection, torn=True)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if len(found) < promised:
        return f"{promised} recordings were acknowledged, {len(found)} are there"
    return differ(found, scene.after) if printed else complain(found, scene.before, scene.after)


def finish(servers: ForkServers, scene: Scene, folder: Path) -> str:
    """Run the command again after the power cut; return what is wrong then."""
    done = servers[0].run(*scene.arguments(folder / "c"), root=folder)
    return done.err if done.code else differ(examine(folder / "c"), scene.after)
