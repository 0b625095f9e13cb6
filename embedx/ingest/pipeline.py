"""Pipeline: the missing recordings of a store are read, embedded and committed.

A run may be interrupted at any point; the next run does what is left.
"""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from embedx._version import __version__
from embedx.audio.layout import DOUBTS
from embedx.audio.windows import Window
from embedx.datasets.items import Item
from embedx.errors import Interrupted
from embedx.filesystem.paths import display_path
from embedx.ingest.carry_over import EarlierRows
from embedx.ingest.changes import UNREACHABLE
from embedx.ingest.prefetch import Event, Restarted, WindowRead, read_ahead, share_work
from embedx.store.records import Recording, Row, Vectors
from embedx.store.store import Store
from embedx.timing import timed

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

COMMIT_CLIPS = 256  # recordings that wait for a commit at most; a kill loses at most these,
COMMIT_SECONDS = 2.0  # or the work of this time
MAX_DETAILS = 100  # failures of a run that are kept in words; `embedx status --failed` lists all of them
BATCH_GRACE_S = 3.0  # that a running batch gets after a signal; a run must end within 10 s of it


@dataclass
class Progress:
    """The state of a run; `extract` passes it to `on_progress` after every recording.

    Attributes:
        total: recordings in the corpus.
        present: recordings that an earlier run embedded.
        embedded: recordings that this run has embedded and committed.
        failures: reason -> recordings that failed, in this run and in earlier ones.
        failed_before: what is wrong with those that failed in earlier runs and were not tried again.
        failed_now: what is wrong with the first ones that failed in this run.
        new, edited, retried: recordings that this run has to embed because the collection does not hold them, because
            they have changed, or because they failed before.
        moved: recordings found under another path; they count as present.
        vanished: recordings that the collection holds from these sources and that are no longer in them.
        hidden: recordings that the collection holds and that may still be there: the search could not look at their
            folder. They are never removed.
        pruned: how many of the vanished ones were removed.
        passed_over: what the search of folders passed over, such as ".txt" -> number.
        problems: a sentence for each failure that is not stored, because the rows of an earlier run stay.
        windows: windows embedded in this run.
        seconds: audio embedded in this run.
        expected_rows, expected_bytes: estimates of the rows that this run adds, and of the size of their vectors.
        flags: flag -> recordings of this run that have it: "truncated", "trailing-data", "clipped", "downmixed", "cut".
        padding: samples that the model computed in this run for each sample of audio.
        labels: how many labels the corpus has and where they come from; empty without labels.
        segments: the file or folder of annotations whose stretches are the rows; empty for whole recordings.
    """

    total: int
    present: int = 0
    embedded: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    failed_before: list[str] = field(default_factory=list)
    failed_now: list[str] = field(default_factory=list)
    new: int = 0
    edited: int = 0
    retried: int = 0
    moved: int = 0
    vanished: int = 0
    hidden: int = 0
    pruned: int = 0
    windows: int = 0
    seconds: float = 0.0
    expected_rows: int = 0
    expected_bytes: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    padding: float = 1.0
    labels: str = ""
    segments: str = ""
    passed_over: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add_problem(self, reason: str, sentence: str) -> None:
        """Count a failure that is not stored."""
        self.add_failure(reason, sentence)
        self.problems.append(sentence)

    def add_failure(self, reason: str, detail: str) -> None:
        """Count a failure of this run."""
        self.failures[reason] += 1
        if len(self.failed_now) < MAX_DETAILS:
            self.failed_now.append(detail)

    @property
    def done(self) -> int:
        """Recordings that need no more work."""
        return self.present + self.embedded + self.failures.total()


@dataclass(slots=True)
class RecordingJob:
    """A recording in the pipeline; its rows arrive in the order of the embedder's batches.

    Attributes:
        waiting: windows that have been read and not embedded yet.
        is_read: whether all windows have been read.
        notes: columns that the recorder wrote into the file.
    """

    recording: Recording
    items: Sequence[Item]
    waiting: int = 0
    is_read: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)
    rows: list[tuple[Row, Vectors]] = field(default_factory=list)

    def fail(self, reason: str, detail: str) -> None:
        """Mark the recording as failed; its rows are not stored."""
        detail = detail.encode("utf-8", "backslashreplace").decode()  # libraries quote paths that are not UTF-8
        self.recording = replace(self.recording, reason=reason, detail=detail)


class ExtractionPipeline:
    """One run over the missing recordings of a store.

    Attributes:
        threads: batches that are computed at the same time.
        workers: decoder processes.
    """

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
        threads: int | None = None,
        earlier: EarlierRows | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            store: open for writing.
            embedder: has the recipe of the store.
            todo: the missing recordings with their items.
            progress: the state before the run; it is updated.
            on_progress: called after every committed recording.
            interrupted: called after every window; the number of a signal ends the run after a commit.
            about: what the store records about the run, as JSON values.
            workers: decoder processes; 0 reads nothing ahead; None: chosen from the amount of work.
            threads: batches that are computed at the same time; None: chosen from the amount of work.
            earlier: the rows that the new ones replace.
        """
        self.store = store
        self.embedder = embedder
        self.progress = progress
        self.on_progress = on_progress
        self.interrupted = interrupted
        self.dtype = store.dtype
        self.run_number = 0  # of this run in the store; set by the first commit
        self.next_id = store.next_id()
        self.finished: list[RecordingJob] = []  # complete, and wait for a commit
        self.in_commit: list[RecordingJob] = []  # the writer commits them
        self.commit: Future[None] | None = None
        self.writer = ThreadPoolExecutor(1, "writer")
        self.last_commit = time.monotonic()
        self.signal_number = 0
        self.stop_time = 0.0  # when a run that got a signal stops waiting for the current batch; 0 before
        self.todo = [RecordingJob(recording, items) for recording, items in todo]
        self.threads = threads or share_work(len(todo), sum(recording.size or 0 for recording, _ in todo))
        self.workers = min(self.threads, len(todo)) if workers is None else workers
        self.earlier = earlier or EarlierRows(store, ())
        self.about = {**about, "workers": self.workers}

    def run(self) -> None:
        """Embed and commit all missing recordings; see `embedx.extract`.

        Raises:
            Interrupted: a signal ended the run after a commit.
        """
        with self.writer:
            with closing(self._read()) as windows, closing(self._embed(windows)) as embedded:
                for (job, row), vectors, flags in embedded:  # an error here ends the readers too
                    self._add_row(job, row, vectors, flags)
                    self._commit_if_due()
            self._start_commit()
            self._finish_commit()

    def _embed(
        self, windows: Iterator[tuple[tuple[RecordingJob, Row], Window]]
    ) -> "Generator[tuple[tuple[RecordingJob, Row], Vectors, tuple[str, ...]]]":
        return self.embedder.embed(windows, self.threads, self._commit_while_waiting)

    def _commit_while_waiting(self) -> None:
        """Commit if it is time; after a signal, a batch that is being computed gets some seconds to finish."""
        if self._received_signal():
            self.stop_time = self.stop_time or time.monotonic() + BATCH_GRACE_S
            if time.monotonic() < self.stop_time:
                return
        self._commit_if_due()

    def _received_signal(self) -> int:
        """Return the number of the signal that has arrived in this run, 0 if none."""
        self.signal_number = self.signal_number or self.interrupted()
        return self.signal_number

    def _add_row(self, job: RecordingJob, row: Row, vectors: Vectors, flags: tuple[str, ...]) -> None:
        """Add a row with its vectors to its recording."""
        job.waiting -= 1
        problem = describe_unstorable(vectors, self.dtype)
        if problem:
            job.fail("non-finite", f"The vector of {display_path(row.path)} at {row.start_s:g} s {problem}")
        job.rows.append((replace(row, flags=flags), vectors))
        self._finish_if_complete(job)

    def _commit_if_due(self) -> None:
        """Commit if enough is waiting; stop after a commit if a signal has arrived."""
        signal_number = self._received_signal()
        waited = time.monotonic() - self.last_commit
        if signal_number or len(self.finished) >= COMMIT_CLIPS or waited > COMMIT_SECONDS:
            self._start_commit()
        elif self.commit is not None and self.commit.done():
            self._finish_commit()
        if signal_number:
            self._finish_commit()
            raise Interrupted("Stopped after a commit. Run the same command again to continue.", signal_number)

    def _read(self) -> Generator[tuple[tuple[RecordingJob, Row], Window]]:
        """Yield every window of the missing recordings with its job and its future row."""
        items = [job.items for job in self.todo]
        recipe, samples = self.embedder.recipe, self.embedder.pool
        with read_ahead(
            items, recipe, workers=self.workers, samples=samples, on_wait=self._commit_if_due
        ) as recordings:
            for job, events in zip(self.todo, recordings, strict=True):
                yield from self._read_recording(job, events)

    def _read_recording(
        self, job: RecordingJob, events: Iterator[Event]
    ) -> Iterator[tuple[tuple[RecordingJob, Row], Window]]:
        """Yield the windows of one recording, and note its facts and its failure."""
        first_id = self.next_id
        for event in events:
            if isinstance(event, WindowRead):
                row = self._new_row(job.items[event.position], event)
                job.waiting += 1
                yield (job, row), event.window
            elif isinstance(event, Restarted):
                self.next_id = first_id
                job = RecordingJob(job.recording, job.items)  # the old job never completes, so its rows are dropped
            else:
                job.recording, job.notes = replace(job.recording, **asdict(event.facts)), event.notes
                if event.failure is not None:
                    job.fail(event.failure.reason, event.failure.detail)
        job.is_read = True
        self._finish_if_complete(job)
        if job.recording.reason:  # it may have no window, after which `run` would commit
            self._commit_if_due()

    def _new_row(self, item: Item, event: WindowRead) -> Row:
        """Return the row of a window, with the next free id."""
        window = event.window
        meta = item.meta if event.channel is None else {**item.meta, "channel": event.channel}
        place = (self.next_id, item.path, window.start_s, window.end_s)
        self.next_id += 1
        return Row(*place, item.label, item.group, item.split, window.flags, meta, event.position)

    def _finish_if_complete(self, job: RecordingJob) -> None:
        """Move a recording to those that wait for a commit, once all its windows are read and embedded."""
        if job.is_read and job.waiting == 0:
            if job.recording.reason:
                job.rows.clear()
            job.rows.sort(key=lambda pair: pair[0].id)
            if doubts := DOUBTS.intersection(job.recording.flags):
                job.rows = [
                    (replace(row, flags=tuple(sorted({*row.flags, *doubts}))), vectors) for row, vectors in job.rows
                ]
            if job.notes:  # the source has the last word
                job.rows = [(replace(row, meta={**job.notes, **row.meta}), vectors) for row, vectors in job.rows]
            self.finished.append(job)

    def _start_commit(self) -> None:
        """Pass the finished recordings to the writer thread, which works while the next ones are embedded."""
        self._finish_commit()
        if self.finished:
            self.in_commit, self.finished = self.finished, []
            self.commit = self.writer.submit(self._write, self.in_commit)
        self.last_commit = time.monotonic()

    def _write(self, jobs: Sequence[RecordingJob]) -> None:
        with timed("write"):
            self.run_number = self.run_number or self.store.start_run(run_settings(self.embedder, self.about))
            batch = [
                (job.recording, self.earlier.describe(job.recording, job.rows)) for job in jobs if not self._stays(job)
            ]
            self.store.add(batch, self.run_number)

    def _stays(self, job: RecordingJob) -> bool:
        """Tell whether a recording keeps the rows of an earlier run, because it could not be looked at in this one."""
        return job.recording.reason in UNREACHABLE and job.recording.path in self.earlier.rows

    def _finish_commit(self) -> None:
        """Wait for the writer thread, raise its error if there is one, and report the recordings it has committed."""
        if self.commit is None:
            return
        self.commit.result()
        self.commit = None
        for job in self.in_commit:
            if self._stays(job):
                detail = f"{job.recording.detail} The rows of an earlier run stay."
                self.progress.add_problem(job.recording.reason, detail)
            elif job.recording.reason:
                self.progress.add_failure(job.recording.reason, job.recording.detail)
            else:
                self.progress.embedded += 1
                self.progress.windows += len(job.rows)
                self.progress.seconds += job.recording.duration_s or 0.0
                self.progress.flags.update(job.recording.flags)
            self.progress.padding = self.embedder.padding
            job.rows.clear()  # `todo` keeps every job until the end of the run, but not its vectors
            self.on_progress(self.progress)


def run_settings(embedder: "Embedder", about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a store records about a run; none of it is part of the recipe."""
    choices = {name: getattr(embedder.extractor, name, None) for name in ("kernels", "replaced")}  # of this process
    return {
        **about,
        "device": ",".join(embedder.devices),
        "precision": embedder.precision,
        "backend": embedder.backend,
        **{name: group_by_implementation(kinds) for name, kinds in choices.items() if kinds},
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "embedx": __version__,  # the installed version may differ from a checkout
        **{name: version(name) for name in ("torch", "transformers", "numpy", "soxr", "soundfile")},
    }


def group_by_implementation(kinds: Mapping[str, str]) -> str:
    """Return kinds of layers grouped by their implementation, in one line.

    >>> group_by_implementation({"product [4, 2]": "oneDNN", "product [9, 2]": "torch", "product [8, 2]": "oneDNN"})
    'oneDNN: product [4, 2], product [8, 2]; torch: product [9, 2]'
    """
    groups: dict[str, list[str]] = {}
    for kind, implementation in kinds.items():
        groups.setdefault(implementation, []).append(kind)
    return "; ".join(f"{implementation}: {', '.join(names)}" for implementation, names in groups.items())


def describe_unstorable(vectors: Vectors, dtype: str) -> str:
    """Say why vectors cannot be stored as a type of numbers; an empty text if they can."""
    if not all(np.isfinite(vector).all() for vector in vectors.values()):
        return "contains NaN or infinite values."
    largest = max((float(np.abs(vector).max()) for vector in vectors.values() if vector.size), default=0.0)
    with np.errstate(over="ignore"):  # a number that is too large becomes infinite
        if np.isfinite(np.array(largest).astype(dtype)):
            return ""
    return (
        f"has a number of {largest:.6g}, which is too large for {dtype} (at most {float(np.finfo(dtype).max):g}). "
        "Extract into a new collection with --store-dtype float32."
    )
