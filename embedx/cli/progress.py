"""Progress on standard error, and the signals that stop a run."""

import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from embedx.cli.output import say, size
from embedx.errors import Interrupted
from embedx.filesystem.paths import escape_controls
from embedx.text import plural

if TYPE_CHECKING:
    from embedx.bench.runner import BenchProgress
    from embedx.ingest.pipeline import Progress

JSON_SECONDS = 1.0  # between two lines of JSON
TEXT_SECONDS = 10.0  # between two sentences
STOP_SECONDS = 7.0  # after a signal; extraction needs up to 5 s for the current batch, and must stop within 10 s
MIN_SECONDS = 1e-3  # avoids a division by zero at the start


class Signals:
    """The first SIGINT or SIGTERM asks for a clean stop, the second ends the process immediately.

    What does not stop within `limit_s`, such as loading a large model, is ended by an error in the main thread.
    """

    def __init__(self, unit: str = "batch", limit_s: float | None = STOP_SECONDS) -> None:
        self.unit = unit  # what is finished before the stop
        self.limit_s = limit_s
        self.number = 0

    def received(self) -> int:
        """Return the number of the signal that came, 0 if none."""
        return self.number

    def __enter__(self) -> Self:
        self.handlers = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        self.handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._stop)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        if kind is KeyboardInterrupt and self.number:
            raise Interrupted("Stopped. Run the same command again to continue.", self.number) from error

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            os._exit(128 + number)
        self.number = number
        with contextlib.suppress(OSError):  # sys.stderr may be in the middle of a write, and then refuses another one
            os.write(2, f"\nStopping after the current {self.unit}. Interrupt again to stop immediately.\n".encode())
        if self.limit_s is not None:
            signal.setitimer(signal.ITIMER_REAL, self.limit_s)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """End what did not stop in time; no code that wraps exceptions takes this one for its own."""
        raise KeyboardInterrupt


class Display:
    """Shows progress as a bar, as sentences, as JSON lines or not at all."""

    def __init__(self, mode: str = "auto") -> None:
        self.mode = ("bar" if sys.stderr.isatty() else "text") if mode == "auto" else mode
        self.started = time.monotonic()
        self.shown = -math.inf if self.mode == "json" else self.started  # when the last line was written
        self.done_before = 0
        self.bar: Any = None

    def __enter__(self) -> Self:
        return self

    def restart(self, done: int) -> None:
        """Start the clock of a run, or of a stage of it, at which `done` units are done already."""
        self.started = time.monotonic()
        self.done_before = done

    def draw(self, total: int, done: int, unit: str, label: str | None, details: str) -> None:
        """Update the bar."""
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=total, initial=done, unit=unit, dynamic_ncols=True)
        if label is not None:
            self.bar.set_description(escape_controls(label), refresh=False)
        self.bar.set_postfix_str(details, refresh=False)
        self.bar.update(done - self.bar.n)

    def close_bar(self) -> None:
        """Leave the bar as it is, on a line of its own."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def due(self) -> bool:
        """Return whether it is time for another line."""
        return time.monotonic() - self.shown > (JSON_SECONDS if self.mode == "json" else TEXT_SECONDS)

    def remaining(self, done: int, total: int) -> float | None:
        """Estimate the seconds that are left; None while nothing is done."""
        progress = done - self.done_before
        return (time.monotonic() - self.started) / progress * (total - done) if progress > 0 else None

    def emit(self, event: str, values: Mapping[str, Any]) -> None:
        """Write an event as one line of JSON."""
        say(json.dumps({"event": event, **values}), err=True)


class ExtractionDisplay(Display):
    """Shows the progress of an extraction."""

    last: "Progress | None" = None

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close_bar()
        if self.mode == "json" and self.last is not None:
            self._write_line(self.last)

    def __call__(self, progress: "Progress") -> None:
        """Show the progress; called after every recording."""
        if self.last is None:
            self.restart(progress.done)
            self._announce(progress)
        self.last = progress
        if self.mode == "bar":
            details = f"{self._speed(progress):.1f} h audio/h, {progress.failures.total()} failed"
            self.draw(progress.total, progress.done, "clip", None, details)
        elif self.mode != "none" and self.due():
            self._write_line(progress)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Write the summary as an event for programs."""
        if self.mode == "json":
            self.emit("summary", values)

    def _announce(self, progress: "Progress") -> None:
        recordings, rows, vectors = progress.total - progress.done, progress.expected_rows, progress.expected_bytes
        if self.mode == "json":
            self.emit("plan", {"recordings": recordings, "expected_rows": rows, "expected_bytes": vectors})
        elif self.mode != "none" and rows:
            counts = f"{plural(recordings, 'recording')}, about {plural(rows, 'row')}"
            say(f"To embed: {counts}, {size(vectors)} of vectors.", err=True)

    def _write_line(self, progress: "Progress") -> None:
        self.shown = time.monotonic()
        left = self.remaining(progress.done, progress.total)
        failed = progress.failures.total()
        if self.mode == "json":
            values = {
                "recordings": progress.done,
                "total": progress.total,
                "failures": failed,
                "audio_hours": round(progress.seconds / 3600, 4),
                "audio_hours_per_hour": round(self._speed(progress), 1),
                "eta_s": None if left is None else round(left, 1),
            }
            self.emit("progress", values)
        else:
            say(
                f"{progress.done} of {plural(progress.total, 'recording')} done, {failed} failed, "
                f"{self._speed(progress):.1f} h of audio per hour{about(left)}.",
                err=True,
            )

    def _speed(self, progress: "Progress") -> float:
        return progress.seconds / max(MIN_SECONDS, time.monotonic() - self.started)


class BenchmarkDisplay(Display):
    """Shows the progress of a benchmark, stage by stage."""

    last: "BenchProgress | None" = None
    units: Mapping[str, str] = {"extract": "clip", "fit": "fit"}

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._finish_stage()

    def __call__(self, progress: "BenchProgress") -> None:
        """Show the progress; called whenever something is done."""
        if progress is not self.last:  # every stage has its own object
            self._finish_stage()
            self.restart(progress.present)
        self.last = progress
        if self.mode == "bar":
            details = f"{len(progress.failures)} failed"
            self.draw(progress.total, progress.done, self.units[progress.stage], progress.what, details)
        elif self.mode != "none" and self.due():
            self._write_line(progress)

    def _finish_stage(self) -> None:
        self.close_bar()
        if self.mode == "json" and self.last is not None:
            self._write_line(self.last)

    def _write_line(self, progress: "BenchProgress") -> None:
        self.shown = time.monotonic()
        left = self.remaining(progress.done, progress.total)
        failed = len(progress.failures)
        if self.mode == "json":
            values = {name: getattr(progress, name) for name in ("stage", "what", "done", "total", "present")}
            eta = None if left is None else round(left, 1)
            self.emit("progress", {**values, "failures": failed, "eta_s": eta})
        else:
            units = {"extract": "recordings embedded", "fit": "heads fitted"}[progress.stage]
            say(
                f"{progress.what}: {progress.done} of {progress.total} {units}, {failed} failed{about(left)}.", err=True
            )


class PushDisplay(Display):
    """Shows how many rows a push has compared and sent."""

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close_bar()

    def __call__(self, done: int, total: int) -> None:
        """Show the progress; called after every page of rows."""
        if self.mode == "bar":
            self.draw(total, done, "row", None, "")
        elif self.mode != "none" and self.due():
            self.shown = time.monotonic()
            say(f"{done} of {plural(total, 'row')} compared{about(self.remaining(done, total))}.", err=True)


def about(seconds: float | None) -> str:
    """Return the time that is left as the end of a sentence.

    >>> about(None), about(40), about(400), about(7300)
    ('', ', about 40 s left', ', about 7 min left', ', about 2.0 h left')
    """
    if seconds is None:
        return ""
    if seconds < 90:
        return f", about {seconds:.0f} s left"
    return f", about {seconds / 60:.0f} min left" if seconds < 5400 else f", about {seconds / 3600:.1f} h left"
