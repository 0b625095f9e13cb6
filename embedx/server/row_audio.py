"""The audio of rows, with the errors of recordings that have gone or changed."""

from embedx.audio.clip import Frames
from embedx.server.answers import state_of
from embedx.server.errors import ApiError
from embedx.server.served import Served
from embedx.server.served_engine import AnyCollection
from embedx.server.sounds import Sound
from embedx.store.records import Row

MAX_CONTEXT_S = 60.0  # before and after a row


def find_row(collection: AnyCollection, number: int) -> Row:
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


def sound_of(row: Row, context_s: float = 0.0) -> Sound:
    """Return the sound of a row, with the sound around it."""
    shown = f"The recording of row {row.id}"
    return Sound(row.path, max(0.0, row.start_s - context_s), row.end_s + context_s, shown)


def read_audio(row: Row, context_s: float) -> tuple[Frames, int]:
    """Return the frames of a row with the audio around it, and their rate.

    Raises:
        ApiError: the audio is not there any more, or too long.
    """
    return sound_of(row, context_s).frames()
