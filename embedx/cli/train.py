"""embedx train: fit, evaluate and save a classifier on stored vectors."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from embedx.cli.options import (
    COLLECTION,
    JSON,
    PER_CLASS,
    PERMUTATIONS,
    SectionedCommand,
    check_file,
    head_section,
    label_section,
    one_or_several,
    read_settings,
    section,
    split_section,
)
from embedx.cli.output import deliver, print_json, say
from embedx.errors import UsageError

if TYPE_CHECKING:
    from embedx.training.fit_head import Trained


@click.command(
    cls=SectionedCommand,
    epilog="""\b
    Examples:
      embedx train indexes/esc
      embedx train indexes/field --label species --group site --class-weight balanced --name birds
      embedx train indexes/field --label species --separator ";" --kind mlp --setting hidden=128
      embedx train indexes/hubert --kind weighted-layers --view "L*.mean" --calibration isotonic
      embedx train indexes/field --augment 4 --augment-with noise,shift
      embedx train indexes/field --head-model "PCA(128)" --kind knn --setting k=7
    """,
)
@COLLECTION
@label_section
@split_section
@head_section
@section(
    "Calibration",
    click.option(
        "--calibration",
        type=click.Choice(["temperature", "isotonic", "none"]),
        default="temperature",
        show_default=True,
        help="Probability calibration, fitted on held-out rows.",
    ),
)
@section(
    "Augmentation",
    click.option(
        "--augment",
        type=int,
        default=0,
        show_default=True,
        metavar="N",
        help="Train on N altered copies of each training row too. The audio must be there; test rows have no copies.",
    ),
    click.option(
        "--augment-with",
        metavar="NAMES|FILE.toml",
        help="How copies are altered: names with commas between them, or a file with settings.  "
        "[default: noise,pitch,stretch,shift,gain]",
    ),
)
@section("Chance", PERMUTATIONS)
@section(
    "Output",
    click.option("--name", help="Name of the head; an old head of this name is replaced. [default: LABEL-KIND]"),
    click.option(
        "--report",
        callback=check_file,
        metavar="FILE.png",
        help="Draw the reliability diagram (needs embedx[bench]).",
    ),
    PER_CLASS,
    JSON,
)
def train(
    collection: str,
    label: tuple[str, ...],
    settings: tuple[str, ...],
    report: str | None,
    per_class: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a classifier (head) on the vectors of a COLLECTION, evaluate it on held-out rows, and save it there.

    The scores come from folds that never divide a recording or a group, or from the test part of the data set's own
    split. Parameters such as C are chosen inside the training rows. If a head of the same name exists, the result says
    how much the new labels have changed the scores; without --label it learns the column of that head again.
    """
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        chosen = read_settings(settings, options["kind"])
        trained = opened.fit_head(one_or_several(label) if label else None, **options, **chosen)
    if report is not None:
        draw_reliability(trained, report)
    if as_json:
        gain = None if trained.gain is None else asdict(trained.gain)
        head = {"name": trained.name, "folder": str(trained.folder), "gain": gain, "head": trained.to_dict()}
        print_json({"exit_code": 0, "collection": collection, **head})
    else:
        say(trained.text(per_class))


def draw_reliability(trained: "Trained", file: str) -> None:
    """Draw how often the head is right at each level of confidence, after calibration if it has one.

    Raises:
        UsageError: the head has no scores.
    """
    from embedx.bench.report import diagnostics
    from embedx.bench.report.plots import to_png
    from embedx.metrics.calibration import Bin

    bins = trained.metrics.get("reliability")
    if bins is None:
        raise UsageError("The head was not evaluated on held-out rows, so there is no reliability diagram.")
    figure = diagnostics.draw_reliability([Bin(**values) for values in bins.get("after", bins["before"])], trained.name)
    deliver(to_png(figure), file)
