"""Safetensors: read and check a safetensors file with numpy alone.

The file is 8 bytes with the length of the header, the header as JSON (name -> dtype, shape, offsets), and the numbers.
The safetensors library writes it, but is not needed to read it, so that numpy alone can predict.
"""

import json
import math
from typing import Any

import numpy as np

from embedx.heads.preprocessing import Array, Arrays

DTYPES = {"F32": "<f4", "F64": "<f8"}  # the types that heads use


class Unreadable(Exception):
    """A file that is not a valid safetensors file of a head; the message says why."""


def write_tensors(arrays: Arrays) -> bytes:
    """Return arrays of float32 and float64 as a safetensors file."""
    from safetensors.numpy import save

    data: bytes = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return data


def read_tensors(data: bytes) -> dict[str, Array]:
    """Return the arrays of a safetensors file.

    Raises:
        Unreadable: the file does not have the format, or its lengths do not agree.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise Unreadable(f"its header should have {size} bytes, but the file has {len(data)}")
    try:
        header = json.loads(data[8 : 8 + size])
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        places = {name: _place(entry) for name, entry in entries.items()}
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise Unreadable(f"its header cannot be read ({error!r})") from error
    numbers = memoryview(data)[8 + size :]
    end = 0
    for begin, stop, *_ in sorted(places.values()):
        if begin != end:
            raise Unreadable(f"its arrays have a gap or an overlap at byte {end}")
        end = stop
    if end != len(numbers):
        raise Unreadable(f"its header describes {end} bytes of arrays, but the file has {len(numbers)}")
    return {
        name: np.frombuffer(numbers[begin:stop], DTYPES[dtype]).reshape(shape)
        for name, (begin, stop, dtype, shape) in places.items()
    }


def _place(entry: dict[str, Any]) -> tuple[int, int, str, tuple[int, ...]]:
    """Return first byte, end, type and shape of an array, after checking that they agree."""
    (begin, end), dtype, shape = entry["data_offsets"], entry["dtype"], tuple(entry["shape"])
    if dtype not in DTYPES:
        raise ValueError(f"the type {dtype} is not allowed")
    if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)):
        raise ValueError("a negative length")
    if end - begin != math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize:
        raise ValueError("a shape does not match its length")
    return begin, end, dtype, shape
