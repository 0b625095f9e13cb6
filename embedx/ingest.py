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

from embedx.collection import Collection
from embedx.corpus import Item, read_corpus
from embedx.decoding import Decoder, borrow_decoder
from embedx.difference import Difference, compare, name_sources, parse_shard
from embedx.readers import parse_workers
from embedx.recipe import Recipe
from embedx.request import Request, check_choice
from embedx.run import Progress, Run
from embedx.store import FILE_NAME, Store
from embedx.windows import count_windows

if TYPE_CHECKING:
    from embedx.embedder import Embedder

DTYPES = ("float32", "float16")
LOOKED_AT = 64  # headers for an estimate of the size


def extract(
    source: Any,
    *,
    model: str = "logmel",
    layers: str | int | Sequence[int] = "last",
    pooling: str | Sequence[str] = "mean",
    window: float | None = None,
    hop: float | None = None,
    tail: str = "keep",
    channels: str = "mean",
    trim_silence: bool = False,
    max_seconds: float | None = None,
    label: str | None = None,
    group: str | None = None,
    layout: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    backend: str = "auto",
    batch_seconds: float | None = None,
    workers: int | str = "auto",
    store_dtype: str = "float32",
    allow_pickle: bool = False,
    shard: str | None = None,
    checksum: bool = False,
    retry_failed: bool = False,
    prune: bool = False,
    dry_run: bool = False,
    wait: bool = False,
    out: str | os.PathLike[str],
    on_progress: Callable[[Progress], None] | None = None,
    interrupted: Callable[[], int] = lambda: 0,
) -> Collection:
    """Embed every recording of a source that the collection `out` does not hold yet, and return the collection.

    Again on a source that grew, shrank or changed it does the difference: new files are embedded, edited ones replaced,
    moved ones are known by their content, and what vanished is counted (and taken out with `prune`).

    Args:
        source: a folder, a file, a manifest, a pandas frame, or a list of these; see `embedx.corpus.read_corpus`.
        model: "logmel", "yamnet", a hub id or a local folder; see `embedx.extractors`.
        layers: "last", "all", or numbers (0 is the input of the transformer, -1 the last).
        pooling: one or several of "mean", "sum", "max". Every layer with every pooling becomes a view.
        window, hop: seconds; without a window a recording of up to 60 s (or what the model hears) is one row.
        tail: what becomes of the end behind the last whole window: "keep" (a window that ends where the audio ends),
            "pad" (with zeros) or "drop".
        channels: "mean" of all, the "first", or "each" with rows of its own (column `channel`).
        trim_silence: leave out what is 40 dB below the loudest moment at both ends.
        max_seconds: take so much of each recording at most, from its start.
        label, group: a column of the source, or a regular expression with one (group) searched in the path.
        layout: "auto", a known data set ("esc50", "urbansound8k", "speech-commands", "gtzan", "fsdd"), "folders" or
            "files".
        device: "auto", "cpu", "cuda", or several GPUs: "cuda:0,cuda:1".
        precision: "auto" (float32), "float32", "bfloat16" or "float16".
        backend: "fast" (our own forward, of Wav2Vec2, HuBERT and their like), "reference" (the library's), or "auto":
            the fast one where there is one. It changes the speed, and vectors by less than 1e-5.
        batch_seconds: audio in one batch, if not given 15 s on a CPU and 600 s on a GPU; it changes the speed, never
            the vectors. A batch that a GPU has no memory for is halved.
        workers: processes that decode ahead of the model: "auto" (up to one a core), a number, or 0 for one that
            decodes what is needed when it is; it changes the speed, never what comes out.
        store_dtype: "float32", or "float16" for half the size.
        allow_pickle: read weights from a pickle (.bin, .pth) where there is no safetensors file.
        shard: "i/n": embed the i-th of n parts only, for several machines or GPUs; `embedx.merge` joins them.
        checksum: compare the content of files whose size and time of change are as stored.
        retry_failed: try recordings again that failed before.
        prune: take out the recordings that are not in the source any more.
        dry_run: write nothing, and report through `on_progress` what would be done. If there is no collection yet, the
            one returned is empty and lies in a temporary folder.
        wait: wait while another process writes the collection, instead of giving up.
        out: the folder of the collection.
        on_progress: called after every recording.
        interrupted: asked after every window; the number of a signal ends the run after a commit.

    Raises:
        UsageError: an argument cannot be meant.
        NothingToDo: no audio was found.
        ModelError: the model cannot be loaded, or the collection was made by another recipe.
        LockedError, StoreError, DiskError: the collection cannot be written. What was committed stays.
    """
    check_choice("store_dtype", store_dtype, DTYPES)
    how = (window, hop, tail, channels, trim_silence, max_seconds)
    asked = Request(model, layers, pooling, *how, device, precision, backend, batch_seconds, allow_pickle)
    part, decoders = parse_shard(shard), parse_workers(workers)
    items = read_corpus(source, layout, label, group)
    by_path: dict[str, list[Item]] = {}
    for item in items:
        by_path.setdefault(item.path, []).append(item)
    mark = asked.mark()
    embedder: Embedder | None = None
    known = remember(out, mark, wait)
    if known is None:
        embedder = asked.load()
        known = embedder.recipe, embedder.extractor.dim
    recipe, dim = known
    report = on_progress or (lambda progress: None)
    if dry_run:
        out = out if os.path.isfile(os.path.join(out, FILE_NAME)) else empty_collection(recipe, dim)
        opened = Store(out)
        recipe.require_same(opened.recipe, os.fspath(out))
    else:
        opened = Store.create(out, recipe, dim, store_dtype, wait=wait)
    with opened as store:
        sources = name_sources(source)
        with borrow_decoder() as decoder:
            difference = compare(
                store, by_path, sources, decoder.hash_content, shard=part, checksum=checksum, retry_failed=retry_failed
            )
            progress = plan(store, difference, decoder)
        if dry_run:
            report(progress)
            return Collection(out, model=model, allow_pickle=allow_pickle)
        if difference.todo and embedder is None:
            embedder = asked.load()
            embedder.recipe.require_same(store.recipe, os.fspath(out))
        settle(store, difference, by_path, progress, prune)
        report(progress)
        if embedder is not None and difference.todo:
            about = {"sources": sources, "request": mark}
            Run(store, embedder, difference.todo, progress, report, interrupted, about, decoders).finish()
    collection = Collection(out, model=model, allow_pickle=allow_pickle)
    if len(collection):
        collection.indexes.settle(collection.recipe.default_view)
    return collection


def remember(folder: str | os.PathLike[str], mark: str | None, wait: bool) -> tuple[Recipe, int] | None:
    """Return recipe and dimension of a collection whose last run was asked for the same, None if there is no such."""
    if mark is None or not os.path.isfile(os.path.join(folder, FILE_NAME)):
        return None
    with Store(folder, wait=wait) as store:
        if store.last_run().get("request") != mark:
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


def settle(
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
