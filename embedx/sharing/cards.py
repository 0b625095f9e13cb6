"""Cards: the README.md of a shared model or collection, written from what was measured."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from embedx._version import __version__
from embedx.collection.collection import Collection
from embedx.extractors.names import HUB_ID
from embedx.text import plural

MAX_CLASSES = 200  # names in a table; all are in the files
LIMITS = (
    "The figures are those of rows that were not trained on, of the split that is named. They hold for new groups like "
    "these, and say nothing about other recorders, places, species or speakers."
)


def model_card(name: str, described: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the card of a fine-tuned model.

    Args:
        name: its name.
        described: the content of finetune.json.
        metrics: the content of metrics.json.
    """
    base, is_plain = str(described["model"]), bool(described.get("plain"))
    is_hub = bool(HUB_ID.fullmatch(base)) and "/" in base
    header: dict[str, Any] = {
        "library_name": "transformers" if is_plain else "embedx",
        "pipeline_tag": "audio-classification",
        "tags": ["embedx", "audio"],
        **({"base_model": base.partition("@")[0]} if is_hub else {}),
    }
    outputs = {str(output): list(classes) for output, classes in described["head"]["outputs"].items()}
    sizes = {part: metrics.get(f"{part}_rows", "an unknown number of") for part in ("train", "validation", "test")}
    blocks = [
        front_matter(header),
        f"# {cell(name)}",
        f"A classifier of audio at {described['sample_rate']} Hz, trained from {cell(base)} with embedx {__version__}.",
        table(
            ["output", "classes", "names"],
            [[output, len(names), list_names(names)] for output, names in outputs.items()],
        ),
        "## Measured",
        *(block for output, one in metrics.get("outputs", {}).items() for block in figure_blocks(output, one)),
        f"Split by {cell(metrics.get('split', 'an unknown column'))}: {sizes['train']} rows to train on, "
        f"{sizes['validation']} to choose the checkpoint by, {sizes['test']} to test on.",
        *(f"- {cell(note)}" for note in metrics.get("notes", ())),
        "## Limits",
        LIMITS,
        "## Use",
        code(
            f"embedx predict recordings/ --model {name}",
            f"embedx extract recordings/ --model {name} -o indexes/new",
        ),
    ]
    return "\n\n".join(blocks) + "\n"


def collection_card(name: str, collection: Collection) -> str:
    """Return the card of a collection and its heads."""
    recipe, failures = asdict(collection.recipe), collection.failures()
    if os.path.isabs(collection.recipe.source):
        recipe["source"] = os.path.basename(collection.recipe.source)
    rows = collection.store.rows(None)
    labels = Counter(row.label for row in rows if row.label is not None)
    recordings = len({row.path for row in rows})
    heads = collection.heads()
    blocks = [
        front_matter({"pretty_name": name, "tags": ["embedx", "audio", "embeddings"], "viewer": False}),
        f"# {cell(name)}",
        f"Vectors of {plural(recordings, 'recording')} ({collection.store.hours():.2f} h) in "
        f"{plural(len(rows), 'row')}, made with embedx {__version__}. The audio is not included; "
        + (f"{plural(len(failures), 'recording')} could not be read." if failures else "all recordings could be read."),
        "The rows hold the paths of the recordings, their labels and other metadata.",
        "## Recipe",
        table(["setting", "value"], [[key, value] for key, value in recipe.items() if value not in (None, "")]),
        table(["view", "dimension"], list(collection.views.items())),
        *(["## Labels", table(["label", "rows"], labels.most_common(MAX_CLASSES))] if labels else []),
        *(["## Heads"] if heads else []),
    ]
    for head_name, head in heads.items():
        training, measured = head.settings.get("training", {}), head.metrics.get("held_out")
        views = ", ".join(head.views)
        about = (
            f"{cell(head_name)}: {head.kind} on {views}, {plural(len(head.classes), 'class')} of "
            f"{cell(training.get('label', 'label'))}, split by {cell(training.get('split', 'an unknown column'))}."
        )
        leaky = " **LEAKY: rows of one recording or group are on both sides of the split; the figures are inflated.**"
        blocks.append(about + (leaky if training.get("leaky") else ""))
        blocks += figure_blocks(head_name, measured) if measured else ["It was not scored."]
    blocks += ["## Limits", LIMITS] if heads else []
    use = ["import embedx", f'collection = embedx.open("{name}")', "print(collection.rows())"]
    return "\n\n".join([*blocks, "## Use", code(*use, language="python")]) + "\n"


def figure_blocks(name: str, metrics: Mapping[str, Any]) -> list[str]:
    """Return the figures of one output or head: a sentence on the test rows and chance, and a table with intervals."""
    better = "better than chance" if metrics.get("better_than_chance") else "NOT shown to be better than chance"
    rows = []
    for figure, found in metrics["figures"].items():
        interval = "" if not found or found.get("low") is None else f"{found['low']:.3f} to {found['high']:.3f}"
        baselines = [f"{baseline} {values[figure]:.3f}" for baseline, values in metrics.get("baselines", {}).items()
                     if values.get(figure) is not None]  # fmt: skip
        rows.append([figure, "undefined" if not found else f"{found['value']:.3f}", interval, ", ".join(baselines)])
    sizes = f"{plural(metrics['rows'], 'test row')} of {plural(metrics['groups'], 'group')}"
    notes = [f"- {cell(note)}" for note in metrics.get("notes", ())]
    return [
        f"**{cell(name)}**: {sizes}; {better}.",
        table(["figure", "value", "95 % interval", "baselines"], rows),
        *(["\n".join(notes)] if notes else []),
    ]


def front_matter(values: Mapping[str, Any]) -> str:
    """Return YAML between two lines of dashes; JSON values are YAML too."""
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in values.items()), "---"])


def table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown."""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(cell(value) for value in line)} |" for line in lines)


def list_names(names: Sequence[str]) -> str:
    """Return names with commas between them; of very many the first."""
    more = f" and {len(names) - MAX_CLASSES} more" if len(names) > MAX_CLASSES else ""
    return ", ".join(map(str, names[:MAX_CLASSES])) + more


def cell(value: Any) -> str:
    r"""Return a value as text that stays in its line and cell, and is neither HTML nor a link.

    >>> cell("a|b\n<i>[x](y)")
    'a\\|b &lt;i&gt;\\[x\\](y)'
    """
    words = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\|[]`*_#" else letter for letter in words) if words != "---" else words


def code(*lines: str, language: str = "console") -> str:
    """Return lines of code as a block."""
    return "\n".join([f"```{language}", *(line.replace("```", "") for line in lines), "```"])
