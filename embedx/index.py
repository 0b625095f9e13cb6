"""VectorIndex: nearest neighbours of one view. The only module that knows faiss.

An index is derived from the store and disposable. Beside the file lies a JSON note with its checksum and the
generation of the store it was built from; what does not agree is not loaded, and is built anew.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedx.disk import replace_file
from embedx.errors import DiskError

Ids = NDArray[np.int64]


class VectorIndex:
    """Exact cosine similarity over vectors [N, D] with their row ids; a score is in [-1, 1], higher is nearer."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def build(cls, ids: Ids, vectors: NDArray[np.float32]) -> "VectorIndex":
        """Index vectors [N, D] under their row ids [N]."""
        import faiss

        index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
        index.add_with_ids(unit(vectors), np.ascontiguousarray(ids, np.int64))
        return cls(index)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(
        self, queries: NDArray[np.float32], k: int, *, keep: Ids | None = None, drop: Ids | None = None
    ) -> tuple[NDArray[np.float32], Ids]:
        """Return scores [Q, K] and ids [Q, K] of the nearest vectors, best first; K is k or all there are, if fewer.

        `keep` restricts the search to some ids and `drop` takes some out, before anything is ranked.
        """
        import faiss

        if keep is not None and drop is not None:
            keep = np.setdiff1d(keep, drop)
        k = min(k, len(self) if keep is None else len(keep))
        if k == 0:
            return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
        selector: Any = None
        if keep is not None:
            selector = faiss.IDSelectorBatch(keep)
        elif drop is not None and len(drop):
            selector = faiss.IDSelectorNot(faiss.IDSelectorBatch(drop))
        options = {} if selector is None else {"params": faiss.SearchParameters(sel=selector)}  # type: ignore[call-arg]  # faiss hides it from types
        scores, ids = self._index.search(unit(queries), k, **options)
        full = (ids >= 0).all(axis=0)  # fewer than k were left: faiss fills up with -1
        return scores[:, full], ids[:, full]

    def save(self, file: Path, note: dict[str, Any]) -> None:
        """Write the index and its note, each by a rename, so that a crash leaves the old pair or one that disagrees.

        Raises:
            DiskError: the disk is full or refuses.
        """
        import faiss

        data = faiss.serialize_index(self._index).tobytes()
        note = note | {
            "kind": "flat",
            "metric": "cosine",
            "rows": len(self),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        try:
            file.parent.mkdir(exist_ok=True)
            replace_file(file, data)
            replace_file(file.with_suffix(".json"), json.dumps(note, indent=1).encode())
        except OSError as error:
            raise DiskError(
                f"The index {file} cannot be written: {error.strerror}. The store is not touched."
            ) from error

    @classmethod
    def load(cls, file: Path, note: dict[str, Any]) -> "VectorIndex | None":
        """Read an index whose note says what is expected; None where it is missing, stale or damaged."""
        import faiss

        try:
            written = json.loads(file.with_suffix(".json").read_text())
            data = file.read_bytes()
        except (OSError, ValueError):
            return None
        agreed = isinstance(written, dict) and all(written.get(key) == value for key, value in note.items())
        if not agreed or hashlib.sha256(data).hexdigest() != written.get("sha256"):
            return None
        return cls(faiss.deserialize_index(np.frombuffer(data, np.uint8)))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale vectors [N, D] to length 1; a zero vector stays zero, and is like nothing.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.where(lengths == 0, 1, lengths), np.float32)
