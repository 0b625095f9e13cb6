"""Malformed audio files, generated here, each with the outcome that is expected."""

import io
import os
import random
import struct
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

Samples = NDArray[np.float32]
RATE = 16_000
FORMATS: dict[str, tuple[str, str]] = {  # suffix -> format and subtype of libsndfile
    "wav": ("WAV", "PCM_16"),
    "u8.wav": ("WAV", "PCM_U8"),
    "float.wav": ("WAV", "FLOAT"),
    "adpcm.wav": ("WAV", "IMA_ADPCM"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
CONTAINERS = {"m4a": "aac", "mp4": "alac", "webm": "libopus", "mka": "flac", "aac": "aac"}  # suffix -> codec of FFmpeg


@cache
def noise(seconds: float = 0.5, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)


@cache
def intact(suffix: str, seconds: float = 0.5) -> bytes:
    """Return a small real file of a format."""
    file = io.BytesIO()
    if suffix in FORMATS:
        form, subtype = FORMATS[suffix]
        soundfile.write(file, noise(seconds), RATE, format=form, subtype=subtype)
        return file.getvalue()
    name = {"m4a": "ipod", "mka": "matroska", "aac": "adts"}.get(suffix, suffix)
    options = {"movflags": "+faststart"} if suffix in ("m4a", "mp4") else {}
    with tempfile.TemporaryDirectory() as folder:  # the head is moved to the front in a file, not in memory
        place = os.path.join(folder, suffix)
        with av.open(place, "w", format=name, options=options) as container:
            stream = container.add_stream(CONTAINERS[suffix], rate=RATE, layout="mono")
            assert isinstance(stream, av.AudioStream)
            pcm = (noise(seconds) * 32767).astype(np.int16)
            for i in range(0, len(pcm), 800):
                frame = av.AudioFrame.from_ndarray(pcm[None, i : i + 800], "s16", "mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, i, Fraction(1, RATE)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return Path(place).read_bytes()


def wav(
    data: bytes | None = None,
    *,
    tag: int = 1,
    channels: int = 1,
    rate: int = RATE,
    bits: int = 16,
    align: int | None = None,
    data_size: int | None = None,
    riff_size: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """Build a WAV in which every field can be set to a wrong value."""
    data = (noise() * 32767).astype("<i2").tobytes() if data is None else data
    align = channels * bits // 8 if align is None else align
    per_second = min(rate * align, 2**32 - 1)
    head = b"fmt " + struct.pack("<IHHIIHH", 16, tag, channels, rate, per_second, align % 65_536, bits)
    body = before + head + b"data" + struct.pack("<I", len(data) if data_size is None else data_size) + data + after
    return b"RIFF" + struct.pack("<I", len(body) + 4 if riff_size is None else riff_size) + b"WAVE" + body


def floats(samples: NDArray[np.floating], rate: int = RATE, double: bool = False) -> bytes:
    """Return a WAV with the given samples, unchanged."""
    kind, bits = ("<f8", 64) if double else ("<f4", 32)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    return wav(samples.astype(kind).tobytes(), tag=3, bits=bits, channels=channels, rate=rate)


def tone(hertz: float, gain: float = 1.0, rate: int = RATE) -> Samples:
    wave = gain * np.sin(2 * np.pi * hertz * np.arange(rate // 2) / rate)
    return np.clip(wave, -1, 1).astype(np.float32)


def flac(samples: Samples, rate: int = RATE, total: int | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC")
    data = bytearray(file.getvalue())
    if total is not None:  # 36 bits in STREAMINFO
        data[21] = data[21] & 0xF0 | total >> 32
        data[22:26] = struct.pack(">I", total & 0xFFFF_FFFF)
    return bytes(data)


def patched(data: bytes, mark: bytes, offset: int, new: bytes) -> bytes:
    """Overwrite bytes at an offset from a marker."""
    place = data.index(mark) + offset
    return data[:place] + new + data[place + len(new) :]


def untagged(data: bytes) -> bytes:
    """Wipe the Xing tag of an MP3."""
    return patched(data, b"Xing", 0, bytes(120))


def without_end(data: bytes) -> bytes:
    """Clear the end-of-stream flag of the last page of an Ogg file, and correct its checksum."""
    place = data.rindex(b"OggS")
    page = bytearray(data[place:])
    page[5] &= ~4
    page[22:26] = bytes(4)
    checksum = 0  # CRC-32 of 0x04C11DB7, most significant bit first, from 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = checksum << 1 ^ (0x104C11DB7 if checksum >> 31 else 0)
    page[22:26] = struct.pack("<I", checksum)
    return data[:place] + bytes(page)


Outcome = str  # "ok", "ok:flag,flag", or reasons of a failure: "not-audio|corrupt"
U32 = struct.Struct("<I").pack


def by_format() -> Iterator[tuple[str, bytes, Outcome]]:
    """Yield (name, bytes, outcome) for five kinds of damage to every format."""
    for suffix in (*FORMATS, *CONTAINERS):
        data = intact(suffix)
        other = "wav" if suffix != "wav" else "mp3"
        yield f"intact.{suffix}", data, "ok"
        yield f"misnamed-{suffix}.{other}", data, "ok"
        longer = intact(suffix, 3.0)  # several pages of Ogg
        yield f"cut.{suffix}", longer[: len(longer) * 6 // 10], "ok:truncated"
        yield f"head.{suffix}", data[:20], "not-audio|empty"
        yield f"empty.{suffix}", b"", "empty"
        yield f"zeroed.{suffix}", bytes(len(data)), "not-audio"
        yield f"text.{suffix}", b"this is text\n" * 999, "not-audio"


RATES = {
    **dict.fromkeys((0, 2**32 - 1), "not-audio|rate"),
    **dict.fromkeys((1, 99, 1_536_001, 2**31 - 1), "rate"),
    **dict.fromkeys((44_101, 383_999, 1_536_000), "ok"),
    100: "ok:cut",
}
CHANNELS = {
    0: "not-audio",
    **dict.fromkeys((2, 8, 255, 1024), "ok:downmixed"),
    **dict.fromkeys((1025, 65_535), "not-audio|channels"),
}


def wavs() -> Iterator[tuple[str, bytes, Outcome]]:
    """Yield WAVs with wrong header fields or invalid samples."""
    yield "streamed-ffff.wav", wav(data_size=0xFFFF_FFFF, riff_size=0xFFFF_FFFF), "ok"
    yield "streamed-7fff.wav", wav(data_size=0x7FFF_FFFF), "ok"
    yield "size-zero.wav", wav(data_size=0), "ok:truncated"
    yield "size-forged.wav", wav(data_size=0x7000_0000), "ok:truncated"
    yield "size-one-more.wav", wav(data_size=16_002), "ok:truncated"
    yield "size-less.wav", wav(data_size=8_000), "ok:trailing-data"
    yield "riff-forged.wav", wav(riff_size=0xFFFF_FFF0), "ok"
    yield "riff-zero.wav", wav(riff_size=0), "ok"
    yield from ((f"rate-{rate}.wav", wav(rate=rate), outcome) for rate, outcome in RATES.items())
    pcm = (noise(4) * 9_999).astype("<i2").tobytes()
    yield from ((f"channels-{n}.wav", wav(pcm, channels=n), outcome) for n, outcome in CHANNELS.items())
    for bits in (0, 7, 33, 65_535):
        yield f"bits-{bits}.wav", wav(bits=bits, align=2), "ok|not-audio|corrupt"
    yield "tag-unknown.wav", wav(tag=0x9999), "not-audio"
    yield "align-zero.wav", wav(align=0), "ok|not-audio"
    yield "no-fmt.wav", b"RIFF" + U32(16_012) + b"WAVEdata" + U32(16_000) + bytes(16_000), "not-audio"
    yield "fmt-forged.wav", patched(wav(), b"fmt ", 4, U32(0xFFFF_FFFF)), "not-audio"
    yield "data-twice.wav", wav(after=b"data" + U32(100) + bytes(100)), "ok:trailing-data"
    yield "chunk-forged.wav", wav(before=b"LIST" + U32(0xFFFF_FFF0)), "not-audio|ok:truncated"
    yield "chunks-many.wav", wav(before=(b"junk" + U32(0)) * 500), "ok"
    yield "chunks-100000.wav", wav(before=(b"junk" + U32(0)) * 100_000), "ok|not-audio"
    yield "half-a-sample.wav", wav((noise() * 32767).astype("<i2").tobytes() + b"\1"), "ok"
    yield "one-sample.wav", wav(b"\0\1"), "ok"
    yield "no-sample.wav", wav(b""), "empty"
    yield "silent.wav", wav(bytes(16_000)), "ok"
    yield "constant.wav", floats(np.full(8_000, 0.5)), "ok"
    for name, value in (("nan", np.nan), ("inf", np.inf), ("minus-inf", -np.inf)):
        yield f"{name}.wav", floats(np.r_[noise(), value, noise()]), "non-finite"
        yield f"all-{name}.wav", floats(np.full(8_000, value)), "non-finite"
    yield "double-1e300.wav", floats(noise().astype(float) * 1e300, double=True), "non-finite"
    yield "float-1e38.wav", floats(noise() * 1e38), "ok|non-finite"
    yield "float-1e38-stereo.wav", floats(np.full((8_000, 2), 3e38)), "ok:clipped,downmixed|non-finite"
    yield "denormal.wav", floats(np.full(8_000, 1e-42)), "ok"
    yield "full-scale.wav", floats(tone(440)), "ok"
    yield "full-scale-bass.wav", floats(tone(20, rate=192_000), rate=192_000), "ok"
    yield "full-scale-pcm.wav", wav((tone(20) * 32767).astype("<i2").tobytes()), "ok"
    yield "clipped.wav", floats(tone(440, gain=2)), "ok:clipped"
    yield "clipped-pcm.wav", wav((tone(440, gain=2) * 32767).astype("<i2").tobytes()), "ok:clipped"
    yield "clipped-one-of-two.wav", floats(np.stack([noise(), tone(440, gain=3)], 1)), "ok:clipped,downmixed"
    yield "square.wav", floats(np.sign(tone(100) + 1e-9)), "ok:clipped"
    yield "long.wav", floats(noise(61)), "ok:cut"


def encoded() -> Iterator[tuple[str, bytes, Outcome]]:
    """Yield compressed files with wrong headers."""
    yield "unknown-length.flac", flac(noise(), total=0), "ok"
    yield "forged-length.flac", flac(noise(), total=2**36 - 1), "corrupt|ok:truncated|ok"
    yield "short-length.flac", flac(noise(), total=4_000), "ok|corrupt"
    yield "expands.flac", flac(np.zeros(100 * 600, np.float32), rate=100), "ok:cut"
    yield "picture-forged.flac", b"fLaC" + intact("flac")[4:42] + b"\x06\xff\xff\xff" + bytes(99), "not-audio|empty"
    yield "no-frames.flac", intact("flac")[:42], "not-audio|empty|corrupt"
    yield "rate-zero.flac", patched(intact("flac"), b"fLaC", 18, b"\0\0\x02"), "not-audio|rate|corrupt|ok"
    yield "no-end.ogg", without_end(intact("ogg")), "ok:truncated"
    yield "no-end.opus", without_end(intact("opus")), "ok:truncated"
    yield "chained.ogg", intact("ogg") * 2, "ok"
    yield "page-lost.ogg", patched(intact("ogg"), b"vorbis", 20, bytes(50)), "ok|not-audio|corrupt"
    yield "ogg-of-nothing.ogg", b"OggS\0\4" + bytes(21), "not-audio|empty"
    yield "untagged.mp3", untagged(intact("mp3")), "ok"
    yield "xing-forged.mp3", patched(intact("mp3"), b"Xing", 8, b"\xff\xff\xff\xff"), "ok|ok:truncated"
    yield "xing-bytes-forged.mp3", patched(intact("mp3"), b"Xing", 12, b"\x00\xff\xff\xff"), "ok:truncated"
    yield "id3-forged.mp3", b"ID3\4\0\0\x7f\x7f\x7f\x7f" + intact("mp3"), "ok|not-audio"
    yield "id3-nested.mp3", b"ID3\4\0\0\0\0\0\0" * 2_000 + intact("mp3"), "ok|not-audio"
    yield "garbage-first.mp3", bytes(range(256)) * 4 + intact("mp3"), "ok|not-audio"
    yield "mdat-forged.m4a", patched(intact("m4a"), b"mdat", -4, b"\x7f\xff\xff\xff"), "ok:truncated"
    yield "samples-forged.m4a", patched(intact("m4a"), b"stsz", 12, b"\xff\xff\xff\xff"), "not-audio|corrupt|ok|empty"
    yield (
        "sizes-forged.m4a",
        patched(intact("m4a"), b"stsz", 8, b"\x7f\xff\xff\xff"),
        "not-audio|corrupt|too-large|empty",
    )
    yield "moov-lost.m4a", patched(intact("m4a"), b"moov", 0, b"zzzz"), "not-audio"
    yield "ftyp-alone.m4a", intact("m4a")[:32], "not-audio"
    yield "box-of-nothing.m4a", patched(intact("m4a"), b"moov", -4, bytes(4)), "ok|not-audio"
    longest = b"\x01\x7f" + b"\xff" * 6
    yield "segment-forged.webm", patched(intact("webm"), b"\x18\x53\x80\x67", 4, longest), "ok:truncated"
    yield "au-forged.au", patched(intact("au"), b".snd", 8, b"\x60\0\0\0"), "ok:truncated"
    yield "au-streamed.au", patched(intact("au"), b".snd", 8, b"\xff\xff\xff\xff"), "ok"
    yield "au-offset-forged.au", patched(intact("au"), b".snd", 4, b"\x7f\xff\xff\xff"), "not-audio|empty"
    yield "ssnd-forged.aiff", patched(intact("aiff"), b"SSND", 4, b"\x70\0\0\0"), "ok:truncated"
    yield "channels-forged.aiff", patched(intact("aiff"), b"COMM", 8, b"\xff\xff"), "not-audio|channels"
    yield "ds64-forged.rf64", patched(intact("rf64"), b"ds64", 16, b"\xff" * 8), "ok:truncated|ok|not-audio"
    yield "w64-forged.w64", patched(intact("w64"), b"data", 16, b"\xff" * 7 + b"\x0f"), "ok:truncated|not-audio"
    yield "caf-forged.caf", patched(intact("caf"), b"data", 4, b"\x0f" + b"\xff" * 7), "ok:truncated|not-audio"


def foreign() -> Iterator[tuple[str, bytes, Outcome]]:
    """Yield files that are not audio."""
    dice = random.Random(0)
    for name, data in {
        "page.mp3": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "picture.ogg": b"\x89PNG\r\n\x1a\n" + bytes(1000),
        "archive.flac": b"PK\3\4" + dice.randbytes(1000),
        "pickle.wav": b"cos\nsystem\n(S'touch hacked'\ntR.",
        "list.m4a": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
        "concat.m4a": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "sdp.wav": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
        "byte.wav": b"R",
        "riff.wav": b"RIFF",
        "newline.mp3": b"\n",
    }.items():
        yield name, data, "not-audio"
    for suffix in ("wav", "mp3", "ogg", "flac", "m4a", "aac"):
        yield f"random.{suffix}", dice.randbytes(5_000), "not-audio|corrupt|ok|empty"


def mutant(seed: int, number: int) -> tuple[str, bytes]:
    """Return (suffix, bytes) of a damaged copy of a real file; the same for the same two numbers."""
    dice = random.Random(f"{seed} {number}")
    suffixes = (*FORMATS, *CONTAINERS)
    suffix = dice.choice(suffixes)
    data = bytearray(intact(suffix, dice.choice((0.02, 0.1, 0.5))))
    for _ in range(dice.choice((1, 1, 2, 4))):
        dice.choice(DAMAGES)(dice, data, intact(dice.choice(suffixes)))
    return suffix, bytes(data)


def flip(dice: random.Random, data: bytearray, other: bytes) -> None:
    for _ in range(dice.choice((1, 3, 30)) if data else 0):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def flip_head(dice: random.Random, data: bytearray, other: bytes) -> None:
    for _ in range(dice.choice((1, 3)) if data else 0):
        data[dice.randrange(min(len(data), 128))] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))


def truncate(dice: random.Random, data: bytearray, other: bytes) -> None:
    del data[dice.randrange(len(data) + 1) :]


def splice(dice: random.Random, data: bytearray, other: bytes) -> None:
    place, begin = dice.randrange(len(data) + 1), dice.randrange(len(other))
    data[place : place + dice.choice((0, 1, 500))] = other[begin : begin + dice.choice((1, 4, 500, 5_000))]


def swap_head(dice: random.Random, data: bytearray, other: bytes) -> None:
    length = dice.choice((4, 12, 44, 128))
    data[:length] = other[:length]


def drop(dice: random.Random, data: bytearray, other: bytes) -> None:
    place = dice.randrange(len(data) + 1)
    del data[place : place + dice.choice((1, 4, 100))]


DAMAGES: tuple[Callable[[random.Random, bytearray, bytes], None], ...] = (
    flip, flip_head, truncate, splice, swap_head, drop,
)  # fmt: skip
