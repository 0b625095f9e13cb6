"""Several: the rows of several collections of one recipe, as the store and the index of one collection.

Row `id` of collection number `n` has the id n * MAX_ROWS + id among all rows. So rows of equal score are in the order
of the collections, and then of their ids, as in one collection to which they were added one after the other.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np

from embedx.errors import NothingToDo, StoreError
from embedx.index.exact import merge
from embedx.index.manager import IndexManager
from embedx.index.matrix import Floats, Ids
from embedx.index.vector_index import VectorIndex
from embedx.store.records import Row
from embedx.store.store import Store

Answer = TypeVar("Answer")
MAX_ROWS = 1 << 40  # larger than the row ids of a collection: a million rows in each second for twelve days


def joint_ids(number: int, ids: Ids) -> Ids:
    """Return the ids that rows of a collection have among all rows.

    >>> joint_ids(1, np.array([3, 5])) - MAX_ROWS
    array([3, 5])

    Raises:
        StoreError: an id is too large.
    """
    if ids.size and not 0 <= ids.min() <= ids.max() < MAX_ROWS:
        raise StoreError(f"The row ids {ids.min()} to {ids.max()} are too large for a search in several collections.")
    return ids + number * MAX_ROWS


def own_ids(number: int, ids: Ids) -> Ids:
    """Return which of the ids among all rows are of a collection, as the ids that they have there."""
    own: Ids = ids[ids // MAX_ROWS == number] - number * MAX_ROWS
    return own


class SeveralStores:
    """The stores of several collections, as far as a search needs them.

    A column that only some collections have is empty in the others. It holds numbers if it does in all that have it.
    """

    generation: int | None = None  # each collection has its own

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = stores

    @property
    def folder(self) -> str:
        """The folders, for messages."""
        return ", ".join(str(store.folder) for store in self.stores)

    @property
    def views(self) -> dict[str, int]:
        """Name and dimension of every view, the same in all collections."""
        return self.stores[0].views

    @property
    def columns(self) -> dict[str, str]:
        """Metadata column -> "number" (it holds only numbers) or "text"."""
        kinds: dict[str, str] = {}
        for store in self.stores:
            for name, kind in store.columns.items():
                kinds[name] = kind if kinds.get(name, kind) == kind else "text"
        return dict(sorted(kinds.items()))

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Within this context, read one state of each collection."""
        with ExitStack() as stack:
            for store in self.stores:
                stack.enter_context(store.snapshot())
            yield

    def rows(self, ids: Sequence[int] | None = None, paths: Iterable[str] | None = None) -> list[Row]:
        """Return the rows of some ids, or of some recordings, in the order of their ids."""
        numbers = np.array([] if ids is None else ids, np.int64)
        names = None if paths is None else list(paths)
        found = []
        for number, store in enumerate(self.stores):
            own = own_ids(number, numbers)
            with store.snapshot():
                rows = store.rows(own.tolist()) if names is None and len(own) else []
                rows = store.rows(paths=names) if names is not None else rows
            new = joint_ids(number, np.array([row.id for row in rows], np.int64)).tolist()
            found += [replace(row, id=row_id) for row, row_id in zip(rows, new, strict=True)]
        return found

    def paths_of(self, content_hash: str) -> list[str]:
        """Return the paths of the recordings with this content."""
        return list(dict.fromkeys(path for store in self.stores for path in store.paths_of(content_hash)))

    def vectors(self, view: str, ids: Sequence[int] | None = None) -> tuple[Ids, Floats]:
        """Return ids [N], ascending, and vectors [N, D] of a view; ids that do not exist are left out."""
        numbers = np.array([] if ids is None else ids, np.int64)
        found, vectors = [np.zeros(0, np.int64)], [np.zeros((0, self.views[view]), np.float32)]
        for number, store in enumerate(self.stores):
            if len(own := own_ids(number, numbers)):
                with store.snapshot():
                    own, matrix = store.vectors(view, own.tolist())
                found.append(joint_ids(number, own))
                vectors.append(matrix)
        return np.concatenate(found), np.concatenate(vectors)

    def filter(self, where: str, timeout: float) -> Ids:
        """Return the ids of the rows that meet a condition; each collection has the whole time for it."""
        columns = self.columns
        found = [store.filter(where, timeout, columns) for store in self.stores]
        return np.concatenate([joint_ids(number, ids) for number, ids in enumerate(found)])


class SeveralIndexes:
    """The indexes of one view of several collections, as one index; the best rows of each are merged.

    Each answer comes from the rows that are in the snapshot, also if an index is built again meanwhile.

    Args:
        indexes: number of a collection -> its indexes.
        view: the view.
        metric: "cosine", "ip" or "l2".
    """

    def __init__(self, indexes: Mapping[int, IndexManager], view: str, metric: str) -> None:
        self.indexes, self.view, self.metric = indexes, view, metric

    def _ask(self, number: int, query: Callable[[VectorIndex], Answer]) -> Answer:
        """Return the answer of the index of a collection."""
        return self.indexes[number].ask(self.view, self.metric, query)

    def _parts(self, include_ids: Ids | None, exclude_ids: Ids | None) -> Iterator[tuple[int, Ids | None, Ids | None]]:
        """Yield the collections in which rows can be hits, with the ids to include and to exclude there."""
        for number in self.indexes:
            include = None if include_ids is None else own_ids(number, include_ids)
            exclude = None if exclude_ids is None else own_ids(number, exclude_ids)
            if include is None or len(include):
                yield number, include, exclude

    def __len__(self) -> int:
        return sum(self._ask(number, len) for number in self.indexes)

    @property
    def ids(self) -> Ids:
        """The ids [N] of all rows, ascending."""
        return np.concatenate([joint_ids(n, self._ask(n, lambda index: index.ids)) for n in self.indexes])

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        include_ids: Ids | None = None,
        exclude_ids: Ids | None = None,
        exact: bool = False,
        spare: int = 0,
    ) -> tuple[Floats, Ids]:
        """Return scores [Q, K] and ids [Q, K] of the nearest vectors, best first; see `VectorIndex.search`."""
        none = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        results: list[tuple[Floats, Ids]] = [none]
        for number, include, exclude in self._parts(include_ids, exclude_ids):
            chosen = partial(VectorIndex.search, include_ids=include, exclude_ids=exclude)
            scores, ids = self._ask(number, partial(chosen, queries=queries, k=k, exact=exact, spare=spare))
            results.append((scores, joint_ids(number, ids)))
        return merge(results, k + spare)

    def scores(
        self, queries: Floats, *, include_ids: Ids | None = None, exclude_ids: Ids | None = None
    ) -> tuple[Ids, Floats]:
        """Return ids [N], ascending, and exact scores [Q, N] of all rows; see `VectorIndex.scores`."""
        found, parts = [np.zeros(0, np.int64)], [np.zeros((len(queries), 0), np.float32)]
        for number, include, exclude in self._parts(include_ids, exclude_ids):
            query = partial(VectorIndex.scores, queries=queries, include_ids=include, exclude_ids=exclude)
            ids, scores = self._ask(number, query)
            found.append(joint_ids(number, ids))
            parts.append(scores)
        return np.concatenate(found), np.concatenate(parts, axis=1)

    def vectors(self, ids: Ids) -> Floats:
        """Return the vectors [N, D] of rows in the given order; see `VectorIndex.vectors`."""
        parts = {n: self._ask(n, partial(VectorIndex.vectors, ids=own_ids(n, ids))) for n in self.indexes}
        dim = next(iter(parts.values())).shape[1]
        vectors = np.empty((len(ids), dim), np.float32)
        for number, part in parts.items():
            vectors[ids // MAX_ROWS == number] = part
        return vectors


class SeveralManagers:
    """The indexes of several collections.

    Args:
        managers: the indexes of each collection.
        names: the name of each collection, for messages.
    """

    def __init__(self, managers: Sequence[IndexManager], names: Sequence[str]) -> None:
        self.managers, self.names = managers, names

    def ask(self, view: str, metric: str, query: Callable[[SeveralIndexes], Answer]) -> Answer:
        """Run a query on the indexes of a view, of all collections that have rows.

        Raises:
            NothingToDo: no collection has rows.
        """
        filled = {number: manager for number, manager in enumerate(self.managers) if manager.store.count()}
        if not filled:
            raise NothingToDo(f"There are no rows in {', '.join(self.names)}.")
        return query(SeveralIndexes(filled, view, metric))
