"""Push a collection to a search engine: only the rows that differ are sent, and a bounded number is in memory."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from embedx.datasets.sources import source_root
from embedx.engines.connections import connect
from embedx.engines.engine import COLUMNS, QUANTIZED, Description, Engine
from embedx.engines.stored import Digests, Point, digests_of, field_of
from embedx.errors import UsageError
from embedx.filesystem.paths import valid_text
from embedx.index.exact import check_metric, prepare
from embedx.recipe import Recipe, check_view
from embedx.store.records import Row
from embedx.store.store import Store

PAGE = 256  # rows in memory: 5 MB for five views of 1024 numbers
DIGESTS_PAGE = 4096  # digests in memory, 1 MB: Milvus Lite reads all rows for a page of any size
MAX_DELETED = 1000  # ids in one request


@dataclass
class PushedRows:
    """What a push to a search engine has done: the URL without a password, and numbers of rows."""

    url: str
    rows: int = 0
    inserted: int = 0
    replaced: int = 0
    relabelled: int = 0
    deleted: int = 0


def push_rows(
    folder: str | os.PathLike[str],
    url: str,
    *,
    views: Sequence[str] = (),
    metric: str | None = None,
    quantize: str | None = None,
    whole: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> PushedRows:
    """Copy the rows of a collection to a search engine; a push that was stopped goes on where it was.

    Args:
        folder: the folder of the collection.
        url: the place in the engine, such as qdrant://127.0.0.1:6333/field.
        views: the views to send; default: those that are there, or the default view.
        metric: "cosine", "ip" or "l2"; default: that of what is there, or cosine.
        quantize: "int8" or "binary": the engine searches in smaller vectors, and ranks again with the full ones.
        whole: compare the full content of the engine, not only the digests that the last push has written.
        on_progress: called with the number of rows that were compared and of all.

    Raises:
        UsageError: the place holds something else; an unknown view or metric; the engine cannot do it.
        DiskError: the engine cannot be reached, or refuses a request.
        StoreError: the collection is damaged.
    """
    with Store(folder) as store, store.snapshot():
        engine = connect(url)
        try:
            description = describe(store, engine, views, metric, quantize)
            pushed = PushedRows(str(engine.place), store.count())
            engine.prepare(description)
            send(store, engine, description, pushed, whole, on_progress)
            recordings, hours = store.count_recordings()
            engine.finish(
                replace(
                    description,
                    generation=store.generation,
                    revision=store.revision,
                    recordings=recordings,
                    hours=hours,
                )
            )
            return pushed
        finally:
            engine.close()


def describe(
    store: Store, engine: Engine, views: Sequence[str], metric: str | None, quantize: str | None
) -> Description:
    """Return the description of a push, with the generation of the last complete one.

    Raises:
        UsageError: the place holds another collection, or was made with other views or settings.
    """
    text = engine.describe()
    there = None if text is None else Description.from_json(text, engine.place)
    for view in views:
        check_view(view, store.views)
    if quantize not in (None, *QUANTIZED):
        raise UsageError(f"quantize={quantize!r} is not allowed: give {' or '.join(QUANTIZED)}.")
    chosen = list(dict.fromkeys(views)) or (list(there.views) if there else [store.recipe.default_view])
    metric = metric or (there.metric if there else "cosine")
    quantize = quantize or (there.quantize if there else None)
    check_metric(metric)
    columns = {**store.columns, **COLUMNS}
    if there is not None and there.store != store.record.store:
        raise UsageError(f"{engine.place} holds another collection. Give another name.")
    if there is not None:
        store.recipe.require_same(Recipe.from_json(there.recipe), str(engine.place))
        given = (chosen, metric, quantize)
        if given != (list(there.views), there.metric, there.quantize):
            raise UsageError(
                f"{engine.place} has the views {', '.join(there.views)}, the metric {there.metric} and the "
                f"quantization {there.quantize or 'none'}. Leave the options out, or give another name."
            )
    dims = {view: store.views[view] for view in chosen}
    last = there or Description("", {}, "", {}, "", None, None, None)
    return replace(
        last,
        recipe=store.recipe.to_json(),
        views=dims,
        metric=metric,
        columns=columns,
        store=store.record.store,
        root=source_root(store),
        quantize=quantize,
    )


def send(
    store: Store,
    engine: Engine,
    description: Description,
    pushed: PushedRows,
    whole: bool,
    on_progress: Callable[[int, int], None],
) -> None:
    """Compare the rows of the store with those of the engine, both in the order of ids, and send what differs."""
    views, done = list(description.views), 0
    for points, there, extra in pages(store, engine, description, whole):
        new, changed, relabelled = list[Point](), list[Point](), list[Point]()
        for point in points:
            stored, wanted = there.get(point.id), digests_of(point, views, engine.dtype)
            if stored is None:
                new.append(point)
            elif stored.vectors != wanted.vectors:
                changed.append(point)
            elif stored.row != wanted.row:
                relabelled.append(point)
        for start in range(0, len(extra), MAX_DELETED):
            engine.delete(extra[start : start + MAX_DELETED])
        if new or changed:
            engine.write([*new, *changed])
        if relabelled:
            engine.relabel(relabelled)
        pushed.inserted += len(new)
        pushed.replaced += len(changed)
        pushed.relabelled += len(relabelled)
        pushed.deleted += len(extra)
        done += len(points)
        on_progress(done, pushed.rows)


def pages(
    store: Store, engine: Engine, description: Description, whole: bool
) -> Iterator[tuple[list[Point], dict[int, Digests], list[int]]]:
    """Yield the points of a page, what the engine has of them, and ids up to the last one that only the engine has."""
    rest = scanned(engine, list(description.views), whole)
    following = next(rest, None)
    for points in points_of(store, description):
        there, extra, wanted = dict[int, Digests](), list[int](), {point.id for point in points}
        while following is not None and following.id <= points[-1].id:
            if following.id in wanted:
                there[following.id] = following
            else:
                extra.append(following.id)
                if len(extra) == MAX_DELETED:
                    yield [], {}, extra
                    extra = []
            following = next(rest, None)
        yield points, there, extra
    extra = []
    while following is not None:
        extra.append(following.id)
        if len(extra) == MAX_DELETED:
            yield [], {}, extra
            extra = []
        following = next(rest, None)
    yield [], {}, extra


def scanned(engine: Engine, views: Sequence[str], whole: bool) -> Iterator[Digests]:
    """Yield the digests of all rows in the engine, in the order of ids."""
    after, limit = -1, PAGE if whole else DIGESTS_PAGE
    while page := engine.scan(after, limit, views, whole=whole):
        yield from page
        after = page[-1].id


def points_of(store: Store, description: Description) -> Iterator[list[Point]]:
    """Yield the rows of a store as points, a page at a time, in the order of ids."""
    after = -1
    while ids := store.next_ids(after, PAGE):
        vectors = {view: prepare(store.vectors(view, ids)[1], description.metric) for view in description.views}
        values = store.values(ids)
        yield [
            Point(
                row.id,
                {field_of(name): as_stored(value) for name, value in values[row.id].items() if value is not None},
                meta_text(row),
                {view: block[place] for view, block in vectors.items()},
            )
            for place, row in enumerate(store.rows(ids))
        ]
        after = ids[-1]


def meta_text(row: Row) -> str:
    """Return the metadata as JSON, and the path if engines can hold it only with escaped bytes; see `row_of`."""
    special = [row.path] if valid_text(row.path) != row.path else []
    return json.dumps([dict(row.meta), *special], sort_keys=True)


def as_stored(value: Any) -> float | str:
    """Return a value of a column as engines hold it: a number, or a text that can be encoded."""
    return valid_text(value) if isinstance(value, str) else value
