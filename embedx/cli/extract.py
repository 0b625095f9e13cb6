"""embedx extract: audio in, a collection out."""

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import click

from embedx.cli.output import print_json, size
from embedx.corpus import LAYOUTS
from embedx.errors import EXIT_SOME_FAILED
from embedx.extractors import BACKENDS
from embedx.ingest import DTYPES
from embedx.windows import CHANNELS, TAILS

if TYPE_CHECKING:
    from embedx.collection import Collection
    from embedx.run import Progress

CHANGES = ("new", "edited", "retried", "moved", "vanished", "pruned")
EMIT_SECONDS = 1.0  # between two lines of progress
NAMED_FAILURES = 5  # failed files that the summary names; `embedx status --failed` has them all


@click.command(
    epilog="""\b
    Examples:
      embedx extract recordings/ -o indexes/field
      embedx extract ESC-50/ -o indexes/esc --model yamnet --pooling mean,max
      embedx extract clips.csv -o indexes/clips --model facebook/hubert-base-ls960 --layers all --label species
      find . -name '*.wav' | embedx extract - -o indexes/found --window 5 --hop 2.5
    """
)
@click.argument("source", nargs=-1, required=True)
@click.option("-o", "--out", required=True, metavar="FOLDER", help="The collection, such as indexes/NAME.")
@click.option("--model", default="logmel", show_default=True, help="A name of `embedx models`, a hub id, or a folder.")
@click.option("--layers", default="last", show_default=True, help="last, all, or numbers such as 0,6,-1.")
@click.option("--pooling", default="mean", show_default=True, help="mean, sum, max, or several: mean,max.")
@click.option("--window", type=float, metavar="S", help="Seconds per row. [default: the recording, up to 60 s]")
@click.option("--hop", type=float, metavar="S", help="Seconds between the starts of windows. [default: --window]")
@click.option(
    "--tail", type=click.Choice(TAILS), default="keep", show_default=True, help="The end behind whole windows."
)
@click.option("--channels", type=click.Choice(CHANNELS), default="mean", show_default=True, help="Of stereo and more.")
@click.option("--trim-silence", is_flag=True, help="Leave out silence at both ends.")
@click.option("--max-seconds", type=float, metavar="S", help="Take so much of each recording at most.")
@click.option("--label", metavar="COLUMN", help="The column with labels, or a regular expression with one (group).")
@click.option("--group", metavar="COLUMN", help="The same for groups that a probe never splits.")
@click.option("--layout", type=click.Choice(LAYOUTS), default="auto", show_default=True, help="How a folder is read.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, or GPUs: cuda:0,cuda:1.")
@click.option("--precision", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default="auto",
    show_default=True,
    help="Whose forward; fast has few models.",
)
@click.option(
    "--batch-seconds",
    type=float,
    metavar="S",
    help="Audio in one batch; changes speed, not vectors. [default: 15 on a CPU, 600 on a GPU]",
)
@click.option("--workers", default="auto", show_default=True, help="Processes that decode ahead: auto, 0, 1, ...")
@click.option("--store-dtype", type=click.Choice(DTYPES), default="float32", show_default=True)
@click.option("--allow-pickle", is_flag=True, help="Read weights from a .bin or .pth if there is no safetensors.")
@click.option("--shard", metavar="I/N", help="Embed the I-th of N parts alone; `embedx merge` joins them.")
@click.option("--checksum", is_flag=True, help="Compare contents too, not only size and time of change.")
@click.option("--retry-failed", is_flag=True, help="Try again what failed before.")
@click.option("--prune", is_flag=True, help="Take out what is not in the source any more.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--wait", is_flag=True, help="Wait while another process writes, instead of giving up.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def extract(source: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Embed audio into a collection; run it again to go on or to add what is new.

    SOURCE is a folder (searched recursively), audio files, or a manifest (CSV, Parquet or JSON lines with a path
    column; - reads it from standard input). Known data sets and folders per class are recognised.

    A file that cannot be used is named and counted, and never stops a run; the exit code is then 3.
    """
    from embedx.ingest import extract

    begun = time.monotonic()
    with Signals() as signals, Shown() as show_progress:
        collection = extract(list(source), on_progress=show_progress, interrupted=signals.received, **options)
    progress = show_progress.last
    assert progress is not None
    if options["dry_run"]:
        print_plan(progress, as_json)
        return 0
    summary = summarise(collection, progress, time.monotonic() - begun)
    if not sys.stderr.isatty():
        emit("summary", summary)
    if as_json:
        print_json(summary)
    else:
        print_summary(collection, summary)
    return EXIT_SOME_FAILED if progress.failures else 0


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


class Shown:
    """Shows progress: a bar on a terminal, JSON lines elsewhere, about once a second."""

    def __init__(self) -> None:
        self.last: Progress | None = None
        self.begun = time.monotonic()
        self.before = 0  # recordings that were done when the run began
        self.emitted = 0.0
        self.bar: Any = None

    def __enter__(self) -> "Shown":
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


def summarise(collection: "Collection", progress: "Progress", seconds: float) -> dict[str, Any]:
    """Return the summary of a run as plain values."""
    return {
        "exit_code": EXIT_SOME_FAILED if progress.failures else 0,
        "collection": str(collection.folder),
        "recordings": progress.total,
        "already_there": progress.present,
        "embedded": progress.embedded,
        "windows": progress.windows,
        "audio_hours": round(progress.seconds / 3600, 4),
        "seconds": round(seconds, 1),
        "padding": round(progress.padding, 3),
        "cut": progress.cut,
        **{name: getattr(progress, name) for name in CHANGES},
        "failures": dict(progress.failures),
        "rows": len(collection),
        "views": collection.views,
        "bytes": collection.store.size(),
    }


def print_summary(collection: "Collection", summary: dict[str, Any]) -> None:
    """Print the summary as a person reads it."""
    failed = sum(summary["failures"].values())
    click.echo(
        f"recordings: {summary['recordings']}, of which {summary['embedded']} embedded now, {summary['already_there']} "
        f"already there, {failed} failed; {summary['windows']} windows, {summary['audio_hours']:.3g} h of audio in "
        f"{summary['seconds']:.1f} s"
    )
    print_changes(summary)
    if summary["cut"]:
        click.echo(f"{summary['cut']} were too long to be taken whole, and were cut into windows (see --window)")
    if failed:
        click.echo(f"failed: {', '.join(f'{count} {reason}' for reason, count in sorted(summary['failures'].items()))}")
        for recording in collection.failures()[:NAMED_FAILURES]:
            click.echo(f"  {recording.detail}")
        click.echo(f"  embedx status {summary['collection']} --failed lists them all")
    views = ", ".join(f"{view} ({dim})" for view, dim in summary["views"].items())
    click.echo(f"{summary['collection']}: {summary['rows']} rows, {size(summary['bytes'])}, views {views}")


def print_changes(summary: Mapping[str, Any]) -> None:
    """Say what of the source is not as it was in an earlier run."""
    said = [f"{summary[name]} {name}" for name in ("edited", "retried", "moved") if summary[name]]
    if said:
        click.echo(f"of these: {', '.join(said)}")
    if summary["pruned"]:
        click.echo(f"{summary['pruned']} are not in the source any more, and were taken out")
    elif summary["vanished"]:
        click.echo(f"{summary['vanished']} in the collection are not in the source any more; --prune takes them out")


def print_plan(progress: "Progress", as_json: bool) -> None:
    """Say what a run would do."""
    plan = {
        "exit_code": 0,
        "dry_run": True,
        "recordings": progress.total,
        "already_there": progress.present,
        **{name: getattr(progress, name) for name in CHANGES},
        "failures": dict(progress.failures),
        "expected_rows": progress.expected_rows,
        "expected_bytes": progress.expected_bytes,
    }
    if as_json:
        print_json(plan)
        return
    todo = progress.new + progress.edited + progress.retried
    click.echo(
        f"{todo} of {progress.total} recordings would be embedded: about {progress.expected_rows} rows, "
        f"{size(progress.expected_bytes)} of vectors"
    )
    print_changes(plan)
