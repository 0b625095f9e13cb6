"""Read the binary blocks of the service, as a page does."""

import json
import struct
from typing import Any

import numpy as np


def read_blocks(data: bytes) -> tuple[dict[str, Any], dict[str, "np.typing.NDArray[Any]"]]:
    """Return the header and the columns."""
    assert data[:4] == b"EXC1"
    (size,) = struct.unpack("<I", data[4:8])
    assert size % 8 == 0
    header, at = json.loads(data[8 : 8 + size]), 8 + size
    columns: dict[str, list[Any]] = {one["name"]: [] for one in header["columns"]}
    for start in range(0, header["rows"], 8192):
        count = min(8192, header["rows"] - start)
        for one in header["columns"]:
            assert at % 8 == 0
            kind = np.dtype(one["type"]).newbyteorder("<")
            columns[one["name"]].append(np.frombuffer(data, kind, count, at))
            at += -(-count * kind.itemsize // 8) * 8
    assert at == len(data)
    return header, {name: np.concatenate([np.zeros(0), *parts]) for name, parts in columns.items()}
