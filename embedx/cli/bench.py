"""embedx bench: models, layers, poolings and heads against each other."""

import importlib.util
import os
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from embedx.cli.output import Heading, Sectioned, deliver
from embedx.cli.progress import EMIT_SECONDS, Signals, emit
from embedx.cli.speed import speed
from embedx.errors import EXIT_SOME_FAILED

if TYPE_CHECKING:
    from embedx.bench.runner import Progress

NAMED_FAILURES = 5  # that the end of a run names
FORMATS = click.Choice(["table", "markdown", "csv", "json"])
METRIC = click.option(
    "--metric",
    help="What leaderboards are sorted by: accuracy, balanced_accuracy, macro_f1, macro_auc, map, d_prime, log_loss, "
    "ece. [default: accuracy; map with several labels per row]",
)
FORMAT = click.option("--format", "form", type=FORMATS, default="table", show_default=True, help="Of the leaderboards.")
TOP = click.option("--top", type=int, default=20, show_default=True, help="Entries of a leaderboard that are shown.")


@click.group(
    epilog="""\b
    Examples:
      embedx bench probe --task esc50=data/ESC-50 --model yamnet --model logmel -o benchmarks/esc50
      embedx bench probe --config benchmark.toml --jobs 8
      embedx bench report benchmarks/esc50 --metric macro_f1
      embedx bench speed recordings/ --model facebook/hubert-base-ls960
    """
)
def bench() -> None:
    """Find out which model, layer, pooling and head to take, by results that can be believed; and how fast they are."""


bench.add_command(speed)


@bench.command(
    cls=Sectioned,
    epilog="""\b
    Examples:
      embedx bench probe --task esc50=data/ESC-50 --model yamnet --model logmel -o benchmarks/esc50
      embedx bench probe --task birds.csv --model facebook/hubert-base-ls960 --head logistic,knn -o benchmarks/birds
      embedx bench probe --task data/fsdd --model yamnet --protocol few-shot --seeds 3 -o benchmarks/fsdd
      embedx bench probe --task indexes/field --head "PCA(64)+knn(k=3)" --shots 1,8,all --seeds 5 -o benchmarks/field
      embedx bench probe --config benchmark.toml --jobs 8 --format markdown
    """,
)
@click.option(
    "--task",
    multiple=True,
    metavar="[NAME=]PATH",
    cls=Heading,
    heading="What is compared",
    help="A data set, a folder per class, a manifest or a collection. NAME: a known set such as esc50, or any.",
)
@click.option("--model", multiple=True, metavar="[NAME=]MODEL", help="As `embedx extract` takes it; may be repeated.")
@click.option("--layers", help="all, last, or numbers such as 0,6,-1. [default: all]")
@click.option("--pooling", help="mean, sum, max, or several: mean,max. [default: mean]")
@click.option(
    "--head",
    multiple=True,
    metavar="HEAD",
    help='logistic, mlp, knn, prototype, weighted-layers; with settings and steps: "PCA(128)+knn(k=3)". '
    "[default: logistic]",
)
@click.option(
    "--shots",
    metavar="N,...",
    cls=Heading,
    heading="How it is measured",
    help="Training rows per class: 1,2,4,8,16,32,all. [default: all]",
)
@click.option("--seeds", type=int, help="Draws of so few rows, and beginnings of mlp and weighted-layers. [default: 1]")
@click.option("--protocol", help="full, few-shot (1 to 32 and all, 5 seeds) or mteb (8 shots, 10 seeds).")
@click.option("--leaky", is_flag=True, default=None, help="Random rows, whatever belongs together: scores too good.")
@click.option("--window", type=float, metavar="S", help="Seconds per row. [default: the recording, up to 60 s]")
@click.option("--hop", type=float, metavar="S", help="Seconds between the starts of windows. [default: --window]")
@click.option(
    "--jobs", type=int, cls=Heading, heading="How it is run", help="Processes that fit heads. [default: one per core]"
)
@click.option("--device", help="Of extraction: auto, cpu or cuda. [default: auto]")
@click.option("--precision", help="Of extraction: auto, float32, bfloat16 or float16. [default: auto]")
@click.option("--config", metavar="FILE.toml", help="Options by their names in a file; those given here go before.")
@click.option(
    "-o", "--out", metavar="FOLDER", cls=Heading, heading="Output", help="Where results go; later runs extend them."
)
@click.option("--map", help="How the best vectors are shown: pca, or umap (needs umap-learn). [default: pca]")
@METRIC
@FORMAT
@TOP
@click.option("--no-report", is_flag=True, help="Make no report.html.")
def probe(config: str | None, metric: str | None, form: str, top: int, no_report: bool, **options: Any) -> int:
    """Score heads on every layer and pooling of models, over the test parts of data sets.

    Audio is embedded once per model. Folds are the data set's own, or split no recording and no group; every choice is
    made inside the training rows. Results are added to FOLDER/results.csv, and what is there already is not done
    again: the same command goes on after a stop. Leaderboards go to stdout, a report to FOLDER/report.html.
    """
    from embedx.bench.config import make_plan, read_plan
    from embedx.bench.results import read_table
    from embedx.bench.runner import run

    given: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in options.items()
    }
    given = {name: value for name, value in given.items() if value not in (None, [])}
    plan = read_plan(config, **given) if config else make_plan(**given)
    plan = replace(plan, jobs=plan.jobs or len(os.sched_getaffinity(0)))
    command = shlex.join(["embedx", *sys.argv[1:]])
    with Signals("the fits") as signals, Shown() as show:
        run(plan, show, interrupted=signals.received, command=command)
    if read_table(plan.out):
        show_results(plan.out, metric, form, top, page=not no_report)
    failures = show.last.failures if show.last else []
    for failure in failures[:NAMED_FAILURES]:
        click.echo(f"failed: {failure}", err=True)
    if len(failures) > NAMED_FAILURES:
        click.echo(f"and {len(failures) - NAMED_FAILURES} more failed", err=True)
    return EXIT_SOME_FAILED if failures else 0


@bench.command(
    epilog="""\b
    Examples:
      embedx bench report benchmarks/esc50
      embedx bench report benchmarks/esc50 --metric macro_f1 --format csv > leaderboard.csv
    """
)
@click.argument("folder", metavar="FOLDER")
@METRIC
@FORMAT
@TOP
def report(folder: str, metric: str | None, form: str, top: int) -> None:
    """Make leaderboards and the report anew from the results in FOLDER."""
    show_results(Path(folder), metric, form, top, page=True)


def show_results(folder: Path, metric: str | None, form: str, top: int, page: bool) -> None:
    """Print the leaderboards of a folder, and write its report where matplotlib is there."""
    from embedx.bench.leaderboard import boards
    from embedx.bench.report.build import write_report
    from embedx.bench.report.tables import list_boards
    from embedx.bench.results import read_table

    deliver(list_boards(boards(read_table(folder), metric), form, top=top), None)  # type: ignore[arg-type]
    if page and importlib.util.find_spec("matplotlib") is None:
        click.echo("No report was made: figures need matplotlib (pip install 'embedx[bench]').", err=True)
    elif page:
        click.echo(f"report: {write_report(folder, metric=metric, top=top)}", err=True)


class Shown:
    """Shows progress: a bar for each stage on a terminal, JSON lines elsewhere, about once a second."""

    def __init__(self) -> None:
        self.last: Progress | None = None
        self.begun = time.monotonic()  # the stage
        self.emitted = 0.0
        self.bar: Any = None

    def __enter__(self) -> "Shown":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def __call__(self, progress: "Progress") -> None:
        """Take note of the progress, and show it."""
        if progress is not self.last:  # each stage has its own
            self._close()
            self.begun = time.monotonic()
        self.last = progress
        if sys.stderr.isatty():
            self._draw(progress)
        elif time.monotonic() - self.emitted > EMIT_SECONDS:
            self._emit(progress)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        elif self.last is not None and not sys.stderr.isatty():
            self._emit(self.last)

    def _draw(self, progress: "Progress") -> None:
        from tqdm import tqdm

        if self.bar is None:
            units = {"extract": "clip", "fit": "fit"}
            self.bar = tqdm(total=progress.total, initial=progress.done, unit=units[progress.stage], dynamic_ncols=True)
        self.bar.set_description(progress.what, refresh=False)
        self.bar.set_postfix_str(f"{len(progress.failures)} failed", refresh=False)
        self.bar.update(progress.done - self.bar.n)

    def _emit(self, progress: "Progress") -> None:
        self.emitted = time.monotonic()
        made = progress.done - progress.present
        each = (self.emitted - self.begun) / max(1, made)
        values = {name: getattr(progress, name) for name in ("stage", "what", "done", "total", "present")}
        left = round(each * (progress.total - progress.done), 1) if made else None
        emit("progress", {**values, "failures": len(progress.failures), "eta_s": left})
