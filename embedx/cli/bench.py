"""embedx bench: compare models, layers, poolings and heads."""

import importlib.util
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from embedx.cli.options import LEAKY_HELP, PROGRESS, SectionedCommand, format_option, section
from embedx.cli.output import deliver, say
from embedx.cli.progress import BenchmarkDisplay, Signals
from embedx.cli.speed import speed
from embedx.errors import EXIT_SOME_FAILED
from embedx.filesystem.paths import display_path

MAX_NAMED_FAILURES = 5  # failures that are printed at the end of a run
METRIC = click.option(
    "--metric",
    help="Metric that sorts the leaderboards: accuracy, balanced_accuracy, macro_f1, macro_auc, map, d_prime, "
    "log_loss, ece. [default: accuracy; for multi-label data map]",
)
FORMAT = format_option("table", "markdown", "csv", "json", help="Format of the leaderboards.")
PUBLISHED = click.option(
    "--published",
    is_flag=True,
    help="Print published results (MAEB, HEAR, X-ARES) beside ours, with the source and how the protocols differ, in "
    "place of the leaderboards. Tasks and models are matched by their names.",
)
TOP = click.option("--top", type=int, default=20, show_default=True, help="Number of leaderboard entries to show.")


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
    """Compare models, layers, poolings and heads on data sets, and measure the speed of models."""


bench.add_command(speed)


@bench.command(
    cls=SectionedCommand,
    epilog="""\b
    Examples:
      embedx bench probe --task esc50=data/ESC-50 --model yamnet --model logmel -o benchmarks/esc50
      embedx bench probe --task birds.csv --model facebook/hubert-base-ls960 --head logistic,knn -o benchmarks/birds
      embedx bench probe --task data/fsdd --model yamnet --protocol few-shot --seeds 3 -o benchmarks/fsdd
      embedx bench probe --task indexes/field --head "PCA(64)+knn(k=3)" --shots 1,8,all --seeds 5 -o benchmarks/field
      embedx bench probe --task data/fsdd --model openai/whisper-tiny.en --finetune full,lora -o benchmarks/fsdd
      embedx bench probe --task data/ESC-50 --model laion/clap-htsat-unfused -o benchmarks/esc50 --zero-shot
      embedx bench probe --config benchmark.toml --jobs 8 --format markdown
      embedx bench probe --published --task esc50
      embedx bench probe --published -o benchmarks/esc50
    """,
)
@section(
    "What to compare",
    click.option(
        "--task",
        multiple=True,
        metavar="[NAME=]PATH",
        help="A data set, a folder with one folder per class, a manifest, or a collection. NAME is a known data set "
        "such as esc50, or any name. Repeatable.",
    ),
    click.option(
        "--model", multiple=True, metavar="[NAME=]MODEL", help="A model, as for `embedx extract`. Repeatable."
    ),
    click.option("--layers", help="all, last, or numbers such as 0,6,-1. [default: all]"),
    click.option("--pooling", help="mean, sum, max, or several: mean,max. [default: mean]"),
    click.option(
        "--head",
        multiple=True,
        metavar="HEAD",
        help="logistic, mlp, knn, prototype or weighted-layers, with settings and steps: "
        '"PCA(128)+knn(k=3)". Repeatable. [default: logistic]',
    ),
    click.option(
        "--finetune",
        multiple=True,
        metavar="HOW",
        help="Also train the models themselves on the same folds: full, lora or frozen, with options of `embedx "
        'finetune`: "lora(epochs=5)". Repeatable. [default: only models such as scratch:cnn]',
    ),
)
@section(
    "Zero-shot",
    click.option(
        "--zero-shot",
        is_flag=False,
        flag_value="",
        metavar="[CLASSES]",
        help="Also score the labels by their names, without training, on the same test parts (YAMNet, models with "
        'texts). CLASSES are the prompts of labels that are not their own prompt: "dog=dog barking|growl". Without '
        "CLASSES give it as the last option.",
    ),
    click.option(
        "--prompt",
        multiple=True,
        metavar="TEXT",
        help="Sentence for a model with texts, with {} in the place of a name. Repeatable.",
    ),
)
@section(
    "Measurement",
    click.option("--shots", metavar="N,...", help="Training rows per class: 1,2,4,8,16,32,all. [default: all]"),
    click.option(
        "--seeds",
        type=int,
        help="Number of repetitions, each with other random samples and initial weights. [default: 1]",
    ),
    click.option(
        "--protocol",
        help="full, few-shot (1 to 32 shots and all, 5 seeds) or mteb (8 shots, 10 seeds). [default: full]",
    ),
    click.option("--leaky", is_flag=True, default=None, help=LEAKY_HELP),  # None: the configuration file decides
    click.option(
        "--window",
        type=float,
        metavar="S",
        help="Length of a window in seconds. [default: whole recording, up to 60 s]",
    ),
    click.option(
        "--hop",
        type=float,
        metavar="S",
        help="Seconds between the starts of windows. [default: the length of a window]",
    ),
)
@section(
    "Run",
    click.option("--jobs", type=int, help="Number of processes that fit heads. [default: one per CPU core]"),
    click.option("--device", help="Device for extraction: auto, cpu or cuda. [default: auto]"),
    click.option("--precision", help="Precision of extraction: auto, float32, bfloat16 or float16. [default: auto]"),
    click.option(
        "--config", metavar="FILE.toml", help="Read options from a file. Options on the command line have priority."
    ),
)
@section(
    "Output",
    click.option("-o", "--out", metavar="FOLDER", help="Folder of the results. Later runs add to it."),
    click.option("--map", help="2-D map of the best vectors: pca, or umap (needs umap-learn). [default: pca]"),
    METRIC,
    FORMAT,
    TOP,
    PUBLISHED,
    click.option("--no-report", is_flag=True, help="Do not write report.html."),
    click.option(
        "--log",
        "tracker",
        type=click.Choice(("mlflow", "wandb")),
        help="Also send the leaderboards and the report to MLflow or Weights & Biases, as their environment says.",
    ),
    PROGRESS,
)
def probe(
    config: str | None,
    metric: str | None,
    form: str,
    top: int,
    published: bool,
    no_report: bool,
    tracker: str | None,
    progress: str,
    **options: Any,
) -> int:
    """Compare models, layers, poolings and heads.

    Heads are trained on every layer and pooling of the models, and evaluated on the test parts of data sets. With
    --finetune, the models themselves are trained on the same rows, and the table shows the cost of each way. With
    --zero-shot, models that name classes without training are scored on the same test parts.

    Audio is embedded once per model. The folds are those of the data set, or never divide a recording or a group.
    Parameters are chosen inside the training rows. Results are added to FOLDER/results.csv; run the same command again
    to continue after a stop. Leaderboards are printed, and a report is written to FOLDER/report.html.

    If a task, a model or a fit fails, the others go on. The exit code is then 3.

    With --published, published results are printed beside ours. With --published and without --out and --config,
    nothing runs: the published results are listed, of all tasks and models or of those named by --task and --model.
    With --published and FOLDER, but no --task, those of FOLDER are printed.
    """
    from embedx.bench.config import make_plan, read_plan
    from embedx.bench.leaderboard import boards
    from embedx.bench.results import read_table
    from embedx.bench.runner import run
    from embedx.bench.tracking import check_tracker, log_boards

    values = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    given: dict[str, Any] = {name: value for name, value in values.items() if value not in (None, [])}
    if published and not config and not ("task" in given and "out" in given):
        return show_published(given, metric, form)
    if tracker:
        check_tracker(tracker)
    plan = read_plan(config, **given) if config else make_plan(**given)
    plan = replace(plan, jobs=plan.jobs or len(os.sched_getaffinity(0)))
    command = shlex.join(["embedx", *sys.argv[1:]])
    with Signals("fits", limit_s=None) as signals, BenchmarkDisplay(progress) as display:
        run(plan, display, interrupted=signals.received, command=command)
    if read_table(plan.out):
        show_results(plan.out, metric, form, top, page=not no_report, published=published)
        if tracker:
            say(f"sent to {log_boards(plan.out, boards(read_table(plan.out), metric), tracker)}", err=True)
    failures = display.last.failures if display.last else []
    for failure in failures[:MAX_NAMED_FAILURES]:
        say(f"failed: {display_path(failure)}", err=True)
    if len(failures) > MAX_NAMED_FAILURES:
        say(f"{len(failures) - MAX_NAMED_FAILURES} more failed", err=True)
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
@PUBLISHED
def report(folder: str, metric: str | None, form: str, top: int, published: bool) -> None:
    """Print the leaderboards and write the report.

    The results are read from FOLDER; the report is FOLDER/report.html.
    """
    show_results(Path(folder), metric, form, top, page=True, published=published)


def show_published(given: dict[str, Any], metric: str | None, form: str) -> int:
    """Print published results: beside those of a folder, or of the tasks and models that are named, or all."""
    from embedx.bench.leaderboard import boards
    from embedx.bench.report.published import list_published, pair_with_boards, write_published
    from embedx.bench.results import read_table

    ours = boards(read_table(given["out"]), metric) if "out" in given else []
    names = [[text.partition("=")[0] for text in given.get(kind, [])] for kind in ("task", "model")]
    pairs = pair_with_boards(ours) if "out" in given else list_published(*names)
    deliver(write_published(pairs, ours, form), None)  # type: ignore[arg-type]
    return 0


def show_results(folder: Path, metric: str | None, form: str, top: int, page: bool, published: bool) -> None:
    """Print the leaderboards of a folder or the published results, and write its report if matplotlib is installed."""
    from embedx.bench.leaderboard import boards
    from embedx.bench.report.build import write_report
    from embedx.bench.report.tables import list_boards
    from embedx.bench.results import read_table

    if published:
        show_published({"out": folder}, metric, form)
    else:
        deliver(list_boards(boards(read_table(folder), metric), form, top=top), None)  # type: ignore[arg-type]
    if page and importlib.util.find_spec("matplotlib") is None:
        say("No report was written: it needs matplotlib (pip install 'embedx[bench]').", err=True)
    elif page:
        say(f"report: {write_report(folder, metric=metric, top=top)}", err=True)
