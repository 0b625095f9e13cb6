"""Result: what a training gives, as values and as text, and the files of models/NAME."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from embedx.errors import DiskError
from embedx.filesystem.atomic import whole_folder
from embedx.filesystem.paths import display_path
from embedx.finetune.curve import draw_curve
from embedx.finetune.folder import write_model
from embedx.finetune.network import Network
from embedx.finetune.options import FinetuneOptions
from embedx.metrics.report import Metrics
from embedx.text import plural


@dataclass(frozen=True)
class Finetuned:
    """The result of a training.

    Attributes:
        folder: models/NAME.
        metrics: the figures of each output on the test part.
        validation: the value of the metric on the validation part; None without one.
        plain: whether plain transformers loads the classifier.
        facts: how much was trained, and how long it took.
        notes: sentences about what is unusual.
        failures: why files could not be read.
    """

    folder: Path
    metrics: Mapping[str, Metrics]
    validation: float | None
    plain: bool
    facts: Mapping[str, Any]
    notes: tuple[str, ...]
    failures: tuple[str, ...]
    history: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "outputs": {name: metrics.to_dict() for name, metrics in self.metrics.items()},
            "validation": self.validation,
            "plain": self.plain,
            **self.facts,
            "notes": list(self.notes),
            "failures": list(self.failures),
            "history": list(self.history),
        }

    def __str__(self) -> str:
        return self.text()

    def text(self, per_class: bool = False) -> str:
        """Return the result as text: the figures on the test part, then what was trained."""
        facts = self.facts
        blocks = [
            f"{f'{name}: ' if len(self.metrics) > 1 else ''}{metrics.verdict()}\n\n{metrics.tables(per_class)}"
            for name, metrics in self.metrics.items()
        ]
        plain = "AutoModelForAudioClassification of transformers loads it" if self.plain else "embedx loads it"
        tested = f"tested on {facts['test_rows']}"
        if "folds" in facts:
            tested += f", of {len(facts['folds'])} test parts, each by a model that was trained on the others"
        lines = [
            *([f"Left out: {plural(len(self.failures), 'recording')} that cannot be read."] if self.failures else []),
            *(f"Note: {note}" for note in self.notes),
            f"Trained on {facts['train_rows']} rows, checkpoint chosen on {facts['validation_rows']}, "
            f"{tested}; split by {facts['split']}. {facts['trained_parameters']:,} of "
            f"{facts['parameters']:,} parameters, {plural(facts['steps'], 'step')}, {facts['seconds']:.0f} s.",
            f"Saved as {display_path(str(self.folder))}; {plain}.",
        ]
        return "\n\n".join([*blocks, "\n".join(lines)])


def save_result(result: Finetuned, network: Network, options: FinetuneOptions, source: Any) -> Finetuned:
    """Write the folder of the model in one step; the checkpoints are gone then."""
    arguments = {"source": source_names(source), **asdict(options)}
    metric = options.metric or "main"
    try:
        with whole_folder(result.folder) as new:
            plain = write_model(new, network, options)
            result = replace(result, plain=plain)
            (new / "arguments.json").write_text(json.dumps(arguments, indent=1), encoding="utf-8")
            (new / "metrics.json").write_text(json.dumps(finite(result.to_dict()), indent=1), encoding="utf-8")
            (new / "loss.png").write_bytes(draw_curve(result.history, metric))
    except OSError as error:
        if isinstance(error, DiskError):
            raise
        shown = display_path(str(result.folder))
        raise DiskError(f"The model cannot be written to {shown}: {error.strerror or error}.") from error
    return result


def source_names(source: Any) -> list[str]:
    """Return the names of a source as absolute paths; none for a pandas frame."""
    parts = source if isinstance(source, (list, tuple)) else [source]
    return [os.path.abspath(part) for part in parts if isinstance(part, (str, os.PathLike)) and str(part) != "-"]


def finite(value: Any) -> Any:
    """Return JSON values with None for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
