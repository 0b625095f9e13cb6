"""Ingest: corpus + embedder -> store. Resumable at any point; failures are stored and counted, never raised."""

import atexit
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from embedx import __version__
from embedx.audio import show
from embedx.collection import Collection
from embedx.corpus import Item, read_corpus
from embedx.decoding import Decoder, borrow_decoder
from embedx.difference import Difference, compare, name_sources, parse_shard
from embedx.errors import Interrupted
from embedx.readers import Again, Event, Piece, parse_workers, read_ahead, share_work
from embedx.recipe import Recipe
from embedx.request import Request, check_choice
from embedx.stopwatch import timed
from embedx.store import FILE_NAME, Recording, Row, Store, Vectors
from embedx.windows import Window, count_windows

if TYPE_CHECKING:
    from embedx.embedder import Embedder

DTYPES = ("float32", "float16")
LOOKED_AT = 64  # headers for an estimate of the size
COMMIT_CLIPS = 256  # recordings, or
COMMIT_SECONDS = 2.0  # of work, wait for a commit at most


@dataclass
class Progress:
    """Where a run stands; `extract` hands it to `on_progress` after every recording."""

    total: int  # recordings that were asked for
    present: int = 0  # embedded in an earlier run
    embedded: int = 0  # embedded and committed in this run
    failures: Counter[str] = field(default_factory=Counter)  # reason -> recordings, in this run and in earlier ones
    new: int = 0  # recordings that this run has to embed because the collection did not know them,
    edited: int = 0  # because they are not what they were,
    retried: int = 0  # or because they failed before
    moved: int = 0  # that were found under another name or time of change; counted as present
    vanished: int = 0  # that the collection knows from the source, and that are not in it any more
    pruned: int = 0  # of these, taken out
    windows: int = 0  # embedded in this run
    seconds: float = 0.0  # of audio embedded in this run
    expected_rows: int = 0  # that this run will add, by a look at some headers
    expected_bytes: int = 0  # that their vectors will take
    cut: int = 0  # recordings of this run that were too long to be taken whole
    padding: float = 1.0  # samples that the model computed in this run for every one that there was

    @property
    def done(self) -> int:
        """Recordings of which nothing is left to do."""
        return self.present + self.embedded + self.failures.total()


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


@dataclass(slots=True)
class Pending:
    """A recording on its way: its rows come in one by one, in the order of the embedder's batches."""

    recording: Recording
    items: Sequence[Item]
    waiting: int = 0  # windows that have been read and not yet embedded
    read: bool = False  # to the end
    rows: list[tuple[Row, Vectors]] = field(default_factory=list)

    def fail(self, reason: str, detail: str) -> None:
        """Mark as failed; rows that came in already are not kept."""
        detail = detail.encode("utf-8", "backslashreplace").decode()  # libraries quote names of any bytes
        self.recording = replace(self.recording, reason=reason, detail=detail)


class Run:
    """One run over a corpus: what is missing is read, embedded and committed every few seconds."""

    def __init__(
        self,
        store: Store,
        embedder: "Embedder",
        todo: Sequence[tuple[Recording, Sequence[Item]]],
        progress: Progress,
        on_progress: Callable[[Progress], None],
        interrupted: Callable[[], int],
        about: Mapping[str, Any],
        workers: int | None,
    ) -> None:
        self.store = store
        self.embedder = embedder
        self.progress = progress
        self.on_progress = on_progress
        self.interrupted = interrupted
        self.dtype = store.dtype
        self.number = 0  # of the run in the store, once there is something to commit
        self.next_id = store.next_id()
        self.finished: list[Pending] = []  # of which nothing more will come
        self.written: list[Pending] = []  # which the writer has
        self.writing: Future[None] | None = None
        self.writer = ThreadPoolExecutor(1, "writer")
        self.committed = time.monotonic()
        self.todo = [Pending(recording, items) for recording, items in todo]
        self.threads = share_work(len(todo), sum(max(0, recording.size) for recording, _ in todo))
        self.workers = min(self.threads, len(todo)) if workers is None else workers
        self.about = {**about, "workers": self.workers}

    def finish(self) -> None:
        """Do all that is missing; see `extract`."""
        with self.writer:
            with closing(self._read()) as windows, closing(self.embedder.embed(windows, self.threads)) as embedded:
                for (pending, row), vectors, flags in embedded:  # whatever ends this stops those who read ahead
                    self._take(pending, row, vectors, flags)
                    self._pause()
            self._commit()
            self._confirm()

    def _take(self, pending: Pending, row: Row, vectors: Vectors, flags: tuple[str, ...]) -> None:
        """Give a row of a recording its vectors."""
        pending.waiting -= 1
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
            fits = all(np.isfinite(vector.astype(self.dtype)).all() for vector in vectors.values())
        if not fits:
            pending.fail("non-finite", f"The model makes no finite vector of {show(row.path)} at {row.start_s:g} s.")
        pending.rows.append((replace(row, flags=flags), vectors))
        self._settle(pending)

    def _pause(self) -> None:
        """Commit if it is time, and stop here if a signal asks for it."""
        number = self.interrupted()
        waited = time.monotonic() - self.committed
        if number or len(self.finished) >= COMMIT_CLIPS or waited > COMMIT_SECONDS:
            self._commit()
        elif self.writing is not None and self.writing.done():
            self._confirm()
        if number:
            self._confirm()
            raise Interrupted("Stopped after a clean commit. The same command goes on from here.", number)

    def _read(self) -> Generator[tuple[tuple[Pending, Row], Window]]:
        """Yield every window of what is missing, each with the row that it will be."""
        wanted = [pending.items for pending in self.todo]
        recipe, ready = self.embedder.recipe, self.embedder.pool
        with read_ahead(wanted, recipe, workers=self.workers, samples=ready, on_wait=self._pause) as recordings:
            for pending, events in zip(self.todo, recordings, strict=True):
                yield from self._follow(pending, events)

    def _follow(self, pending: Pending, events: Iterator[Event]) -> Iterator[tuple[tuple[Pending, Row], Window]]:
        """Yield the windows of one recording with their rows; what is wrong with it is noted."""
        first_id = self.next_id
        for event in events:
            if isinstance(event, Piece):
                item, window = pending.items[event.position], event.window
                meta = item.meta if event.channel is None else {**item.meta, "channel": event.channel}
                place = (self.next_id, item.path, window.start_s, window.end_s)
                row = Row(*place, item.label, item.group, item.split, window.flags, meta, event.position)
                self.next_id += 1
                pending.waiting += 1
                yield (pending, row), window
            elif isinstance(event, Again):
                self.next_id = first_id
                pending = Pending(pending.recording, pending.items)  # nobody settles the old one: its rows are dropped
            else:
                pending.recording = replace(pending.recording, **event.facts)
                if event.failure is not None:
                    pending.fail(event.failure.reason, event.failure.detail)
        pending.read = True
        self._settle(pending)
        if pending.recording.reason:  # of which `finish` sees nothing
            self._pause()

    def _settle(self, pending: Pending) -> None:
        """Move a recording of which nothing more will come to those that wait for a commit."""
        if pending.read and pending.waiting == 0:
            if pending.recording.reason:
                pending.rows.clear()
            pending.rows.sort(key=lambda one: one[0].id)
            self.finished.append(pending)

    def _commit(self) -> None:
        """Hand what is finished to the writer, which works while the next is read and embedded."""
        self._confirm()
        if self.finished:
            self.written, self.finished = self.finished, []
            self.writing = self.writer.submit(self._write, self.written)
        self.committed = time.monotonic()

    def _write(self, batch: Sequence[Pending]) -> None:
        with timed("write"):
            self.number = self.number or self.store.start_run(settings(self.embedder, self.about))
            self.store.add([(one.recording, one.rows) for one in batch], self.number)

    def _confirm(self) -> None:
        """Wait for the writer, and report what is safe now. What it raised is raised here."""
        if self.writing is None:
            return
        self.writing.result()
        self.writing = None
        for one in self.written:
            if one.recording.reason:
                self.progress.failures[one.recording.reason] += 1
            else:
                self.progress.embedded += 1
                self.progress.windows += len(one.rows)
                self.progress.seconds += one.recording.duration_s or 0.0
                self.progress.cut += "cut" in one.recording.flags
            self.progress.padding = self.embedder.padding
            one.rows.clear()  # `todo` keeps every recording to the end of the run, but not its vectors
            self.on_progress(self.progress)


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


def settings(embedder: "Embedder", about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is recorded of a run and is no part of the recipe."""
    return {
        **about,
        "device": ",".join(embedder.devices),
        "precision": embedder.precision,
        "backend": embedder.backend,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "embedx": __version__,  # which may run from a checkout
        **{name: version(name) for name in ("torch", "transformers", "numpy", "soxr", "soundfile")},
    }
