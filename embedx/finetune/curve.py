"""Curve: the losses and the validation metric of a training as a PNG."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from embedx.errors import UsageError


def draw_curve(history: Sequence[Mapping[str, Any]], metric: str) -> bytes:
    """Return a PNG with the loss of training and validation, and the metric of the validation part, by step.

    Args:
        history: what the Trainer has logged.
        metric: the name of the metric.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("The loss curve needs matplotlib: pip install 'embedx[finetune]'.") from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for key, label in (("loss", "training"), ("eval_loss", "validation")):
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), marker=".", label=f"loss, {label}")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=0)
    points = [(entry["step"], entry[f"eval_{metric}"]) for entry in history if f"eval_{metric}" in entry]
    if points and metric != "loss":
        right = axes.twinx()
        right.plot(*zip(*points, strict=True), color="tab:green", marker=".", label=f"{metric}, validation")
        right.set_ylim(0, 1.02)
        right.set_ylabel(metric)
        right.legend(loc="upper right")
    axes.legend(loc="upper left")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
