"""What a store must contain after a crash, read independently of the process that crashed."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import embedx
from embedx.collection import verify
from embedx.store.lock import LOCK_NAME
from embedx.store.records import Row
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store


@dataclass(frozen=True)
class StoredRow:
    """A row with its vectors, as bytes of float32."""

    row: Row
    vectors: Mapping[str, bytes]  # view -> vector


Contents = dict[str, list[StoredRow]]  # path of a recording -> its rows; empty where it failed


def examine(folder: Path, *, torn: bool = False) -> Contents:
    """Return everything that a store holds, after all that `embedx verify` does; nothing where there is no store yet.

    `torn`: the power was cut. What had not been flushed may be there in part, which looks like damage in the log of
    SQLite, where it is harmless, and in the seal.
    """
    if not (folder / FILE_NAME).exists():
        return {}
    findings = [one for one in verify.find_issues(folder) if not (torn and one.place.endswith(("-wal", LOCK_NAME)))]
    assert not findings, findings
    with Store(folder) as store:
        recordings = store.recordings()
        rows = store.rows()
        vectors: dict[int, dict[str, bytes]] = {row.id: {} for row in rows}
        for view in store.views:
            ids, matrix = store.vectors(view)  # verifies the checksums
            assert ids.tolist() == [row.id for row in rows], f"{view} and the rows have parted"
            for number, vector in zip(ids.tolist(), matrix, strict=True):
                vectors[number][view] = vector.tobytes()
    contents: Contents = {path: [] for path in recordings}
    for row in rows:
        contents[row.path].append(StoredRow(row, vectors[row.id]))
    for path, recording in recordings.items():
        assert bool(recording.reason) != bool(contents[path]), f"{path}: neither failed nor embedded"
    return contents


def complain(found: Contents, before: Contents, after: Contents) -> str:
    """Describe what is wrong with a store between `before` and `after`; empty if nothing is.

    Every recording is wholly as it was, or wholly as it is to be.
    """
    for path in found.keys() | before.keys() | after.keys():
        now, old, new = found.get(path), before.get(path), after.get(path)
        if now != old and not alike(now, new):
            return f"{os.path.basename(path)} is neither as before nor as after: {now}"
    return ""


def differ(found: Contents, after: Contents) -> str:
    """Describe how a store differs from that of an uninterrupted run; empty if it does not."""
    for path in found.keys() | after.keys():
        if not alike(found.get(path), after.get(path)):
            return f"{os.path.basename(path)} is not as after an uninterrupted run: {found.get(path)}"
    return ""


def alike(some: list[StoredRow] | None, others: list[StoredRow] | None) -> bool:
    """Tell whether rows of a recording are equal except for their ids, with vectors within 1e-6."""
    if some is None or others is None or len(some) != len(others):
        return some is others
    for one, other in zip(some, others, strict=True):
        if replace(one.row, id=0) != replace(other.row, id=0) or one.vectors.keys() != other.vectors.keys():
            return False
        for view in one.vectors:
            a, b = (np.frombuffer(held.vectors[view], np.float32) for held in (one, other))
            if not np.allclose(a, b, rtol=1e-6, atol=1e-6):
                return False
    return True


def misled(folder: Path) -> str:
    """Describe where an index answers differently from a full comparison; empty if nowhere."""
    with embedx.open(folder) as collection:
        if not len(collection):
            return ""
        ids, matrix = collection.store.vectors(collection.recipe.default_view)
        matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
        for number, vector in list(zip(ids.tolist(), matrix, strict=True))[:3]:
            best = ids[np.argsort(-(matrix @ vector), kind="stable")[:3]].tolist()
            hits = [hit.id for hit in collection.search(id=number, k=3, exclude_self=False)]
            if hits != best:
                return f"the index answers {hits} for row {number}, the store {best}"
    return ""


def count_ids(folder: Path) -> int:
    """Return the highest id that a store has ever used."""
    with Store(folder) as store:
        return store.next_id() - 1
