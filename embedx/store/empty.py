"""Empty: a collection without rows is refused with the reason why its recordings failed."""

from embedx.errors import NothingToDo
from embedx.store.store import Store


def require_rows(store: Store) -> int:
    """Return the number of rows of a store.

    Raises:
        NothingToDo: it has none; the message says why the first recording failed, if all of them failed.
    """
    rows = store.count()
    if rows:
        return rows
    details = [recording.detail for recording in store.recordings().values() if recording.reason]
    why = f": every recording failed ({len(details)}). The first: {details[0]}" if details else "."
    listed = f" `embedx status {store.folder} --failed` lists all." if details else ""
    raise NothingToDo(f"{store.folder} has no rows{why}{listed}")
