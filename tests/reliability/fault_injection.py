"""Compile the fault injection library (fault.c), and run commands under it."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
# A commit after every third recording instead of every 256th, and a line of progress for each: the corpus is small.
OFTEN = {
    "embedx.ingest.pipeline.COMMIT_CLIPS": 3,
    "embedx.collection.merge.COMMIT_RECORDINGS": 3,
    "embedx.cli.progress.JSON_SECONDS": 0.0,
}
DIE = 0  # in place of an errno


@dataclass(frozen=True)
class Fault:
    """Which calls fail, numbered from 1, and how: an errno, or DIE. `lasting`: all from the first on."""

    first: int = 0
    second: int = 0
    error: int = errno.ENOSPC
    lasting: bool = False

    def __str__(self) -> str:
        how = "SIGKILL" if self.error == DIE else errno.errorcode[self.error]
        return f"{how} at call {self.first}" + f" and {self.second}" * bool(self.second) + " and on" * self.lasting


@dataclass
class Outcome:
    """What became of a command."""

    code: int  # minus the number of a signal
    calls: int  # that changed files, as fault.c counted them; 0 where the process was killed
    out: str
    err: str
    acknowledged: int = field(init=False)  # the highest number of recordings that it said are done

    def __post_init__(self) -> None:
        events = [json.loads(line) for line in self.err.splitlines() if line.startswith('{"event"')]
        self.acknowledged = max(
            (one["recordings"] for one in events if one["event"] in ("progress", "summary")), default=0
        )


def compile_fault_library(folder: Path) -> Path:
    """Compile fault.c; skip where there is no compiler, or no Linux."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler (cc) for the disk that fails on demand")
    library = folder / "fault.so"
    flags = ["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(HERE / "fault.c"), "-ldl"]
    subprocess.run([compiler, *flags], check=True)
    return library


class ForkServer:
    """Runs commands of embedx in forked children; see fork_server.py."""

    def __init__(self, library: Path) -> None:
        command = [sys.executable, "-P", str(HERE / "fork_server.py")]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment() | {"LD_PRELOAD": str(library)},
            text=True,
        )
        self.folder = Path(tempfile.mkdtemp(prefix="server-"))
        self._hear()

    def run(
        self,
        *arguments: object,
        root: Path | None = None,
        fault: Fault | None = None,
        syscall_log: Path | None = None,
        kill_after: float = 0.0,
        settings: dict[str, Any] = OFTEN,
    ) -> Outcome:
        """Run a command to its end, or to its kill after some seconds; faults strike below `root` alone."""
        order = {
            "arguments": [str(one) for one in arguments],
            "root": str(root or ""),
            "fault": asdict(fault or Fault()),
            "syscall_log": str(syscall_log or ""),
            "kill_after": kill_after,
            "settings": settings,
            "out": str(self.folder / "out"),
            "err": str(self.folder / "err"),
        }
        assert self.process.stdin is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)
        answer = self._hear()
        return Outcome(**answer, out=(self.folder / "out").read_text(), err=(self.folder / "err").read_text())

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=60)
        shutil.rmtree(self.folder)

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the server has died; its stderr says why"
        answer: dict[str, Any] = json.loads(line)
        return answer


def environment() -> dict[str, str]:
    """Return the variables under which a command runs the embedx that is imported here, on one thread."""
    import embedx

    return os.environ | ONE_THREAD | {"PYTHONPATH": str(Path(embedx.__file__).parents[1])}
