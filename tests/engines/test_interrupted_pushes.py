"""Pushes to search engines that are killed, or run beside an extraction: the next push sends the rest."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import embedx
from embedx.engines.comparison import compare
from embedx.engines.pushing import push_rows
from embedx.errors import NothingToDo
from tests.helpers.collections import DIM, Make
from tests.helpers.paths import ROOT
from tests.helpers.search_engines import engine_server

pytestmark = pytest.mark.long
ROWS = 900  # four pages of a push
PUSH = """
import sys, time
from embedx.engines.pushing import push_rows

def show(done, total):
    print(done, flush=True)
    time.sleep(0.5)  # the signal arrives before the push ends

push_rows(sys.argv[1], sys.argv[2], on_progress=show)
"""


@pytest.fixture(scope="module", params=["qdrant", "postgresql", "milvus"])
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an engine, up to the name of a collection."""
    with engine_server(request.param) as server:
        yield server.url


def test_push_whose_process_is_killed_goes_on(make: Make, place: str) -> None:
    """It is killed after each page; between the pushes rows are removed and labelled."""
    x = np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)
    url = place.format("killed_push")
    with make(x, ["a"] * ROWS) as local:
        for attempt in range(3):
            command = [sys.executable, "-c", PUSH, str(local.folder), url]
            env = os.environ | {"PYTHONPATH": str(ROOT)}
            with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                assert process.stdout.readline()
                process.send_signal(signal.SIGKILL)
            assert process.returncode == -signal.SIGKILL
            local.remove(f"id BETWEEN {1 + 10 * attempt} AND {5 + 10 * attempt} OR id = {ROWS - attempt}")
            local.label(set={"label": f"new {attempt}"}, where=f"id % 7 = {attempt}")
        last = push_rows(local.folder, url)
        assert 0 < last.inserted < last.rows
        assert compare(local.folder, url).is_same
        again = push_rows(local.folder, url)
        assert (again.inserted, again.replaced, again.relabelled, again.deleted) == (0, 0, 0, 0)


def test_push_beside_an_extraction_sends_committed_rows(
    write_wav: Callable[..., Path], tmp_path: Path, place: str
) -> None:
    for number in range(60):
        write_wav(f"in/{number}.wav", seconds=3)
    url, out = place.format("beside"), tmp_path / "c"
    extract = ["extract", str(tmp_path / "in"), "-o", str(out), "--window", "0.1", "--batch-seconds", "1"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    sizes = set()
    with subprocess.Popen([sys.executable, "-m", "embedx", *extract], env=env, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if (out / "store.db").exists():
                try:
                    sizes.add(push_rows(out, url).rows)
                except (NothingToDo, embedx.StoreError):  # the collection is being made
                    continue
    assert process.returncode == 0
    last = push_rows(out, url)
    assert last.rows >= max(sizes, default=0)
    assert compare(out, url).is_same
