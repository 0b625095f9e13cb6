"""Readers: several decoders read ahead of the model, and what they read comes out in the order of the corpus.

Each decoder is served by a thread that takes the next recording, and holds back when what lies ready reaches a budget
of audio. The reader of the recording that is asked for may always hand over one window, so nobody waits in a circle,
and what lies ready never exceeds the budget by more than that. How many readers there are changes the speed, never
what comes out, nor its order.
"""

import contextlib
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from embedx.audio.decode import Clip
from embedx.audio.decoder_process import Decoder, borrow_decoder
from embedx.audio.windows import Window
from embedx.datasets.items import Item
from embedx.errors import AudioError, DecoderDied, UsageError
from embedx.processes.cores import count_cores
from embedx.recipe import Recipe

TICK_S = 0.1  # between two looks of the one who waits at the clock and at signals
EVENT = 1000  # samples that one more thing that lies ready weighs, for it takes memory however little it holds
# One more process takes 0.3 s to start. So long does one take to open a hundred small files, or to read 64 MB of FLAC.
RECORDINGS_EACH, BYTES_EACH = 32, 64 << 20


@dataclass(frozen=True)
class WindowRead:
    """A window of a recording, of the item at this position, and its channel where each is asked for."""

    position: int
    channel: int | None
    window: Window


@dataclass(frozen=True)
class Restarted:
    """The decoder died of the recording for the first time: what came of it is void, and it comes once more."""


@dataclass(frozen=True)
class RecordingDone:
    """What is known of a recording at its end (fields of a `Recording`), and what is wrong with it."""

    facts: dict[str, Any]
    failure: AudioError | None = None


Event = WindowRead | Restarted | RecordingDone
Wait = Callable[[], None]


class Stopped(Exception):
    """Nobody wants to know more."""


def read_recording(decoder: Decoder, items: Sequence[Item], recipe: Recipe, on_wait: Wait) -> Generator[Event]:
    """Yield the windows of a recording, item by item, and its end; what is wrong with it is said there."""
    for last_try in (False, True):
        facts: dict[str, Any] = {"flags": ()}
        failure: AudioError | None = None
        try:
            for position, item in enumerate(items):
                if item.problem:
                    raise AudioError("outside", item.problem)
                for clip, channel, window in decoder.read(item.path, recipe, item.start_s, item.end_s, on_wait):
                    yield WindowRead(position, channel, window)
                    heard = clip
                facts |= facts_of(heard, facts["flags"])
            facts["content_hash"] = decoder.hash_content(items[0].path, on_wait)
        except DecoderDied as error:  # once more: a machine short of memory kills processes too
            if not last_try:
                yield Restarted()
                continue
            failure = error
        except AudioError as error:
            failure = error
        yield RecordingDone(facts, failure)
        return


def facts_of(clip: Clip, flags: Sequence[str]) -> dict[str, Any]:
    """Return what a clip says of its recording, with the flags of those before it."""
    return {
        "duration_s": clip.duration_s,
        "rate": clip.rate,
        "channels": clip.channels,
        "flags": tuple(sorted({*flags, *clip.flags})),
    }


@contextlib.contextmanager
def read_ahead(
    recordings: Sequence[Sequence[Item]], recipe: Recipe, *, workers: int, samples: int, on_wait: Wait
) -> Iterator[Iterator[Iterator[Event]]]:
    """Lend an iterator over recordings, each an iterator over its events that has to be taken to its end.

    Args:
        recordings: the items of each.
        workers: so many decoders; 0 reads nothing ahead.
        samples: of audio that may lie ready.
        on_wait: called while nothing comes; what it raises ends the reading.
    """
    with contextlib.ExitStack() as stack:
        decoders = [stack.enter_context(borrow_decoder()) for _ in range(max(1, workers))]
        if not workers:
            yield (read_recording(decoders[0], items, recipe, on_wait) for items in recordings)
            return
        desk = PrefetchBuffer(samples)
        jobs = iter(enumerate(recordings))
        threads = [
            threading.Thread(target=serve, args=(desk, decoder, jobs, recipe), daemon=True) for decoder in decoders
        ]
        try:
            for thread in threads:
                thread.start()
            yield (desk.take(number, on_wait) for number in range(len(recordings)))
        finally:
            desk.stop()
            for thread in threads:
                thread.join()


def serve(desk: "PrefetchBuffer", decoder: Decoder, jobs: Iterator[tuple[int, Sequence[Item]]], recipe: Recipe) -> None:
    """Be the thread of a decoder: read one recording after the other until none is left, or nobody wants more."""
    with contextlib.suppress(Stopped):
        while (job := desk.next(jobs)) is not None:
            number, items = job
            try:
                with contextlib.closing(read_recording(decoder, items, recipe, desk.check)) as events:
                    for event in events:
                        desk.put(number, event)
            except Stopped:
                raise
            except Exception as error:  # is raised where the recording is asked for
                desk.put(number, error)


class PrefetchBuffer:
    """Where readers lay down what they read, and one asks for recording after recording."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.held = 0  # samples that lie ready
        self.most = 0  # that ever did
        self.asked = 0  # the number of the recording that is asked for
        self.ready: defaultdict[int, deque[Event | Exception]] = defaultdict(deque)
        self.stopped = False
        self.changed = threading.Condition()

    def next(self, jobs: Iterator[Any]) -> Any:
        """Take the next job, one reader at a time; None if there is none."""
        with self.changed:
            return next(jobs, None)

    def put(self, number: int, event: Event | Exception) -> None:
        """Lay down an event of a recording, and wait as long as there is no room for it."""
        size = weigh(event)
        with self.changed:
            while self.held + size > self.budget and (number != self.asked or self.ready[number]):
                self.check()
                self.changed.wait()
            self.check()
            self.ready[number].append(event)
            self.held += size
            self.most = max(self.most, self.held)
            self.changed.notify_all()

    def take(self, number: int, on_wait: Wait) -> Iterator[Event]:
        """Yield the events of a recording as they come."""
        event: Event | None = None
        while not isinstance(event, RecordingDone):
            event = self._pick(number, on_wait)
            yield event

    def _pick(self, number: int, on_wait: Wait) -> Event:
        with self.changed:
            self.asked = number
            self.changed.notify_all()
        while not self._wait(number):
            on_wait()
        with self.changed:
            event = self.ready[number].popleft()
            self.held -= weigh(event)
            if isinstance(event, RecordingDone):
                del self.ready[number]
            self.changed.notify_all()
        if isinstance(event, Exception):
            raise event
        return event

    def _wait(self, number: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: bool(self.ready[number]), TICK_S)

    def check(self) -> None:
        """Raise Stopped if nobody wants more."""
        if self.stopped:
            raise Stopped

    def stop(self) -> None:
        """Let the readers end."""
        with self.changed:
            self.stopped = True
            self.ready.clear()
            self.changed.notify_all()


def weigh(event: Event | Exception) -> int:
    """Return what an event takes of the budget, in samples."""
    return EVENT + (len(event.window.samples) if isinstance(event, WindowRead) else 0)


def parse_workers(workers: int | str) -> int | None:
    """Return how many decoders are asked for; None is "auto".

    >>> parse_workers("auto"), parse_workers(0), parse_workers("3")
    (None, 0, 3)

    Raises:
        UsageError: it is no such number.
    """
    if workers == "auto":
        return None
    if not str(workers).isdecimal():
        raise UsageError(f"workers is auto, 0 (read nothing ahead) or a number of processes, not {workers!r}.")
    return int(workers)


def share_work(recordings: int, octets: int) -> int:
    """Return how many processes, up to one a core, so many recordings of so many bytes are worth."""
    return max(1, min(count_cores(), 1 + recordings // RECORDINGS_EACH + octets // BYTES_EACH))
