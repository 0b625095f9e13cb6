"""embedx extract: audio in, a collection out."""

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from embedx.audio.windows import CHANNELS, TAILS
from embedx.cli.output import print_json, size
from embedx.cli.progress import ProgressDisplay, Signals, emit
from embedx.datasets.sources import LAYOUTS
from embedx.errors import EXIT_SOME_FAILED
from embedx.extractors.loading import BACKENDS
from embedx.ingest.options import DTYPES

if TYPE_CHECKING:
    from embedx.collection.collection import Collection
    from embedx.ingest.pipeline import Progress

CHANGES = ("new", "edited", "retried", "moved", "vanished", "pruned")
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
    from embedx.collection.create import extract

    begun = time.monotonic()
    with Signals() as signals, ProgressDisplay() as show_progress:
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
