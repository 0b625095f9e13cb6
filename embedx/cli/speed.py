"""embedx bench speed: how fast this machine is with a model."""

from typing import Any

import click

from embedx.cli.output import Heading, Sectioned, as_json, deliver
from embedx.cli.progress import Signals
from embedx.errors import EXIT_SOME_FAILED
from embedx.extractors.loading import BACKENDS


@click.command(
    cls=Sectioned,
    epilog="""\b
    Examples:
      embedx bench speed
      embedx bench speed recordings/ --model facebook/hubert-base-ls960 --layers all
      embedx bench speed --model path/to/folder --precision bfloat16 --format markdown
    """,
)
@click.argument("source", nargs=-1)
@click.option(
    "--model",
    default="logmel",
    show_default=True,
    cls=Heading,
    heading="What is computed, as `embedx extract` takes it",
    help="A name of `embedx models`, a hub id, or a folder.",
)
@click.option("--layers", default="last", show_default=True, help="last, all, or numbers such as 0,6,-1.")
@click.option("--pooling", default="mean", show_default=True, help="mean, sum, max, or several: mean,max.")
@click.option("--window", type=float, metavar="S", help="Seconds per row. [default: the recording, up to 60 s]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, or GPUs: cuda:0,cuda:1.")
@click.option("--precision", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option("--backend", type=click.Choice(BACKENDS), default="auto", show_default=True, help="Whose forward.")
@click.option("--batch-seconds", type=float, metavar="S", help="Audio in one batch.")
@click.option("--workers", default="auto", show_default=True, help="Processes that decode ahead: auto, 0, 1, ...")
@click.option("--allow-pickle", is_flag=True, help="Read weights from a .bin or .pth if there is no safetensors.")
@click.option(
    "--seconds",
    type=float,
    metavar="S",
    cls=Heading,
    heading="How it is measured",
    help="Of audio. [default: as much as takes 5 to 10 s, up to an hour of it]",
)
@click.option("--format", "form", type=click.Choice(["table", "markdown", "json"]), default="table", show_default=True)
def speed(source: tuple[str, ...], form: str, **options: Any) -> int:
    """Measure how fast this machine embeds SOURCE with a model, where the time goes, and what would help.

    SOURCE is what `embedx extract` takes; recordings are taken evenly over it. Without it, noise of mixed lengths is
    made. The collection is written into a temporary folder (TMPDIR) and deleted.
    """
    from embedx.bench.speed.measure import measure_speed
    from embedx.bench.speed.text import as_text

    with Signals("the batch") as signals:
        found = measure_speed(
            list(source) or None,
            on_step=lambda step: click.echo(f"{step} ...", err=True),
            interrupted=signals.received,
            **options,
        )
    deliver(as_json(found.to_dict()) + "\n" if form == "json" else as_text(found, form), None)
    return EXIT_SOME_FAILED if found.figures.failures else 0
