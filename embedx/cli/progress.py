"""Progress: the display of a running extraction, and the signals that end it."""

import json
import os
import signal
import sys
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import click

from embedx.cli.output import size

if TYPE_CHECKING:
    from embedx.ingest.pipeline import Progress


EMIT_SECONDS = 1.0  # between two lines of progress


class Signals:
    """The first SIGINT or SIGTERM asks for a clean stop after what is in hand, the second ends the process at once."""

    def __init__(self, in_hand: str = "the batch") -> None:
        self.in_hand = in_hand
        self.number = 0

    def received(self) -> int:
        """Return the number of the signal that came, 0 if none."""
        return self.number

    def __enter__(self) -> "Signals":
        self.old = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            os._exit(128 + number)
        self.number = number
        click.echo(f"\nStopping after {self.in_hand} in hand; once more stops at once.", err=True)


class ProgressDisplay:
    """Shows progress: a bar on a terminal, JSON lines elsewhere, about once a second."""

    def __init__(self) -> None:
        self.last: Progress | None = None
        self.begun = time.monotonic()
        self.before = 0  # recordings that were done when the run began
        self.emitted = 0.0
        self.bar: Any = None

    def __enter__(self) -> "ProgressDisplay":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()
        elif self.last is not None:
            self._emit(self.last)

    def __call__(self, progress: "Progress") -> None:
        """Take note of the progress, and show it."""
        if self.last is None:
            self.begun, self.before = time.monotonic(), progress.done
            self._announce(progress)
        self.last = progress
        if sys.stderr.isatty():
            self._draw(progress)
        elif time.monotonic() - self.emitted > EMIT_SECONDS:
            self._emit(progress)

    def _announce(self, progress: "Progress") -> None:
        """Say what is ahead before the work begins."""
        rows, octets = progress.expected_rows, progress.expected_bytes
        if not sys.stderr.isatty():
            left = progress.total - progress.done
            emit("plan", {"recordings": left, "expected_rows": rows, "expected_bytes": octets})
        elif rows:
            click.echo(f"About {rows} rows to come, {size(octets)} of vectors.", err=True)

    def _draw(self, progress: "Progress") -> None:
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=progress.total, initial=progress.done, unit="clip", dynamic_ncols=True)
        failed = f"{progress.failures.total()} failed"
        self.bar.set_postfix_str(f"{self._speed(progress):.1f} h audio/h, {failed}", refresh=False)
        self.bar.update(progress.done - self.bar.n)

    def _emit(self, progress: "Progress") -> None:
        self.emitted = time.monotonic()
        per_clip = (self.emitted - self.begun) / max(1, progress.done - self.before)
        emit(
            "progress",
            {
                "recordings": progress.done,
                "total": progress.total,
                "failures": progress.failures.total(),
                "audio_hours": round(progress.seconds / 3600, 4),
                "audio_hours_per_hour": round(self._speed(progress), 1),
                "eta_s": round(per_clip * (progress.total - progress.done), 1) if progress.done > self.before else None,
            },
        )

    def _speed(self, progress: "Progress") -> float:
        return progress.seconds / max(1e-3, time.monotonic() - self.begun)


def emit(event: str, values: dict[str, Any]) -> None:
    """Write one line of JSON to stderr."""
    click.echo(json.dumps({"event": event, **values}), err=True)
