"""Searching: the queries of a request -> answers from one state of a collection."""

import base64
import binascii
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from embedx.errors import AudioError
from embedx.search.hits import Hits
from embedx.server.answers import Paths, state_of
from embedx.server.bodies import AudioFiles, Uploads, audio_files
from embedx.server.errors import ApiError, api_error
from embedx.server.json_filter import read_filter
from embedx.server.schemas import AudioPart, SearchBody
from embedx.server.served_engine import AnyCollection, AnyServed
from embedx.server.settings import Limits

KINDS = ("id", "vector", "audio", "text")
MAX_END_S = 10_000_000.0  # of a part of a recording without an end; no file is longer


def answer_search(served: AnyServed, body: SearchBody, uploads: Uploads, limits: Limits) -> dict[str, Any]:
    """Return the answer to a search.

    Raises:
        ApiError: the request is invalid.
    """
    start = time.perf_counter()
    queries, is_many = queries_of(body, limits)
    with audio_files(uploads) as files, served.use() as collection:
        state, paths, results = state_of(collection), Paths(collection), []
        options = options_of(body, limits)
        for name, query in enumerate(queries):
            try:
                hits = collection.search(**with_files(query, body, files), **options)
            except AudioError as error:
                if not is_many:
                    raise
                results.append({"name": str(name), "hits": [], **api_error(error, served.name).to_json()})
            else:
                results.append({"name": str(name), "hits": shown(collection, paths, hits, body)})
    facts = state | {"took_ms": round(1000 * (time.perf_counter() - start), 3)}
    return ({"results": results} if is_many else {"hits": results[0]["hits"]}) | facts


def queries_of(body: SearchBody, limits: Limits) -> tuple[list[dict[str, Any]], bool]:
    """Return the queries of a request as arguments of `Collection.search`, and whether they are a list.

    Raises:
        ApiError: there is not exactly one kind of query, or there are too many.
    """
    kinds: list[str] = [kind for kind in KINDS if getattr(body, kind) is not None]
    if body.like or body.unlike:
        kinds.append("like")
    if len(kinds) != 1:
        raise ApiError(400, "bad_query", "Give exactly one of id, vector, audio, text, or like and unlike.")
    check_page(body.limit, limits)
    if len(body.like) + len(body.unlike) > limits.queries:
        raise ApiError(400, "too_many_queries", f"A request may have {limits.queries} examples.")
    (kind,) = kinds
    if kind == "like":
        return [{"like": body.like, "unlike": body.unlike}], False
    value = read_vector(body.vector) if kind == "vector" else getattr(body, kind)
    if body.join and kind != "vector":
        raise ApiError(400, "bad_query", "join is an option of vectors.")
    is_many = isinstance(value, list) or (isinstance(value, np.ndarray) and value.ndim == 2 and not body.join)
    values = list(value) if is_many else [value]
    if not values:
        raise ApiError(400, "bad_query", f"{kind} is an empty list.")
    count = len(value) if body.join and value.ndim == 2 else len(values)
    if count > limits.queries or len(values) * body.limit > limits.all_hits:
        raise ApiError(
            400,
            "too_many_queries",
            f"A request may have {limits.queries} queries, and {limits.all_hits} hits in all.",
        )
    return [{"query" if kind == "audio" else kind: one} for one in values], is_many


def check_page(limit: int, limits: Limits) -> None:
    """Refuse a larger number of hits or rows than allowed."""
    if limit > limits.hits:
        raise ApiError(400, "limit_too_large", f"limit may be at most {limits.hits}.")


def read_vector(value: Any) -> Any:
    """Return a vector [D] or vectors [Q, D] from lists of numbers, or a vector from base64 of float32.

    Raises:
        ApiError: it is neither.
    """
    try:
        if isinstance(value, str):
            vector = np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
        else:
            vector = np.asarray(value, np.float32) if is_numeric(value) else np.zeros(0, np.float32)
    except (ValueError, TypeError, OverflowError, binascii.Error):
        vector = np.zeros(0, np.float32)
    if vector.ndim not in (1, 2) or not vector.size or not np.isfinite(vector).all():
        raise ApiError(
            400, "bad_vector", "vector is a list of finite numbers, a list of such lists, or base64 of float32."
        )
    return vector


def is_numeric(value: Any) -> bool:
    """Tell whether a value is a list of numbers, or of lists of numbers of one length."""
    rows = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    return all(
        isinstance(row, list) and len(row) == len(rows[0]) and all(type(one) in (int, float) for one in row)
        for row in rows
    )


def options_of(body: SearchBody, limits: Limits) -> dict[str, Any]:
    """Return the options of `Collection.search`."""
    threshold = body.score_threshold
    if threshold is not None and body.metric == "l2":
        threshold = -threshold  # a score is the negative distance, a radius the distance
    return {
        "k": body.limit,
        "where": read_filter(body.filter, limits.filter),
        "timeout": timeout_of(body.timeout, limits),
        "view": body.using,
        "metric": body.metric,
        "exact": body.exact,
        "exclude_self": body.exclude_self,
        "radius": threshold,
        "score_band": body.score_band,
        "group_by": body.group_by,
        "merge": body.merge,
        "diverse": body.diverse,
        "align": body.align,
    }


def timeout_of(seconds: float | None, limits: Limits) -> float:
    """Return the seconds that a filter can take: those of the client, but not more than a request may take."""
    return limits.request_s if seconds is None else min(seconds, limits.request_s)


def with_files(query: Mapping[str, Any], body: SearchBody, files: AudioFiles) -> dict[str, Any]:
    """Return a query with the paths of temporary files in place of audio."""
    query = dict(query)
    if "query" in query:
        query["query"] = add_part(files, AudioPart(audio=query["query"], start_s=body.start_s, end_s=body.end_s))
    for name in ("like", "unlike"):
        if name in query:
            query[name] = [one if isinstance(one, int) else add_part(files, one) for one in query[name]]
    return query


def add_part(files: AudioFiles, example: str | AudioPart) -> str:
    """Write audio to a temporary file, and return its name for `Collection.search`, with the part to use."""
    part = AudioPart(audio=example) if isinstance(example, str) else example
    path = files.add(part.audio)
    if part.start_s is None and part.end_s is None:
        return path
    return f"{path}#{part.start_s or 0.0:.9f}-{MAX_END_S if part.end_s is None else part.end_s:.9f}"


def shown(collection: AnyCollection, paths: Paths, hits: Hits, body: SearchBody) -> list[dict[str, Any]]:
    """Return hits as JSON values, with their vectors if they are asked for."""
    vector_of = vectors_of(collection, {hit.id for hit in hits}, body)
    return [paths.hit(hit, vector_of.get(hit.id)) for hit in hits]


def vectors_of(collection: AnyCollection, ids: Iterable[int], body: SearchBody) -> dict[int, list[float]]:
    """Return the vectors of hits by their ids, if they are asked for."""
    if not body.with_vector:
        return {}
    found, vectors = collection.store.vectors(body.using or collection.default_view, sorted(ids))
    return dict(zip(found.tolist(), vectors.tolist(), strict=True))
