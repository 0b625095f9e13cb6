"""Answers: run queries on an index and choose the hits.

The index finds the k nearest rows. Every other way to choose hits scores all rows, and is exact.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from embedx.errors import AudioError, UsageError
from embedx.index.matrix import Floats, Ids
from embedx.search.alignment import align
from embedx.search.hit import Hit
from embedx.search.hits import Hits, hit_of
from embedx.search.options import SearchOptions, as_score
from embedx.search.queries import Query
from embedx.search.searched import RankingIndex, SearchedIndex, SearchedRows
from embedx.search.selection import best_of, first_of_each, in_band, merge_touching, mmr, rank
from embedx.store.records import Row

PAGE = 1000  # rows that are read from the store at a time, if it is not known how many are needed
MAX_SCORES = 1 << 24  # scores in memory at a time: 64 MB of float32
MAX_SPARE = 10  # rows that one query leaves out: more would need another setting of an approximate index
MIN_CANDIDATES, CANDIDATES_PER_HIT = 100, 10  # nearest rows that `diverse` chooses from
COLUMNS = ("path", "start_s", "end_s", "duration_s", "label", "group", "split", "flags")  # columns of every row


class Answers(dict[str, Hits]):
    """Name of a query -> its hits, in the order of the queries.

    `failures` maps the names of the other queries to the reason why they have no hits. `generation` is the state of the
    collection that was searched: it grows with every change of rows or vectors.
    """

    generation: int | None = None

    failures: Mapping[str, AudioError] = MappingProxyType({})


def run_query(
    store: SearchedRows, index: SearchedIndex, query: Query, options: SearchOptions, include_ids: Ids | None = None
) -> Hits:
    """Return the hits of a query, best first, only from `include_ids` if it is given."""
    if options.is_plain and len(query.exclude_ids) <= MAX_SPARE:
        return run_queries(store, index, [query], options, include_ids)[0]
    if options.is_plain:
        return hits_of(store, *nearest(index, query, options.limit, include_ids, options.exact))
    if options.diverse is not None:
        return hits_of(store, *most_diverse(index, query, options, options.diverse, include_ids))
    if options.align:
        return aligned(store, index, query, options, include_ids)
    ids, scores = score_rows(index, query, include_ids)
    ids, scores = rank(ids[scores >= options.min_score], scores[scores >= options.min_score])
    if options.score_band is not None:
        low, high = map(as_score, options.score_band)
        return hits_of(store, *in_band(ids, scores, low, high, options.limit))
    if options.group_by is not None:
        column = options.group_by
        pairs = first_of_each(in_order(store, ids, scores), lambda pair: value_of(pair[0], column), options.limit)
        return Hits([hit_of(row, score) for row, score in pairs])
    if options.merge:
        ranked = (hit_of(row, score) for row, score in in_order(store, ids, scores))
        return Hits(merge_touching(ranked, options.limit))
    return hits_of(store, ids[: options.limit], scores[: options.limit])


def run_queries(
    store: SearchedRows,
    index: SearchedIndex,
    queries: Sequence[Query],
    options: SearchOptions,
    include_ids: Ids | None = None,
) -> list[Hits]:
    """Return the hits of several queries. Plain ones are searched together, in one call of the index."""
    spare = max((len(query.exclude_ids) for query in queries), default=0)
    if not options.is_plain or not queries or spare > MAX_SPARE:
        return [run_query(store, index, query, options, include_ids) for query in queries]
    answers = rank_queries(index, queries, options, include_ids)
    rows: dict[int, Row] = {}
    wanted = np.unique(np.concatenate([ids for ids, _ in answers])).tolist()
    for start in range(0, len(wanted), PAGE):
        rows |= {row.id: row for row in store.rows(wanted[start : start + PAGE])}
    return [
        Hits([hit_of(rows[row_id], score) for row_id, score in zip(ids.tolist(), scores.tolist(), strict=True)])
        for ids, scores in answers
    ]


def rank_queries(
    index: RankingIndex, queries: Sequence[Query], options: SearchOptions, include_ids: Ids | None = None
) -> list[tuple[Ids, Floats]]:
    """Return ids and scores of the k nearest rows of each query, best first, from one call of the index.

    Args:
        index: the index.
        queries: the queries, each with at most `MAX_SPARE` rows that cannot be hits.
        options: `limit` and `exact` are used.
        include_ids: search only these rows.
    """
    if not queries:
        return []
    vectors = np.concatenate([query.vectors for query in queries])
    spare = max(len(query.exclude_ids) for query in queries)
    all_scores, all_ids = index.search(
        vectors, options.limit, include_ids=include_ids, exact=options.exact, spare=spare
    )
    answers, begin = list[tuple[Ids, Floats]](), 0
    for query in queries:
        end = begin + len(query.vectors)
        ids, scores = all_ids[begin], all_scores[begin]
        if len(query.vectors) > 1:
            ids, scores = best_of(all_ids[begin:end], all_scores[begin:end])
        if len(query.exclude_ids):
            kept = (ids[:, None] != query.exclude_ids).all(axis=1)
            ids, scores = ids[kept], scores[kept]
        answers.append((ids[: options.limit], scores[: options.limit]))
        begin = end
    return answers


def nearest(index: SearchedIndex, query: Query, k: int, include_ids: Ids | None, exact: bool) -> tuple[Ids, Floats]:
    """Return ids and scores of the k rows that are nearest to any of the query vectors, best first."""
    scores, ids = index.search(query.vectors, k, include_ids=include_ids, exclude_ids=query.exclude_ids, exact=exact)
    ids, scores = best_of(ids, scores)
    return ids[:k], scores[:k]


def most_diverse(
    index: SearchedIndex, query: Query, options: SearchOptions, weight: float, include_ids: Ids | None
) -> tuple[Ids, Floats]:
    """Choose k of the nearest rows that differ from each other; see `mmr`."""
    count = max(MIN_CANDIDATES, CANDIDATES_PER_HIT * options.limit)
    ids, scores = nearest(index, query, count, include_ids, options.exact)
    places = mmr(scores, index.vectors(ids), weight, options.limit, index.metric)
    return ids[places], scores[places]


def score_rows(index: SearchedIndex, query: Query, include_ids: Ids | None) -> tuple[Ids, Floats]:
    """Return the ids [N] of all rows, ascending, and their scores [N] to the nearest query vector."""
    step = max(1, MAX_SCORES // max(1, len(index)))
    blocks = [query.vectors[start : start + step] for start in range(0, len(query.vectors), step)]
    ids, scores = index.scores(blocks[0], include_ids=include_ids, exclude_ids=query.exclude_ids)
    best: Floats = scores.max(axis=0)
    for block in blocks[1:]:
        _, scores = index.scores(block, include_ids=include_ids, exclude_ids=query.exclude_ids)
        best = np.maximum(best, scores.max(axis=0))
    return ids, best


def aligned(
    store: SearchedRows, index: SearchedIndex, query: Query, options: SearchOptions, include_ids: Ids | None
) -> Hits:
    """Return the best place of the query's windows in every recording; see `align`."""
    if not query.places:
        raise UsageError("align compares the windows of a recording: give an audio file, or a part of one, as query.")
    alignments = align(store, index, query, include_ids)
    alignments = [place for place in alignments if place.score >= options.min_score][: options.limit]
    rows = {row.id: row for row in store.rows([place.id for place in alignments])}
    return Hits(
        [
            Hit(place.id, place.score, place.path, place.start_s, place.end_s, row.label, row.meta, place.query_start_s)
            for place in alignments
            if (row := rows.get(place.id))
        ]
    )


def hits_of(store: SearchedRows, ids: Ids, scores: Floats) -> Hits:
    """Return rows with their scores as hits, in the given order."""
    return Hits([hit_of(row, score) for row, score in in_order(store, ids, scores)])


def in_order(store: SearchedRows, ids: Ids, scores: Floats) -> Iterator[tuple[Row, float]]:
    """Yield rows with their scores in the given order; a page of rows is read when it is needed."""
    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE].tolist()
        rows = {row.id: row for row in store.rows(page)}
        for row_id, score in zip(page, scores[start : start + PAGE].tolist(), strict=True):
            if row_id in rows:  # else another process has deleted it
                yield rows[row_id], score


def value_of(row: Row, column: str) -> Any:
    """Return the value of a row in a column, None if it has none; "recording" is the path."""
    if column in ("recording", "path"):
        return row.path
    if column == "duration_s":
        return row.end_s - row.start_s
    value = getattr(row, column) if column in COLUMNS else row.meta.get(column)
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def check_column(store: SearchedRows, column: str) -> None:
    """Refuse a column to group by that no row has."""
    known = ["recording", *COLUMNS, *store.columns]
    if column not in known:
        raise UsageError(f"No row has a column {column!r} to group by. Columns: {', '.join(known)}.")
