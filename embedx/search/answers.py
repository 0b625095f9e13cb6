"""Search: a question -> hits. By file, row, vector, examples or text; the nearest, or chosen in another way.

Where an index may find the k nearest, it is asked; every other way of choosing scores all rows and is exact.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from embedx.errors import AudioError, UsageError
from embedx.index.matrix import Floats, Ids
from embedx.index.vector_index import VectorIndex
from embedx.search.alignment import align
from embedx.search.hits import Hit, Hits, hit_of
from embedx.search.options import SearchOptions
from embedx.search.queries import Query
from embedx.search.selection import best_of, first_of_each, in_band, merge_touching, mmr, rank
from embedx.store.records import Row
from embedx.store.store import Store

PAGE = 1000  # rows that are looked up at a time where it is not known how many are needed
MOST_SCORES = 1 << 24  # scores that are held at a time: 64 MB of float32
CANDIDATES, CANDIDATES_PER_HIT = 100, 10  # what `diverse` chooses from
COLUMNS = ("path", "start_s", "end_s", "duration_s", "label", "group", "split", "flags")  # what a row has of its own


class Answers(dict[str, Hits]):
    """Name of a query -> its hits, in the order of the queries. `failures` says why others have none."""

    failures: Mapping[str, AudioError] = MappingProxyType({})


def run_query(store: Store, index: VectorIndex, question: Query, choice: SearchOptions, keep: Ids | None) -> Hits:
    """Return the rows that are chosen, of those in `keep` if it is given; fewer than k only where there are fewer."""
    if choice.is_plain:
        ids, scores = nearest(index, question, choice.limit, keep, choice.exact)
        return hits_of(store, ids, scores)
    if choice.diverse is not None:
        return hits_of(store, *most_diverse(index, question, choice, keep))
    if choice.align:
        return aligned(store, index, question, choice, keep)
    ids, scores = every_score(index, question, keep)
    ids, scores = rank(ids[scores >= choice.least], scores[scores >= choice.least])
    if choice.score_band is not None:
        return hits_of(store, *in_band(ids, scores, *choice.score_band, choice.limit))
    if choice.group_by is not None:
        column = choice.group_by
        found = first_of_each(in_order(store, ids, scores), lambda one: value_of(one[0], column), choice.limit)
        return Hits([hit_of(*one) for one in found])
    if choice.merge:
        return Hits(merge_touching((hit_of(*one) for one in in_order(store, ids, scores)), choice.limit))
    return hits_of(store, ids[: choice.limit], scores[: choice.limit])


def run_queries(
    store: Store, index: VectorIndex, questions: Sequence[Query], choice: SearchOptions, keep: Ids | None
) -> list[Hits]:
    """Answer several questions; the nearest are looked for in one go."""
    if not choice.is_plain or not questions:
        return [run_query(store, index, question, choice, keep) for question in questions]
    deep = choice.limit + max(len(question.drop) for question in questions)  # so that k are left without those
    scores, ids = index.search(np.concatenate([one.vectors for one in questions]), deep, keep=keep, exact=choice.exact)
    answers, begin = [], 0
    for question in questions:
        end = begin + len(question.vectors)
        mine, their_scores = best_of(ids[begin:end], scores[begin:end])
        kept = np.flatnonzero(~np.isin(mine, question.drop))[: choice.limit]
        answers.append(hits_of(store, mine[kept], their_scores[kept]))
        begin = end
    return answers


def nearest(index: VectorIndex, question: Query, k: int, keep: Ids | None, exact: bool) -> tuple[Ids, Floats]:
    """Return ids and scores of the k rows that are nearest to any of the query vectors, best first."""
    scores, ids = index.search(question.vectors, k, keep=keep, drop=question.drop, exact=exact)
    ids, scores = best_of(ids, scores)
    return ids[:k], scores[:k]


def most_diverse(index: VectorIndex, question: Query, choice: SearchOptions, keep: Ids | None) -> tuple[Ids, Floats]:
    """Choose k of the nearest that are unlike each other; see `mmr`."""
    assert choice.diverse is not None
    count = max(CANDIDATES, CANDIDATES_PER_HIT * choice.limit)
    ids, scores = nearest(index, question, count, keep, choice.exact)
    places = mmr(scores, index.vectors(ids), choice.diverse, choice.limit, index.metric)
    return ids[places], scores[places]


def every_score(index: VectorIndex, question: Query, keep: Ids | None) -> tuple[Ids, Floats]:
    """Return the ids [N] of all rows, ascending, and their scores [N] to the nearest query vector."""
    step = max(1, MOST_SCORES // max(1, len(index)))
    blocks = [question.vectors[start : start + step] for start in range(0, len(question.vectors), step)]
    ids, scores = index.scores(blocks[0], keep=keep, drop=question.drop)
    best: Floats = scores.max(axis=0)
    for block in blocks[1:]:
        best = np.maximum(best, index.scores(block, keep=keep, drop=question.drop)[1].max(axis=0))
    return ids, best


def aligned(store: Store, index: VectorIndex, question: Query, choice: SearchOptions, keep: Ids | None) -> Hits:
    """Lay the windows of the query on every recording; see `align`."""
    if not question.places:
        raise UsageError("align lays the windows of a recording on others: give an audio file or a stretch as query.")
    found = [one for one in align(store, index, question, keep) if one.score >= choice.least][: choice.limit]
    rows = {row.id: row for row in store.rows([one.id for one in found])}
    return Hits(
        [
            Hit(one.id, one.score, one.path, one.start_s, one.end_s, row.label, row.meta, one.query_start_s)
            for one in found
            if (row := rows.get(one.id))
        ]
    )


def hits_of(store: Store, ids: Ids, scores: Floats) -> Hits:
    """Return rows with their scores, in the order given."""
    return Hits([hit_of(*one) for one in in_order(store, ids, scores)])


def in_order(store: Store, ids: Ids, scores: Floats) -> Iterator[tuple[Row, float]]:
    """Yield rows with their scores in the order given, looked up as they are needed."""
    for start in range(0, len(ids), PAGE):
        some = ids[start : start + PAGE].tolist()
        rows = {row.id: row for row in store.rows(some)}
        for number, score in zip(some, scores[start : start + PAGE].tolist(), strict=True):
            if number in rows:  # else it was deleted since
                yield rows[number], score


def value_of(row: Row, column: str) -> Any:
    """Return what a row has in a column, None where it has nothing; "recording" is its path."""
    if column in ("recording", "path"):
        return row.path
    if column == "duration_s":
        return row.end_s - row.start_s
    value = getattr(row, column) if column in COLUMNS else row.meta.get(column)
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def check_column(store: Store, column: str) -> None:
    """Refuse to group by a column that no row has."""
    known = ["recording", *COLUMNS, *store.columns]
    if column not in known:
        raise UsageError(f"No row has a column {column!r} to group by. Columns: {', '.join(known)}.")
