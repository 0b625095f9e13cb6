"""Blocks: columns of many rows as bytes, of which a page can show the first before the last have come.

`EXC1`, the length of a JSON header as uint32, the header (padded with spaces to a multiple of 8), then blocks of 8192
rows. A block has its columns one after the other, little-endian, each padded with zeros to a multiple of 8. The header
names the columns and their types.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEDIA_TYPE = "application/x-exc1"
ROWS = 8192  # of a block: 98 kB with an id and two coordinates
ALIGNMENT = 8
ORDER_SEED = 0  # of the one random order of rows: any first part of it is a fair sample


def to_blocks(columns: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> bytes:
    """Return columns of one length as bytes.

    >>> to_blocks({"x": np.zeros(3, np.float32)}, {})[:4]
    b'EXC1'
    """
    count = len(next(iter(columns.values())))
    types = [{"name": name, "type": column.dtype.name} for name, column in columns.items()]
    text = json.dumps({"rows": count, "columns": types, **header}).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    parts = [b"EXC1", np.uint32(len(text)).astype("<u4").tobytes(), text]
    for start in range(0, count, ROWS):
        for column in columns.values():
            data = np.ascontiguousarray(column[start : start + ROWS], column.dtype.newbyteorder("<")).tobytes()
            parts += [data, bytes(-len(data) % ALIGNMENT)]
    return b"".join(parts)


def shuffled(count: int) -> NDArray[np.int64]:
    """Return the one random order of so many rows."""
    return np.random.default_rng(ORDER_SEED).permutation(count)


def small_ids(ids: NDArray[np.int64]) -> NDArray[Any]:
    """Return ids as int32 if all fit."""
    return ids.astype(np.int32) if not len(ids) or ids.max() < 1 << 31 else ids
