"""Compare a collection with what was pushed to a search engine."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from embedx.engines.collection import read_description
from embedx.engines.connections import connect
from embedx.engines.engine import Description, Engine
from embedx.engines.pushing import pages
from embedx.engines.stored import digests_of
from embedx.errors import UsageError
from embedx.index.exact import prepare
from embedx.index.matrix import Floats, Ids
from embedx.store.store import Store

SAMPLE = 50  # rows whose neighbours are searched: recall 0.99 is then measured to about 0.005
K = 10  # neighbours of each
MAX_LISTED = 20  # ids of each kind
ROUNDING = 1e-3  # relative: scores of half precision differ by this much


@dataclass
class Difference:
    """What differs between a collection and an engine.

    Attributes:
        url: the place in the engine, without a password.
        rows: rows of the collection.
        rows_there: rows in the engine.
        counts: kind of difference -> number of rows: "missing", "extra", "vectors" and "metadata".
        ids: kind -> the first ids.
        recall: view -> share of the true 10 nearest rows that the engine finds, for up to 50 rows.
    """

    url: str
    rows: int
    rows_there: int
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("missing", "extra", "vectors", "metadata"), 0)
    )
    ids: dict[str, list[int]] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)

    @property
    def is_same(self) -> bool:
        """Whether every row is in the engine as in the collection, and no other row is."""
        return not any(self.counts.values()) and self.rows == self.rows_there

    def add(self, kind: str, ids: list[int]) -> None:
        """Count rows that differ."""
        self.counts[kind] += len(ids)
        if ids:
            listed = self.ids.setdefault(kind, [])
            listed += ids[: MAX_LISTED - len(listed)]


def compare(folder: str | os.PathLike[str], url: str) -> Difference:
    """Compare every row of a collection with the engine, by the content that is there now, and measure the recall.

    Raises:
        UsageError: another collection is there, or none.
        DiskError: the engine cannot be reached.
        StoreError: the collection is damaged.
    """
    with Store(folder) as store, store.snapshot():
        engine = connect(url)
        try:
            description = read_description(engine)
            if description.store != store.record.store:
                raise UsageError(f"{engine.place} holds another collection.")
            difference = Difference(str(engine.place), store.count(), engine.count())
            views = list(description.views)
            for points, there, extra in pages(store, engine, description, whole=True):
                difference.add("extra", extra)
                difference.add("missing", [point.id for point in points if point.id not in there])
                wanted = [digests_of(point, views, engine.dtype) for point in points if point.id in there]
                difference.add("vectors", [one.id for one in wanted if there[one.id].vectors != one.vectors])
                difference.add("metadata", [one.id for one in wanted if there[one.id].row != one.row])
            if difference.rows and difference.rows_there:
                difference.recall = {view: recall_of(store, engine, description, view) for view in views}
            return difference
        finally:
            engine.close()


def recall_of(store: Store, engine: Engine, description: Description, view: str) -> float:
    """Return the share of the true nearest rows that the engine finds; rows of equal score count alike."""
    ids = store.ids()
    chosen = np.random.default_rng(0).choice(ids, min(SAMPLE, len(ids)), replace=False)
    queries = prepare(store.vectors(view, sorted(chosen.tolist()))[1], description.metric)
    k = min(K, len(ids))
    found = [engine.search(description, view, query, k, None, exact=False)[1] for query in queries]
    best, scores_of = nearest(store, description, view, queries, k, np.unique(np.concatenate([*found, []]).astype(int)))
    total = 0
    for number, row_ids in enumerate(found):
        limit = best[number, -1] - ROUNDING * max(1.0, abs(best[number, -1]))
        total += sum(row_id in scores_of and scores_of[row_id][number] >= limit for row_id in row_ids)
    return total / (k * len(queries))


def nearest(
    store: Store, description: Description, view: str, queries: Floats, k: int, wanted: Ids
) -> tuple[Floats, Mapping[int, Floats]]:
    """Return the k best scores [Q, k] of all rows, descending, and row id -> scores [Q] of the wanted rows."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    scores_of: dict[int, Floats] = {}
    for ids, block in store.blocks(view):
        vectors = prepare(block, description.metric)
        scores = queries @ vectors.T
        if description.metric == "l2":
            squares = (queries**2).sum(axis=1)[:, None] + (vectors**2).sum(axis=1) - 2 * scores
            scores = -np.sqrt(np.maximum(squares, 0))
        for place in np.flatnonzero(np.isin(ids, wanted)):
            scores_of[int(ids[place])] = scores[:, place]
        best = -np.sort(-np.concatenate([best, scores], axis=1), axis=1)[:, :k]
    return best, scores_of
