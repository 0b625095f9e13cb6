"""Bodies: queries, options and tables as the fields of requests."""

import base64
import os
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.audio.excerpts import wav_bytes
from embedx.audio.waves import Wave
from embedx.datasets.items import Item, stretch_to_open
from embedx.datasets.tables import UserTable, frame_table, read_table
from embedx.datasets.text_tables import PATH_COLUMNS
from embedx.errors import AudioError, UsageError
from embedx.filesystem.paths import display_path
from embedx.search.options import SearchOptions
from embedx.search.queries import parse_query

MAX_LIMIT = 1000  # hits of a query that a service allows by default
MAX_FILE = 48 << 20  # bytes of a file: as base64 it is a body of 64 MB, the default of a service
SAME_NAMES = ("metric", "exact", "exclude_self", "score_band", "group_by", "merge", "diverse", "align")
DEFAULTS = SearchOptions()
MAX_TIMEOUT_S = 1e6  # JSON has no infinity
SENT_NAME = re.compile(r"\baudio\d+\b")  # of audio in an error of a service


def audio_fields(item: Item | Wave) -> dict[str, Any]:
    """Return a recording, a part of one, or samples as fields of a request.

    Raises:
        AudioError: it must not be opened, cannot be read, or is not a regular file.
    """
    if isinstance(item, Wave):
        return {"audio": base64.b64encode(wav_bytes(item.frames, item.rate)).decode()}
    stretch = stretch_to_open(item)
    if isinstance(stretch, AudioError):
        raise stretch
    path, start_s, end_s = stretch
    return {"audio": read_audio(path), "start_s": start_s or None, "end_s": end_s}


def read_audio(path: str) -> str:
    """Return the bytes of a file as base64.

    Raises:
        AudioError: it cannot be read, or is not a regular file.
    """
    try:
        if not os.path.isfile(path):  # reading a named pipe would block for ever
            raise AudioError("missing", f"There is no file {path!r}, or it is not a regular file.")
        if os.path.getsize(path) > MAX_FILE:
            raise AudioError("too-large", f"{path!r} has more than the {MAX_FILE} bytes that a service takes.")
        with open(path, "rb") as file:
            return base64.b64encode(file.read()).decode()
    except (OSError, ValueError) as error:
        raise AudioError("unreadable", f"{path!r} cannot be read: {error}.") from error


def encode_example(example: Any) -> Any:
    """Return an example of `like` or `unlike` as the service takes it: a row, or the audio of a file or a part of it.

    Raises:
        UsageError: it is neither a file nor a row.
        AudioError: the file cannot be read.
    """
    if isinstance(example, (int, np.integer)) and not isinstance(example, bool):
        return int(example)
    if not isinstance(example, (str, os.PathLike)):
        raise UsageError(
            f"An example is an audio file, a part of one (a.wav#2-5: seconds 2 to 5), or a row id, not {example!r}."
        )
    name = os.fspath(example)
    if re.fullmatch(r"\d{1,18}", name) and not os.path.exists(name):
        return int(name)
    return audio_fields(Item(*parse_query(name)))


def search_fields(settings: SearchOptions) -> dict[str, Any]:
    """Return the options of a search that differ from the defaults as fields of its body.

    A service answers searches with few options together, which is faster.
    """
    fields = {
        name: getattr(settings, name) for name in SAME_NAMES if getattr(settings, name) != getattr(DEFAULTS, name)
    }
    fields["limit"] = MAX_LIMIT if settings.k is None and settings.radius is not None else settings.limit
    if settings.view is not None:
        fields["using"] = settings.view
    if settings.radius is not None:
        fields["score_threshold"] = settings.min_score
    return fields | filter_fields(settings.where, settings.timeout)


def table_fields(table: Any) -> dict[str, Any]:
    """Return a label table as a field of a request: its columns and rows.

    Raises:
        UsageError: it cannot be read, or has a value that is neither text nor a number.
    """
    if hasattr(table, "to_dict"):
        is_indexed = table.index.name in ("id", *PATH_COLUMNS)
        read = frame_table(table.reset_index() if is_indexed else table)
    else:
        read = read_table(table)
    rows = [{name: plain(value, name, read) for name, value in row.items()} for row in read.rows]
    numbers = list(read.numbers) if read.unit == "Line" else None
    return {"name": read.name, "columns": list(read.columns), "rows": rows, "numbers": numbers}


def plain(value: Any, column: str, table: UserTable) -> Any:
    """Return a value of a table as JSON holds it."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, (str, int, float)):
        return value
    raise UsageError(f"The column {column} of {table.name} has the value {value!r}. Use text and numbers.")


def filter_fields(where: str | None, timeout: float) -> dict[str, Any]:
    """Return a condition as fields of a request; an empty one is sent as a space, which the service refuses."""
    return {} if where is None else {"filter": where or " ", "timeout": min(timeout, MAX_TIMEOUT_S)}


def with_name(error: AudioError, path: str | None) -> AudioError:
    """Return an error with the name of the file here, in place of the name that the service gave to its bytes."""
    if path is None or not SENT_NAME.search(error.detail):
        return error
    return AudioError(error.reason, SENT_NAME.sub(lambda _: display_path(path), error.detail))


def unpack(text: str, dim: int) -> NDArray[np.float32]:
    """Return vectors [N, D] from base64 of little-endian float32."""
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32).reshape(-1, dim)
