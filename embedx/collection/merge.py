"""Merge: put collections of one recipe together."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from embedx.errors import UsageError
from embedx.store.records import Recording, Row
from embedx.store.store import Store

COMMIT_RECORDINGS = 256  # that a merge writes in one transaction


def merge(sources: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], *, wait: bool = False) -> int:
    """Put the recordings of several collections of one recipe into one, and return how many were added.

    What `out` has already is left as it is, so that a merge that was killed goes on where it stopped. Rows get new ids,
    in the order of their paths. Where several sources hold one recording, one that did not fail and is newest is taken.

    Raises:
        RecipeMismatch: two of them were made by different recipes; the fields are named.
        UsageError: a source is no collection, or is `out` itself.
    """
    if any(os.path.realpath(one) == os.path.realpath(out) for one in sources):
        raise UsageError(f"{os.fspath(out)} cannot be merged into itself.")
    if not sources:
        raise UsageError("Name the collections that are to be merged.")
    stores = [Store(one) for one in sources]
    try:
        first = stores[0]
        for other in stores[1:]:
            other.recipe.require_same(first.recipe, str(first.folder))
        with Store.create(out, first.recipe, next(iter(first.views.values())), first.dtype, wait=wait) as target:
            return copy_into(target, stores)
    finally:
        for store in stores:
            store.close()


def copy_into(target: Store, stores: Sequence[Store]) -> int:
    """Copy the recordings that a store lacks from others."""
    chosen: dict[str, tuple[Recording, Store]] = {}
    known = target.recordings()
    for store in stores:
        for path, one in store.recordings().items():
            best = chosen[path][0] if path in chosen else known.get(path)
            if best is None or rank(one) > rank(best):
                chosen[path] = one, store
    run = 0
    next_id = target.next_id()
    todo = iter(sorted(chosen.items(), key=lambda pair: walk_order(pair[0])))
    while some := list(islice(todo, COMMIT_RECORDINGS)):
        run = run or target.start_run({"merged": [str(store.folder) for store in stores]})
        batch = []
        for path, (recording, store) in some:
            rows = []
            for row, vectors in rows_with_vectors(store, path):
                rows.append((replace(row, id=next_id), vectors))
                next_id += 1
            batch.append((recording, rows))
        target.add(batch, run)
    return len(chosen)


def rank(recording: Recording) -> tuple[bool, int]:
    """Say which of two records of one file is to be believed: one that did not fail, then the newer."""
    return not recording.reason, -1 if recording.mtime_ns is None else recording.mtime_ns


def rows_with_vectors(store: Store, path: str) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Yield the rows of a recording, each with its vector in every view."""
    rows = store.rows(path=path)
    matrices = {view: store.vectors(view, [row.id for row in rows])[1] for view in store.views}
    for place, row in enumerate(rows):
        yield row, {view: matrix[place] for view, matrix in matrices.items()}


def walk_order(path: str) -> tuple[list[bytes], bytes]:
    """Return a key that sorts paths as `embedx.datasets.walk` yields them: files of a folder before its folders.

    >>> sorted(["/a/z.wav", "/a/b/c.wav", "/a/a.wav"], key=walk_order)
    ['/a/a.wav', '/a/z.wav', '/a/b/c.wav']
    """
    folder, name = os.path.split(os.fsencode(path))
    return folder.split(b"/"), name
