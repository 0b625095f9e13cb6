"""Pictures: levels as a grey PNG file, with numpy and zlib only."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

SUB = 1  # the filter of PNG: each byte minus the one to its left; levels change slowly with time


def png(grey: NDArray[np.uint8]) -> bytes:
    """Return an array [rows, columns] of grey values as a PNG file.

    >>> png(np.zeros((2, 3), np.uint8))[:4]
    b'\\x89PNG'
    """
    rows, columns = grey.shape
    lines = np.empty((rows, columns + 1), np.uint8)
    lines[:, 0], lines[:, 1] = SUB, grey[:, 0]
    np.subtract(grey[:, 1:], grey[:, :-1], out=lines[:, 2:])
    packer = zlib.compressobj(strategy=zlib.Z_RLE)  # ten times as fast as the default here, and as short
    packed = packer.compress(lines.tobytes()) + packer.flush()
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
