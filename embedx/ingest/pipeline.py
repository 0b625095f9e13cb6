"""Run: what a store lacks is read, embedded and committed. Interrupted at any point, the next one does the rest."""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from embedx._version import __version__
from embedx.audio.windows import Window
from embedx.datasets.items import Item
from embedx.errors import Interrupted
from embedx.filesystem.paths import display_path
from embedx.ingest.prefetch import Event, Restarted, WindowRead, read_ahead, share_work
from embedx.store.records import Recording, Row, Vectors
from embedx.store.store import Store
from embedx.timing import timed

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

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


@dataclass(slots=True)
class RecordingJob:
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


class ExtractionPipeline:
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
        self.finished: list[RecordingJob] = []  # of which nothing more will come
        self.written: list[RecordingJob] = []  # which the writer has
        self.writing: Future[None] | None = None
        self.writer = ThreadPoolExecutor(1, "writer")
        self.committed = time.monotonic()
        self.todo = [RecordingJob(recording, items) for recording, items in todo]
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

    def _take(self, pending: RecordingJob, row: Row, vectors: Vectors, flags: tuple[str, ...]) -> None:
        """Give a row of a recording its vectors."""
        pending.waiting -= 1
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused
            fits = all(np.isfinite(vector.astype(self.dtype)).all() for vector in vectors.values())
        if not fits:
            pending.fail(
                "non-finite", f"The model makes no finite vector of {display_path(row.path)} at {row.start_s:g} s."
            )
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

    def _read(self) -> Generator[tuple[tuple[RecordingJob, Row], Window]]:
        """Yield every window of what is missing, each with the row that it will be."""
        wanted = [pending.items for pending in self.todo]
        recipe, ready = self.embedder.recipe, self.embedder.pool
        with read_ahead(wanted, recipe, workers=self.workers, samples=ready, on_wait=self._pause) as recordings:
            for pending, events in zip(self.todo, recordings, strict=True):
                yield from self._follow(pending, events)

    def _follow(
        self, pending: RecordingJob, events: Iterator[Event]
    ) -> Iterator[tuple[tuple[RecordingJob, Row], Window]]:
        """Yield the windows of one recording with their rows; what is wrong with it is noted."""
        first_id = self.next_id
        for event in events:
            if isinstance(event, WindowRead):
                item, window = pending.items[event.position], event.window
                meta = item.meta if event.channel is None else {**item.meta, "channel": event.channel}
                place = (self.next_id, item.path, window.start_s, window.end_s)
                row = Row(*place, item.label, item.group, item.split, window.flags, meta, event.position)
                self.next_id += 1
                pending.waiting += 1
                yield (pending, row), window
            elif isinstance(event, Restarted):
                self.next_id = first_id
                pending = RecordingJob(
                    pending.recording, pending.items
                )  # nobody settles the old one: its rows are dropped
            else:
                pending.recording = replace(pending.recording, **event.facts)
                if event.failure is not None:
                    pending.fail(event.failure.reason, event.failure.detail)
        pending.read = True
        self._settle(pending)
        if pending.recording.reason:  # of which `finish` sees nothing
            self._pause()

    def _settle(self, pending: RecordingJob) -> None:
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

    def _write(self, batch: Sequence[RecordingJob]) -> None:
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


def settings(embedder: "Embedder", about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is recorded of a run and is no part of the recipe."""
    ways = {name: getattr(embedder.extractor, name, None) for name in ("kernels", "replaced")}  # of this process
    return {
        **about,
        "device": ",".join(embedder.devices),
        "precision": embedder.precision,
        "backend": embedder.backend,
        **{name: by_way(found) for name, found in ways.items() if found},
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "embedx": __version__,  # which may run from a checkout
        **{name: version(name) for name in ("torch", "transformers", "numpy", "soxr", "soundfile")},
    }


def by_way(ways: Mapping[str, str]) -> str:
    """Return kinds of layers by the way in which they are computed, in one line.

    >>> by_way({"product [4, 2]": "oneDNN", "convolution [4, 2, 3]": "torch", "product [8, 2]": "oneDNN"})
    'oneDNN: product [4, 2], product [8, 2]; torch: convolution [4, 2, 3]'
    """
    kinds: dict[str, list[str]] = {}
    for kind, way in ways.items():
        kinds.setdefault(way, []).append(kind)
    return "; ".join(f"{way}: {', '.join(found)}" for way, found in kinds.items())
