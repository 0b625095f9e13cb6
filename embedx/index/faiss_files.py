"""Reading and writing data of faiss: a flat index as a file for other tools, and limits for damaged data.

embedx itself keeps vectors in its own files (matrix.py).
"""

import struct
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

from embedx.index.matrix import Floats, Ids
from embedx.index.vectors import unit

FLAT = (b"IxFI", b"IxF2", b"IxFl")  # first bytes of IndexFlatIP, IndexFlatL2 and IndexFlat
MAPPED = (b"IxMp", b"IxM2")  # first bytes of IndexIDMap and IndexIDMap2, which contain another index
COUNT = 8  # place of the number of vectors in a header
HEADER = 37  # bytes before the inner index: kind 4, dimension 4, count 8, unused 16, trained 1, metric 4


class SizeLimits:
    """While faiss reads data, nothing in it may claim to be larger than the data.

    Args:
        octets: the length of the data in bytes.
    """

    def __init__(self, octets: int) -> None:
        self.limits = {"vector_byte": 2 * octets, "loop": octets}  # faiss counts vectors of bits before it packs them

    def __enter__(self) -> None:
        import faiss

        self.before = {name: getattr(faiss, f"get_deserialization_{name}_limit")() for name in self.limits}
        self._set(self.limits)

    def __exit__(self, *error: object) -> None:
        self._set(self.before)

    def _set(self, limits: dict[str, int]) -> None:
        import faiss

        for name, limit in limits.items():
            getattr(faiss, f"set_deserialization_{name}_limit")(limit)


def write_flat(file: BinaryIO, ids: Ids, dim: int, blocks: Iterable[Floats]) -> None:
    """Write vectors [N, D], scaled to length 1, as a file that `faiss.read_index` opens, block by block.

    The file has the header of an IndexIDMap2, that of an IndexFlatIP, the number of values and the values, and the
    number of ids and the ids.

    Args:
        file: the file.
        ids: their ids [N].
        dim: D.
        blocks: the vectors in parts [B, D].
    """
    import faiss

    empty = faiss.IndexIDMap2(faiss.IndexFlatIP(dim))
    head = bytearray(faiss.serialize_index(empty).tobytes()[: 2 * HEADER + 8])
    for place, number in ((COUNT, len(ids)), (HEADER + COUNT, len(ids)), (2 * HEADER, len(ids) * dim)):
        struct.pack_into("<q", head, place, number)
    file.write(head)
    for vectors in blocks:
        file.write(unit(vectors).astype("<f4", copy=False).data)
    file.write(struct.pack("<q", len(ids)))
    file.write(np.ascontiguousarray(ids, "<i8").data)


def read_flat(data: bytes) -> tuple[Ids | None, Floats]:
    """Return ids [N] and vectors [N, D] of a flat index from another tool; an index without an IDMap has no ids (None).

    Faiss files have no checksum.

    Raises:
        ValueError: the index is damaged, or does not keep its vectors.
    """
    import faiss

    kinds = (data[:4], data[HEADER : HEADER + 4]) if data[:4] in MAPPED else (data[:4],)
    if kinds[-1] not in FLAT:
        raise ValueError(
            f"its kind is {kinds[-1].decode('ascii', 'backslashreplace')!r}. embedx reads flat indexes, also inside an "
            "IndexIDMap. For another kind, reconstruct the vectors with faiss and save them with numpy.save."
        )
    try:
        with SizeLimits(len(data)):
            index: Any = faiss.deserialize_index(np.frombuffer(data, np.uint8))
    except (RuntimeError, MemoryError) as error:
        raise ValueError(f"it is damaged ({str(error).splitlines()[0]}).") from error
    count = int(index.ntotal)
    ids = faiss.vector_to_array(index.id_map) if len(kinds) > 1 else None
    flat: Any = faiss.downcast_index(index.index) if len(kinds) > 1 else index
    codes = faiss.vector_to_array(flat.codes)
    if (
        flat.d < 1
        or (ids is not None and len(ids) != count)
        or flat.ntotal != count
        or len(codes) != 4 * count * flat.d
    ):
        raise ValueError("it is damaged: its numbers of ids and of vectors differ.")
    return ids, codes.view(np.float32).reshape(count, flat.d)
