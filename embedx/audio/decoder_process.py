"""Decoding: recordings -> windows in a child process, so that a decoder that crashes or hangs costs one file.

libsndfile and FFmpeg are native code that reads what strangers wrote. The child runs them and sends windows back over
a socket, as JSON and raw float32: no pickle, and never the `__main__` of the user a second time. It keeps nothing: when
it dies, another is started. The socket's buffer holds it back, so a recording of any length takes the memory of a
window.

    parent                                     child
    {"do": "read", "path": ..., ...}    -->
                                        <--    {"clip": ..., "window": ...} + samples, as often as there are windows
                                        <--    {"clip": ..., "done": true, "seconds": ...},
                                               or {"error": [reason, detail]}
"""

import atexit
import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from embedx import timing
from embedx.audio.decode import Clip, Samples, hash_content, length_of, require_regular
from embedx.audio.windows import Window, read_channels
from embedx.errors import AudioError, DecoderDied, EmbedxError
from embedx.filesystem.paths import display_path
from embedx.processes import spawn
from embedx.processes.channels import NOTHING, Message, Wire
from embedx.recipe import Recipe

HANG_S = 60.0  # of silence are a hang: some 10 h of audio are decoded in it, and
SLOWEST = 1_000_000  # bytes that a slow disk and decoder take in a second: what is long may be silent for longer
# A window is 1 h at 48 kHz at most, 0.7 GB as float32, and cutting it holds it three times; libraries map 0.5 GB more.
MEMORY = 4 << 30
TICK_S = 0.1  # between looks at the clock while nothing comes: a signal has to end the run within 10 s

IDLE: list["Decoder"] = []  # processes that nobody uses at the moment


@contextlib.contextmanager
def borrow_decoder() -> Iterator["Decoder"]:
    """Lend a decoder that an earlier run in this process has started, or a new one: a start takes 0.3 s."""
    try:
        decoder = IDLE.pop()
    except IndexError:
        decoder = Decoder()
    try:
        yield decoder
    finally:
        IDLE.append(decoder)


@atexit.register
def stop_idle() -> None:
    """End the processes that nobody uses; they would notice the end of this one by themselves."""
    while IDLE:
        IDLE.pop().stop()


class Decoder:
    """One child process that decodes one recording at a time; it starts when it is needed, and again after a death."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.wire: Wire
        self.owner = 0  # the process that started it; a fork of that must not talk to the same child

    def read(
        self,
        path: str,
        recipe: Recipe,
        start_s: float = 0.0,
        end_s: float | None = None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[Clip, int | None, Window]]:
        """Do what `embedx.audio.windows.read_channels` does, in the child.

        `on_wait` is called while there is no window.

        Raises:
            AudioError: as `read_channels`, or "too-large" for what needs more memory than a decoder may have.
            DecoderDied: the child crashed ("decoder-crash") or went silent ("decoder-hang"). It is gone.
        """
        job = {"do": "read", "path": path, "recipe": recipe.to_json(), "start_s": start_s, "end_s": end_s}
        most = round(max(recipe.window_s or 0.0, recipe.whole_s) * recipe.sample_rate) + 1
        clip: Clip | None = None
        for answer, samples in self._ask(job, most, on_wait):
            facts = answer["clip"] | {"flags": set(answer["clip"]["flags"])}
            if clip is None:
                clip = Clip(**facts)
            vars(clip).update(facts)
            for stage, seconds in answer.get("seconds", {}).items():
                timing.add(stage, seconds)
            if "window" in answer:
                place = answer["window"]
                yield clip, place["channel"], Window(place["start_s"], place["end_s"], samples, tuple(place["flags"]))

    def hash_content(self, path: str, on_wait: Callable[[], None] = lambda: None) -> str:
        """Return the hash of a file's bytes; see `embedx.audio.decode.hash_content`."""
        return str(self._answer({"do": "hash", "path": path}, on_wait))

    def length_of(self, path: str) -> float | None:
        """Return the seconds that a header promises, None where it promises none or cannot be read."""
        try:
            found: float | None = self._answer({"do": "length", "path": path})
        except AudioError:
            return None
        return found

    def stop(self) -> None:
        """End the child, whatever it is doing."""
        if self.process is None:
            return
        self.wire.close()
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()
        self.process = None

    def _answer(self, job: Message, on_wait: Callable[[], None] = lambda: None) -> Any:
        return [answer for answer, _ in self._ask(job, 0, on_wait)][-1]["value"]

    def _ask(self, job: Message, most: int, on_wait: Callable[[], None]) -> Iterator[tuple[Message, Samples]]:
        """Send a job and yield its answers up to the last; a child that has not come to the end of it is ended."""
        require_regular(job["path"])
        self._start()
        patience = patience_for(job["path"])
        at_end = False
        try:
            self.wire.send(job | {"patience_s": patience})
            while not at_end:
                answer, samples = self.wire.receive(most, patience, on_wait)
                at_end = "done" in answer or "error" in answer
                if "error" in answer:
                    raise AudioError(*answer["error"])
                yield answer, samples
        except TimeoutError as error:
            name = display_path(job["path"])
            detail = f"{name} makes the decoder hang: it sent nothing for {patience:g} s, twice."
            raise DecoderDied("decoder-hang", detail) from error
        except (EOFError, ConnectionError) as error:
            assert self.process is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(TICK_S)
            end = spawn.describe_end(self.process.poll())
            detail = f"{display_path(job['path'])} makes the decoder crash ({end}), each time."
            raise DecoderDied("decoder-crash", detail) from error
        finally:
            if not at_end:
                self.stop()

    def _start(self) -> None:
        """Start the child unless it runs.

        Raises:
            EmbedxError: it cannot be started; no recording is to blame.
        """
        if self.process is not None and self.owner == os.getpid() and self.process.poll() is None:
            return
        self.stop()
        mine, its = socket.socketpair()
        with its:
            try:
                self.process = spawn.start("embedx.audio.decoder_process", [its.fileno()])
            except OSError as error:
                mine.close()
                raise EmbedxError(f"The process that decodes audio cannot be started: {error}") from error
        self.wire, self.owner = Wire(mine), os.getpid()
        mine.settimeout(TICK_S)
        try:
            self.wire.receive(0, HANG_S)
        except (EOFError, OSError) as error:
            end = spawn.describe_end(self.process.poll())
            self.stop()
            raise EmbedxError(
                f"The process that decodes audio does not start ({end}). EMBEDX_DEBUG=1 shows what it says."
            ) from error


def serve(number: int) -> None:
    """Be the child: do one job after the other that comes over the socket of this number, until it is closed."""
    spawn.ignore_signals()
    bound_memory()
    wire = Wire(socket.socket(fileno=number))
    with contextlib.suppress(EOFError, ConnectionError):
        wire.send({"ready": True})
        while True:
            job, _ = wire.receive(0)
            for answer, samples in answers(job):
                signal.alarm(0)  # waiting for the parent is no hang
                wire.send(answer, samples)
                wind_alarm(job)


def wind_alarm(job: Message) -> None:
    """Let the kernel end this process should it hang, and the parent not live to see it."""
    signal.alarm(2 * round(job["patience_s"] + 1))


def answers(job: Message) -> Iterator[tuple[Message, Samples]]:
    """Do a job and yield its answers; whatever goes wrong becomes the last one."""
    wind_alarm(job)
    shown = display_path(job["path"])
    try:
        if job["do"] == "read":
            yield from read(job)
        elif job["do"] == "hash":
            yield {"done": True, "value": hash_content(job["path"])}, NOTHING
        else:
            yield {"done": True, "value": length_of(job["path"])}, NOTHING
    except AudioError as error:
        yield {"error": [error.reason, error.detail]}, NOTHING
    except MemoryError:
        detail = f"{shown} needs more memory than the {MEMORY >> 30} GB that a decoder may have."
        yield {"error": ["too-large", detail]}, NOTHING
    except OSError as error:
        yield {"error": ["unreadable", f"{shown} cannot be read: {error}"]}, NOTHING
    except Exception as error:  # a fault of ours: the file is named by it, and the run goes on
        detail = f"{shown} meets a fault of embedx, please report it: {type(error).__name__}: {error}"
        yield {"error": ["internal", detail]}, NOTHING
    finally:
        signal.alarm(0)


def read(job: Message) -> Iterator[tuple[Message, Samples]]:
    """Decode a recording: a message for each window, and one with what is known at the end, and the time it took."""
    flags: set[str] = set()
    recipe, begun = Recipe.from_json(job["recipe"]), time.process_time()
    with timing.measure() as seconds:
        for clip, channel, window in read_channels(job["path"], recipe, job["start_s"], job["end_s"]):
            place = {"channel": channel, "start_s": window.start_s, "end_s": window.end_s, "flags": window.flags}
            yield {"clip": facts_of(clip), "window": place}, window.samples
            last = clip
            flags |= clip.flags  # each channel is heard by itself
    facts = facts_of(replace(last, flags=flags | last.flags))
    seconds["decoder"] = time.process_time() - begun  # on the processor, with what sending took
    yield {"clip": facts, "done": True, "seconds": seconds}, NOTHING


def facts_of(clip: Clip) -> Message:
    """Return the fields of a clip as JSON has them."""
    return asdict(clip) | {"flags": sorted(clip.flags)}


def bound_memory() -> None:
    """Refuse this process more memory than a decoder may have, and let no crash fill the disk with its image."""
    for kind, size in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        with contextlib.suppress(ValueError, OSError):  # macOS takes no limit of the address space
            resource.setrlimit(kind, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))


def patience_for(path: str) -> float:
    """Return the seconds that a decoder may be silent over a file."""
    try:
        return HANG_S + os.stat(path).st_size / SLOWEST
    except (OSError, ValueError):
        return HANG_S
