"""Prefetch: several decoders read ahead of the model; their windows come out in the order of the corpus.

A thread for each decoder takes the next recording, and waits while the windows in the buffer exceed a budget of audio.
The reader of the recording that is needed now may always add one window, so there is no deadlock, and the buffer never
exceeds the budget by more than that window. The number of readers changes the speed only, not the windows or their
order.
"""

import contextlib
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from embedx.audio.clip import Clip
from embedx.audio.decoder_pool import DECODERS
from embedx.audio.decoder_process import Decoder
from embedx.audio.windows import Window
from embedx.datasets.items import Item, path_to_open
from embedx.errors import AudioError, DecoderDied, UsageError
from embedx.processes.cores import count_cores
from embedx.recipe import Recipe

TICK_S = 0.1  # seconds between two checks for a signal while the consumer waits
EVENT_SAMPLES = 1000  # the size of an event besides its samples: even an empty one takes memory
# A further process takes 0.3 s to start. In that time a process opens a hundred small files, or reads 64 MB of FLAC.
RECORDINGS_PER_PROCESS, BYTES_PER_PROCESS = 32, 64 << 20


@dataclass(frozen=True)
class WindowRead:
    """A window of the item at this position, and its channel for `channels="each"`."""

    position: int
    channel: int | None
    window: Window


@dataclass(frozen=True)
class Restarted:
    """The decoder died for the first time: the recording starts again, and its earlier windows are dropped."""


@dataclass(frozen=True)
class RecordingFacts:
    """What reading finds out about a recording; these are fields of a `Recording`."""

    duration_s: float | None = None
    rate: int | None = None
    channels: int | None = None
    flags: tuple[str, ...] = ()
    content_hash: str = ""

    def with_clip(self, clip: Clip) -> "RecordingFacts":
        """Return the facts with those of a clip; the flags of all clips are kept."""
        flags = tuple(sorted({*self.flags, *clip.flags}))
        return replace(self, duration_s=clip.duration_s, rate=clip.rate, channels=clip.channels, flags=flags)


@dataclass(frozen=True)
class RecordingDone:
    """The end of a recording: the facts, why it failed if it did, and the columns that its recorder wrote into it."""

    facts: RecordingFacts
    failure: AudioError | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


Event = WindowRead | Restarted | RecordingDone
Wait = Callable[[], None]


class Stopped(Exception):
    """The consumer has stopped; the readers must end."""


def read_recording(decoder: Decoder, items: Sequence[Item], recipe: Recipe, on_wait: Wait) -> Generator[Event]:
    """Yield the windows of a recording, item by item, and then its end with a failure if there is one."""
    for is_last_attempt in (False, True):
        facts = RecordingFacts()
        failure: AudioError | None = None
        notes: Mapping[str, Any] = {}
        try:
            for position, item in enumerate(items):
                path = path_to_open(item)
                for clip, channel, window in decoder.read(path, recipe, item.start_s, item.end_s, on_wait):
                    yield WindowRead(position, channel, window)
                    last = clip
                facts = facts.with_clip(last)
            facts = replace(facts, content_hash=decoder.hash_content(path_to_open(items[0]), on_wait))
            notes = decoder.read_notes(path_to_open(items[0]))
        except DecoderDied as error:  # try again: a machine that is short of memory kills processes too
            if not is_last_attempt:
                yield Restarted()
                continue
            failure = error
        except AudioError as error:
            failure = error
        yield RecordingDone(facts, failure, notes)
        return


@contextlib.contextmanager
def read_ahead(
    recordings: Sequence[Sequence[Item]], recipe: Recipe, *, workers: int, samples: int, on_wait: Wait
) -> Iterator[Iterator[Iterator[Event]]]:
    """Lend an iterator over recordings; each is an iterator over its events, which must be consumed to its end.

    Args:
        recordings: the items of each recording.
        recipe: how windows are cut.
        workers: the number of decoders; 0 reads nothing ahead.
        samples: the budget of samples in the buffer.
        on_wait: called while the consumer waits; an error that it raises ends the reading.
    """
    with contextlib.ExitStack() as stack:
        decoders = [stack.enter_context(DECODERS.borrow()) for _ in range(max(1, workers))]
        if not workers:
            yield (read_recording(decoders[0], items, recipe, on_wait) for items in recordings)
            return
        buffer = PrefetchBuffer(samples)
        jobs = iter(enumerate(recordings))
        threads = [
            threading.Thread(target=run_reader, args=(buffer, decoder, jobs, recipe), daemon=True)
            for decoder in decoders
        ]
        try:
            for thread in threads:
                thread.start()
            yield (buffer.take(number, on_wait) for number in range(len(recordings)))
        finally:
            buffer.stop()
            for thread in threads:
                thread.join()


def run_reader(
    buffer: "PrefetchBuffer", decoder: Decoder, jobs: Iterator[tuple[int, Sequence[Item]]], recipe: Recipe
) -> None:
    """Thread loop: decode recordings until there are no more jobs, or the consumer stops."""
    with contextlib.suppress(Stopped):
        while (job := buffer.next_job(jobs)) is not None:
            number, items = job
            try:
                with contextlib.closing(read_recording(decoder, items, recipe, buffer.check)) as events:
                    for event in events:
                        buffer.put(number, event)
            except Stopped:
                raise
            except Exception as error:  # it is raised where the consumer asks for the recording
                buffer.put(number, error)


class PrefetchBuffer:
    """The events that readers have added and the consumer has not taken yet.

    Attributes:
        budget: samples that the buffer may hold.
        held: samples that it holds.
        peak: the most samples that it ever held.
        current: number of the recording that the consumer takes now.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.held = 0
        self.peak = 0
        self.current = 0
        self.events: defaultdict[int, deque[Event | Exception]] = defaultdict(deque)
        self.is_stopped = False
        self.changed = threading.Condition()

    def next_job(self, jobs: Iterator[Any]) -> Any:
        """Return the next job, to one reader at a time; None if there is none."""
        with self.changed:
            return next(jobs, None)

    def put(self, number: int, event: Event | Exception) -> None:
        """Add an event of a recording, and wait while there is no room for it."""
        size = event_size(event)
        with self.changed:
            while self.held + size > self.budget and (number != self.current or self.events[number]):
                self.check()
                self.changed.wait()
            self.check()
            self.events[number].append(event)
            self.held += size
            self.peak = max(self.peak, self.held)
            self.changed.notify_all()

    def take(self, number: int, on_wait: Wait) -> Iterator[Event]:
        """Yield the events of a recording as they arrive."""
        event: Event | None = None
        while not isinstance(event, RecordingDone):
            event = self._take_one(number, on_wait)
            yield event

    def _take_one(self, number: int, on_wait: Wait) -> Event:
        with self.changed:
            self.current = number
            self.changed.notify_all()
        while not self._wait(number):
            on_wait()
        with self.changed:
            event = self.events[number].popleft()
            self.held -= event_size(event)
            if isinstance(event, RecordingDone):
                del self.events[number]
            self.changed.notify_all()
        if isinstance(event, Exception):
            raise event
        return event

    def _wait(self, number: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: bool(self.events[number]), TICK_S)

    def check(self) -> None:
        """Raise Stopped if the consumer has stopped."""
        if self.is_stopped:
            raise Stopped

    def stop(self) -> None:
        """Let the readers end."""
        with self.changed:
            self.is_stopped = True
            self.events.clear()
            self.changed.notify_all()


def event_size(event: Event | Exception) -> int:
    """Return how much of the budget an event takes, in samples."""
    return EVENT_SAMPLES + (len(event.window.samples) if isinstance(event, WindowRead) else 0)


def parse_workers(workers: int | str) -> int | None:
    """Return the number of decoders that an option asks for; None is "auto".

    >>> parse_workers("auto"), parse_workers(0), parse_workers("3")
    (None, 0, 3)

    Raises:
        UsageError: it is neither "auto" nor a number.
    """
    if workers == "auto":
        return None
    if not str(workers).isdecimal():
        raise UsageError(f"workers must be auto, 0 (no reading ahead) or a number of processes, not {workers!r}.")
    return int(workers)


def share_work(recordings: int, size: int) -> int:
    """Return the number of processes that is worth the time to start them, at most one for each core.

    Args:
        recordings: the number of recordings.
        size: their size in bytes.
    """
    return max(1, min(count_cores(), 1 + recordings // RECORDINGS_PER_PROCESS + size // BYTES_PER_PROCESS))
