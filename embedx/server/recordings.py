"""Recordings by short names: a client asks for a recording by what it finds in a row, and never by a path."""

import hashlib
from typing import Any

from embedx.collection.collection import Collection
from embedx.server.answers import Paths, recording_name
from embedx.server.clips import part_of
from embedx.server.errors import ApiError
from embedx.server.served import Served
from embedx.server.sounds import MAX_SOUND_S, Sound
from embedx.store.records import Recording


def find_recording(served: Served, collection: Collection, name: str) -> Recording:
    """Return the recording of a name.

    Raises:
        ApiError: there is no such recording.
    """
    paths = served.keep(
        "recordings",
        (collection, collection.store.generation),
        lambda: {recording_name(path): path for path in collection.store.recordings()},
    )
    recording = next(iter(collection.store.recordings([paths[name]]).values()), None) if name in paths else None
    if recording is None:
        raise ApiError(404, "no_recording", "There is no recording of this name.", "See recording in a row or a hit.")
    return recording


def version_of(recording: Recording) -> str:
    """Return a text that differs when the content of a recording has changed."""
    state = (recording.content_hash, recording.size, recording.mtime_ns)
    return hashlib.blake2b(repr(state).encode(), digest_size=4).hexdigest()


def describe_recording(collection: Collection, recording: Recording) -> dict[str, Any]:
    """Return a recording with its rows as JSON values."""
    rows = collection.store.rows(paths=[recording.path])
    return {
        "path": Paths(collection).shown(recording.path),
        "duration_s": recording.duration_s,
        "sample_rate": recording.rate,
        "channels": recording.channels,
        "flags": list(recording.flags),
        "rows": [
            {
                "id": row.id,
                "start_s": row.start_s,
                "end_s": row.end_s,
                "channel": row.meta.get("channel"),
                "label": row.label,
            }
            for row in rows
        ],
        "v": version_of(recording),
    }


def sound_of_recording(recording: Recording, start_s: float, end_s: float | None) -> Sound:
    """Return a part of a recording as a sound; without an end it has up to ten minutes.

    Raises:
        ApiError: the part is empty, or begins behind the end of the recording.
    """
    last_s = start_s + MAX_SOUND_S if recording.duration_s is None else recording.duration_s
    part = part_of(start_s, min(last_s, start_s + MAX_SOUND_S) if end_s is None else end_s, last_s)
    return Sound(recording.path, *part, "The recording")
