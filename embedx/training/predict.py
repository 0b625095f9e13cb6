"""Prediction: a head and vectors -> what every window or recording is, and how sure that is.

The vectors are those of stored rows, or are made of audio by the collection's recipe.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray

from embedx.errors import AudioError, UsageError
from embedx.heads.head import Head
from embedx.store.records import Row
from embedx.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from embedx.datasets.items import Item
    from embedx.embedding.embedder import Embedder

Per = Literal["window", "recording"]
Aggregate = Literal["mean", "max"]
FILES_AT_A_TIME = 64  # whose vectors are held: batches go across them, and memory stays bounded
ROWS_AT_A_TIME = 8192

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """What a window or a recording is taken for.

    labels: the classes that are predicted: the likeliest, or all whose probability reaches their threshold. top: the k
    likeliest with their probabilities, from the highest. id: the row, if it is stored. channel: if they are apart.
    """

    id: int | None
    path: str
    start_s: float
    end_s: float
    channel: int | None
    labels: tuple[str, ...]
    top: tuple[tuple[str, float], ...]


class Predictions(Sequence[Prediction]):
    """Predictions in the order of the rows or files; a sequence that also turns into a frame.

    classes: the C names. proba: [N, C] float64. failures: the recordings that could not be used.
    """

    def __init__(
        self, found: Sequence[Prediction], classes: tuple[str, ...], proba: Scores, failures: Sequence[AudioError] = ()
    ) -> None:
        self._found = list(found)
        self.classes = classes
        self.proba = proba
        self.failures = list(failures)

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        return self._found[index]

    def columns(self) -> dict[str, list[Any]]:
        """Return name -> values: id, path, start_s, end_s, channel, label (several with ";"), top1, probability1 ..."""
        columns: dict[str, list[Any]] = {
            name: [getattr(one, name) for one in self] for name in ("id", "path", "start_s", "end_s", "channel")
        }
        if not any(columns["channel"]):
            del columns["channel"]
        columns["label"] = [";".join(one.labels) for one in self]
        for rank in range(min((len(one.top) for one in self), default=0)):
            columns[f"top{rank + 1}"] = [one.top[rank][0] for one in self]
            columns[f"probability{rank + 1}"] = [one.top[rank][1] for one in self]
        return columns

    def to_pandas(self) -> "pd.DataFrame":
        """Return `columns` as a frame."""
        import pandas as pd

        columns: dict[str, Any] = dict(self.columns())
        columns["path"] = pd.Series(columns["path"], dtype=object)  # holds names that are no UTF-8
        return pd.DataFrame(columns)


def predict_rows(store: Store, head: Head, ids: Sequence[int]) -> tuple[list[Prediction], Scores]:
    """Ask a head about stored rows; the labels and tops are filled in by `decide`."""
    found, proba = [], []
    for start in range(0, len(ids), ROWS_AT_A_TIME):
        some = ids[start : start + ROWS_AT_A_TIME]
        matrices = [store.vectors(view, some)[1] for view in head.views]
        proba.append(ask(head, matrices))
        found += [blank(row) for row in store.rows(some)]
    return found, stack(proba, head)


def predict_files(
    embedder: "Embedder", head: Head, items: Sequence["Item"]
) -> tuple[list[Prediction], Scores, list[AudioError]]:
    """Ask a head about recordings and stretches, a few files at a time; a bad one is returned, not raised."""
    found: list[Prediction] = []
    proba: list[Scores] = []
    failures: list[AudioError] = []
    queue = iter(items)
    while some := list(islice(queue, FILES_AT_A_TIME)):
        heard = embedder.embed_files([(item.path, item.start_s, item.end_s) for item in some])
        for item, one in zip(some, heard, strict=True):
            if isinstance(one, AudioError):
                failures.append(one)
                continue
            proba.append(ask(head, [one.vectors[view] for view in head.views]))
            found += [
                Prediction(None, item.path, start_s, end_s, channel, (), ())
                for (channel, start_s), end_s in zip(one.places, one.ends_s, strict=True)
            ]
    return found, stack(proba, head), failures


def ask(head: Head, matrices: Sequence[NDArray[np.float32]]) -> Scores:
    """Return the probabilities [N, C], calibrated where the head can."""
    x = matrices[0] if len(matrices) == 1 else np.stack(matrices, axis=1)
    return np.asarray(head.predict_proba(x, calibrated=head.calibrated), np.float64)


def per_recording(found: Sequence[Prediction], proba: Scores, aggregate: str) -> tuple[list[Prediction], Scores]:
    """Put the windows of each recording together: the mean of their probabilities, or the highest of each class."""
    if aggregate not in get_args(Aggregate):
        raise UsageError(f"aggregate is one of {', '.join(get_args(Aggregate))}, not {aggregate!r}.")
    places: dict[tuple[str, int | None], list[int]] = {}
    for place, one in enumerate(found):
        places.setdefault((one.path, one.channel), []).append(place)
    combine = np.mean if aggregate == "mean" else np.max
    merged = [
        replace(found[some[0]], id=None if len(some) > 1 else found[some[0]].id,
                start_s=min(found[i].start_s for i in some), end_s=max(found[i].end_s for i in some))
        for some in places.values()
    ]  # fmt: skip
    scores = [np.asarray(combine(proba[some], axis=0)) for some in places.values()]
    return merged, np.stack(scores) if scores else proba


def decide(
    head: Head, found: Sequence[Prediction], proba: Scores, k: int, thresholds: NDArray[np.float64] | None
) -> Iterator[Prediction]:
    """Fill in labels and the k likeliest classes.

    Without thresholds [C] a row is of its likeliest class; of a head with several labels, of all above 0.5. With them,
    it is of the classes that reach theirs; where classes exclude each other, of the likeliest of these, or of none.
    """
    order = np.argsort(-proba, axis=1, kind="stable")
    if thresholds is not None:
        reached = proba >= thresholds
    else:
        reached = proba > 0.5 if head.multilabel else np.ones(proba.shape, bool)
    for one, scores, best, passed in zip(found, proba, order, reached, strict=True):
        labels = [head.classes[c] for c in best if passed[c]]
        top = tuple((head.classes[c], round(float(scores[c]), 6)) for c in best[:k])
        yield replace(one, labels=tuple(labels if head.multilabel else labels[:1]), top=top)


def predict(
    store: Store,
    head: Head,
    load_embedder: Callable[[], "Embedder"],
    items: Sequence["Item"] | None,
    ids: Sequence[int] | None,
    *,
    per: str = "window",
    aggregate: str = "mean",
    k: int = 1,
    precision: float | None = None,
    recall: float | None = None,
) -> Predictions:
    """Say what stored rows (ids, all if None) or recordings (items) are; see `Collection.predict`."""
    if per not in get_args(Per):
        raise UsageError(f"per is one of {', '.join(get_args(Per))}, not {per!r}.")
    if k < 1:
        raise UsageError(f"k must be 1 or more, not {k}.")
    if precision is not None and recall is not None:
        raise UsageError("Give the wanted precision or the wanted recall: one follows from the other.")
    head.check_recipe(asdict(store.recipe), list(store.views))
    wanted = precision is not None or recall is not None
    thresholds = head.thresholds(precision=precision, recall=recall) if wanted else None
    failures: list[AudioError] = []
    if items is None:
        found, proba = predict_rows(store, head, store.ids().tolist() if ids is None else list(ids))
    else:
        found, proba, failures = predict_files(load_embedder(), head, items)
    if per == "recording":
        found, proba = per_recording(found, proba, aggregate)
    decided = list(decide(head, found, proba, min(k, len(head.classes)), thresholds))
    return Predictions(decided, head.classes, proba, failures)


def blank(row: Row) -> Prediction:
    """Return a stored row's place."""
    channel = row.meta.get("channel")
    return Prediction(row.id, row.path, row.start_s, row.end_s, channel if isinstance(channel, int) else None, (), ())


def stack(proba: Sequence[Scores], head: Head) -> Scores:
    """Return blocks of probabilities as one [N, C], also where there are none."""
    return np.concatenate([np.zeros((0, len(head.classes))), *proba])
