"""Odd audio files, generated here: joined files, wrong lengths in headers, chunks and tags in unusual places.

Every file is described by the seconds of audio that it holds, and by the flags that it must have.
"""

import io
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import soundfile

RATE = 16_000
FRAME_S = 0.12  # the longest frame of a codec (opus), and the delay of MP3 encoders that a tag tells to leave out


@dataclass(frozen=True)
class OddFile:
    """A file, the seconds of audio that are to be read, and its flags.

    Attributes:
        seconds: what is to be read; None if any length is right that has a flag.
        flags: sets of flags that are allowed, each as "truncated,trailing-data"; "" allows no flag.
        tolerance_s: how much the length may differ.
    """

    name: str
    data: bytes
    seconds: float | None
    flags: tuple[str, ...] = ("",)
    tolerance_s: float = FRAME_S


@cache
def sound(seconds: float, rate: int, channels: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Return a rising tone with noise [S, channels]."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, len(time))
    wave = 0.4 * np.sin(2 * np.pi * (200 + 100 * time) * time) + noise
    return np.repeat(wave[:, None], channels, 1).astype(np.float32)


@cache
def native(form: str, subtype: str, seconds: float = 3.0, rate: int = RATE, channels: int = 1) -> bytes:
    """Return a file that libsndfile writes."""
    file = io.BytesIO()
    soundfile.write(file, sound(seconds, rate, channels), rate, format=form, subtype=subtype)
    return file.getvalue()


@cache
def muxed(
    form: str, codec: str, seconds: float = 3.0, rate: int = RATE, channels: int = 1, options: str = "", bits: int = 0
) -> bytes:
    """Return a file that FFmpeg writes; `options` of the container look like "a=b,c=d"."""
    chosen = dict(option.split("=") for option in options.split(",") if option)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "file"
        with av.open(str(place), "w", format=form, options=chosen) as container:
            stream = container.add_stream(codec, rate=rate, layout="stereo" if channels == 2 else "mono")
            assert isinstance(stream, av.AudioStream)
            if bits:
                stream.bit_rate = bits
            fifo = av.AudioResampler(format=stream.codec_context.format, rate=rate, layout=stream.codec_context.layout)
            pcm = (sound(seconds, rate, channels) * 32767).astype(np.int16)
            for start in range(0, len(pcm), 1024):
                part = np.ascontiguousarray(pcm[start : start + 1024].reshape(1, -1))
                frame = av.AudioFrame.from_ndarray(part, "s16", "stereo" if channels == 2 else "mono")
                frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
                for ready in fifo.resample(frame):
                    container.mux(stream.encode(ready))
            container.mux(stream.encode(None))
        return place.read_bytes()


def patched(data: bytes, mark: bytes, offset: int, new: bytes) -> bytes:
    """Overwrite bytes at an offset from the first place of a marker."""
    place = data.index(mark) + offset
    return data[:place] + new + data[place + len(new) :]


def scaled(data: bytes, mark: bytes, offset: int, factor: float, form: str = ">I") -> bytes:
    """Multiply a number in a header."""
    (value,) = struct.unpack_from(form, data, data.index(mark) + offset)
    return patched(data, mark, offset, struct.pack(form, int(value * factor)))


CHANGED = ("trailing-data",)  # rate or channels change within the file
ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
APE = (
    (ape_item := struct.pack("<II", 5, 0) + b"Title\0hello")
    and b"APETAGEX" + struct.pack("<IIII", 2000, len(ape_item) + 32, 1, 0xA000_0000) + bytes(8) + ape_item
    + b"APETAGEX" + struct.pack("<IIII", 2000, len(ape_item) + 32, 1, 0x8000_0000) + bytes(8)
)  # fmt: skip
GARBAGE = np.random.default_rng(7).bytes(5_000).replace(b"\xff", b"\xfe")


def id3v2(size: int = 2_000) -> bytes:
    """Return an ID3v2 tag with a picture of random bytes."""
    body = b"APIC" + struct.pack(">IH", size - 10, 0) + np.random.default_rng(8).bytes(size - 10)
    lengths = bytes(size >> 7 * i & 127 for i in (3, 2, 1, 0))
    return b"ID3\3\0\0" + lengths + body


def chunk(name: bytes, body: bytes, order: str = "<") -> bytes:
    """Return a chunk of a RIFF or AIFF file, padded to an even length."""
    return name + struct.pack(f"{order}I", len(body)) + body + b"\0" * (len(body) % 2)


def pcm(seconds: float = 3.0, rate: int = RATE, channels: int = 1) -> bytes:
    return (sound(seconds, rate, channels) * 32767).astype("<i2").tobytes()


def wav(
    data: bytes,
    data_size: int | None = None,
    riff_size: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
    bits: int = 16,
    channels: int = 1,
    rate: int = RATE,
) -> bytes:
    """Return a WAV whose sizes can be set to wrong values."""
    align = channels * bits // 8
    layout = struct.pack("<HHIIHH", 1, channels, rate, rate * align, align, bits)
    body = b"WAVE" + chunk(b"fmt ", layout) + before
    body += b"data" + struct.pack("<I", len(data) if data_size is None else data_size) + data + after
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def joined() -> Iterator[OddFile]:
    """Yield files that are several files one behind the other."""
    vorbis, opus = native("OGG", "VORBIS"), native("OGG", "OPUS")
    yield OddFile("chain-same.ogg", vorbis * 2, 6)
    yield OddFile("chain-three.ogg", vorbis + native("OGG", "VORBIS", 2.0) + vorbis, 8)
    yield OddFile("chain-rates.ogg", vorbis + native("OGG", "VORBIS", 2.0, 44_100), 5, CHANGED)
    yield OddFile("chain-channels.ogg", vorbis + native("OGG", "VORBIS", 2.0, RATE, 2), 5, CHANGED)
    yield OddFile("chain-short.ogg", native("OGG", "VORBIS", 0.2) * 5, 1)
    yield OddFile("chain-same.opus", opus * 2, 6)
    yield OddFile("chain-channels.opus", opus + native("OGG", "OPUS", 2.0, RATE, 2), 5, CHANGED)
    yield OddFile("chain-codecs.ogg", vorbis + opus, 6)
    yield OddFile("chain-flac.oga", muxed("ogg", "flac") + muxed("ogg", "flac", 2.0), 5)
    mp3, cbr = native("MP3", "MPEG_LAYER_III"), muxed("mp3", "libmp3lame", options="write_xing=0", bits=64_000)
    info, other = muxed("mp3", "libmp3lame"), native("MP3", "MPEG_LAYER_III", 2.0, 44_100)
    yield OddFile("joined.mp3", mp3 * 2, 6, tolerance_s=0.2)
    yield OddFile("joined-three.mp3", mp3 + info + mp3, 9, tolerance_s=0.3)
    yield OddFile("joined-rates.mp3", mp3 + other, 5, CHANGED, 0.2)
    yield OddFile("joined-channels.mp3", mp3 + native("MP3", "MPEG_LAYER_III", 2.0, RATE, 2), 5, CHANGED, 0.2)
    yield OddFile("joined-untagged.mp3", cbr * 2, 6, tolerance_s=0.2)
    for name, tag in (("id3v1", ID3V1), ("id3v2", id3v2()), ("ape", APE), ("all", APE + ID3V1 + id3v2(70_000))):
        yield OddFile(f"joined-{name}.mp3", mp3 + tag + mp3, 6, tolerance_s=0.2)
        yield OddFile(f"joined-info-{name}.mp3", id3v2() + info + tag + info + tag, 6, tolerance_s=0.2)
    flac = native("FLAC", "PCM_16")
    yield OddFile("joined.flac", flac * 2, 6)
    yield OddFile("joined-rates.flac", flac + native("FLAC", "PCM_16", 2.0, 44_100), 5, CHANGED)
    yield OddFile("joined-tags.flac", flac + ID3V1 + id3v2() + flac, 6)
    aac = muxed("adts", "aac")
    yield OddFile("joined.aac", aac * 2, 6, tolerance_s=0.3)
    yield OddFile("joined-rates.aac", aac + muxed("adts", "aac", 2.0, 44_100), 5, CHANGED, 0.3)
    yield OddFile("joined-channels.aac", aac + muxed("adts", "aac", 2.0, RATE, 2), 5, CHANGED, 0.3)
    yield OddFile("joined-tags.aac", aac + ID3V1 + id3v2() + aac, 6, tolerance_s=0.3)
    yield OddFile("joined.wav", wav(pcm()) * 2, None, ("trailing-data", ""))
    yield OddFile("joined.aiff", native("AIFF", "PCM_16") * 2, None, ("trailing-data",))
    yield OddFile("joined.m4a", muxed("ipod", "aac") * 2, None, ("trailing-data",))
    yield OddFile("joined.mka", muxed("matroska", "flac") * 2, None, ("trailing-data", ""))
    yield OddFile("joined.mp2", muxed("mp2", "mp2") * 2, 6)
    yield OddFile("joined.ac3", muxed("ac3", "ac3", 3.0, 48_000) * 2, 6)


def mp3_headers() -> Iterator[OddFile]:
    """Yield MP3 files whose tag counts wrong, or with tags around the audio."""
    mp3, info = native("MP3", "MPEG_LAYER_III"), muxed("mp3", "libmp3lame", bits=64_000)
    bare = patched(mp3, b"Xing", 0, bytes(120))
    for factor, name in ((0, "zero"), (0.5, "half"), (0.9, "less"), (2, "twice"), (100, "more")):
        yield OddFile(f"xing-{name}.mp3", scaled(mp3, b"Xing", 8, factor), 3, ("", "truncated"))
        yield OddFile(f"info-{name}.mp3", scaled(info, b"Info", 8, factor), 3, ("", "truncated"))
        frames, size = int(factor * 43), int(factor * len(bare))
        vbri = b"VBRI" + struct.pack(">HHHIIHHHH", 1, 0, 75, size, frames, 0, 1, 2, 1)
        yield OddFile(f"vbri-{name}.mp3", bare[:36] + vbri + bare[36 + len(vbri) :], 3, ("", "truncated"), 0.15)
    yield OddFile("xing-bytes-half.mp3", scaled(mp3, b"Xing", 12, 0.5), 3)
    yield OddFile("xing-both-half.mp3", scaled(scaled(mp3, b"Xing", 8, 0.5), b"Xing", 12, 0.5), 3)
    yield OddFile("untagged.mp3", bare, 3, tolerance_s=0.15)
    for name, tag in (("id3v1", ID3V1), ("ape", APE), ("both", APE + ID3V1), ("zeros", bytes(9_000))):
        yield OddFile(f"tag-{name}.mp3", mp3 + tag, 3)
        yield OddFile(f"tag-info-{name}.mp3", id3v2(90_000) + info + tag, 3)
    yield OddFile("garbage-last.mp3", mp3 + GARBAGE, 3, ("trailing-data",))
    yield OddFile("garbage-last-info.mp3", info + GARBAGE, 3, ("trailing-data",))
    yield OddFile("garbage-between.mp3", mp3 + GARBAGE + mp3, 6, ("", "trailing-data"), 0.2)
    yield OddFile("cut-between-frames.mp3", mp3[: len(mp3) // 2], 1.5, ("truncated",), 0.2)
    yield OddFile("cut-untagged.mp3", bare[: len(mp3) // 2 + 5], 1.5, ("", "truncated"), 0.2)
    layer3 = muxed("wav", "libmp3lame")
    yield OddFile("mp3-in.wav", layer3, 3)
    yield OddFile("mp3-in-unclosed.wav", patched(layer3, b"data", 4, bytes(4)), 3, ("truncated",))
    yield OddFile("mp3-in-piped.wav", patched(layer3, b"data", 4, b"\xff" * 4), 3)


def wav_headers() -> Iterator[OddFile]:
    """Yield WAV, RF64 and W64 files with wrong sizes and unusual chunks."""
    data = pcm()
    size, listed = len(data), chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 4) + b"none")
    bext = chunk(b"bext", bytes(858))
    yield OddFile("riff0-data0.wav", wav(data, 0, 0), 3, ("truncated",))
    yield OddFile("data0.wav", wav(data, 0), 3, ("truncated",))
    yield OddFile("data0-riff36.wav", wav(data, 0, 36), 3, ("truncated",))
    yield OddFile("data0-list.wav", wav(data, 0, 0, before=listed + bext), 3, ("truncated",))
    yield OddFile("data0-odd.wav", wav(data[:-1], 0, 0), 3, ("truncated",))
    yield OddFile("data0-24bit.wav", wav(pcm()[: size // 6 * 6], 0, 0, bits=24), 2, ("truncated",))
    yield OddFile("riff0.wav", wav(data, riff_size=0), 3)
    yield OddFile("riff-less.wav", wav(data, riff_size=999), 3)
    yield OddFile("riff-more.wav", wav(data, riff_size=9_999_999), 3, ("", "truncated"))
    for forged in (0xFFFF_FFFF, 0x7FFF_FFFF, 0xFFFF_F000, 0x7FFF_F000):
        yield OddFile(f"piped-{forged:x}.wav", wav(data, forged, forged), 3)
    yield OddFile("data-half.wav", wav(data, size // 2), None, ("trailing-data",))
    yield OddFile("data-twice-as-long.wav", wav(data, 2 * size), 3, ("truncated",))
    yield OddFile("data-one-more.wav", wav(data, size + 1), 3, ("", "truncated"))
    yield OddFile("odd-padded.wav", wav(data + b"\1", after=b"\0"), 3)
    yield OddFile("odd-unpadded.wav", wav(data + b"\1"), 3)
    yield OddFile("odd-unpadded-list.wav", wav(data + b"\1", after=listed), 3)
    yield OddFile("two-data.wav", wav(data, after=chunk(b"data", data)), 6, ("", "trailing-data"))
    yield OddFile(
        "two-data-list.wav", wav(data, after=listed + chunk(b"data", pcm(1.0)) + bext), 4, ("", "trailing-data")
    )
    yield OddFile("data-of-zeros-last.wav", wav(data, after=chunk(b"data", bytes(200))), 3, ("", "trailing-data"))
    yield OddFile("empty-data-first.wav", wav(b"", after=chunk(b"data", data)), 3, ("", "truncated", "trailing-data"))
    yield OddFile("list-before.wav", wav(data, before=listed + bext), 3)
    yield OddFile("list-after.wav", wav(data, after=listed + bext), 3)
    yield OddFile("list-outside.wav", wav(data) + listed, 3)
    yield OddFile("id3-chunk.wav", wav(data, after=chunk(b"id3 ", id3v2())), 3)
    yield OddFile("id3-first.wav", id3v2() + wav(data), 3)
    yield OddFile("id3-last.wav", wav(data) + ID3V1, 3)
    yield OddFile("id3v2-last.wav", wav(data) + id3v2(), 3)
    yield OddFile("zeros-last.wav", wav(data) + bytes(4_000), 3)
    yield OddFile("garbage-last.wav", wav(data) + GARBAGE, 3, ("trailing-data",))
    yield OddFile("garbage-few.wav", wav(data) + b"\1\2\3", 3, ("", "trailing-data"))
    adpcm = native("WAV", "IMA_ADPCM")
    yield OddFile("adpcm.wav", adpcm, 3)
    yield OddFile(
        "adpcm-data0.wav", patched(patched(adpcm, b"data", 4, bytes(4)), b"RIFF", 4, bytes(4)), 3, ("truncated",)
    )
    for form, subtype in (
        ("WAVEX", "PCM_16"),
        ("RF64", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "FLOAT"),
        ("WAV", "ULAW"),
    ):
        yield OddFile(f"{form.lower()}-{subtype.lower()}.wav", native(form, subtype), 3)
    rf64 = native("RF64", "PCM_16")
    yield OddFile("bw64.wav", patched(rf64, b"RF64", 0, b"BW64"), 3)
    yield OddFile("ffmpeg-rf64.wav", muxed("wav", "pcm_s16le", options="rf64=always"), 3)
    for number, name in ((0, "zero"), (size // 2, "half"), (2 * size, "twice"), (2**64 - 1, "unknown")):
        flags = {
            "zero": ("truncated",),
            "half": ("trailing-data",),
            "twice": ("truncated",),
            "unknown": ("", "truncated"),
        }
        forged64 = patched(rf64, b"ds64", 16, struct.pack("<Q", number))
        yield OddFile(f"ds64-{name}.rf64", forged64, None if name == "half" else 3, flags[name])
    w64 = native("W64", "PCM_16")
    yield OddFile("w64.w64", w64, 3)
    for factor, name in ((0.5, "half"), (2, "twice")):
        flags2 = ("trailing-data",) if name == "half" else ("truncated",)
        yield OddFile(f"{name}.w64", scaled(w64, b"data", 16, factor, "<Q"), None if name == "half" else 3, flags2)
    yield OddFile("unclosed.w64", patched(w64, b"data", 16, struct.pack("<Q", 24)), 3, ("truncated",))
    rifx = wav(np.frombuffer(data, "<i2").astype(">i2").tobytes())
    rifx = b"RIFX" + struct.pack(">I", len(rifx) - 8) + b"WAVE" + b"fmt " + struct.pack(
        ">IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16) + b"data" + struct.pack(">I", size) + rifx[44:]  # fmt: skip
    yield OddFile("rifx.wav", rifx, 3)
    yield OddFile("rifx-data0.wav", patched(rifx, b"data", 4, bytes(4)), 3, ("truncated",))


def other_headers() -> Iterator[OddFile]:
    """Yield files of other formats with wrong lengths."""
    aiff, au, caf = native("AIFF", "PCM_16"), native("AU", "PCM_16"), native("CAF", "PCM_16")
    yield OddFile("ssnd0.aiff", patched(aiff, b"SSND", 4, bytes(4)), 3, ("truncated",))
    yield OddFile(
        "all0.aiff",
        patched(patched(patched(aiff, b"SSND", 4, bytes(4)), b"COMM", 10, bytes(4)), b"FORM", 4, bytes(4)),
        3,
        ("truncated",),
    )
    yield OddFile("comm0.aiff", patched(aiff, b"COMM", 10, bytes(4)), 3, ("", "truncated"))
    yield OddFile("comm-half.aiff", scaled(aiff, b"COMM", 10, 0.5), 3, ("", "trailing-data"))
    yield OddFile("comm-twice.aiff", scaled(aiff, b"COMM", 10, 2), 3, ("", "truncated"))
    yield OddFile("ssnd-half.aiff", scaled(aiff, b"SSND", 4, 0.5), None, ("trailing-data",))
    yield OddFile("ssnd-twice.aiff", scaled(aiff, b"SSND", 4, 2), 3, ("truncated",))
    yield OddFile("ssnd-piped.aiff", patched(aiff, b"SSND", 4, b"\xff" * 4), 3)
    yield OddFile("form0.aiff", patched(aiff, b"FORM", 4, bytes(4)), 3)
    yield OddFile("garbage.aiff", aiff + GARBAGE, 3, ("trailing-data",))
    yield OddFile("chunks.aiff", aiff + chunk(b"NAME", b"a name", ">") + chunk(b"ID3 ", id3v2(), ">"), 3)
    yield OddFile("au0.au", patched(au, b".snd", 8, bytes(4)), 3, ("truncated",))
    yield OddFile("au-piped.au", patched(au, b".snd", 8, b"\xff" * 4), 3)
    yield OddFile("au-half.au", scaled(au, b".snd", 8, 0.5), None, ("trailing-data",))
    yield OddFile("au-twice.au", scaled(au, b".snd", 8, 2), 3, ("truncated",))
    yield OddFile("piped.caf", patched(caf, b"data", 4, b"\xff" * 8), 3)
    yield OddFile("half.caf", scaled(caf, b"data", 4, 0.5, ">Q"), None, ("trailing-data",))
    yield OddFile("zero.caf", patched(caf, b"data", 4, bytes(8)), 3, ("truncated",))
    yield OddFile("twice.caf", scaled(caf, b"data", 4, 2, ">Q"), 3, ("truncated",))
    yield OddFile("garbage.caf", caf + GARBAGE, 3, ("trailing-data",))
    flac = native("FLAC", "PCM_16")
    samples = 3 * RATE
    for total, name in (
        (0, "unknown"),
        (samples // 2, "half"),
        (samples - 1, "less"),
        (samples + 1, "more"),
        (2 * samples, "twice"),
    ):
        yield OddFile(
            f"total-{name}.flac",
            flac[:22] + struct.pack(">I", total) + flac[26:],
            3,
            ("", "truncated", "trailing-data"),
        )
    yield OddFile("id3.flac", id3v2() + flac + ID3V1, 3)
    yield OddFile("zeros.flac", flac + bytes(4_000), 3)
    yield OddFile("garbage.flac", flac + GARBAGE, 3, ("", "trailing-data"))
    aac = muxed("adts", "aac")
    yield OddFile("id3.aac", id3v2() + aac + ID3V1, 3)
    yield OddFile("garbage.aac", aac + GARBAGE, 3, ("", "trailing-data"), 0.3)
    m4a = muxed("ipod", "aac")
    for box in (b"mvhd", b"mdhd", b"tkhd"):
        offset = 24 if box == b"tkhd" else 20
        for factor, name in ((0, "zero"), (0.5, "half"), (2, "twice")):
            flags = ("", "truncated") if factor == 2 else ("", "trailing-data")
            yield OddFile(f"{box.decode()}-{name}.m4a", scaled(m4a, box, offset, factor), 3, flags)
    yield OddFile(
        "fragmented.mp4",
        muxed("mp4", "aac", options="movflags=frag_keyframe+empty_moov+default_base_moof,frag_duration=500000"),
        3,
    )
    yield OddFile("garbage.m4a", m4a + GARBAGE, 3, ("trailing-data",))
    mka, webm = muxed("matroska", "flac"), muxed("webm", "libopus", rate=48_000)
    yield OddFile("live.mka", muxed("matroska", "flac", options="live=1"), 3)
    yield OddFile("live.webm", muxed("webm", "libopus", rate=48_000, options="live=1"), 3)
    for data, name in ((mka, "mka"), (webm, "webm")):
        yield OddFile(f"garbage.{name}", data + GARBAGE, 3, ("trailing-data",))
        for factor, kind in ((0.5, "half"), (2, "twice")):
            flags = ("", "truncated") if factor == 2 else ("", "trailing-data")
            yield OddFile(
                f"duration-{kind}.{name}",
                patched(data, b"\x44\x89\x88", 3, struct.pack(">d", 3000.0 * factor)),
                3,
                flags,
            )
    yield OddFile("garbage.ogg", native("OGG", "VORBIS") + GARBAGE, 3, ("trailing-data",))
    yield OddFile("id3-last.ogg", native("OGG", "VORBIS") + ID3V1, 3)
    yield OddFile("id3-first.ogg", id3v2() + native("OGG", "VORBIS"), 3)
    yield OddFile("zeros.ogg", native("OGG", "VORBIS") + bytes(4_000), 3)
    yield OddFile("garbage.opus", native("OGG", "OPUS") + GARBAGE, 3, ("trailing-data",))


ORDINARY = (  # container and codec that FFmpeg writes, and the suffix
    "wav pcm_s16le wav", "wav pcm_s24le 24.wav", "wav pcm_f32le float.wav", "wav adpcm_ms ms.wav", "w64 pcm_s16le w64",
    "aiff pcm_s16be aiff", "au pcm_s16be au", "caf pcm_s16be caf", "caf alac alac.caf", "flac flac flac",
    "ogg libvorbis ogg", "ogg libopus opus", "ogg flac oga", "mp3 libmp3lame mp3", "mp2 mp2 mp2", "ipod aac m4a",
    "ipod alac alac.m4a", "mp4 aac mp4", "mov pcm_s16le mov", "mov alac alac.mov", "3gp aac 3gp", "adts aac aac",
    "matroska libvorbis mka", "matroska pcm_s16le mkv", "matroska ac3 ac3.mka", "webm libopus webm", "asf wmav2 wma",
    "avi pcm_s16le avi", "flv libmp3lame flv", "mpegts aac ts", "ac3 ac3 ac3", "eac3 eac3 eac3", "wv wavpack wv",
    "tta tta tta",
)  # fmt: skip


def ordinary() -> Iterator[OddFile]:
    """Yield files that FFmpeg and libsndfile write, all of which are right and have no flag."""
    for form, codec, suffix in map(str.split, ORDINARY):
        for channels in (1, 2):
            try:
                data = muxed(form, codec, 3.0, 44_100 if form != "webm" else 48_000, channels)
            except (ValueError, av.FFmpegError):  # this build of FFmpeg has no such encoder
                continue
            yield OddFile(f"ordinary-{channels}.{suffix}", data, 3)
    for form in soundfile.available_formats():
        for subtype in soundfile.available_subtypes(form):
            if not subtype.startswith("DWVW") and form in (
                "WAV",
                "AIFF",
                "AU",
                "CAF",
                "FLAC",
                "OGG",
                "MP3",
                "W64",
                "RF64",
                "WAVEX",
            ):
                try:
                    data = native(form, subtype)
                except (ValueError, soundfile.LibsndfileError):
                    continue
                if data:
                    yield OddFile(f"native-{form}-{subtype}.{form.lower()}", data, 3)
