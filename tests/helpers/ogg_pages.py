"""Ogg files whose pages are lost, come twice, or count the wrong number of samples."""

import struct
from collections.abc import Iterator
from functools import cache

from tests.helpers.odd_audio import OddFile, native

TRUNCATED = ("truncated",)


def pages(data: bytes) -> list[bytearray]:
    """Return the pages of an Ogg file."""
    found, start = [], 0
    while start < len(data):
        segments = data[start + 26]
        end = start + 27 + segments + sum(data[start + 27 : start + 27 + segments])
        found.append(bytearray(data[start:end]))
        start = end
    return found


@cache
def checksums() -> list[int]:
    """Return the CRC-32 of each byte: polynomial 0x04C11DB7, most significant bit first."""
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFF_FFFF
        table.append(value)
    return table


def with_samples(page: bytearray, samples: int) -> bytearray:
    """Return a page that counts this many samples up to its end."""
    page = page[:6] + struct.pack("<q", samples) + page[14:22] + bytes(4) + page[26:]
    value = 0
    for byte in page:
        value = (value << 8 ^ checksums()[value >> 24 ^ byte]) & 0xFFFF_FFFF
    page[22:26] = struct.pack("<I", value)
    return page


def ogg_headers() -> Iterator[OddFile]:
    """Yield Ogg files of 10 s that are damaged between pages."""
    for subtype, suffix in (("VORBIS", "ogg"), ("OPUS", "opus")):
        whole = pages(native("OGG", subtype, 10.0))
        (samples,) = struct.unpack_from("<q", whole[-1], 6)
        for factor, name in ((0.5, "half"), (0.9, "less")):
            last = with_samples(whole[-1], int(samples * factor))
            yield OddFile(f"last-page-{name}.{suffix}", b"".join([*whole[:-1], last]), 9.5, tolerance_s=0.6)
        last = with_samples(whole[-1], samples * 2)
        yield OddFile(f"last-page-twice.{suffix}", b"".join([*whole[:-1], last]), 10, TRUNCATED)
        offset = [with_samples(page, struct.unpack_from("<q", page, 6)[0] + 1_600_000) for page in whole[2:]]
        yield OddFile(f"from-the-middle.{suffix}", b"".join([*whole[:2], *offset]), 10)
        third = len(whole) // 3
        lost = b"".join(whole[:third] + whole[third + 1 :])
        yield OddFile(f"page-lost.{suffix}", lost, 9, TRUNCATED, 0.2)
        yield OddFile(f"last-page-lost.{suffix}", b"".join(whole[:-1]), 9.4, TRUNCATED, 0.5)
        yield OddFile(f"last-page-again.{suffix}", b"".join([*whole, whole[-1]]), 10, TRUNCATED, 0.3)
