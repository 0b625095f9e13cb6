"""embedx bench speed: how fast this machine runs a model."""

from typing import Any

import click

from embedx.cli.embedding_options import (
    BACKEND,
    BATCH_SECONDS,
    DEVICE,
    LAYERS,
    MODEL,
    POOLING,
    PRECISION,
    WINDOW,
    WORKERS,
)
from embedx.cli.options import ALLOW_PICKLE, SectionedCommand, format_option, section
from embedx.cli.output import as_json, deliver, say
from embedx.cli.progress import Signals
from embedx.errors import EXIT_SOME_FAILED


@click.command(
    cls=SectionedCommand,
    epilog="""\b
    Examples:
      embedx bench speed
      embedx bench speed recordings/ --model facebook/hubert-base-ls960 --layers all
      embedx bench speed --model path/to/folder --precision bfloat16 --format markdown
    """,
)
@click.argument("source", nargs=-1)
@section("Extraction", MODEL, LAYERS, POOLING, WINDOW, DEVICE, PRECISION, BACKEND, BATCH_SECONDS, WORKERS, ALLOW_PICKLE)
@section(
    "Measurement",
    click.option(
        "--seconds",
        type=float,
        metavar="S",
        help="Seconds of audio to embed. [default: enough for 5 to 10 s of work, at most one hour of audio]",
    ),
)
@section("Output", format_option("table", "markdown", "json"))
def speed(source: tuple[str, ...], form: str, **options: Any) -> int:
    """Measure the speed of this machine.

    The result shows how fast SOURCE is embedded, which steps take the time, and what would make it faster.

    SOURCE is what `embedx extract` takes; a sample of its recordings is used. Without it, noise clips of different
    lengths are used. The result is written to a temporary folder (TMPDIR) and deleted.
    """
    from embedx.bench.speed.measure import measure_speed
    from embedx.bench.speed.text import as_text

    with Signals() as signals:
        result = measure_speed(
            list(source) or None,
            on_step=lambda step: say(f"{step} ...", err=True),
            interrupted=signals.received,
            **options,
        )
    deliver(as_json(result.to_dict()) + "\n" if form == "json" else as_text(result, form), None)
    return EXIT_SOME_FAILED if result.figures.failures else 0
