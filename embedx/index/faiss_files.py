"""Flat indexes as files of faiss: written for others, and read from them. embedx itself keeps its own (matrix.py)."""

from typing import Any

import numpy as np

from embedx.index.matrix import Floats, Ids
from embedx.index.vectors import unit

FLAT = (b"IxFI", b"IxF2", b"IxFl")  # how a flat index begins; IndexFlatIP, IndexFlatL2, IndexFlat
MAPPED = (b"IxMp", b"IxM2")  # IndexIDMap and IndexIDMap2, with the index inside behind
HEADER = 37  # bytes of the header of either: kind 4, dimension 4, count 8, unused 16, trained 1, metric 4


def write_flat(ids: Ids, vectors: Floats) -> bytes:
    """Return vectors [N, D], scaled to length 1, as a file that `faiss.read_index` opens."""
    import faiss

    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(unit(vectors), np.ascontiguousarray(ids, np.int64))
    return bytes(faiss.serialize_index(index).tobytes())


def read_flat(data: bytes) -> tuple[Ids, Floats]:
    """Return ids [N] and vectors [N, D] of a flat index that comes from elsewhere; faiss itself keeps no checksum.

    Raises:
        ValueError: it is damaged, or of a kind that does not keep its vectors.
    """
    import faiss

    kinds = (data[:4], data[HEADER : HEADER + 4]) if data[:4] in MAPPED else (data[:4],)
    if kinds[-1] not in FLAT:
        raise ValueError(
            f"its kind is {kinds[-1].decode('ascii', 'backslashreplace')!r}. Flat indexes are read, alone or in an "
            "IndexIDMap: reconstruct the vectors of another kind with faiss, and save them with numpy.save."
        )
    old = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
    try:  # nothing in a file is longer than the file
        faiss.set_deserialization_vector_byte_limit(len(data))
        faiss.set_deserialization_loop_limit(len(data))
        index: Any = faiss.deserialize_index(np.frombuffer(data, np.uint8))
    except (RuntimeError, MemoryError) as error:
        raise ValueError(f"it is damaged ({str(error).splitlines()[0]}).") from error
    finally:
        faiss.set_deserialization_vector_byte_limit(old[0])
        faiss.set_deserialization_loop_limit(old[1])
    count = int(index.ntotal)
    ids = faiss.vector_to_array(index.id_map) if len(kinds) > 1 else np.arange(count, dtype=np.int64)
    flat: Any = faiss.downcast_index(index.index) if len(kinds) > 1 else index
    codes = faiss.vector_to_array(flat.codes)
    if flat.d < 1 or len(ids) != count or flat.ntotal != count or len(codes) != 4 * count * flat.d:
        raise ValueError("it is damaged: its counts of ids and vectors differ.")
    return ids, codes.view(np.float32).reshape(count, flat.d)
