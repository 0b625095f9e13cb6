"""The audio of rows, with the errors of recordings that have gone or changed."""

import os
from typing import Any

from embedx.audio.decoder_pool import DECODERS
from embedx.collection.collection import Collection
from embedx.errors import AudioError
from embedx.server.answers import state_of
from embedx.server.errors import ApiError, scrub
from embedx.server.served import Served
from embedx.store.records import Row

MAX_CONTEXT_S = 60.0  # before and after a row
MAX_EXCERPT_S = 600.0  # of an answer with audio
GONE = ("missing", "unreadable", "outside")  # reasons of audio that is not where the collection says


def find_row(collection: Collection, number: int) -> Row:
    """Return a row of the store.

    Raises:
        ApiError: there is no such row.
    """
    rows = collection.store.rows([number])
    if not rows:
        raise ApiError(404, "no_row", f"There is no row {number}.")
    return rows[0]


def look_up(served: Served, number: int) -> tuple[Row, dict[str, int]]:
    """Return a row, and the state of the collection."""
    with served.use() as collection:
        return find_row(collection, number), state_of(collection)


def read_audio(row: Row, context_s: float) -> tuple[Any, int]:
    """Return the frames of a row with the audio around it, and their rate.

    Raises:
        ApiError: the audio is not there any more, or too long.
    """
    start_s, end_s = max(0.0, row.start_s - context_s), row.end_s + context_s
    if end_s <= start_s:
        raise ApiError(400, "bad_request", f"The part from {start_s:g} to {end_s:g} s is empty.")
    if end_s - start_s > MAX_EXCERPT_S:
        raise ApiError(413, "audio_too_large", f"An answer may have {MAX_EXCERPT_S:g} s of audio.")
    try:
        return DECODERS.read_excerpt(row.path, start_s, end_s)
    except AudioError as error:
        raise audio_error(row, error) from error


def audio_error(row: Row, error: AudioError) -> ApiError:
    """Return the error of a recording of the collection that cannot be read."""
    if error.reason in GONE:
        return ApiError(404, "no_audio", f"The recording of row {row.id} is not there any more, or has changed.")
    message = scrub(error.detail, "", [os.path.dirname(row.path)])
    return ApiError(422, "bad_audio", message, f"reason: {error.reason}")
