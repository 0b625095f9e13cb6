"""Child: a process of our own that does one thing, and ends with the socket that it is told what to do through."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence


def start(module: str, handles: Sequence[int]) -> "subprocess.Popen[bytes]":
    """Start a process that calls `serve` of a module with open handles, which it gets, and no others.

    It never runs the `__main__` of the user, and hears no Ctrl-C: that is for the parent, which decides.

    Raises:
        OSError: the system starts no process.
    """
    call = f"from {module} import serve; serve({', '.join(map(str, handles))})"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", call],  # -P: a file in the current folder is no module
        pass_fds=handles,  # and not the lock of a store
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("EMBEDX_DEBUG") else subprocess.DEVNULL,  # mpg123 complains aloud
        process_group=0,
    )


def ignore_signals() -> None:
    """Leave it to the parent when to stop; its end is ours."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)


PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def environment() -> dict[str, str]:
    """Return the environment of a child: modules from where this process has them, and no threads of BLAS."""
    places = [*filter(None, sys.path), PACKAGE_PARENT]
    return os.environ | {"PYTHONPATH": os.pathsep.join(places), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def describe_end(code: int | None) -> str:
    """Say how a process ended.

    >>> describe_end(-11), describe_end(3), describe_end(None)
    ('killed by SIGSEGV', 'exit code 3', 'no end yet')
    """
    if code is None:
        return "no end yet"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
