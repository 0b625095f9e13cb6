"""Read grey PNG files, and compute the levels of a spectrogram from their definition, one number after the other."""

import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray


def read_png(data: bytes) -> NDArray[np.uint8]:
    """Return the grey values [rows, columns] of a PNG file with the filters 0 to 4."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        name, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(name + content)
        chunks[name] = chunks.get(name, b"") + content
        at += 12 + size
    columns, rows, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, colour) == (8, 0)
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(rows, columns + 1)
    assert set(lines[:, 0].tolist()) <= {0, 1}
    sums = np.cumsum(lines[:, 1:], axis=1, dtype=np.uint64).astype(np.uint8)
    return np.where(lines[:, :1] == 1, sums, lines[:, 1:])


def plain_levels(
    samples: NDArray[np.float64], rate: int, width: int, height: int, ms: float, low: float, high: float, scale: str
) -> NDArray[np.uint8]:
    """Return the levels [height, width], the highest band first, as `embedx.audio.spectrum` defines them."""
    size = 2 ** round(math.log2(ms * rate / 1000))
    frames = min(8, max(1, math.ceil(len(samples) / width / (size / 4))))
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * i / size) for i in range(size)]
    mel = scale == "mel"
    ends = [2595 * math.log10(1 + f / 700) if mel else f for f in (low, high)]
    steps = [ends[0] + (ends[1] - ends[0]) * i / (height + 1) for i in range(height + 2)]
    edges = [700 * (10 ** (step / 2595) - 1) if mel else step for step in steps]
    weights = []
    for a, b, c in zip(edges, edges[1:], edges[2:], strict=False):
        triangle = {}
        for k in range(size // 2 + 1):
            weight = min((k * rate / size - a) / (b - a), (c - k * rate / size) / (c - b))
            if weight > 0:
                triangle[k] = weight
        if len(triangle) < 2:
            k = min(int(b * size / rate), size // 2 - 1)
            triangle = {k: 1 - (b * size / rate - k), k + 1: b * size / rate - k}
        weights.append({k: weight / sum(triangle.values()) for k, weight in triangle.items()})
    levels = np.zeros((height, width), np.uint8)
    for column in range(width):
        for j in range(frames):
            start = math.floor((column + (j + 0.5) / frames) * (len(samples) / width)) - size // 2
            frame = [samples[i] if 0 <= i < len(samples) else 0.0 for i in range(start, start + size)]
            power = np.abs(np.fft.rfft(np.array(frame) * hann)) ** 2 / (size / 4) ** 2
            for band, triangle in enumerate(weights):
                decibels = 10 * math.log10(max(1e-30, sum(power[k] * weight for k, weight in triangle.items())))
                level = 2 * min(127, max(0, round(127 * (decibels + 120) / 120)))
                levels[height - 1 - band, column] = max(levels[height - 1 - band, column], level)
    return levels
