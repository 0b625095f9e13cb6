"""Start child processes that run one function of embedx and end when their channel closes."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Generic, TypeVar

from embedx.errors import EmbedxError
from embedx.processes.channels import Channel, raise_reported

END_S = 1.0  # seconds to wait for a process to end after its channel has closed
PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

AnyChannel = TypeVar("AnyChannel", bound=Channel)


class Child(Generic[AnyChannel]):
    """A child process and the channels to it.

    Attributes:
        purpose: what the process does, as in "decodes audio"; errors name it.
        owner: id of the process that started the child. A fork of that process must not use the child.
    """

    def __init__(self, purpose: str, process: "subprocess.Popen[bytes]", channels: Sequence[AnyChannel]) -> None:
        self.purpose = purpose
        self.process = process
        self.channels = channels
        self.owner = os.getpid()

    def is_running(self) -> bool:
        """Tell whether the child runs and belongs to this process."""
        return self.owner == os.getpid() and self.process.poll() is None

    def wait_until_ready(self, channel: AnyChannel, timeout_s: float = float("inf"), prefix: str = "") -> None:
        """Wait for the first message on a channel.

        Raises:
            EOFError, OSError: the child ended before it was ready, or sent nothing for `timeout_s`.
            EmbedxError, RuntimeError: the child reported an error; its text follows `prefix`.
        """
        message, _ = channel.receive(0, timeout_s)
        raise_reported(message, prefix)

    def describe_end(self) -> str:
        """Wait briefly for the child to end, and say how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):  # then it is described as running
            self.process.wait(END_S)
        return describe_exit(self.process.poll())

    def failure(self, event: str, advice: str = "") -> EmbedxError:
        """Return the error to raise when the child did not start or ended early; `event` is a verb in the past."""
        return EmbedxError(
            f"The process that {self.purpose} {event} ({self.describe_end()}). "
            f"Set EMBEDX_DEBUG=1 to see its messages.{advice}"
        )

    def stop(self) -> None:
        """End the child, even in the middle of its work."""
        for channel in self.channels:
            channel.close()
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()


def start_child(purpose: str, module: str, kind: type[AnyChannel], count: int = 1) -> Child[AnyChannel]:
    """Start a process that calls `serve(*handles)` of a module, with the handles of its ends of some channels.

    The child never runs the `__main__` module of the user. It ignores Ctrl-C: the parent decides when to stop.

    Args:
        purpose: see `Child`.
        module: the full name of a module of embedx.
        kind: the class of the channels.
        count: the number of channels.

    Raises:
        EmbedxError: the system cannot start a process.
    """
    pairs = [kind.pair() for _ in range(count)]
    handles = [handle for _, child_end in pairs for handle in child_end.handles]
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {module} import serve; serve({', '.join(map(str, handles))})"],
            pass_fds=handles,  # and no other file, in particular not the lock of a store
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if os.environ.get("EMBEDX_DEBUG") else subprocess.DEVNULL,  # mpg123 prints warnings
            process_group=0,
        )  # -P: a file in the current folder must not be imported in place of a module
    except OSError as error:
        for parent_end, _ in pairs:
            parent_end.close()
        raise EmbedxError(f"The process that {purpose} cannot be started: {error}") from error
    finally:
        for _, child_end in pairs:
            child_end.close()
    return Child(purpose, process, [parent_end for parent_end, _ in pairs])


def ignore_signals() -> None:
    """Ignore SIGINT and SIGTERM in a child: its parent decides when to stop, and closes the channel."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)


def environment() -> dict[str, str]:
    """Return the environment of a child: the module search path of this process, and one thread for BLAS."""
    folders = [*filter(None, sys.path), PACKAGE_PARENT]
    return os.environ | {"PYTHONPATH": os.pathsep.join(folders), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def describe_exit(code: int | None) -> str:
    """Describe the exit status of a process; None is a process that still runs.

    >>> describe_exit(-11), describe_exit(3), describe_exit(None)
    ('killed by SIGSEGV', 'exit code 3', 'still running')
    """
    if code is None:
        return "still running"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
