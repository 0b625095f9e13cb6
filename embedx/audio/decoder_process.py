"""Decoder: a child process that decodes recordings, so that a decoder that crashes or hangs costs one file.

libsndfile and FFmpeg are native code that parses untrusted files. The child runs them and sends windows back through
a socket, as JSON and raw float32: no pickle, and never the `__main__` module of the user. The child keeps no state, so
a new one replaces it when it dies. The buffer of the socket slows the child down to the speed of the parent, so a
recording of any length needs the memory of one window.

    parent                                     child
    {"do": "read", "path": ..., ...}    -->
                                        <--    {"clip": ..., "window": ...} + samples [S], once for each window
                                        <--    {"clip": ..., "done": true, "seconds": ...}
    {"do": "excerpt", ...}              -->
                                        <--    {"rate": ..., "channels": ...} + frames [S, channels], several times
                                        <--    {"done": true}
    {"do": "hash"}, "length" or "notes" -->
                                        <--    {"done": true, "value": ...}
    An error ends each of them:         <--    {"error": ..., "reason": ...}
"""

import contextlib
import errno
import os
import resource
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from embedx import timing
from embedx.audio.clip import Clip, Frames
from embedx.audio.decode import hash_content, length_of, require_regular
from embedx.audio.excerpts import read_excerpt
from embedx.audio.places import as_file
from embedx.audio.recorder_notes import may_have_notes, read_notes
from embedx.audio.windows import Window, read_channels
from embedx.errors import AudioError, DecoderDied, EmbedxError
from embedx.filesystem.paths import display_path
from embedx.filesystem.urls import absolute, is_url
from embedx.processes import spawn
from embedx.processes.channels import READY, Channel, Message, Values, error_message, no_action, raise_reported
from embedx.processes.spawn import Child, describe_exit, start_child
from embedx.recipe import Recipe

HANG_S = 60.0  # without a message, the decoder hangs; some 10 h of audio are decoded in that time
MIN_BYTES_PER_S = 1_000_000  # a slow disk and decoder read this much; a large file gets more time
# A window has up to 1 h at 48 kHz, 0.7 GB as float32, and cutting holds it three times; libraries map 0.5 GB more.
MEMORY = 4 << 30
TICK_S = 0.1  # seconds between two checks for a timeout or a signal; a signal must end a run within 10 s
START_WAITS_S = (
    0.0,
    0.1,
    0.5,
)  # before each attempt to start a child; a machine that is short of memory needs some time
NO_ROOM = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # errors of a system that has no room for a process
MAX_BLOCK_VALUES = 1 << 24  # of an excerpt; decoders return up to 2**20 samples at a time

Answer = tuple[Message, Sequence[Values]]


class Decoder:
    """The parent's side of one decoder process; it starts when it is needed, and again after it died.

    It handles one recording at a time. `child` is None while no process runs.
    """

    def __init__(self) -> None:
        self.child: Child[Channel] | None = None
        self.returned = 0.0  # when a pool got it back, by the clock of `time.monotonic`

    def read(
        self,
        path: str,
        recipe: Recipe,
        start_s: float = 0.0,
        end_s: float | None = None,
        on_wait: Callable[[], None] = no_action,
    ) -> Generator[tuple[Clip, int | None, Window]]:
        """Yield what `embedx.audio.windows.read_channels` yields, from the child.

        Args:
            path, recipe, start_s, end_s: see `read_channels`.
            on_wait: called while the child has not sent a window yet.

        Raises:
            AudioError: see `read_channels`; also "too-large" if the file needs more memory than the child may use.
            DecoderDied: the child crashed ("decoder-crash") or hung ("decoder-hang"). It has been ended.
        """
        job = {"do": "read", "path": path, "recipe": recipe.to_json(), "start_s": start_s, "end_s": end_s}
        max_samples = round(max(recipe.window_s or 0.0, recipe.whole_s) * recipe.sample_rate) + 1
        clip: Clip | None = None
        for answer, arrays in self._ask(job, max_samples, on_wait):
            state = Clip(**answer["clip"] | {"path": path, "flags": set(answer["clip"]["flags"])})
            if clip is None:
                clip = state
            clip.update(state)
            for stage, seconds in answer.get("seconds", {}).items():
                timing.add(stage, seconds)
            if "window" in answer:
                place = answer["window"]
                window = Window(place["start_s"], place["end_s"], arrays[0], tuple(place["flags"]))
                yield clip, place["channel"], window

    def read_blocks(
        self, path: str, start_s: float, end_s: float, on_wait: Callable[[], None] = no_action
    ) -> Generator[tuple[Frames, int]]:
        """Yield the frames between two times at the recording's own rate in blocks [S, channels], and that rate in Hz.

        Raises:
            AudioError: the file cannot be read, or ends before `start_s`.
            DecoderDied: see `read`.
        """
        job = {"do": "excerpt", "path": path, "start_s": start_s, "end_s": end_s}
        for answer, arrays in self._ask(job, MAX_BLOCK_VALUES, on_wait):
            for block in arrays:
                yield block, answer["rate"]

    def read_excerpt(
        self, path: str, start_s: float, end_s: float, on_wait: Callable[[], None] = no_action
    ) -> tuple[Frames, int]:
        """Return what `read_blocks` yields as one array [S, channels], and the rate in Hz."""
        blocks, rates = zip(*self.read_blocks(path, start_s, end_s, on_wait), strict=True)
        return np.concatenate(blocks), rates[0]

    def hash_content(self, path: str, on_wait: Callable[[], None] = no_action) -> str:
        """Return the hash of a file's bytes; see `embedx.audio.decode.hash_content`.

        Raises:
            AudioError: the file cannot be read.
            DecoderDied: see `read`.
        """
        return str(self._ask_value({"do": "hash", "path": path}, on_wait))

    def length_of(self, path: str) -> float | None:
        """Return the duration in seconds from the header; None if it has none, is remote, or cannot be read."""
        if is_url(path):  # all of it would be copied
            return None
        try:
            length: float | None = self._ask_value({"do": "length", "path": path}, no_action)
        except AudioError:
            return None
        return length

    def read_notes(self, path: str) -> dict[str, Any]:
        """Return the columns that a recorder wrote into a file; see `embedx.audio.recorder_notes.read_notes`."""
        if not may_have_notes(path):
            return {}
        try:
            notes: dict[str, Any] = self._ask_value({"do": "notes", "path": path}, no_action)
        except AudioError:  # the audio has been read, so it is not lost for its notes
            return {}
        return notes

    def stop(self) -> None:
        """End the child, even in the middle of its work."""
        if self.child is not None:
            self.child.stop()
            self.child = None

    def _ask_value(self, job: Message, on_wait: Callable[[], None]) -> Any:
        return [answer for answer, _ in self._ask(job, 0, on_wait)][-1]["value"]

    def _ask(self, job: Message, max_values: int, on_wait: Callable[[], None]) -> Generator[Answer]:
        """Send a job and yield the answers; a recording inside a table or at a URL is a temporary file meanwhile."""
        if is_url(job["path"]):
            job = job | {"path": absolute(job["path"])}  # without a signature, which no message shows
        with as_file(job["path"], on_wait) as file:
            try:
                yield from self._ask_about_file(job | {"path": file}, max_values, on_wait)
            except AudioError as error:
                detail = error.detail.replace(display_path(file), display_path(job["path"]))
                raise type(error)(error.reason, detail) from error

    def _ask_about_file(self, job: Message, max_values: int, on_wait: Callable[[], None]) -> Generator[Answer]:
        """Send a job and yield the answers; if the caller stops before the last one, end the child."""
        require_regular(job["path"])
        child = self._start(job["path"])
        (channel,) = child.channels
        shown, timeout_s, is_done = display_path(job["path"]), timeout_for(job["path"]), False
        try:
            folder = "" if os.path.isabs(job["path"]) else os.getcwd()  # it may have changed since the child started
            channel.send(job | {"timeout_s": timeout_s, "folder": folder})
            while not is_done:
                answer, arrays = channel.receive(max_values, timeout_s, on_wait)
                is_done = "done" in answer or "error" in answer
                raise_reported(answer)
                yield answer, arrays
        except TimeoutError as error:
            detail = f"{shown}: the decoder hung (no data for {timeout_s:g} s), in 2 attempts."
            raise DecoderDied("decoder-hang", detail) from error
        except (EOFError, ConnectionError) as error:
            detail = f"{shown}: the decoder crashed ({child.describe_end()}), in 2 attempts."
            raise DecoderDied("decoder-crash", detail) from error
        finally:
            if not is_done:
                self.stop()

    def _start(self, path: str) -> Child[Channel]:
        """Return the child, and start it unless it runs; one that does not start is started again, a few times.

        Raises:
            DecoderDied: it was killed each time, or the system had no room for a process. It costs this recording.
            EmbedxError: it ended by itself, or Python was not found. The recording is not the cause.
        """
        if self.child is not None and self.child.is_running():
            return self.child
        self.stop()
        for wait_s in START_WAITS_S:
            time.sleep(wait_s)
            try:
                return self._start_once()
            except (EmbedxError, OSError) as error:
                last = error
        if isinstance(last, EmbedxError) and getattr(last.__cause__, "errno", None) not in NO_ROOM:
            raise last
        detail = f"{display_path(path)}: the decoder did not start ({last}), in {len(START_WAITS_S)} attempts."
        raise DecoderDied("decoder-crash", detail) from last

    def _start_once(self) -> Child[Channel]:
        """Start a child; raise ConnectionAbortedError if it is killed before it is ready."""
        child = start_child("decodes audio", "embedx.audio.decoder_process", Channel)
        try:
            self.connect(child)
        except (EOFError, OSError) as error:
            failure, code = child.failure("did not start"), child.process.poll()
            child.stop()
            if code is not None and code >= 0:
                raise failure from None
            raise ConnectionAbortedError(describe_exit(code)) from error
        return child

    def connect(self, child: Child[Channel]) -> None:
        """Use a child that has been started, once it is ready.

        Raises:
            EOFError, OSError: it ended before it was ready.
        """
        (channel,) = child.channels
        channel.socket.settimeout(TICK_S)
        child.wait_until_ready(channel, HANG_S)
        self.child = child


def timeout_for(path: str) -> float:
    """Return the seconds without a message after which a decoder of this file counts as hung."""
    try:
        return HANG_S + os.stat(path).st_size / MIN_BYTES_PER_S
    except (OSError, ValueError):  # the decoder reports the file that cannot be read
        return HANG_S


def serve(handle: int) -> None:
    """Run the child process: do the jobs that arrive on the channel until it closes."""
    spawn.ignore_signals()
    limit_memory()
    channel = Channel.from_handles(handle)
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has closed the channel, or has ended
        channel.send(READY)
        while True:
            job, _ = channel.receive(0)
            for answer, arrays in do_job(job):
                signal.alarm(0)  # waiting for the parent is not a hang
                channel.send(answer, arrays)
                set_alarm(job)


def set_alarm(job: Message) -> None:
    """Set a timer after which the system ends this process: if it hangs, its parent may have ended already."""
    signal.alarm(2 * round(job["timeout_s"] + 1))


def do_job(job: Message) -> Iterator[Answer]:
    """Do a job and yield its answers; any error becomes the last answer."""
    set_alarm(job)
    shown = display_path(job["path"])
    try:
        if job["folder"]:
            os.chdir(job["folder"])
        yield from JOBS[job["do"]](job)
    except AudioError as error:
        yield error_message(error), ()
    except MemoryError:
        detail = f"{shown} needs more memory than the {MEMORY >> 30} GB that a decoder may use."
        yield error_message(AudioError("too-large", detail)), ()
    except OSError as error:
        yield error_message(AudioError("unreadable", f"{shown} cannot be read: {error}")), ()
    except Exception as error:  # a bug: report it with the file, and let the run go on
        detail = f"{shown} caused an internal error of embedx, please report it: {type(error).__name__}: {error}"
        yield error_message(AudioError("internal", detail)), ()
    finally:
        signal.alarm(0)


def send_windows(job: Message) -> Iterator[Answer]:
    """Yield a message for each window, and one with the final state of the clip and the time that decoding took."""
    flags: set[str] = set()
    recipe, start = Recipe.from_json(job["recipe"]), time.process_time()
    with timing.measure() as seconds:
        for clip, channel, window in read_channels(job["path"], recipe, job["start_s"], job["end_s"]):
            place = {"channel": channel, "start_s": window.start_s, "end_s": window.end_s, "flags": window.flags}
            yield {"clip": clip_fields(clip), "window": place}, [window.samples]
            last = clip
            flags |= clip.flags  # with channels="each", every channel has a clip and flags of its own
    state = clip_fields(replace(last, flags=flags | last.flags))
    seconds["decoder"] = time.process_time() - start  # CPU time, with the time for sending
    yield {"clip": state, "done": True, "seconds": seconds}, ()


def send_excerpt(job: Message) -> Iterator[Answer]:
    """Yield the frames between two times, block by block."""
    for clip, frames in read_excerpt(job["path"], job["start_s"], job["end_s"]):
        yield {"rate": clip.rate}, [frames]
    yield {"done": True}, ()


def send_hash(job: Message) -> Iterator[Answer]:
    """Yield the hash of a file's bytes."""
    yield {"done": True, "value": hash_content(job["path"])}, ()


def send_notes(job: Message) -> Iterator[Answer]:
    """Yield the columns that a recorder wrote into a file."""
    yield {"done": True, "value": read_notes(job["path"])}, ()


def send_length(job: Message) -> Iterator[Answer]:
    """Yield the duration that a header declares."""
    yield {"done": True, "value": length_of(job["path"])}, ()


JOBS: dict[str, Callable[[Message], Iterator[Answer]]] = {
    "read": send_windows,
    "excerpt": send_excerpt,
    "hash": send_hash,
    "length": send_length,
    "notes": send_notes,
}


def clip_fields(clip: Clip) -> Message:
    """Return the fields of a clip as JSON values."""
    return asdict(clip) | {"flags": sorted(clip.flags)}


def limit_memory() -> None:
    """Limit the memory of this process, and let a crash write no core dump."""
    for kind, size in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        with contextlib.suppress(ValueError, OSError):  # macOS does not support a limit of the address space
            resource.setrlimit(kind, (size if hard == resource.RLIM_INFINITY else min(size, hard), hard))
