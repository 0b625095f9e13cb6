"""Ingest: corpus + model -> collection. Failures are stored and counted, never raised."""

import atexit
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from embedx.audio.decoder_process import Decoder, borrow_decoder
from embedx.audio.windows import count_windows
from embedx.datasets.items import Item
from embedx.datasets.sources import read_corpus
from embedx.ingest.changes import Difference, compare, name_sources, parse_shard
from embedx.ingest.options import ExtractOptions
from embedx.ingest.pipeline import ExtractionPipeline, Progress
from embedx.ingest.prefetch import parse_workers
from embedx.recipe import Recipe
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

LOOKED_AT = 64  # headers for an estimate of the size


def extract_into_store(
    source: Any,
    out: str | os.PathLike[str],
    options: ExtractOptions,
    on_progress: Callable[[Progress], None] | None = None,
    interrupted: Callable[[], int] = lambda: 0,
) -> str:
    """Embed what the store of the folder `out` lacks, and return the folder; see `embedx.extract`.

    A dry run for a collection that is not there yet returns an empty one in a temporary folder.
    """
    part, decoders = parse_shard(options.shard), parse_workers(options.workers)
    items = read_corpus(source, options.layout, options.label, options.group)
    by_path: dict[str, list[Item]] = {}
    for item in items:
        by_path.setdefault(item.path, []).append(item)
    fingerprint = options.fingerprint()
    embedder: Embedder | None = None
    known = load_cached_recipe(out, fingerprint, options.wait)
    if known is None:
        embedder = options.load()
        known = embedder.recipe, embedder.extractor.dim
    recipe, dim = known
    report = on_progress or (lambda progress: None)
    if options.dry_run:
        out = out if os.path.isfile(os.path.join(out, FILE_NAME)) else empty_collection(recipe, dim)
        opened = Store(out)
        recipe.require_same(opened.recipe, os.fspath(out))
    else:
        opened = Store.create(out, recipe, dim, options.store_dtype, wait=options.wait)
    with opened as store:
        sources = name_sources(source)
        with borrow_decoder() as decoder:
            difference = compare(
                store,
                by_path,
                sources,
                decoder.hash_content,
                shard=part,
                checksum=options.checksum,
                retry_failed=options.retry_failed,
            )
            progress = plan(store, difference, decoder)
        if options.dry_run:
            report(progress)
            return os.fspath(out)
        if difference.todo and embedder is None:
            embedder = options.load()
            embedder.recipe.require_same(store.recipe, os.fspath(out))
        apply_metadata_changes(store, difference, by_path, progress, options.prune)
        report(progress)
        if embedder is not None and difference.todo:
            about = {"sources": sources, "request": fingerprint}
            ExtractionPipeline(
                store, embedder, difference.todo, progress, report, interrupted, about, decoders
            ).finish()
    return os.fspath(out)


def load_cached_recipe(
    folder: str | os.PathLike[str], fingerprint: str | None, wait: bool
) -> tuple[Recipe, int] | None:
    """Return recipe and dimension of a collection whose last run was asked for the same, None if there is no such."""
    if fingerprint is None or not os.path.isfile(os.path.join(folder, FILE_NAME)):
        return None
    with Store(folder, wait=wait) as store:
        if store.last_run().get("request") != fingerprint:
            return None
        return store.recipe, next(iter(store.views.values()))


def plan(store: Store, difference: Difference, decoder: Decoder) -> Progress:
    """Return where a run stands before it begins, and what is to be expected of it."""
    todo, recipe = difference.todo, store.recipe
    rows = expected_rows([recording.path for recording, _ in todo], recipe, decoder)
    width = sum(store.views.values()) * np.dtype(store.dtype).itemsize
    return Progress(
        total=len(todo) + difference.present + difference.failed.total(),
        present=difference.present,
        failures=Counter(difference.failed),
        new=len(difference.new),
        edited=len(difference.edited),
        retried=len(difference.retried),
        moved=len(difference.moved),
        vanished=len(difference.vanished),
        expected_rows=rows,
        expected_bytes=rows * width,
    )


def apply_metadata_changes(
    store: Store, difference: Difference, by_path: Mapping[str, Sequence[Item]], progress: Progress, prune: bool
) -> None:
    """Write what costs no embedding: files that moved, labels that changed, and what vanished if it is to go."""
    if difference.moved:
        store.relink(difference.moved)
    if prune and difference.vanished:
        store.forget(difference.vanished)
        progress.pruned = len(difference.vanished)
    update_labels(store, by_path)


def empty_collection(recipe: Recipe, dim: int) -> str:
    """Make an empty collection in a temporary folder that is removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="embedx-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Store.create(os.path.join(folder, "empty"), recipe, dim).close()
    return os.path.join(folder, "empty")


def expected_rows(paths: Sequence[str], recipe: Recipe, decoder: Decoder) -> int:
    """Estimate how many rows recordings will make from the headers of up to 64 of them."""
    looked_at = paths[:: max(1, len(paths) // LOOKED_AT)][:LOOKED_AT]
    lengths = [length for path in looked_at if (length := decoder.length_of(path)) is not None]
    if not lengths:
        return len(paths)
    return round(sum(count_windows(length, recipe) for length in lengths) / len(lengths) * len(paths))


def update_labels(store: Store, by_path: Mapping[str, Sequence[Item]]) -> None:
    """Give the rows that are there the labels and metadata of their items. What an item does not say is kept."""
    if not any(item.label or item.group or item.split or item.meta for items in by_path.values() for item in items):
        return
    changed = []
    for row in store.each_row():
        items = by_path.get(row.path, ())
        if row.stretch < len(items):
            item = items[row.stretch]
            label, group, split = item.label or row.label, item.group or row.group, item.split or row.split
            meta = {**row.meta, **item.meta}
            if (label, group, split, meta) != (row.label, row.group, row.split, row.meta):
                changed.append(replace(row, label=label, group=group, split=split, meta=meta))
    if changed:
        store.relabel(changed)
