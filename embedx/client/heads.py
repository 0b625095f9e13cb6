"""Heads of a service: their numbers, what a training has given, and predictions by them."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from embedx.errors import DiskError, UsageError
from embedx.heads.content import check_content
from embedx.heads.head import JSON_FIELDS, Head
from embedx.heads.safetensors import Unreadable, read_tensors
from embedx.training.label_gain import Gain
from embedx.training.predict import Prediction, Predictions, PredictOptions
from embedx.training.predict import predictions_of as predictions_by
from embedx.training.scoring import LABEL, Output, Scorer, head_scorer

FIT_OPTIONS = (  # keywords of `Collection.fit_head` that a service takes, besides label, view, where and timeout
    "name", "kind", "calibration", "permutations", "class_weight", "separator", "weak_negatives", "folds", "split",
    "group", "leaky", "seed",
)  # fmt: skip


@dataclass(eq=False)
class RemoteTrained(Head):
    """A head that a service has just trained and saved.

    Attributes:
        name: the name of the head.
        gain: the effect of the labels added since the last head of this name; None if there was none, or no new label.
        summary: the figures as text; `print` shows it.
    """

    name: str = ""
    gain: Gain | None = None
    summary: str = ""

    def __str__(self) -> str:
        return self.summary


def read_head(answer: Mapping[str, Any]) -> Head:
    """Return the head of an answer, after checking that it can predict.

    Raises:
        DiskError: the answer does not hold a head.
    """
    values = {name: answer[name] for name in JSON_FIELDS}
    try:
        arrays = read_tensors(base64.b64decode(answer["arrays"]))
        check_content(values, arrays)
        return Head(arrays=arrays, **values)
    except (Unreadable, UsageError, binascii.Error, ValueError, IndexError) as error:
        raise DiskError(f"The service has sent a head that cannot be used: {error}.") from error


def read_trained(head: Head, answer: Mapping[str, Any]) -> RemoteTrained:
    """Return a head with what the service tells about its training."""
    of_head = {field.name: getattr(head, field.name) for field in fields(Head)}
    gain = None if answer["gain"] is None else Gain(**answer["gain"])
    return RemoteTrained(**of_head, name=answer["name"], gain=gain, summary=answer["text"])


def fit_fields(label: Any, view: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a training as a body.

    Raises:
        UsageError: an option that a service does not take.
    """
    if unknown := [name for name in options if name not in FIT_OPTIONS]:
        raise UsageError(
            f"A service cannot train with {unknown[0]}. It takes {', '.join(FIT_OPTIONS)}; for other options train on "
            "the machine of the service, with `embedx train`."
        )
    columns = label if label is None or isinstance(label, str) else list(label)
    views = view if view is None or isinstance(view, str) else list(view)
    return {"label": columns, "using": views, **options}


def read_places(answer: Mapping[str, Any], path: str | None) -> list[Prediction]:
    """Return the places of the predictions of an answer; `path` is that of the file that was sent."""
    return [
        Prediction(one["id"], path or one["path"], one["start_s"], one["end_s"], one["channel"], (), ())
        for one in answer["predictions"]
    ]


def read_proba(answer: Mapping[str, Any]) -> list[Any]:
    """Return the probabilities of the predictions of an answer."""
    return [one["proba"] for one in answer["predictions"]]


def predictions_of(
    head: Head | Output,
    places: Sequence[Prediction],
    rows: Sequence[Any],
    options: PredictOptions,
    failures: Sequence[Any],
) -> Predictions:
    """Return predictions as `Collection.predict` makes them, from the probabilities of windows, by a head or by names.

    Raises:
        UsageError: the head has no operating points; zero-shot classes have no thresholds.
    """
    thresholds = None
    if options.precision is not None or options.recall is not None:
        if isinstance(head, Output):
            raise UsageError("precision and recall are thresholds of a head; zero-shot classes have none.")
        thresholds = head.thresholds(
            precision=options.precision, recall=options.recall, per=options.per, aggregate=options.aggregate
        )
    blocks = [np.array(rows, np.float64)] if rows else []
    by_name = Scorer({LABEL: head}, (), lambda matrices: np.asarray(matrices[0], np.float64))
    scorer = head_scorer(head) if isinstance(head, Head) else by_name
    return predictions_by(scorer, places, blocks, options, failures, thresholds)
