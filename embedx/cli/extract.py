"""embedx extract: audio in, a collection out."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from embedx.audio.layout import DOUBTS
from embedx.cli.embedding_options import (
    BACKEND,
    BATCH_SECONDS,
    CHANNEL_MODE,
    DEVICE,
    GROUP_COLUMN,
    HOP,
    LABEL_COLUMN,
    LAYERS,
    LAYOUT,
    MAX_SECONDS,
    MODEL,
    POOLING,
    PRECISION,
    STORE_DTYPE,
    TAIL,
    TRIM_SILENCE,
    WINDOW,
    WORKERS,
)
from embedx.cli.options import ALLOW_PICKLE, JSON, PROGRESS, WAIT, SectionedCommand, section
from embedx.cli.output import print_json, say, size, views_text
from embedx.cli.progress import ExtractionDisplay, Signals
from embedx.datasets.name_columns import TIME_SOURCES
from embedx.datasets.walk import describe_passed_over
from embedx.errors import EXIT_SOME_FAILED
from embedx.filesystem.paths import display_path
from embedx.text import plural

if TYPE_CHECKING:
    from embedx.collection.collection import Collection
    from embedx.ingest.pipeline import Progress

MAX_NAMED_FAILURES = 5  # failed files in the summary; `embedx status --failed` lists all of them
CHANGES = ("new", "edited", "retried", "moved", "vanished", "hidden", "pruned")


@click.command(
    cls=SectionedCommand,
    epilog="""\b
    Examples:
      embedx extract recordings/ -o indexes/field
      embedx extract ESC-50/ -o indexes/esc --model yamnet --pooling mean,max
      embedx extract clips.csv -o indexes/clips --model facebook/hubert-base-ls960 --layers all --label species
      embedx extract recordings/ -o indexes/calls --segments selections/
      embedx extract recordings/ -o indexes/field --meta "site=(site\\w)/" --time-from name
      find . -name '*.wav' | embedx extract - -o indexes/found --window 5 --hop 2.5
    """,
)
@click.argument("source", nargs=-1, required=True)
@section(
    "Collection",
    click.option("-o", "--out", required=True, metavar="FOLDER", help="The collection to create or extend."),
    STORE_DTYPE,
    WAIT,
)
@section("Model", MODEL, LAYERS, POOLING, ALLOW_PICKLE)
@section("Windows and channels", WINDOW, HOP, TAIL, CHANNEL_MODE, TRIM_SILENCE, MAX_SECONDS)
@section(
    "Labels",
    LABEL_COLUMN,
    GROUP_COLUMN,
    LAYOUT,
    click.option(
        "--segments",
        metavar="PLACE",
        help="Embed annotated stretches only: a file or folder of Raven, Audacity, Label Studio, BirdNET, Praat, CSV. "
        "Later runs use it again.",
    ),
    click.option(
        "--meta",
        multiple=True,
        metavar="NAME=REGEX",
        help="A column from a regular expression with one (group) searched in the path. Repeatable.",
    ),
    click.option(
        "--time-from",
        type=click.Choice(TIME_SOURCES),
        help="Where the column recorded_at comes from: name (20190522_003000.wav), or header (GUANO, AudioMoth). "
        "[default: header]",
    ),
)
@section("Speed", DEVICE, PRECISION, BACKEND, BATCH_SECONDS, WORKERS)
@section(
    "Many machines",
    click.option("--shards", type=int, metavar="N", help="Write a plan of N parts, embed all parts, and merge them."),
    click.option(
        "--engine",
        default="local",
        metavar="NAME",
        help="What embeds the shards: local (default), ray, ray://HOST:PORT.",
    ),
    click.option(
        "--plan-only", is_flag=True, help="Only write the plan of --shards; machines then do --shard I/N of it."
    ),
    click.option(
        "--plan",
        metavar="URL",
        help="Keep the plan and the parts that are done in a bucket: s3://BUCKET/NAME. [default: in FOLDER.shards]",
    ),
)
@section(
    "Which recordings",
    click.option(
        "--shard", metavar="I/N", help="Embed only part I of N: of a plan, or join parts with `embedx merge`."
    ),
    click.option("--checksum", is_flag=True, help="Find changed files by their content, not only by size and time."),
    click.option("--retry-failed", is_flag=True, help="Try again the recordings that failed in an earlier run."),
    click.option(
        "--prune", is_flag=True, help="Remove recordings from the collection that are no longer in the source."
    ),
    click.option(
        "--confine", is_flag=True, help="Refuse every file outside of the source's folder, also behind links."
    ),
    click.option("--dry-run", is_flag=True, help="Show what would be done, and write nothing."),
)
@section("Output", PROGRESS, JSON)
def extract(
    source: tuple[str, ...],
    progress: str,
    as_json: bool,
    shards: int | None,
    engine: str,
    plan_only: bool,
    **options: Any,
) -> int:
    """Embed audio into a collection. Run it again to continue, or to add new and changed files.

    An option that is not given has its default in a new collection, and the value of the collection in an old one.

    SOURCE is a folder (searched recursively), one or more audio files, or a manifest: CSV, Parquet or JSON lines with
    a path column (- reads it from standard input). Known data sets, and folders with one subfolder per class, are
    recognised. Links are followed. What is not audio is passed over and counted.

    A file or folder that cannot be read is reported and counted, and does not stop the run. The exit code is then 3.
    """
    if shards is None and (plan_only or engine != "local"):
        raise click.UsageError("--plan-only and --engine need --shards N, the number of parts.")
    started = time.monotonic()
    dry_run, options = options["dry_run"], given_options(options)
    with Signals() as signals, ExtractionDisplay(progress) as display:
        run = {"on_progress": display, "interrupted": signals.received, **options}
        collection = extract_all(list(source), run, None if dry_run else shards, engine, plan_only)
    if collection is None:
        place = options.get("plan") or f"{str(options['out']).rstrip('/')}.shards"
        say(
            f"The plan is in {display_path(place)}. Now give the same command without --plan-only: with --shard "
            f"I/{shards} in place of --shards to embed part I, and with --shards {shards} to embed what is missing and "
            "merge."
        )
        return 0
    state = display.last
    assert state is not None
    if dry_run:
        print_plan(state, as_json)
        return 0
    summary = summarise(collection, state, time.monotonic() - started)
    display.summary(summary)
    if as_json:
        print_json(summary)
    else:
        print_summary(summary, state)
    return EXIT_SOME_FAILED if state.failures else 0


def extract_all(
    source: list[str], run: dict[str, Any], shards: int | None, engine: str, plan_only: bool
) -> "Collection | None":
    """Embed a source in one run or in shards; None if only a plan was written."""
    if shards is None:
        from embedx.collection.create import extract

        return extract(source, **run)
    from embedx.engines import extract_shards

    return extract_shards(source, shards=shards, engine=engine, plan_only=plan_only, **run)


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the user gave; an existing collection or `embedx.extract` knows the others."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return {
        name: value for name, value in options.items() if name == "out" or context.get_parameter_source(name) != default
    }


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
        "cut": progress.flags["cut"],
        "flags": dict(progress.flags),
        **{name: getattr(progress, name) for name in CHANGES},
        "failures": dict(progress.failures),
        "problems": progress.problems,
        "passed_over": dict(progress.passed_over),
        "segments": progress.segments or None,
        "rows": len(collection),
        "views": collection.views,
        "bytes": collection.store.size(),
    }


def print_summary(summary: Mapping[str, Any], state: "Progress") -> None:
    """Print the summary of a run for people."""
    failed = sum(summary["failures"].values())
    say(
        f"recordings: {summary['recordings']} ({summary['embedded']} embedded now, {summary['already_there']} already "
        f"there, {failed} failed); {plural(summary['windows'], 'window')}, {summary['audio_hours']:.3g} h of audio in "
        f"{summary['seconds']:.1f} s"
    )
    if state.labels:
        say(f"labels: {state.labels}{'; --layout files for none' if 'folder names' in state.labels else ''}")
    print_segments(state)
    print_changes(summary)
    if summary["cut"]:
        say(f"too long for one vector, so split into windows (--window): {plural(summary['cut'], 'recording')}")
    if doubts := DOUBTS & summary["flags"].keys():
        counts = ", ".join(f"{summary['flags'][flag]} {flag}" for flag in sorted(doubts))
        say(f"may be incomplete: {counts}; to list them: embedx status {display_path(summary['collection'])} --flagged")
    if summary["passed_over"]:
        say(f"passed over: {describe_passed_over(Counter(summary['passed_over']))}")
    if failed:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(summary["failures"].items()))
        earlier = len(state.failed_before)
        say(f"failed: {reasons}{f'; {earlier} of them in earlier runs (--retry-failed)' if earlier else ''}")
        for detail in [*state.failed_now, *state.failed_before][:MAX_NAMED_FAILURES]:
            say(f"  {display_path(detail)}")
        say(f"  To list all: embedx status {display_path(summary['collection'])} --failed")
    say(
        f"{display_path(summary['collection'])}: {plural(summary['rows'], 'row')}, {size(summary['bytes'])}, "
        f"views {views_text(summary['views'])}"
    )


def print_segments(progress: "Progress") -> None:
    """Print which annotations the rows are, if they are; they may be those of an earlier run."""
    if progress.segments:
        say(f"rows: the annotated stretches of {display_path(progress.segments)}; this holds for later runs too")


def print_changes(summary: Mapping[str, Any]) -> None:
    """Print what has changed in the source since an earlier run."""
    counts = [f"{summary[name]} {name}" for name in ("edited", "retried", "moved") if summary[name]]
    if counts:
        say(f"of these: {', '.join(counts)}")
    if summary["pruned"]:
        say(f"no longer in the source, so removed: {plural(summary['pruned'], 'recording')}")
    elif summary["vanished"]:
        say(f"no longer in the source: {plural(summary['vanished'], 'recording')}; --prune removes them")
    if summary["hidden"]:
        say(f"kept, because folders cannot be looked at or are empty: {plural(summary['hidden'], 'recording')}")


def print_plan(progress: "Progress", as_json: bool) -> None:
    """Print what a run would do."""
    plan = {
        "exit_code": 0,
        "dry_run": True,
        "recordings": progress.total,
        "already_there": progress.present,
        **{name: getattr(progress, name) for name in CHANGES},
        "failures": dict(progress.failures),
        "problems": progress.problems,
        "passed_over": dict(progress.passed_over),
        "segments": progress.segments or None,
        "expected_rows": progress.expected_rows,
        "expected_bytes": progress.expected_bytes,
    }
    if as_json:
        print_json(plan)
        return
    todo = progress.new + progress.edited + progress.retried
    say(
        f"to embed: {todo} of {plural(progress.total, 'recording')}, about {plural(progress.expected_rows, 'row')} and "
        f"{size(progress.expected_bytes)} of vectors"
    )
    print_segments(progress)
    print_changes(plan)
