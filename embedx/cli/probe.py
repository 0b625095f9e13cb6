"""embedx probe: how well a classifier on the vectors separates labels."""

from typing import Any

import click

from embedx.cli.options import (
    COLLECTION,
    PER_CLASS,
    PERMUTATIONS,
    SectionedCommand,
    format_option,
    head_section,
    label_section,
    one_or_several,
    read_settings,
    section,
    split_section,
)
from embedx.cli.output import print_json, say
from embedx.errors import UsageError

SWEEP_OPTIONS = (
    "where",
    "timeout",
    "folds",
    "split",
    "group",
    "leaky",
    "seed",
)  # that --sweep takes, with --label and --view
SWEEP_DEFAULTS = {  # what --sweep does not take must have its default
    "kind": "logistic",
    "separator": None,
    "weak_negatives": 0.0,
    "class_weight": None,
    "head_model": "",
    "permutations": 199,
}


@click.command(
    cls=SectionedCommand,
    epilog="""\b
    Examples:
      embedx probe indexes/esc
      embedx probe indexes/field --label species --group site
      embedx probe indexes/field --label species --separator ";" --kind mlp
      embedx probe indexes/clips --folds fold --view L6.mean --setting C=0.1 --format json
      embedx probe indexes/hubert --sweep --view "L*.mean"
    """,
)
@COLLECTION
@label_section
@split_section
@head_section
@section(
    "Layers",
    click.option("--sweep", is_flag=True, help="Compare all views, or those that match --view, with logistic probes."),
)
@section("Chance", PERMUTATIONS)
@section("Output", format_option("table", "json"), PER_CLASS)
def probe(
    collection: str,
    form: str,
    label: tuple[str, ...],
    settings: tuple[str, ...],
    sweep: bool,
    permutations: int,
    per_class: bool,
    **options: Any,
) -> None:
    """Measure how well a classifier on the vectors of a COLLECTION separates labels, on rows it was not trained on.

    The folds are those of the data set, or are chosen so that no recording and no group is on both sides. Parameters
    such as C are chosen inside the training rows of each fold. Scores have 95 % confidence intervals over groups, and
    are shown next to the majority class. Whether they are better than chance is tested with permuted labels; chance is
    the score that these reach.
    """
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        if sweep:
            scores = opened.sweep(**sweep_options(label, settings, {**options, "permutations": permutations}))
            values, text = scores.to_dict(), str(scores)
        else:
            report = opened.probe(
                one_or_several(label), permutations=permutations, **options, **read_settings(settings)
            )
            values, text = report.to_dict(), report.text(per_class)
    if form == "json":
        print_json(values)
    else:
        say(text)


def sweep_options(label: tuple[str, ...], settings: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a sweep.

    Raises:
        UsageError: an option is given that a sweep does not take.
    """
    others = [name for name, default in SWEEP_DEFAULTS.items() if options[name] != default]
    others += ["setting"] if settings else []
    if others:
        raise UsageError(f"--sweep uses plain logistic probes and does not take --{others[0].replace('_', '-')}.")
    if len(label) > 1:
        raise UsageError("--sweep takes one --label column, with one class per row.")
    chosen = {name: options[name] for name in SWEEP_OPTIONS}
    view = {"view": options["view"]} if options["view"] else {}
    return {"label": one_or_several(label)} | chosen | view
