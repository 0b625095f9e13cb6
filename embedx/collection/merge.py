"""Merge: copy the recordings of several collections of one recipe into one collection."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from embedx.arguments.keywords import with_known_keywords
from embedx.errors import UsageError
from embedx.store.edits import Edit, identity
from embedx.store.records import Recording, Row
from embedx.store.store import Store

COMMIT_RECORDINGS = 256  # recordings that a merge writes in one transaction


@with_known_keywords
def merge(sources: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], *, wait: bool = False) -> int:
    """Copy the recordings of several collections of one recipe into one collection.

    Recordings that `out` already has stay as they are, so a merge that was killed can be run again and continues. Rows
    get new ids, in the order of their paths. If several sources have a recording, one that did not fail is used, and of
    these the newest. The edits of all sources are copied, also those of recordings that `out` already has.

    Args:
        sources: the folders of the collections to copy from.
        out: the folder of the collection to copy to; it is made if it does not exist.
        wait: wait while another process writes `out`, instead of raising LockedError.

    Returns:
        The number of recordings that were copied.

    Raises:
        RecipeMismatch: two collections have different recipes; the message names the fields.
        UsageError: there are no sources, one is not a collection, or one is `out` itself.
        LockedError: another process writes `out`, and `wait` is not set.
    """
    if any(os.path.realpath(source) == os.path.realpath(out) for source in sources):
        raise UsageError(f"{os.fspath(out)} is also one of the sources. Give another folder with -o.")
    if not len(sources):
        raise UsageError("Give at least one collection to merge.")
    stores = [Store(source) for source in sources]
    try:
        first = stores[0]
        for other in stores[1:]:
            other.recipe.require_same(first.recipe, str(first.folder), str(other.folder))
        with Store.create(out, first.recipe, next(iter(first.views.values())), first.dtype, wait=wait) as target:
            return copy_into(target, stores)
    finally:
        for store in stores:
            store.close()


def merge_shard(shard: str | os.PathLike[str], out: str | os.PathLike[str], paths: Sequence[str], wait: bool) -> int:
    """Copy the recordings of a shard that `out` lacks; the new rows follow the order of `paths`, as in one run.

    Args:
        shard: the collection of the shard.
        out: the collection to copy to; it is made if it does not exist.
        paths: the recordings of the shard, in the order of the source.
        wait: wait while another process writes `out`.

    Returns:
        The number of recordings that were copied.
    """
    places = {path: place for place, path in enumerate(paths)}
    with Store(shard) as store:
        first = store.recipe, next(iter(store.views.values())), store.dtype
        with Store.create(out, *first, wait=wait) as target:
            return copy_into(target, [store], places.__getitem__, store.last_run())


def copy_into(
    target: Store,
    stores: Sequence[Store],
    order: Callable[[str], Any] | None = None,
    about: Mapping[str, Any] | None = None,
) -> int:
    """Copy the recordings that are missing in a store from other stores.

    Args:
        target: the store to copy to.
        stores: the stores to copy from.
        order: the sort key of a path; the new rows get their ids in this order. Default: `walk_order`.
        about: what the target records about the run.

    Returns:
        The number of recordings that were copied.
    """
    order = order or walk_order
    chosen = choose_recordings(target, stores)
    copy_edits(target, stores, {path: recording for path, (recording, _) in chosen.items()})
    run = 0
    next_id = target.next_id()
    remaining = iter(sorted(chosen.items(), key=lambda pair: order(pair[0])))
    while part := list(islice(remaining, COMMIT_RECORDINGS)):
        run = run or target.start_run(about or {"merged": [str(store.folder) for store in stores]})
        batch = []
        for path, (recording, store) in part:
            rows = []
            for row, vectors in rows_with_vectors(store, path):
                rows.append((replace(row, id=next_id), vectors))
                next_id += 1
            batch.append((recording, rows))
        target.add(batch, run)
    return len(chosen)


def copy_edits(target: Store, stores: Sequence[Store], chosen: Mapping[str, Recording]) -> None:
    """Copy the edits of the user that a store lacks from other stores. The latest edit wins, wherever it was made."""
    if not any(store.edits() for store in stores):
        return
    final = {**chosen, **target.recordings()}
    known = {identity(edit) for edit in target.edits()}
    same: list[Edit] = []  # of the content that the target has
    other: list[Edit] = []  # of another version of a recording
    for store in stores:
        own = store.recordings()
        for edit in store.edits():
            if identity(edit) in known:
                continue
            known.add(identity(edit))
            is_current = edit.path in own and own[edit.path].content_hash == edit.content_hash
            content = final[edit.path].content_hash if is_current else edit.content_hash
            (same if content == edit.content_hash else other).append(replace(edit, content_hash=content))
    for edits, carry in ((same, False), (other, True)):
        if edits:
            target.edit(edits, carry=carry)


def choose_recordings(target: Store, stores: Sequence[Store]) -> dict[str, tuple[Recording, Store]]:
    """Return path -> the best record of every recording to copy, with its store."""
    chosen: dict[str, tuple[Recording, Store]] = {}
    for store in stores:
        recordings = store.recordings()
        known = target.recordings(list(recordings))
        for path, recording in recordings.items():
            best = chosen[path][0] if path in chosen else known.get(path)
            if best is None or quality(recording) > quality(best):
                chosen[path] = recording, store
    return chosen


def quality(recording: Recording) -> tuple[bool, int]:
    """Return a key that is higher for the better of two records of one file: not failed, then newer."""
    return not recording.reason, -1 if recording.mtime_ns is None else recording.mtime_ns


def rows_with_vectors(store: Store, path: str) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Yield the rows of a recording, each with its vector in every view."""
    rows = store.rows(paths=[path])
    matrices = {view: store.vectors(view, [row.id for row in rows])[1] for view in store.views}
    for position, row in enumerate(rows):
        yield row, {view: matrix[position] for view, matrix in matrices.items()}


def walk_order(path: str) -> tuple[list[bytes], bytes]:
    """Return a sort key for the order in which `embedx extract` reads a folder: its files before its subfolders.

    >>> sorted(["/a/z.wav", "/a/b/c.wav", "/a/a.wav"], key=walk_order)
    ['/a/a.wav', '/a/z.wav', '/a/b/c.wav']
    """
    folder, name = os.path.split(os.fsencode(path))
    return folder.split(b"/"), name
