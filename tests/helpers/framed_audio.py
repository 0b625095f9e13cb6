"""Files of formats whose frames follow each other."""

from collections.abc import Iterator

import numpy as np

from tests.helpers.odd_audio import GARBAGE, ID3V1, OddFile, muxed, native


def amr_files() -> Iterator[tuple[str, bytes]]:
    """Yield name and content of a narrow-band and a wide-band file of 3 s; no encoder for the second one is at hand."""
    yield "narrow", muxed("amr", "libopencore_amrnb", rate=8_000)
    noise = np.random.default_rng(1)
    yield "wide", b"#!AMR-WB\n" + b"".join(b"\x1c" + noise.bytes(36) + b"\x44" + noise.bytes(60) for _ in range(75))


def framed() -> Iterator[OddFile]:
    """Yield files of formats whose frames follow each other, cut and with other data after them."""
    for form, codec, is_joinable in (
        ("mp2", "mp2", True), ("ac3", "ac3", True), ("eac3", "eac3", True), ("wv", "wavpack", False),
        ("flv", "libmp3lame", False), ("tta", "tta", False), ("avi", "pcm_s16le", True), ("mpeg", "mp2", True),
    ):  # fmt: skip
        data = muxed(form, codec, rate=44_100)
        yield OddFile(f"cut.{form}", data[: len(data) * 3 // 4 + 5], None, ("truncated",))
        is_counted = form in ("wv", "flv", "tta", "avi")
        yield OddFile(f"tags.{form}", data + ID3V1, 3, tolerance_s=0.1)
        yield OddFile(f"zeros.{form}", data + bytes(9_000), 3, ("",) if is_counted else ("trailing-data",), 0.1)
        yield OddFile(f"padding.{form}", data + bytes(50), 3, tolerance_s=0.1)
        yield OddFile(f"garbage.{form}", data + GARBAGE, 3, ("trailing-data",), 0.1)
        seconds, flags = (6, ("",)) if is_joinable else (None, ("trailing-data", "truncated"))
        yield OddFile(f"joined.{form}", data + data, seconds, flags, 0.2)
    for form, codec in (("mp2", "mp2"), ("ac3", "ac3"), ("mpeg", "mp2"), ("wv", "wavpack"), ("tta", "tta")):
        data = muxed(form, codec, rate=44_100)
        for share in (0.3, 0.55, 0.75):
            lost = len(data) - round(len(data) * share)
            noticed = ("truncated", "trailing-data", "trailing-data,truncated", "not-audio", "corrupt")
            yield OddFile(f"zeros-for-the-end-{share}.{form}", data[:-lost] + bytes(lost), None, noticed)
    for name, data in amr_files():
        yield OddFile(f"{name}.amr", data, 3, tolerance_s=0.1)
        yield OddFile(f"{name}-cut.amr", data[: len(data) * 3 // 4 + 5], None, ("truncated",))
        yield OddFile(f"{name}-zeros.amr", data + bytes(300), 3, ("trailing-data",), 0.1)
        yield OddFile(f"{name}-garbage.amr", data + GARBAGE, 3, ("trailing-data",), 0.1)
        yield OddFile(f"{name}-joined.amr", data + data, 6, ("",), 0.1)
        yield OddFile(f"{name}-damaged.amr", data[:1000] + GARBAGE + data[1000:], None, ("trailing-data",))
    for subtype in ("PCM_U8", "PCM_16", "ALAW"):
        data = native("VOC", subtype)
        yield OddFile(f"{subtype}.voc", data, 3)
        yield OddFile(f"{subtype}-cut.voc", data[: len(data) * 3 // 4], 2.25, ("truncated",))
        yield OddFile(f"{subtype}-cut-by-a-few-bytes.voc", data[:-30], 3, ("truncated",))
        yield OddFile(f"{subtype}-zeros.voc", data + bytes(9_000), 3)
        yield OddFile(f"{subtype}-garbage.voc", data + GARBAGE, 3, ("trailing-data",))
        yield OddFile(f"{subtype}-joined.voc", data + data, None, ("trailing-data",))
    for form, data in (("mp3", muxed("mp3", "libmp3lame")), ("flac", native("FLAC", "PCM_16"))):
        kept = len(data) * 3 // 4
        yield OddFile(f"zeros-for-the-end.{form}", data[:kept] + bytes(len(data) - kept), 2.25, ("truncated",), 0.3)
