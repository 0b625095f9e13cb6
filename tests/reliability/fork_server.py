"""A process that has imported embedx once and forks a child for every command: hundreds of runs in seconds.

Run as a script it reads orders from stdin, one line of JSON each, and answers on stdout. It runs under the library of
fault.c, which is armed in the child just before the command begins; everything after that is the real command.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import wave
from typing import Any

MODULES = (
    "embedx.cli.extract embedx.cli.maintenance embedx.ingest.extract embedx.embedding.embedder "
    "embedx.extractors.logmel embedx.search "
    "embedx.collection.collection faiss pandas soundfile soxr sqlite3"
)


def serve() -> None:
    """Run the commands of stdin until it ends."""
    from embedx.store import checksums

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in MODULES.split():
        importlib.import_module(name)
    vars(checksums)["MIN_NEW"] = 1  # a filter writes the file `compared`
    warm_up()
    gc.collect()
    gc.freeze()  # a collection in a child would copy all that it shares with this process
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(carry_out(json.loads(line))), file=answers, flush=True)


def warm_up() -> None:
    """Extract one second of silence, so that everything created on first use exists."""
    import embedx

    with tempfile.TemporaryDirectory() as folder, wave.open(f"{folder}/a.wav", "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(32_000))
        file.close()
        with embedx.extract(f"{folder}/a.wav", out=f"{folder}/c") as collection:
            if len(collection):
                collection.index()


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """Run one command in a child; return its exit code (minus a signal) and how many calls fault.c counted."""
    for name in (order["out"], order["err"]):  # a child that is killed at once has said nothing
        with open(name, "wb"):
            pass
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os._exit(obey(order, writing))
    os.close(writing)
    killer = threading.Timer(order["kill_after"] or 1e6, os.kill, (child, signal.SIGKILL))
    if order["kill_after"]:
        killer.start()
    with os.fdopen(reading) as pipe:
        counted = pipe.read()
    _, status = os.waitpid(child, 0)
    killer.cancel()
    return {"code": os.waitstatus_to_exitcode(status), "calls": int(counted or 0)}


def obey(order: dict[str, Any], counter: int) -> int:
    """In the child: arm fault.c, run the command, write the number of calls."""
    for number, name in enumerate(("/dev/null", order["out"], order["err"])):
        handle = os.open(name, os.O_RDWR)
        os.dup2(handle, number)
        os.close(handle)
    for name, value in order["settings"].items():
        module, _, constant = name.rpartition(".")
        assert hasattr(importlib.import_module(module), constant), name
        setattr(sys.modules[module], constant, value)
    lend_decoder(counter)
    from embedx.cli import run

    library = ctypes.CDLL(None)
    fault = order["fault"]
    library.fault_arm(
        os.fsencode(order["root"]),
        ctypes.c_long(fault["first"]),
        ctypes.c_long(fault["second"]),
        fault["error"],
        fault["lasting"],
        os.fsencode(order["syscall_log"]),
    )
    code = run(order["arguments"])
    os.write(counter, str(ctypes.c_long(library.fault_calls()).value).encode())
    return code


def lend_decoder(counter: int) -> None:
    """Give the child a forked decoder process: a new one would need 0.3 s to import its modules."""
    decoding: Any = importlib.import_module("embedx.audio.decoder_process")
    channels: Any = importlib.import_module("embedx.processes.channels")
    spawn: Any = importlib.import_module("embedx.processes.spawn")
    pool: Any = importlib.import_module("embedx.audio.decoder_pool")
    mine, its = socket.socketpair()
    child = os.fork()
    if not child:
        os.close(counter)
        mine.close()
        decoding.limit_memory = lambda: None  # torch is here, and has mapped more than a decoder may
        decoding.serve(its.detach())
        os._exit(0)
    its.close()
    decoder = decoding.Decoder()
    decoder.connect(spawn.Child("decodes audio", Forked(child), [channels.Channel(mine)]))
    pool.DECODERS.idle[:] = [decoder]


class Forked:
    """A forked process with the methods of a Popen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, None while the process runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process."""
        while self.poll() is None:
            time.sleep(0.001)
        return self.poll() or 0

    def kill(self) -> None:
        """Kill the process."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


if __name__ == "__main__":
    serve()
