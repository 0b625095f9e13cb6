"""Files of formats whose frames follow each other."""

from collections.abc import Iterator

from tests.helpers.odd_audio import GARBAGE, ID3V1, OddFile, muxed, native


def framed() -> Iterator[OddFile]:
    """Yield files of formats whose frames follow each other, cut and with other data after them."""
    for form, codec, is_joinable in (
        ("mp2", "mp2", True), ("ac3", "ac3", True), ("eac3", "eac3", True), ("wv", "wavpack", False),
        ("flv", "libmp3lame", False), ("tta", "tta", False), ("avi", "pcm_s16le", True),
    ):  # fmt: skip
        data = muxed(form, codec, rate=44_100)
        yield OddFile(f"cut.{form}", data[: len(data) * 3 // 4 + 5], None, ("truncated",))
        for name, more in (("zeros", bytes(9_000)), ("tags", ID3V1)):
            yield OddFile(f"{name}.{form}", data + more, 3, tolerance_s=0.1)
        yield OddFile(f"garbage.{form}", data + GARBAGE, 3, ("trailing-data",), 0.1)
        seconds, flags = (6, ("",)) if is_joinable else (None, ("trailing-data", "truncated"))
        yield OddFile(f"joined.{form}", data + data, seconds, flags, 0.2)
    for form, data in (("mp3", muxed("mp3", "libmp3lame")), ("flac", native("FLAC", "PCM_16"))):
        kept = len(data) * 3 // 4
        yield OddFile(f"zeros-for-the-end.{form}", data[:kept] + bytes(len(data) - kept), 2.25, ("truncated",), 0.3)
