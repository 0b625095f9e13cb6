"""Places of recordings: a file, a recording in a Parquet file, or a URL -> a local file, its size and its version."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from embedx.audio.decode import require_regular
from embedx.audio.embedded import AudioTable, table_of
from embedx.audio.remote_copies import COPIES, as_audio_error
from embedx.errors import AudioError
from embedx.filesystem import paths
from embedx.filesystem.remote import Wait, look_at, no_action
from embedx.filesystem.urls import is_url

REQUESTS = 16  # that ask for the status of recordings at the same time
Status = tuple[int | None, int | None]  # size in bytes, and time of change in nanoseconds or version


def file_status(path: str) -> Status:
    """Return the size in bytes and the time of change of a recording; None for what is not known.

    Those of a recording inside a Parquet file are: no size, and the time of the Parquet file. In place of a time, a
    remote recording has a version: see `embedx.filesystem.remote.RemoteFile`.
    """
    if is_url(path):
        with contextlib.suppress(AudioError), as_audio_error():
            remote = look_at(path)
            return remote.size, remote.version
        return None, None
    table = table_of(path)
    try:
        status = os.stat(table or path)
    except (OSError, ValueError):
        return None, None
    return None if table else status.st_size, status.st_mtime_ns


def file_statuses(urls: Sequence[str]) -> dict[str, Status]:
    """Return the status of each of some remote recordings; several are asked for at the same time."""
    with ThreadPoolExecutor(REQUESTS, "status") as pool:
        return dict(zip(urls, pool.map(file_status, urls), strict=True))


def is_gone(path: str) -> bool:
    """Tell whether there is certainly nothing at a path or URL; one that cannot be looked at is not gone."""
    if not is_url(path):
        return paths.is_gone(path)
    try:
        look_at(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def require_file(path: str) -> None:
    """Refuse a recording that is missing, unreadable or empty, or that cannot be reached.

    Raises:
        AudioError: the reason says which.
    """
    if not is_url(path):
        require_regular(path)
        return
    with as_audio_error():
        look_at(path)


@contextlib.contextmanager
def as_file(path: str, on_wait: Wait = no_action) -> Iterator[str]:
    """Lend a local file with a recording: the file itself, or a copy of one in a Parquet file or at a URL.

    Args:
        path: the path or URL, as an item has it.
        on_wait: called while a remote recording is copied.

    Raises:
        AudioError: the recording does not exist, or cannot be read.
    """
    if is_url(path):
        with COPIES.lend(path, on_wait) as file:
            yield file
    elif (table := table_of(path)) is not None:
        with AudioTable.open(table).lend(path[len(table) + 1 :]) as file:
            yield file
    else:
        yield path
