"""Prediction: a scorer and vectors -> the classes of every window or recording, with probabilities.

The vectors are those of stored rows, or are computed from audio by the recipe of the collection.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args, overload

import numpy as np

from embedx.datasets.items import Item, stretch_to_open
from embedx.errors import AudioError, UsageError
from embedx.heads.head import Head
from embedx.store.records import Row
from embedx.store.store import Store
from embedx.training.scoring import Labels, Scorer, Scores, head_scorer

if TYPE_CHECKING:
    import pandas as pd

    from embedx.embedding.embedder import Embedder

Per = Literal["window", "recording"]
Aggregate = Literal["mean", "max"]
AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)
FILES_AT_A_TIME = 64  # files whose vectors are in memory at a time; batches go across files
ROWS_AT_A_TIME = 8192  # stored rows whose vectors are in memory at a time: 32 MB of 1024 float32


class PredictKwargs(TypedDict, total=False):
    """The fields of `PredictOptions` as keywords."""

    per: str
    aggregate: str
    k: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class PredictOptions:
    """What is predicted, and how.

    Attributes:
        per: "window", or "recording": all windows of a recording (and channel) together.
        aggregate: how the windows of a recording are combined: the "mean" of their probabilities, or the "max" of each
            class.
        k: number of most probable classes to return with their probabilities.
        precision, recall: predict a class only from the threshold that has this precision (or recall) on new windows or
            recordings, with a confidence of 95 %; give at most one of the two.

    Raises:
        UsageError: an invalid value, or both precision and recall.
    """

    per: str = "window"
    aggregate: str = "mean"
    k: int = 1
    precision: float | None = None
    recall: float | None = None

    def __post_init__(self) -> None:
        if self.per not in get_args(Per):
            raise UsageError(f"per must be one of {', '.join(get_args(Per))}, not {self.per!r}.")
        if self.aggregate not in AGGREGATES:
            raise UsageError(f"aggregate must be one of {', '.join(AGGREGATES)}, not {self.aggregate!r}.")
        if self.k < 1:
            raise UsageError(f"k must be 1 or more, not {self.k}.")
        if self.precision is not None and self.recall is not None:
            raise UsageError("Give precision or recall, not both: one threshold sets both.")


@dataclass(frozen=True)
class Prediction:
    """The predicted classes of a window or recording.

    Attributes:
        id: the row; None if it is not stored.
        path: the recording.
        start_s, end_s: the time in the recording, in seconds.
        channel: the channel, if channels are embedded separately.
        labels: the predicted classes: the most probable one, or all classes whose probability reaches their threshold.
        top: the k most probable classes with their probabilities, highest first.
    """

    id: int | None
    path: str
    start_s: float
    end_s: float
    channel: int | None
    labels: tuple[str, ...]
    top: tuple[tuple[str, float], ...]


class Predictions(Sequence[Prediction]):
    """Predictions in the order of the rows or files.

    Attributes:
        classes: the C class names.
        proba: probabilities [N, C] float64.
        failures: the recordings that could not be read.
        outputs: name -> predictions of each output of a model with several, such as word and speaker; these are those
            of the first one. Else empty.
        sample_rate: the rate in Hz at which the model hears the audio; None if it is not known.
        note: a sentence about the calibration of zero-shot classes; else empty.
    """

    def __init__(
        self,
        predictions: Sequence[Prediction],
        classes: tuple[str, ...],
        proba: Scores,
        failures: Sequence[AudioError] = (),
        outputs: "Mapping[str, Predictions] | None" = None,
        sample_rate: int | None = None,
    ) -> None:
        self._predictions = list(predictions)
        self.classes = classes
        self.proba = proba
        self.failures = list(failures)
        self.outputs = dict(outputs or {})
        self.sample_rate = sample_rate
        self.note = ""

    def __len__(self) -> int:
        return len(self._predictions)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        return self._predictions[index]

    def columns(self) -> dict[str, list[Any]]:
        """Return name -> values: id, path, start_s, end_s, channel, label (several with ";"), top1, probability1 ...

        With several outputs the names of the last ones begin with that of the output: word_label, word_top1.
        """
        columns: dict[str, list[Any]] = {
            name: [getattr(prediction, name) for prediction in self]
            for name in ("id", "path", "start_s", "end_s", "channel")
        }
        if not any(columns["channel"]):
            del columns["channel"]
        for output, predictions in self.outputs.items():
            columns |= {f"{output}_{name}": values for name, values in predictions.label_columns().items()}
        return columns if self.outputs else columns | self.label_columns()

    def label_columns(self) -> dict[str, list[Any]]:
        """Return the columns of `columns` that hold classes and probabilities."""
        columns: dict[str, list[Any]] = {"label": [";".join(prediction.labels) for prediction in self]}
        for rank in range(min((len(prediction.top) for prediction in self), default=0)):
            columns[f"top{rank + 1}"] = [prediction.top[rank][0] for prediction in self]
            columns[f"probability{rank + 1}"] = [prediction.top[rank][1] for prediction in self]
        return columns

    def to_pandas(self) -> "pd.DataFrame":
        """Return `columns` as a frame."""
        import pandas as pd

        columns: dict[str, Any] = dict(self.columns())
        columns["path"] = pd.Series(columns["path"], dtype=object)  # some paths are not UTF-8
        return pd.DataFrame(columns)


def predict(
    store: Store,
    head: Head,
    load_embedder: Callable[[], "Embedder"],
    items: Sequence[Item] | None,
    ids: Sequence[int] | None,
    options: PredictOptions,
) -> Predictions:
    """Predict the classes of stored rows or recordings; see `Collection.predict`.

    Args:
        store: the store of the collection.
        head: the head.
        load_embedder: returns the embedder of the collection; called only for recordings.
        items: the recordings and excerpts to embed; None for stored rows.
        ids: the stored rows; all if None.
        options: what is predicted, and how.

    Returns:
        The predictions in the order of the rows or items.

    Raises:
        UsageError: the head has no operating points.
        RecipeMismatch: the head was trained on vectors of another recipe.
    """
    head.check_recipe(asdict(store.recipe), list(store.views))
    thresholds = None
    if options.precision is not None or options.recall is not None:
        thresholds = head.thresholds(
            precision=options.precision, recall=options.recall, per=options.per, aggregate=options.aggregate
        )
    scorer = head_scorer(head)
    if items is None:
        return predict_rows(store, scorer, ids, options, thresholds)
    return predict_files(load_embedder(), scorer, items, options, thresholds)


def predict_rows(
    store: Store, scorer: Scorer, ids: Sequence[int] | None, options: PredictOptions, thresholds: Scores | None = None
) -> Predictions:
    """Predict the classes of stored rows, all if `ids` is None; thresholds [C] are those of a head."""
    ids = store.ids().tolist() if ids is None else list(ids)
    places, proba = [], []
    for start in range(0, len(ids), ROWS_AT_A_TIME):
        block = ids[start : start + ROWS_AT_A_TIME]
        proba.append(scorer.score([store.vectors(view, block)[1] for view in scorer.views]))
        places += [place_of(row) for row in store.rows(block)]
    return predictions_of(scorer, places, proba, options, [], thresholds, store.recipe.sample_rate)


def predict_files(
    embedder: "Embedder",
    scorer: Scorer,
    items: Sequence[Item],
    options: PredictOptions,
    thresholds: Scores | None = None,
) -> Predictions:
    """Predict the classes of recordings; those that cannot be read are in `failures`."""
    places: list[Prediction] = []
    proba: list[Scores] = []
    failures: list[AudioError] = []
    queue = iter(items)
    while block := list(islice(queue, FILES_AT_A_TIME)):
        embedded = embedder.embed_files([stretch_to_open(item) for item in block])
        for item, file in zip(block, embedded, strict=True):
            if isinstance(file, AudioError):
                failures.append(file)
                continue
            proba.append(scorer.score([file.vectors[view] for view in scorer.views]))
            places += [
                Prediction(None, item.path, start_s, end_s, channel, (), ())
                for (channel, start_s), end_s in zip(file.places, file.ends_s, strict=True)
            ]
    return predictions_of(scorer, places, proba, options, failures, thresholds, embedder.recipe.sample_rate)


def predictions_of(
    scorer: Scorer,
    places: Sequence[Prediction],
    blocks: Sequence[Scores],
    options: PredictOptions,
    failures: Sequence[AudioError],
    thresholds: Scores | None = None,
    sample_rate: int | None = None,
) -> Predictions:
    """Return predictions for windows, or for their recordings, from blocks of probabilities [N, C] of the windows."""
    proba = concatenate(blocks, scorer.size)
    if options.per == "recording":
        places, proba = merge_recordings(places, proba, options.aggregate)
    outputs = {}
    for name, part in scorer.split(proba).items():
        labels = scorer.outputs[name]
        decided = decide(labels, places, part, min(options.k, len(labels.classes)), thresholds)
        outputs[name] = Predictions(list(decided), labels.classes, part, failures, None, sample_rate)
    first = next(iter(outputs.values()))
    return (
        first if len(outputs) == 1 else Predictions(first, first.classes, first.proba, failures, outputs, sample_rate)
    )


def merge_recordings(places: Sequence[Prediction], proba: Scores, aggregate: str) -> tuple[list[Prediction], Scores]:
    """Combine the windows of each recording: the mean of their probabilities, or the maximum of each class."""
    recordings = group_positions([(place.path, place.channel) for place in places])
    merged = [
        replace(
            places[numbers[0]],
            id=None if len(numbers) > 1 else places[numbers[0]].id,
            start_s=min(places[i].start_s for i in numbers),
            end_s=max(places[i].end_s for i in numbers),
        )
        for numbers in recordings
    ]
    return merged, combine(proba, recordings, aggregate)


def group_positions(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the positions of each key, in the order of their first ones.

    >>> group_positions(["a", "b", "a"])
    [[0, 2], [1]]
    """
    positions: dict[Hashable, list[int]] = {}
    for number, key in enumerate(keys):
        positions.setdefault(key, []).append(number)
    return list(positions.values())


def combine(proba: Scores, recordings: Sequence[Sequence[int]], aggregate: str) -> Scores:
    """Return the probabilities [R, C] of recordings from those of their windows [N, C]."""
    scores = [(np.mean if aggregate == "mean" else np.max)(proba[numbers], axis=0) for numbers in recordings]
    return np.stack(scores) if scores else proba


def decide(
    output: Labels, places: Sequence[Prediction], proba: Scores, k: int, thresholds: Scores | None
) -> Iterator[Prediction]:
    """Fill in the labels and the k most probable classes.

    The label is the most probable class; multi-label: all classes above 0.5. With thresholds [C] it is the most
    probable class if it reaches its threshold; multi-label: all classes that reach theirs.
    """
    order = np.argsort(-proba, axis=1, kind="stable")
    reached = output.choose(proba, thresholds)
    for place, row, classes, passed in zip(places, proba, order, reached, strict=True):
        labels = tuple(output.classes[c] for c in classes if passed[c])
        top = tuple((output.classes[c], round(float(row[c]), 6)) for c in classes[:k])
        yield replace(place, labels=labels, top=top)


def place_of(row: Row) -> Prediction:
    """Return a stored row as a prediction without labels."""
    path, channel = recording_of(row)
    return Prediction(row.id, path, row.start_s, row.end_s, channel, (), ())


def recording_of(row: Row) -> tuple[str, int | None]:
    """Return what the windows of a recording share: the path, and the channel if channels are embedded separately."""
    channel = row.meta.get("channel")
    return row.path, channel if isinstance(channel, int) else None


def concatenate(blocks: Sequence[Scores], classes: int) -> Scores:
    """Return blocks of probabilities as one array [N, C], also if there are none."""
    return np.concatenate([np.zeros((0, classes)), *blocks])
