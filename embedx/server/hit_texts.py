"""Hit texts: the rows of hits as JSON, kept for one state of a collection, so that a row is read once in this state."""

import math
from collections.abc import Iterable, Mapping, Sequence

from embedx.collection.collection import Collection
from embedx.search.hits import hit_of
from embedx.server.answers import Paths, json_text

MAX_BYTES = 64 << 20  # of the texts of a collection: some 100 000 rows with little metadata
OBJECTS = 400  # bytes that a row needs besides its characters: strings, a tuple, a number, a place in the dict

Texts = dict[int, tuple[str, str]]  # id -> the JSON of a hit before and after its score


class HitTexts:
    """The JSON of the rows of a collection; it is forgotten when the files of the store change, or are too many."""

    def __init__(self) -> None:
        self._state: tuple[object, ...] | None = None
        self._texts: Texts = {}
        self._size = 0

    def read(self, collection: Collection, paths: Paths, ids: Iterable[int]) -> Texts:
        """Return the texts of some rows, and perhaps of others; called within a snapshot, by one thread at a time.

        Raises:
            StoreError: a row is damaged or missing.
        """
        state = collection.store.state
        if state != self._state or self._size > MAX_BYTES:
            self._state, self._texts, self._size = state, {}, 0
        missing = sorted(set(ids).difference(self._texts))
        for row in collection.store.rows(missing) if missing else ():
            before, _, after = json_text(paths.hit(hit_of(row, 0.0))).partition('"score":0.0')
            self._texts[row.id] = f'{before}"score":', after
            self._size += len(before) + len(after) + OBJECTS
        return self._texts


def hits_text(texts: Texts, ids: Sequence[int], scores: Sequence[float], vectors: Mapping[int, list[float]]) -> str:
    """Return hits as a JSON list, with their vectors if there are some."""
    hits = []
    for row_id, score in zip(ids, scores, strict=True):
        before, after = texts[row_id]
        if row_id in vectors:
            after = f'{after[:-1]},"vector":{json_text(vectors[row_id])}}}'
        hits.append(f"{before}{score if math.isfinite(score) else 'null'}{after}")
    return f"[{','.join(hits)}]"
