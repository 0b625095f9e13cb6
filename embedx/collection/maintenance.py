"""Maintenance: remove rows, and give free space back to the disk."""

import os

from embedx.store.filters import TIMEOUT_S
from embedx.store.store import Store


def remove(folder: str | os.PathLike[str], where: str, *, timeout: float = TIMEOUT_S, wait: bool = False) -> int:
    """Delete the rows of a collection that meet a condition. A recording is deleted with its last row.

    Args:
        folder: the folder of the collection.
        where: an SQL condition on the rows, such as "label = 'noise'".
        timeout: seconds that the condition can take; default 30.
        wait: wait while another process writes the collection, instead of raising LockedError.

    Returns:
        The number of deleted rows.

    Raises:
        UsageError: the condition is invalid, or there is no collection.
        LockedError: another process writes the collection, and `wait` is not set.
    """
    with Store(folder, write=True, wait=wait) as store:
        ids = store.filter(where, timeout).tolist()
        if ids:
            store.delete(ids)
    return len(ids)


def compact(folder: str | os.PathLike[str], *, wait: bool = False) -> tuple[int, int]:
    """Give the space of deleted rows back to the disk.

    Args:
        folder: the folder of the collection.
        wait: wait while another process writes the collection, instead of raising LockedError.

    Returns:
        The size of the store in bytes, before and after.

    Raises:
        DiskError: the disk has no room for the temporary copy; nothing has changed.
        LockedError: another process writes the collection, and `wait` is not set.
    """
    with Store(folder, write=True, wait=wait) as store:
        before = store.size()
        store.compact()
    with Store(folder) as store:
        return before, store.size()
