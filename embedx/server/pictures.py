"""Pictures: the spectrogram of audio as a PNG file, with numpy and zlib only."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from embedx.audio.clip import Frames

FFT = 1024  # samples of a frame: 64 ms at 16 kHz
MAX_WIDTH = 1200  # columns of a picture
DYNAMIC_DB = 80.0  # what is so much below the loudest point is black


def spectrogram_png(frames: Frames, height: int) -> bytes:
    """Return the spectrogram of frames [S, channels] as a grey picture: time to the right, frequency upwards.

    >>> spectrogram_png(np.zeros((4000, 1), np.float32), 32)[:4]
    b'\\x89PNG'
    """
    samples = np.asarray(frames, np.float64).mean(axis=1)
    samples = np.pad(samples, (0, max(0, FFT - len(samples))))
    hop = max(FFT // 4, -(-(len(samples) - FFT + 1) // MAX_WIDTH))
    pieces = np.lib.stride_tricks.sliding_window_view(samples, FFT)[::hop]
    power = np.abs(np.fft.rfft(pieces * np.hanning(FFT), axis=1)) ** 2  # [columns, FFT / 2 + 1]
    edges = np.linspace(0, power.shape[1], height + 1).astype(int)
    bands = np.add.reduceat(power, np.minimum(edges[:-1], power.shape[1] - 1), axis=1)
    level = 10 * np.log10(bands + 1e-12)
    grey = np.clip(255 * (level - level.max() + DYNAMIC_DB) / DYNAMIC_DB, 0, 255).astype(np.uint8)
    return png(np.flipud(grey.T))


def png(grey: NDArray[np.uint8]) -> bytes:
    """Return an array [rows, columns] of grey values as a PNG file."""
    rows, columns = grey.shape
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), grey], axis=1).tobytes()  # 0: no filter
    header = struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
