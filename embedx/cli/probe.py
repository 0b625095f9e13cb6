"""embedx probe: how well a classifier on the vectors separates labels."""

from typing import Any

import click

from embedx.cli.options import (
    PER_CLASS,
    PERMUTATIONS,
    READ_COLLECTION,
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
    "suspect_labels": False,
}


@click.command(
    cls=SectionedCommand,
    epilog="""\b
    Examples:
      embedx probe indexes/esc
      embedx probe indexes/field --label species --group site
      embedx probe indexes/field --label species --suspect-labels
      embedx probe indexes/field --label species --separator ";" --kind mlp
      embedx probe indexes/clips --folds fold --view L6.mean --setting C=0.1 --format json
      embedx probe indexes/hubert --sweep --view "L*.mean"
      embedx probe indexes/clap --zero-shot "dog=dog barking|growl, rain"
    """,
)
@READ_COLLECTION
@label_section
@split_section
@head_section
@section(
    "Layers",
    click.option("--sweep", is_flag=True, help="Compare all views, or those that match --view, with logistic probes."),
)
@section(
    "Zero-shot",
    click.option(
        "--zero-shot",
        is_flag=False,
        flag_value="",
        metavar="[CLASSES]",
        help="Evaluate classes by their names (YAMNet, models with texts) on all labelled rows, without "
        "training; see `embedx predict`. Without CLASSES the labels are the names; give it as the last option then.",
    ),
    click.option(
        "--prompt",
        multiple=True,
        metavar="TEXT",
        help="Sentence for a model with texts, with {} in the place of a name.",
    ),
)
@section("Chance", PERMUTATIONS)
@section(
    "Labels",
    click.option("--suspect-labels", is_flag=True, help="List rows whose label head and neighbours contradict."),
)
@section("Output", format_option("table", "json"), PER_CLASS)
def probe(
    collection: str,
    form: str,
    label: tuple[str, ...],
    settings: tuple[str, ...],
    sweep: bool,
    zero_shot: str | None,
    prompt: tuple[str, ...],
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
    from embedx.collection.pushing import local_folder

    if prompt and zero_shot is None:
        raise UsageError("--prompt belongs to --zero-shot.")
    with Collection(local_folder(collection)) as opened:
        if zero_shot is not None:
            words = zero_shot_options(label, settings, sweep, options)
            agreement = opened.probe_zero_shot(zero_shot or None, prompt=list(prompt) or None, **words)
            values, text = agreement.to_dict(), agreement.text(per_class)
        elif sweep:
            scores = opened.sweep(**sweep_options(label, settings, options))
            values, text = scores.to_dict(), str(scores)
        else:
            report = opened.probe(one_or_several(label), **options, **read_settings(settings, options["kind"]))
            values, text = report.to_dict(), report.text(per_class)
    show(values, text, form)


def show(values: dict[str, Any], text: str, form: str) -> None:
    """Print a report as JSON or as text."""
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


def zero_shot_options(
    label: tuple[str, ...], settings: tuple[str, ...], sweep: bool, options: dict[str, Any]
) -> dict[str, Any]:
    """Return the options of a probe of zero-shot classes.

    Raises:
        UsageError: an option is given that it does not take.
    """
    defaults = SWEEP_DEFAULTS | dict.fromkeys(("folds", "split", "group", "view"))
    others = [name for name, default in defaults.items() if options[name] != default]
    others += [name for name, given in (("setting", settings), ("sweep", sweep), ("leaky", options["leaky"])) if given]
    if others:
        raise UsageError(f"--zero-shot trains nothing and does not take --{others[0].replace('_', '-')}.")
    if len(label) > 1:
        raise UsageError("--zero-shot takes one --label column, with one class per row.")
    return {"label": one_or_several(label), "where": options["where"], "timeout": options["timeout"]}
