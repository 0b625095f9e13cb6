"""Fixtures: a tiny corpus, the fault injection library, and processes that run commands under it."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import pytest
import soundfile

from tests.reliability.fault_injection import ForkServer, compile_fault_library
from tests.reliability.operations import OPERATIONS, Scene, stage

Task = TypeVar("Task")
CORES = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2  # of CI, for this process of pytest
AT_ONCE = int(os.environ.get("EMBEDX_FORK_SERVERS", CORES))
ENOUGH = 10  # complaints, after which the rest is not tried


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_fault_library(tmp_path_factory.mktemp("shim"))


class ForkServers:
    """Several fork servers; each works on one task at a time."""

    def __init__(self, library: Path) -> None:
        self.all = [ForkServer(library) for _ in range(AT_ONCE)]
        self.free: SimpleQueue[ForkServer] = SimpleQueue()
        for one in self.all:
            self.free.put(one)

    def __getitem__(self, number: int) -> ForkServer:
        return self.all[number]

    def each(self, tasks: list[Task], work: Callable[[ForkServer, Task], str]) -> list[str]:
        """Do the work for every task, and return the errors, each with its task."""
        complaints: list[str] = []

        def do(task: Task) -> None:
            if len(complaints) >= ENOUGH:
                return
            server = self.free.get()
            try:
                complaint = work(server, task)
            except Exception as error:  # one failure must not hide the others
                complaint = f"{type(error).__name__}: {error}"
            finally:
                self.free.put(server)
            if complaint:
                complaints.append(f"{task}: {complaint}")

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(do, tasks))
        return complaints


@pytest.fixture(scope="session")
def servers(library: Path) -> Iterator[ForkServers]:
    servers = ForkServers(library)
    yield servers
    for one in servers.all:
        one.close()


@pytest.fixture(scope="session")
def staged(servers: ForkServers, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Scene]:
    """Return the scene of an operation by its name; each is made once."""
    return cache(lambda name: stage(OPERATIONS[name], servers[0], corpus, tmp_path_factory.mktemp("stage") / name))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short recordings of one to four windows of half a second, in a folder per class."""
    root = tmp_path_factory.mktemp("sounds")
    for i in range(6):
        (root / "ab"[i % 2]).mkdir(exist_ok=True)
        noise = np.random.default_rng(i).uniform(-0.5, 0.5, 16_000 * (i + 2) // 4).astype(np.float32)
        soundfile.write(root / "ab"[i % 2] / f"{i}.wav", noise, 16_000)
    return root
