"""Ingest: corpus + embedder -> store. Resumable at any point; failures are stored and counted, never raised."""

import atexit
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from embedx.audio import show
from embedx.collection import Collection
from embedx.corpus import Item, read_corpus
from embedx.decoding import Decoder, borrow_decoder
from embedx.difference import Difference, compare, name_sources, parse_shard
from embedx.errors import Interrupted, UsageError
from embedx.readers import Again, Event, Piece, parse_workers, read_ahead, share_work
from embedx.recipe import Recipe
from embedx.store import FILE_NAME, Recording, Row, Store, Vectors
from embedx.windows import CHANNELS, TAILS, Window, count_windows

if TYPE_CHECKING:
    from embedx.embedder import Embedder

WHOLE_S = 60.0  # up to here a recording is one row when no window is asked for: attention is quadratic in time
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
        batch_seconds: audio in one batch; it changes the speed, never the vectors.
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
    check_window(window, hop, max_seconds)
    check_choice("tail", tail, TAILS)
    check_choice("channels", channels, CHANNELS)
    check_choice("store_dtype", store_dtype, DTYPES)
    part, decoders = parse_shard(shard), parse_workers(workers)
    items = read_corpus(source, layout, label, group)

    from embedx import extractors
    from embedx.embedder import BATCH_SECONDS, Embedder, pick_layers, pick_poolings

    poolings = pick_poolings(pooling)
    extractor = extractors.load(model, allow_pickle=allow_pickle)
    whole_s = WHOLE_S if extractor.max_samples is None else min(WHOLE_S, extractor.max_samples / extractor.sample_rate)
    if extractor.max_samples is not None and window is not None and window > whole_s:
        raise UsageError(f"This model hears {whole_s:g} s at most, so a window cannot be {window:g} s long.")
    family, place = extractors.resolve(model)
    recipe = Recipe(
        extractor=family,
        source=place,
        weights=extractor.weights,
        sample_rate=extractor.sample_rate,
        layers=pick_layers(layers, extractor.layers),
        poolings=poolings,
        window_s=window,
        whole_s=whole_s,
        hop_s=hop if hop is not None else window,
        tail=tail,
        channels=channels,
        trim_silence=trim_silence,
        max_seconds=max_seconds,
    )
    seconds = BATCH_SECONDS if batch_seconds is None else batch_seconds
    embedder = Embedder(extractor, recipe, device=device, precision=precision, batch_seconds=seconds)
    by_path: dict[str, list[Item]] = {}
    for item in items:
        by_path.setdefault(item.path, []).append(item)
    report = on_progress or (lambda progress: None)
    if dry_run:
        out = out if os.path.isfile(os.path.join(out, FILE_NAME)) else empty_collection(recipe, extractor.dim)
        opened = Store(out)
        recipe.require_same(opened.recipe, os.fspath(out))
    else:
        opened = Store.create(out, recipe, extractor.dim, store_dtype, wait=wait)
    with opened as store:
        sources = name_sources(source)
        with borrow_decoder() as decoder:
            difference = compare(
                store, by_path, sources, decoder.hash_content, shard=part, checksum=checksum, retry_failed=retry_failed
            )
            run = Run(store, embedder, decoder, difference, report, interrupted, sources, decoders)
        if dry_run:
            report(run.progress)
            return Collection(out, model=model, allow_pickle=allow_pickle)
        settle(store, difference, by_path, run.progress, prune)
        run.finish()
    collection = Collection(out, model=model, allow_pickle=allow_pickle)
    if len(collection):
        collection.indexes.settle(collection.recipe.default_view)
    return collection


@dataclass
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
        decoder: Decoder,
        difference: Difference,
        on_progress: Callable[[Progress], None],
        interrupted: Callable[[], int],
        sources: Sequence[str],
        workers: int | None,
    ) -> None:
        self.store = store
        self.embedder = embedder
        self.on_progress = on_progress
        self.interrupted = interrupted
        self.sources = sources
        self.number = 0  # of the run in the store, once there is something to commit
        self.next_id = store.next_id()
        self.finished: list[Pending] = []
        self.committed = time.monotonic()
        self.todo = [Pending(recording, items) for recording, items in difference.todo]
        self.threads = share_work(len(self.todo), sum(max(0, one.recording.size) for one in self.todo))
        self.workers = min(self.threads, len(self.todo)) if workers is None else workers
        rows = expected_rows([one.recording.path for one in self.todo], embedder.recipe, decoder)
        width = embedder.extractor.dim * np.dtype(store.dtype).itemsize
        self.progress = Progress(
            total=len(self.todo) + difference.present + difference.failed.total(),
            present=difference.present,
            failures=Counter(difference.failed),
            new=len(difference.new),
            edited=len(difference.edited),
            retried=len(difference.retried),
            moved=len(difference.moved),
            vanished=len(difference.vanished),
            expected_rows=rows,
            expected_bytes=rows * len(embedder.recipe.views) * width,
        )

    def finish(self) -> None:
        """Do all that is missing; see `extract`."""
        self.on_progress(self.progress)
        with closing(self._read()) as windows, closing(self.embedder.embed(windows, self.threads)) as embedded:
            for (pending, row), vectors, flags in embedded:  # whatever ends this stops those who read ahead
                self._take(pending, row, vectors, flags)
                self._pause()
        self._commit()

    def _take(self, pending: Pending, row: Row, vectors: Vectors, flags: tuple[str, ...]) -> None:
        """Give a row of a recording its vectors."""
        pending.waiting -= 1
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
            fits = all(np.isfinite(vector.astype(self.store.dtype)).all() for vector in vectors.values())
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
        if number:
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
        if self.finished:
            self.number = self.number or self.store.start_run(settings(self.embedder, self.sources, self.workers))
            self.store.add([(one.recording, one.rows) for one in self.finished], self.number)
        for one in self.finished:
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
        self.finished.clear()
        self.committed = time.monotonic()


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
    changed = []
    for row in store.rows():
        items = by_path.get(row.path, ())
        if row.stretch < len(items):
            item = items[row.stretch]
            new = replace(
                row,
                label=item.label or row.label,
                group=item.group or row.group,
                split=item.split or row.split,
                meta={**row.meta, **item.meta},
            )
            if new != row:
                changed.append(new)
    if changed:
        store.relabel(changed)


def settings(embedder: "Embedder", sources: Sequence[str], workers: int) -> dict[str, Any]:
    """Return what is recorded of a run and is no part of the recipe."""
    return {
        "sources": list(sources),
        "device": ",".join(embedder.devices),
        "workers": workers,
        "precision": embedder.precision,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **{name: version(name) for name in ("embedx", "torch", "transformers", "numpy", "soxr", "soundfile")},
    }


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a word that is none of those allowed."""
    if value not in allowed:
        raise UsageError(f"{name} is one of {', '.join(allowed)}, not {value!r}.")


def check_window(window: float | None, hop: float | None, max_seconds: float | None) -> None:
    """Refuse windows that cannot be cut."""
    for name, value, most in (("window", window, 3600), ("hop", hop, 3600), ("max_seconds", max_seconds, 1e9)):
        if value is not None and not 0.01 <= value <= most:
            raise UsageError(f"{name} is in seconds, from 0.01 to {most:g}, not {value}.")
    if hop is not None and window is None:
        raise UsageError("hop says how far apart windows start: give a window too.")
