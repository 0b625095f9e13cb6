"""Clips: uploaded sounds that are kept in memory for a while, so that a refined question sends no sound twice."""

import contextlib
import math
import os
import secrets
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from embedx.audio.decode import is_clipped
from embedx.audio.decoder_pool import DECODERS
from embedx.audio.windows import SILENT_THRESHOLD
from embedx.errors import AudioError
from embedx.server.errors import ApiError
from embedx.server.settings import Limits
from embedx.server.sounds import Sound
from embedx.server.work import current_work

CLIP = "clip:"  # begins the name of a clip where a request takes audio
KEEP_S = 900.0  # after the last use
MAX_BYTES = 256 << 20  # of all clips together; the one that was not used for the longest time goes first


@dataclass
class Clip:
    """An uploaded sound, and what is known about it."""

    data: bytes
    rate: int
    channels: int
    duration_s: float
    flags: list[str]
    used: float = 0.0  # by the clock `time.monotonic`

    def facts(self, name: str) -> dict[str, Any]:
        """Return what a client is told."""
        return {
            "clip": name,
            "sample_rate": self.rate,
            "channels": self.channels,
            "duration_s": self.duration_s,
            "flags": self.flags,
            "expires_s": KEEP_S,
        }


class Clips:
    """The clips of a service by their names, which cannot be guessed."""

    def __init__(self) -> None:
        self._clips: OrderedDict[str, Clip] = OrderedDict()  # the one that was used last is the last
        self._lock = threading.Lock()

    def add(self, data: bytes, limits: Limits) -> dict[str, Any]:
        """Keep an uploaded sound, and return what is known about it.

        Raises:
            AudioError: it is not audio, or longer than a request may send.
        """
        clip = inspect(data, limits.audio_s)
        name = f"c_{secrets.token_hex(8)}"
        with self._lock:
            clip.used = time.monotonic()
            self._clips[name] = clip
            self._forget(clip.used)
        return clip.facts(name)

    def get(self, name: str) -> Clip:
        """Return a clip, and keep it for another while.

        Raises:
            ApiError: there is no such clip any more.
        """
        with self._lock:
            now = time.monotonic()
            self._forget(now)
            if name not in self._clips:
                raise ApiError(410, "clip_gone", "The clip is not kept any more.", "Send the sound again.")
            clip = self._clips[name]
            clip.used = now
            self._clips.move_to_end(name)
            return clip

    def _forget(self, now: float) -> None:
        """Forget the clips that were not used for long, and those that exceed the memory."""
        size = sum(len(clip.data) for clip in self._clips.values())
        while self._clips:
            name, oldest = next(iter(self._clips.items()))
            if now - oldest.used <= KEEP_S and size <= MAX_BYTES:
                return
            size -= len(oldest.data)
            del self._clips[name]

    @contextlib.contextmanager
    def sound(self, name: str, start_s: float = 0.0, end_s: float | None = None) -> Iterator[Sound]:
        """Lend a part of a clip as a sound, whose file is deleted at the end of the context.

        Raises:
            ApiError: there is no such clip any more, or no such part of it.
        """
        clip = self.get(name)
        with as_file(clip.data) as path:
            yield Sound(path, *part_of(start_s, end_s, clip.duration_s), "The clip")


def part_of(start_s: float, end_s: float | None, duration_s: float) -> tuple[float, float]:
    """Return the times of a part; without an end it is that of the sound.

    Raises:
        ApiError: the part is empty, or begins behind the end.
    """
    end_s = duration_s if end_s is None else end_s
    if not start_s < min(end_s, duration_s):
        raise ApiError(
            400, "bad_request", f"There is no sound from {start_s:g} to {end_s:g} s; it has {duration_s:g} s."
        )
    return start_s, end_s


@contextlib.contextmanager
def as_file(data: bytes) -> Iterator[str]:
    """Return a context with a temporary file of some bytes, for a decoder."""
    with tempfile.TemporaryDirectory(prefix="embedx-", ignore_cleanup_errors=True) as folder:
        path = os.path.join(folder, "audio")
        with open(path, "xb") as file:
            file.write(data)
        yield path


def inspect(data: bytes, max_seconds: float) -> Clip:
    """Decode a sound once, and return what is known about it.

    Raises:
        AudioError: it is not audio, or has more seconds.
    """
    count, peak, rate, channels, flags = 0, 0.0, 0, 0, set()
    with as_file(data) as path:
        for block, rate in DECODERS.read_blocks(path, 0.0, math.ceil(max_seconds) + 1.0):
            current_work().check()
            count, channels = count + len(block), block.shape[1]
            peak = max(peak, float(np.abs(block).max()))
            if is_clipped(block, rate):
                flags.add("clipped")
    if count > max_seconds * rate:
        raise AudioError("too-long", f"A request may have {max_seconds:g} s of audio.")
    if peak < SILENT_THRESHOLD:
        flags.add("silent")
    return Clip(data, rate, channels, count / rate, sorted(flags))
