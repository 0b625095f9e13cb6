"""RemoteCollection: a collection behind `embedx serve`, with the methods of a local one."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, Unpack
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from embedx.arguments.keywords import with_known_keywords
from embedx.arguments.types import RowId
from embedx.client.base import REQUEST_S, RemoteBase
from embedx.client.bodies import (
    MAX_LIMIT,
    audio_fields,
    encode_example,
    filter_fields,
    search_fields,
    table_fields,
    with_name,
)
from embedx.client.connection import PAGE
from embedx.client.heads import (
    RemoteTrained,
    fit_fields,
    predictions_of,
    read_head,
    read_places,
    read_proba,
    read_trained,
)
from embedx.datasets.items import Item
from embedx.datasets.sources import read_corpus
from embedx.errors import AudioError, LockedError, UsageError
from embedx.heads.head import Head
from embedx.search.answers import Answers
from embedx.search.hit import Hit
from embedx.search.hits import Hits
from embedx.search.options import DEFAULT_K, SearchKwargs, SearchOptions
from embedx.search.queries import check_one_query, name_of, read_query, read_vectors
from embedx.store.edits import MIN_OVERLAP, LabelUpdate
from embedx.store.filters import TIMEOUT_S
from embedx.training.predict import Prediction, Predictions, PredictKwargs, PredictOptions
from embedx.training.scoring import Output
from embedx.training.zero_shot import read_classes

WAIT_S = 0.5  # between two attempts to label a collection that another process is writing
MAX_QUERIES, MAX_HITS = 256, 50_000  # of a request, that a service allows by default


class RemoteCollection(RemoteBase):
    """A collection behind `embedx serve`; `embedx.connect` returns one, and describes the arguments.

    Its methods take the options of `Collection`, and return and raise the same. Files are read on this machine and
    sent. Paths of rows are relative to the source. Threads may share it.

    Attributes:
        url: the URL.
        views: name -> dimension of every stored view.
        root: None, because paths are relative already.
    """

    # -- search --------------------------------------------------------------------------------------------------------

    def search(
        self,
        query: Any = None,
        *,
        sample_rate: float | None = None,
        id: RowId | None = None,
        vector: Any = None,
        like: Sequence[str | os.PathLike[str] | int] = (),
        unlike: Sequence[str | os.PathLike[str] | int] = (),
        text: str | None = None,
        **options: Unpack[SearchKwargs],
    ) -> Any:
        """Return the rows that are most similar to a query; see `Collection.search`.

        A service returns at most 1000 hits, and stops a request after 30 s.

        Raises:
            UsageError: see `Collection.search`; or more than 1000 rows are within the radius.
            AudioError, ModelError, NothingToDo, StoreError: see `Collection.search`.
            DiskError: the service cannot be reached.
        """
        settings = SearchOptions(**options)
        if isinstance(query, (list, tuple)):
            check_one_query(query, id, vector, text, [*like, *unlike])
            return [self.search(one, sample_rate=sample_rate, **options) for one in query]
        body: dict[str, Any] = {name: value for name, value in (("id", id), ("text", text)) if value is not None}
        if vector is not None:
            body |= {"vector": read_vectors(vector, self._dim(settings.view)).tolist(), "join": True}
        try:
            body |= audio_fields(read_query(query, sample_rate)) if query is not None else {}
            for name, examples in (("like", like), ("unlike", unlike)):
                body |= {name: [encode_example(one) for one in examples]} if len(examples) else {}
        except AudioError:
            self._check(settings)  # a wrong option is named before a file that cannot be read
            raise
        try:
            return self._search(body, settings)
        except AudioError as error:
            name = os.fspath(query) if isinstance(query, (str, os.PathLike)) else "the query"
            raise with_name(error, None if query is None else name) from error

    def search_many(self, source: Any, **options: Unpack[SearchKwargs]) -> Answers:
        """Run many queries; see `Collection.search_many`. The answers need not be from one state.

        Raises:
            UsageError, ModelError, NothingToDo, StoreError, DiskError: see `search`.
        """
        settings = SearchOptions(**options)
        answers, failures = Answers(), {}
        if isinstance(source, np.ndarray):
            results = self._search_vectors(read_vectors(source, self._dim(settings.view)), settings)
            answers.update({str(number): hits for number, hits in enumerate(results)})
            answers.generation = results[-1].generation
            return answers
        self._check(settings)
        for item in read_corpus(source):
            try:
                answers[name_of(item)] = hits = self._search(audio_fields(item), settings)
                answers.generation = hits.generation
            except AudioError as error:
                failures[name_of(item)] = with_name(error, item.path)
        answers.failures = failures
        return answers

    def nearest(
        self,
        vectors: Any,
        k: int = DEFAULT_K,
        *,
        where: str | None = None,
        timeout: float = TIMEOUT_S,
        view: str | None = None,
        metric: str = "cosine",
        exact: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return scores [Q, K] and row ids [Q, K] of the nearest rows; see `Collection.nearest`."""
        settings = SearchOptions(k=k, where=where, timeout=timeout, view=view, metric=metric, exact=exact)
        results = self._search_vectors(read_vectors(vectors, self._dim(view)), settings)
        scores = np.array([[hit.score for hit in hits] for hits in results], np.float32)
        return scores, np.array([[hit.id for hit in hits] for hits in results], np.int64)

    # -- heads ---------------------------------------------------------------------------------------------------------

    def heads(self) -> dict[str, Head]:
        """Return name -> saved head, sorted by name; see `Collection.heads`."""
        names = self._service.read(lambda: [head["name"] for head in self.facts()["heads"]])
        return {name: self.head(name) for name in names}

    def head(self, name: str | None = None) -> Head:
        """Return a saved head, with its numbers; see `Collection.head`."""
        if name is None:
            names = self._service.read(lambda: [head["name"] for head in self.facts()["heads"]])
            if len(names) != 1:
                heads = f"several heads; choose one (head=): {', '.join(names)}" if names else "no head"
                raise UsageError(f"There is {heads} in {self.url}.")
            (name,) = names
        answer = self._service.get(f"/heads/{quote(name, safe='')}")
        return self._service.read(lambda: read_head(answer))

    def predict(
        self,
        source: Any = None,
        *,
        head: str | Head | None = None,
        zero_shot: Any = None,
        prompt: str | Sequence[str] | None = None,
        label: str | None = None,
        where: str | None = None,
        timeout: float = TIMEOUT_S,
        **options: Unpack[PredictKwargs],
    ) -> Predictions:
        """Predict the classes of rows or recordings; see `Collection.predict`. The head is named, not given.

        Raises:
            UsageError, RecipeMismatch, ModelError: see `Collection.predict`.
        """
        settings = PredictOptions(**options)
        if source is not None and where is not None:
            raise UsageError("where selects stored rows; it cannot be combined with audio as the source.")
        if isinstance(head, Head):
            raise UsageError("A service predicts with its own heads: give the name of one (head=).")
        classes: dict[str, Any] = {}
        if zero_shot is None and (prompt is not None or label is not None):
            raise UsageError("prompt and label belong to zero-shot classes; give these too (zero_shot=).")
        if zero_shot is not None:
            if head is not None:
                raise UsageError("Give a head or zero-shot classes, one of them.")
            classes = {"zero_shot": read_classes(zero_shot), "prompt": prompt, "label": label}
        chosen = self.head(head) if zero_shot is None else Output(tuple(classes["zero_shot"]))
        requests: list[tuple[str | None, Any]]
        if source is None:
            ids = [row.id for row in self._rows(where, timeout)]
            requests = [(None, {"ids": ids[start : start + PAGE]}) for start in range(0, len(ids), PAGE)]
        else:
            requests = [(item.path, item) for item in read_corpus(source)]
        places: list[Prediction] = []
        proba: list[Any] = []
        note = ""
        failures: list[AudioError] = []
        for path, request in requests:
            try:
                fields = audio_fields(request) if isinstance(request, Item) else request
                answer = self._service.post("/predict", {**fields, "head": head, **classes, "with_proba": True})
            except AudioError as error:
                failures.append(with_name(error, path))
            else:
                places += self._service.read(partial(read_places, answer, path))
                proba += self._service.read(partial(read_proba, answer))
                note = str(answer.get("note", ""))
        predictions = predictions_of(chosen, places, proba, settings, failures)
        predictions.note = note
        return predictions

    def fit_head(
        self,
        label: str | Sequence[str] | None = None,
        *,
        view: str | Sequence[str] | None = None,
        where: str | None = None,
        timeout: float = TIMEOUT_S,
        **options: Any,
    ) -> RemoteTrained:
        """Train a head in the service, score it on rows that it was not trained on, and save it there.

        Args:
            label, view, where, timeout: see `Collection.fit_head`.
            options: name, kind, calibration, permutations, class_weight, separator, weak_negatives, folds, split,
                group, leaky and seed; see `Collection.fit_head`.

        Returns:
            The head with its name, figures (`metrics`) and gain.

        Raises:
            UsageError: see `Collection.fit_head`; the service is read-only; an option that a service does not take.
        """
        answer = self._service.post("/heads", fit_fields(label, view, options) | filter_fields(where, timeout))
        return self._service.read(lambda: read_trained(self.head(answer["name"]), answer))

    # -- labels --------------------------------------------------------------------------------------------------------

    def label(
        self,
        table: Any = None,
        *,
        set: Mapping[str, Any] | None = None,
        where: str | None = None,
        timeout: float = TIMEOUT_S,
        overlap: float = MIN_OVERLAP,
        wait: bool = False,
    ) -> LabelUpdate:
        """Set label, group, split or metadata of rows; see `Collection.label`. Paths in a table are those of `rows`.

        Raises:
            UsageError: see `Collection.label`; the service is read-only; a table has more than 10 000 lines.
            NothingToDo, LockedError: see `Collection.label`.
        """
        if (table is None) == (set is None):
            raise UsageError("Give either a table (with a column id or path) or values to set (set=).")
        body: dict[str, Any] = {"overlap": overlap, **filter_fields(where, timeout)}
        body |= {"set": dict(set)} if set is not None else {"table": table_fields(table)}
        return self._change("/labels", body, wait)

    def undo_label(self, change: int | None = None, *, wait: bool = False) -> LabelUpdate:
        """Undo a change of labels, the last one by default; see `Collection.undo_label`."""
        return self._change("/labels/undo", {"revision": change}, wait)

    def _change(self, path: str, body: Mapping[str, Any], wait: bool) -> LabelUpdate:
        """Change labels, and return what has changed."""
        while True:
            try:
                answer = self._service.post(path, body)
                break
            except LockedError:
                if not wait:
                    raise
            time.sleep(WAIT_S)
        entries = [(entry["entry"], entry["rows"]) for entry in answer.get("entries", [])]
        return self._service.read(lambda: LabelUpdate(answer["changed"], answer["change"], entries))

    # -- requests ------------------------------------------------------------------------------------------------------

    def _search(self, body: Mapping[str, Any], settings: SearchOptions) -> Hits:
        """Return the hits of one query."""
        answer = self._service.post("/search", {**body, **search_fields(settings)})
        hits = self._hits(answer, answer)
        if settings.k is None and settings.radius is not None and len(hits) == MAX_LIMIT:
            raise UsageError(f"More than {MAX_LIMIT} rows are within the radius; give k or a higher radius.")
        return hits

    def _search_vectors(self, vectors: NDArray[np.float32], settings: SearchOptions) -> list[Hits]:
        """Return the hits of each vector."""
        body, results = search_fields(settings), []
        step = max(1, min(MAX_QUERIES, MAX_HITS // body["limit"]))
        for start in range(0, len(vectors), step):
            answer = self._service.post("/search", {"vector": vectors[start : start + step].tolist(), **body})
            results += [self._hits(result, answer) for result in answer["results"]]
        return results

    def _check(self, settings: SearchOptions) -> None:
        """Raise the error of options that the service refuses."""
        if len(self):
            vector = np.ones(self._dim(settings.view)).tolist()
            self._service.post("/search", {"vector": vector, **search_fields(settings), "limit": 1})

    def _hits(self, result: Mapping[str, Any], answer: Mapping[str, Any]) -> Hits:
        """Return the hits of a query; `answer` holds the state."""
        hits = self._service.read(lambda: Hits([hit_of(value) for value in result["hits"]], self._read_clip))
        hits.generation = answer["generation"]
        return hits

    def _read_clip(self, hit: Hit) -> bytes:
        """Return the audio of a hit, which can be more than its row if hits were merged."""
        return self._audio(hit.id, start_s=hit.start_s, end_s=hit.end_s)


@with_known_keywords
def connect(url: str, *, token: str | None = None, timeout: float = REQUEST_S) -> RemoteCollection:
    """Return a collection behind `embedx serve`, with the methods of a local one.

    Args:
        url: the URL of the service with the name of the collection: http://127.0.0.1:8000/field.
        token: the token, if the service needs one.
        timeout: seconds to wait for an answer.

    Raises:
        UsageError: the URL is not valid, or there is no such collection.
        DiskError: the service cannot be reached.
    """
    return RemoteCollection(url, token=token, timeout=timeout)


def hit_of(value: Mapping[str, Any]) -> Hit:
    """Return a hit of an answer; what it holds for web pages is left out."""
    return Hit(**{each.name: value[each.name] for each in fields(Hit) if each.name in value})
