"""The client of the service: a collection behind `embedx serve`, with the methods of a local one."""

import base64
import http.client
import json
import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack
from urllib.parse import quote, urlencode, urlsplit

import numpy as np
from numpy.typing import NDArray

from embedx.datasets.items import Item
from embedx.datasets.sources import read_corpus
from embedx.errors import (
    AudioError,
    DiskError,
    EmbedxError,
    LockedError,
    ModelError,
    NothingToDo,
    RecipeMismatch,
    StoreError,
    UsageError,
)
from embedx.search.answers import Answers
from embedx.search.hits import Hit, Hits
from embedx.search.options import DEFAULT_K, SearchKwargs, SearchOptions
from embedx.search.queries import name_of, parse_query, read_vectors

if TYPE_CHECKING:
    import pandas as pd

TIMEOUT_S = 60.0  # for an answer; the service ends a request after 30 s
MAX_LIMIT, MAX_QUERIES = 1000, 256  # hits of a query, and queries of a request, that a service allows by default
MAX_HITS = 50_000  # of a request
MAX_EDITS = 10_000  # of a request
ERRORS: dict[str, type[EmbedxError]] = {  # code of an error -> its class; others are errors of usage below 500
    "recipe_mismatch": RecipeMismatch,
    "nothing_to_do": NothingToDo,
    "no_text": ModelError,
    "model_unavailable": ModelError,
    "locked": LockedError,
    "collection_unavailable": StoreError,
}


class RemoteHits(Hits):
    """Hits of a service; their recordings are on its machine."""

    def save_clips(self, folder: str | os.PathLike[str]) -> list[AudioError]:
        """Refuse to write clips: the recordings are not on this machine.

        Raises:
            UsageError: always.
        """
        raise UsageError("The recordings are on the machine of the service. RemoteCollection.audio returns a row's.")


class RemoteCollection:
    """A collection behind `embedx serve`; `embedx.connect` returns one, and describes the arguments.

    Its methods take the options of `Collection` and return and raise the same. Files are read on this machine and sent.
    Paths of rows are relative to the source. Threads may share it.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        prefix, _, self.name = parts.path.rstrip("/").rpartition("/")
        if parts.scheme not in ("http", "https") or not parts.hostname or not self.name:
            raise UsageError(f"{url!r} is not the URL of a collection, such as http://127.0.0.1:8000/field.")
        self.url = url
        self.timeout = timeout
        self._address = parts.hostname, parts.port
        self._is_secure = parts.scheme == "https"
        self._base = f"{prefix}/v1/collections/{quote(self.name)}"
        self._prefix = prefix
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.views: dict[str, int] = {view["name"]: view["dim"] for view in self.facts()["views"]}

    def __repr__(self) -> str:
        return f"<RemoteCollection {self.url}>"

    def __len__(self) -> int:
        return int(self.facts()["rows"])

    def __enter__(self) -> "RemoteCollection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: no connection stays open."""

    def facts(self) -> dict[str, Any]:
        """Return what the service tells about the collection: rows, views, columns, heads, generation, revision."""
        return self._json("GET", "")

    def heads(self) -> dict[str, dict[str, Any]]:
        """Return name -> kind, classes and views of every head."""
        return {head["name"]: head for head in self.facts()["heads"]}

    def model_facts(self) -> dict[str, Any]:
        """Return recipe, dimension, sample rate and views of the model."""
        models = json.loads(self._request("GET", f"{self._prefix}/v1/models"))["data"]
        return next(model for model in models if model["id"] == self.name)

    def search(
        self,
        query: str | os.PathLike[str] | None = None,
        *,
        id: int | None = None,
        vector: Any = None,
        like: Sequence[str | os.PathLike[str] | int] = (),
        unlike: Sequence[str | os.PathLike[str] | int] = (),
        text: str | None = None,
        **options: Unpack[SearchKwargs],
    ) -> Hits:
        """Return the rows that are most similar to a query; see `Collection.search`.

        Without k, a search by `radius` returns up to 1000 rows. `timeout` is that of the service.

        Raises:
            UsageError: see `Collection.search`; or more than 1000 rows are within the radius.
            AudioError, ModelError, NothingToDo, StoreError: see `Collection.search`.
            DiskError: the service cannot be reached.
        """
        settings = SearchOptions(**options)
        body: dict[str, Any] = {"id": id, "text": text}
        if query is not None:
            body |= audio_fields(Item(*parse_query(os.fspath(query))))
        body |= {"like": [encode_example(one) for one in like], "unlike": [encode_example(one) for one in unlike]}
        if vector is None:
            return self._search(body, settings)
        vectors = read_vectors(vector, self._dim(settings.view))
        if len(vectors) == 1:
            return self._search(body | {"vector": vectors[0].tolist()}, settings)
        if not settings.is_plain or any((query, id, text, like, unlike)):
            raise UsageError("Several vectors can only search for the k nearest rows of a service; search one by one.")
        return best_of(self._search_vectors(vectors, settings), settings.limit)

    def search_many(self, source: Any, **options: Unpack[SearchKwargs]) -> Answers:
        """Run many queries; see `Collection.search_many`. The answers need not be from one state.

        Raises:
            UsageError, ModelError, NothingToDo, StoreError, DiskError: see `search`.
        """
        settings = SearchOptions(**options)
        if isinstance(source, np.ndarray):
            vectors = read_vectors(source, self._dim(settings.view))
            results = self._search_vectors(vectors, settings)
            answers = Answers({str(number): hits for number, hits in enumerate(results)})
            answers.generation = results[-1].generation
            return answers
        answers, failures = Answers(), {}
        for item in read_corpus(source):
            try:
                answers[name_of(item)] = hits = self._search(audio_fields(item), settings)
                answers.generation = hits.generation
            except AudioError as error:
                failures[name_of(item)] = error
        answers.failures = failures
        return answers

    def nearest(
        self, vectors: Any, k: int = DEFAULT_K, **options: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return scores [Q, K] and row ids [Q, K] of the nearest rows; see `Collection.nearest`."""
        settings = SearchOptions(k=k, **options)
        results = self._search_vectors(read_vectors(vectors, self._dim(settings.view)), settings)
        scores = np.array([[hit.score for hit in hits] for hits in results], np.float32)
        return scores, np.array([[hit.id for hit in hits] for hits in results], np.int64)

    def rows(self, where: str | None = None) -> "pd.DataFrame":
        """Return the rows as a pandas data frame; see `Collection.rows`."""
        import pandas as pd

        rows = list(self._rows(where))
        names = dict.fromkeys(name for row in rows for name in row["meta"])
        fixed = ("path", "start_s", "end_s", "duration_s", "label", "group", "split")
        columns: dict[str, Any] = {name: [row[name] for row in rows] for name in fixed}
        columns["flags"] = [",".join(row["flags"]) for row in rows]
        columns |= {name: [row["meta"].get(name) for row in rows] for name in names}
        return pd.DataFrame(columns).set_index(pd.Index([row["id"] for row in rows], dtype="int64", name="id"))

    def audio(self, id: int, *, context: float = 0.0) -> bytes:
        """Return the audio of a row as a WAV file.

        Args:
            id: the row.
            context: seconds before and after it.

        Raises:
            UsageError: there is no such row, or its recording is gone.
            AudioError: the recording cannot be read.
        """
        return self._request("GET", f"{self._base}/rows/{id}/audio?{urlencode({'context': context})}")

    def label(self, *, set: Mapping[str, Any], where: str | None = None) -> int:
        """Set label, group, split or metadata of rows; return the number of changed rows.

        Args:
            set: column -> value for all selected rows; None or "" deletes the value.
            where: an SQL condition; default: all rows.

        Raises:
            UsageError: the service is read-only, a column cannot be set, or more than 10 000 values would be set.
            LockedError: another process writes the collection.
        """
        ids = [row["id"] for row in self._rows(where, "label")]
        edits = [{"id": id, "column": name, "value": value} for id in ids for name, value in set.items()]
        if len(edits) > MAX_EDITS:
            raise UsageError(f"A change by a service can set {MAX_EDITS} values, not {len(edits)}. Use where.")
        return int(self._json("POST", "/labels", {"edits": edits})["changed"]) if edits else 0

    def undo_label(self, change: int | None = None) -> int:
        """Undo a change of labels, the last one by default; return the number of changed rows."""
        return int(self._json("POST", "/labels/undo", {"revision": change})["changed"])

    def fit_head(self, label: str | None = None, **options: Any) -> dict[str, Any]:
        """Train a head; return its name, classes, figures and the gain of new labels.

        Args:
            label: the label column.
            options: `kind`, `name`, `view` and `where`; see `Collection.fit_head`.
        """
        names = {"view": "using", "where": "filter"}
        return self._json(
            "POST", "/heads", {"label": label} | {names.get(name, name): value for name, value in options.items()}
        )

    def _search(self, body: Mapping[str, Any], settings: SearchOptions) -> Hits:
        """Return the hits of one query."""
        answer = self._json("POST", "/search", {**body, **search_fields(settings)})
        if settings.k is None and settings.radius is not None and len(answer["hits"]) == MAX_LIMIT:
            raise UsageError(f"More than {MAX_LIMIT} rows are within the radius; give k or a higher radius.")
        return hits_of(answer["hits"], answer["generation"])

    def _search_vectors(self, vectors: NDArray[np.float32], settings: SearchOptions) -> list[Hits]:
        """Return the hits of each vector."""
        fields, results = search_fields(settings), []
        step = max(1, min(MAX_QUERIES, MAX_HITS // fields["limit"]))
        for start in range(0, len(vectors), step):
            answer = self._json("POST", "/search", {"vector": vectors[start : start + step].tolist(), **fields})
            results += [hits_of(result["hits"], answer["generation"]) for result in answer["results"]]
        return results

    def _rows(self, where: str | None, columns: str = "") -> Iterator[dict[str, Any]]:
        """Yield the rows that meet a condition, page by page."""
        after: int | None = -1
        while after is not None:
            fields = {"limit": MAX_LIMIT, "after": after, "columns": columns}
            page = self._json("GET", f"/rows?{urlencode(fields | ({} if where is None else {'filter': where}))}")
            yield from page["rows"]
            after = page["next"]

    def _dim(self, view: str | None) -> int:
        """Return the dimension of a view; the service refuses an unknown one."""
        return self.views.get(view or self.facts()["default_view"], next(iter(self.views.values())))

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request about the collection, and return its answer."""
        answer: dict[str, Any] = json.loads(self._request(method, self._base + path, body))
        return answer

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """Send a request, and return the body of its answer; raise the error that it holds."""
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers | ({} if data is None else {"Content-Type": "application/json"})
        host, port = self._address
        connection = (
            http.client.HTTPSConnection(host, port, timeout=self.timeout, context=ssl.create_default_context())
            if self._is_secure
            else http.client.HTTPConnection(host, port, timeout=self.timeout)
        )
        try:
            connection.request(method, path, data, headers)
            reply = connection.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise DiskError(f"The service at {self.url} cannot be reached: {error or type(error).__name__}.") from error
        finally:
            connection.close()
        if reply.status >= 400:
            raise error_of(reply.status, content)
        return content


def connect(url: str, *, token: str | None = None, timeout: float = TIMEOUT_S) -> RemoteCollection:
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


def audio_fields(item: Item) -> dict[str, Any]:
    """Return a recording, or a part of one, as fields of a search."""
    return {"audio": read_audio(item.path), "start_s": item.start_s or None, "end_s": item.end_s}


def read_audio(path: str) -> str:
    """Return the bytes of a file as base64.

    Raises:
        AudioError: it cannot be read, or is not a regular file.
    """
    try:
        if not os.path.isfile(path):  # reading a named pipe would block for ever
            raise AudioError("missing", f"There is no file {path!r}, or it is not a regular file.")
        with open(path, "rb") as file:
            return base64.b64encode(file.read()).decode()
    except OSError as error:
        raise AudioError("unreadable", f"{path!r} cannot be read: {error.strerror}.") from error


def encode_example(example: str | os.PathLike[str] | int) -> str | int:
    """Return an example as the service takes it: a row, or the bytes of a file."""
    if isinstance(example, int):
        return example
    name = os.fspath(example)
    return int(name) if name.isdecimal() and not os.path.exists(name) else read_audio(name)


def search_fields(settings: SearchOptions) -> dict[str, Any]:
    """Return the options of a search as fields of its body."""
    fields = {
        name: getattr(settings, name)
        for name in ("metric", "exact", "exclude_self", "score_band", "group_by", "merge", "diverse", "align")
    }
    limit = MAX_LIMIT if settings.k is None and settings.radius is not None else settings.limit
    threshold = None if settings.radius is None else settings.min_score
    return fields | {"using": settings.view, "filter": settings.where, "limit": limit, "score_threshold": threshold}


def hits_of(values: Sequence[Mapping[str, Any]], generation: int) -> Hits:
    """Return the hits of an answer."""
    hits = RemoteHits([Hit(**value) for value in values])
    hits.generation = generation
    return hits


def best_of(results: Sequence[Hits], limit: int) -> Hits:
    """Return the best hits of several queries, each row once with its best score."""
    best: dict[int, Hit] = {}
    for hit in sorted((hit for hits in results for hit in hits), key=lambda hit: (-hit.score, hit.id)):
        best.setdefault(hit.id, hit)
    hits = RemoteHits(list(best.values())[:limit])
    hits.generation = results[-1].generation
    return hits


def error_of(status: int, content: bytes) -> EmbedxError:
    """Return the error of an answer, of the class that a local collection raises."""
    try:
        error = json.loads(content)["error"]
        code, message, hint = str(error["code"]), str(error["message"]), str(error["hint"])
    except (ValueError, KeyError, TypeError):
        return DiskError(f"The service has answered with status {status}, and not as embedx does.")
    if code in ("bad_audio", "audio_too_large"):
        return AudioError(hint.removeprefix("reason: "), message)
    text = f"{message} {hint}".strip()
    return ERRORS.get(code, DiskError if status >= 500 or status in (408, 429) else UsageError)(text)
