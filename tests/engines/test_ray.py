"""Extraction by Ray: the collection equals that of one run, also when processes and the driver are killed."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from embedx.filesystem.remote import list_files
from tests.helpers.buckets import KEYS, proxy, put, s3_server
from tests.helpers.paths import ROOT
from tests.helpers.processes import linux, wait_until
from tests.helpers.search_engines import free_port
from tests.helpers.sharded import KILLER, assert_same_collection

pytest.importorskip("ray", reason="needs Ray: make test-engines")
WriteWav = Callable[..., Path]


PROGRAM = """
import os, sys
from embedx.cli import main
if "--engine" in sys.argv and not os.environ["RAY_ADDRESS"]:
    import ray
    for attempt in range(9):  # it gives up after 30 s, which a busy machine may need
        try:
            ray.init("local", num_cpus=4, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
            break
        except Exception as error:
            print(error)
            ray.shutdown()
main()
"""


class Corpus:
    """A folder of recordings, and commands that embed it."""

    def __init__(self, folder: Path) -> None:
        self.address = ""  # of a cluster
        self.node_slow = 0.0  # seconds for each batch, on the nodes of the cluster
        self.folder = folder
        (folder / "killer.py").write_text(KILLER)

    def start(self, out: str, *arguments: str, slow: float = 0.0) -> "subprocess.Popen[str]":
        """Start a program that embeds the folder; with `--engine` on the cluster, or on a Ray of its own."""
        command = ["extract", "in", "-o", out, "--model", "killer:make", "--batch-seconds", "1", *arguments]
        env = os.environ | {"PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}", "SLOW": str(slow)}
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *command],
            cwd=self.folder,
            env=env | {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "disabled"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, out: str, *arguments: str, slow: float = 0.0) -> tuple[int, str]:
        process = self.start(out, *arguments, slow=slow)
        log, _ = process.communicate(timeout=300)
        return process.returncode, log


@pytest.fixture
def corpus(write_wav: WriteWav, tmp_path: Path) -> Corpus:
    """Ten recordings; the seventh one kills the process that embeds it."""
    for i in range(10):
        loud = np.full(16_000, 1.0, np.float32) if i == 6 else None
        write_wav(f"in/{i}.wav", seconds=1 + i % 3, samples=loud)
    return Corpus(tmp_path)


def shard_workers() -> Iterator[int]:
    """Yield the numbers of the processes of Ray that embed shards."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                name = (folder / "cmdline").read_bytes()
            except OSError:  # it has ended
                continue
            if name.startswith(b"ray::ShardWorker"):
                yield int(folder.name)


@linux
@pytest.mark.long
def test_killed_processes_and_a_killed_driver_cost_only_the_shard_in_work(corpus: Corpus) -> None:
    driver = corpus.start("many", "--shards", "5", "--engine", "ray", slow=0.5)
    wait_until(lambda: any(corpus.folder.glob("many.shards/*/attempts")) or driver.poll() is not None, 300)
    assert driver.poll() is None, driver.communicate()
    for number in shard_workers():
        os.kill(number, signal.SIGKILL)
    wait_until(lambda: any(corpus.folder.glob("many.shards/*/done")), 300)
    driver.kill()
    driver.communicate()
    done = {file: file.stat().st_mtime_ns for file in corpus.folder.glob("many.shards/*/done")}
    wait_until(lambda: not any(shard_workers()), 300)  # those of a dead driver end by themselves
    code, log = corpus.run("many", "--shards", "5", "--engine", "ray")
    assert code == 3, log  # the loud recording is a failure by name
    assert "1 killed" in log
    assert done
    code, log = corpus.run("one", "--shards", "1")
    while code == -signal.SIGKILL:
        code, log = corpus.run("one", "--shards", "1")
    assert code == 3, log
    assert_same_collection(corpus.folder / "one", corpus.folder / "many")


needs_root = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="a node with disks of its own needs root"
)


@contextmanager
def cluster(corpus: Corpus, cores: list[int]) -> Iterator[None]:
    """Run a head without cores, and a node for each number of cores. The temporary folders of the nodes are `node*`.

    The nodes see the recordings, and an empty folder where the driver has its plan.
    """
    (corpus.folder / "indexes").mkdir()
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--node-ip-address=127.0.0.1", "--block"]
    env = os.environ | {"PYTHONPATH": f"{corpus.folder}{os.pathsep}{ROOT}", "RAY_AUTH_MODE": "disabled"}
    env |= {"SLOW": str(corpus.node_slow), "KILLS": str(corpus.folder / "kills")}
    hide = f"mount -t tmpfs none '{corpus.folder}/indexes' && exec \"$@\""
    port = free_port()
    corpus.address = f"127.0.0.1:{port}"
    temporary = [corpus.folder / f"node{number}" for number in range(len(cores))]
    nodes = [[*ray, "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false"]]
    for number in cores:
        node = [*ray, f"--address={corpus.address}", f"--num-cpus={number}"]
        nodes.append(["unshare", "-m", "sh", "-c", hide, "sh", *node])
    processes = []
    try:
        for command, folder in zip(nodes, [corpus.folder / "head", *temporary], strict=True):
            folder.mkdir()
            # The sockets of Ray need short names.
            own = env | {"TMPDIR": str(folder), "RAY_TMPDIR": tempfile.gettempdir()}
            processes.append(start_node(command, folder / "log", own))
        yield
    finally:
        corpus.address = ""
        for process in reversed(processes):
            process.terminate()
            process.wait(60)


def start_node(command: list[str], log: Path, env: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start a node; again if Ray gave up, which it does after 30 s, also on a busy machine."""
    for _ in range(9):
        with open(log, "wb") as file:
            process = subprocess.Popen(command, env=env, stdout=file, stderr=file)
        wait_until(lambda: b"Ray runtime started" in log.read_bytes() or process.poll() is not None, 300)  # noqa: B023
        if process.poll() is None:
            return process
    raise AssertionError(log.read_text())


@linux
@pytest.mark.long
@needs_root
def test_node_without_a_common_disk_sends_its_shards(corpus: Corpus) -> None:
    (corpus.folder / "in" / "6.wav").unlink()
    with cluster(corpus, [2]):
        code, log = corpus.run("indexes/many", "--shards", "3", "--engine", "ray")
        assert code == 0, log
        assert list(corpus.folder.glob("node*/embedx-0-*")) == []
    code, log = corpus.run("one")
    assert code == 0, log
    assert_same_collection(corpus.folder / "one", corpus.folder / "indexes" / "many")


@linux
@pytest.mark.long
@needs_root
def test_nodes_and_drivers_without_a_common_disk_share_a_bucket(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process and the driver are killed; another driver, with an empty disk, merges what is in the bucket."""
    pytest.importorskip("s3fs", reason="needs s3fs: make test-engines")
    pytest.importorskip("moto", reason="needs moto: make test-engines")
    corpus.node_slow = 0.5
    options = ["--shards", "5", "--engine", "ray", "--plan", "s3://birds/plan"]
    with s3_server() as server, proxy(server) as (address, requests):
        for name, value in (KEYS | {"AWS_ENDPOINT_URL": address}).items():
            monkeypatch.setenv(name, value)
        put(server, "birds", {})
        with cluster(corpus, [1, 1]):
            driver = corpus.start("indexes/first", *options)
            wait_until(lambda: any(corpus.folder.glob("node*/*/*/attempts")) or driver.poll() is not None, 300)
            os.kill(next(shard_workers()), signal.SIGKILL)
            wait_until(lambda: requests.count(r"PUT .*/done") or driver.poll() is not None, 300)
            assert driver.poll() is None, driver.communicate()
            driver.kill()
            driver.communicate()
            wait_until(lambda: not any(shard_workers()), 300)  # those of a dead driver end by themselves
            code, log = corpus.run("indexes/second", *options)
            assert code == 3, log  # the loud recording is a failure by name
            assert "1 killed" in log
            assert list(corpus.folder.glob("node*/embedx-0-*")) == []
        sent = [request for request in requests.seen if re.search(r"PUT .*/done", request)]
        assert len(sent) == len(set(sent)) == 5  # no shard was done twice
        assert list(list_files("s3://birds/plan")) == []
        assert len((corpus.folder / "kills").read_text().splitlines()) <= 4  # the same node tries again
    code, log = corpus.run("one", "--shards", "1")
    while code == -signal.SIGKILL:
        code, log = corpus.run("one", "--shards", "1")
    assert code == 3, log
    assert_same_collection(corpus.folder / "one", corpus.folder / "indexes" / "second")
