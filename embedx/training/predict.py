"""Prediction: a head and vectors -> the classes of every window or recording, with probabilities.

The vectors are those of stored rows, or are computed from audio by the recipe of the collection.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args, overload

import numpy as np
from numpy.typing import NDArray

from embedx.datasets.items import Item, stretch_to_open
from embedx.errors import AudioError, UsageError
from embedx.heads.head import Head
from embedx.store.records import Row
from embedx.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from embedx.embedding.embedder import Embedder

Per = Literal["window", "recording"]
Aggregate = Literal["mean", "max"]
AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)
FILES_AT_A_TIME = 64  # files whose vectors are in memory at a time; batches go across files
ROWS_AT_A_TIME = 8192  # stored rows whose vectors are in memory at a time: 32 MB of 1024 float32

Scores = NDArray[np.float64]


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
    """

    def __init__(
        self,
        predictions: Sequence[Prediction],
        classes: tuple[str, ...],
        proba: Scores,
        failures: Sequence[AudioError] = (),
    ) -> None:
        self._predictions = list(predictions)
        self.classes = classes
        self.proba = proba
        self.failures = list(failures)

    def __len__(self) -> int:
        return len(self._predictions)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        return self._predictions[index]

    def columns(self) -> dict[str, list[Any]]:
        """Return name -> values: id, path, start_s, end_s, channel, label (several with ";"), top1, probability1 ..."""
        columns: dict[str, list[Any]] = {
            name: [getattr(prediction, name) for prediction in self]
            for name in ("id", "path", "start_s", "end_s", "channel")
        }
        if not any(columns["channel"]):
            del columns["channel"]
        columns["label"] = [";".join(prediction.labels) for prediction in self]
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
    failures: list[AudioError] = []
    if items is None:
        places, proba = predict_rows(store, head, store.ids().tolist() if ids is None else list(ids))
    else:
        places, proba, failures = predict_files(load_embedder(), head, items)
    if options.per == "recording":
        places, proba = merge_recordings(places, proba, options.aggregate)
    predictions = list(decide(head, places, proba, min(options.k, len(head.classes)), thresholds))
    return Predictions(predictions, head.classes, proba, failures)


def predict_rows(store: Store, head: Head, ids: Sequence[int]) -> tuple[list[Prediction], Scores]:
    """Return the places of stored rows and their probabilities [N, C]; `decide` fills in labels and top."""
    places, proba = [], []
    for start in range(0, len(ids), ROWS_AT_A_TIME):
        block = ids[start : start + ROWS_AT_A_TIME]
        proba.append(predict_proba(head, [store.vectors(view, block)[1] for view in head.views]))
        places += [place_of(row) for row in store.rows(block)]
    return places, concatenate(proba, head)


def predict_files(
    embedder: "Embedder", head: Head, items: Sequence[Item]
) -> tuple[list[Prediction], Scores, list[AudioError]]:
    """Return the places of windows, their probabilities [N, C], and the errors of files that could not be read."""
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
            proba.append(predict_proba(head, [file.vectors[view] for view in head.views]))
            places += [
                Prediction(None, item.path, start_s, end_s, channel, (), ())
                for (channel, start_s), end_s in zip(file.places, file.ends_s, strict=True)
            ]
    return places, concatenate(proba, head), failures


def predict_proba(head: Head, matrices: Sequence[NDArray[np.float32]]) -> Scores:
    """Return the probabilities [N, C] of vectors, one matrix per view; calibrated if the head is calibrated."""
    x = matrices[0] if len(matrices) == 1 else np.stack(matrices, axis=1)
    return np.asarray(head.predict_proba(x, calibrated=head.calibrated), np.float64)


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
    head: Head, places: Sequence[Prediction], proba: Scores, k: int, thresholds: NDArray[np.float64] | None
) -> Iterator[Prediction]:
    """Fill in the labels and the k most probable classes.

    The label is the most probable class; multi-label: all classes above 0.5. With thresholds [C] it is the most
    probable class if it reaches its threshold; multi-label: all classes that reach theirs.
    """
    order = np.argsort(-proba, axis=1, kind="stable")
    reached = head.choose(proba, thresholds)
    for place, row, classes, passed in zip(places, proba, order, reached, strict=True):
        labels = tuple(head.classes[c] for c in classes if passed[c])
        top = tuple((head.classes[c], round(float(row[c]), 6)) for c in classes[:k])
        yield replace(place, labels=labels, top=top)


def place_of(row: Row) -> Prediction:
    """Return a stored row as a prediction without labels."""
    path, channel = recording_of(row)
    return Prediction(row.id, path, row.start_s, row.end_s, channel, (), ())


def recording_of(row: Row) -> tuple[str, int | None]:
    """Return what the windows of a recording share: the path, and the channel if channels are embedded separately."""
    channel = row.meta.get("channel")
    return row.path, channel if isinstance(channel, int) else None


def concatenate(proba: Sequence[Scores], head: Head) -> Scores:
    """Return blocks of probabilities as one array [N, C], also if there are none."""
    return np.concatenate([np.zeros((0, len(head.classes))), *proba])
