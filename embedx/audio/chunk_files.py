"""Chunk files: the layout of WAV (RIFF, RIFX, RF64, BW64), W64, AIFF, CAF and AU.

The size of the data chunk of a WAV is wrong in many ways: 0 if the recorder lost power, the size modulo 4 GB in a long
recording, 0xFFFFFFFF from a pipe. A WAV that libsndfile would not read to its end gets a new header.
"""

import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from embedx.audio.layout import TRAILING, TRUNCATED, Layout, Piece
from embedx.audio.tags import SLACK, Order, bytes_at, holds_data, int_at

MAX_CHUNKS = 1000  # that are read; real files have under 20, a malicious one may have millions
MAX_DATA_CHUNKS = 100  # of one WAV that are read; real files have one, seldom two
UNKNOWN_SIZE = 0x7FFF_E000  # programs that write to a pipe declare sizes from here to 2**31, or near 2**32
SIZE_RANGE = 1 << 32  # a size of 32 bits that is too large is stored modulo this
MPEG_TAGS = (0x50, 0x55)  # formats of the "fmt " chunk: MPEG audio in a WAV, whose length libsndfile estimates
W64_NAMES = (  # the last 12 bytes of the names of chunks in W64
    bytes.fromhex("f3acd3118cd100c04f8edb8a"),
    bytes.fromhex("c1a1d211b1cb00c04f990037"),
)
VOC_MAGIC, VOC_LAST = b"Creative Voice File\x1a", 9  # the first bytes of a VOC; the highest type of a block
MAX_FMT_BYTES = 1 << 16  # of a "fmt " chunk that is copied; real ones have under 100


@dataclass(frozen=True)
class ChunkFormat:
    """Where the chunks of a format begin, and how each one is built: name, size, body.

    Attributes:
        start: the position of the first chunk.
        data: the name of the chunk with the audio, or its beginning.
        name_bytes, size_bytes: the lengths of name and size.
        order: the byte order of the size.
        counted: how many bytes of name and size are included in the size; W64 also aligns chunks to 8 bytes.
        align: chunks start at multiples of this.
    """

    start: int
    data: bytes
    name_bytes: int
    size_bytes: int
    order: Order
    counted: int = 0
    align: int = 1


@dataclass(frozen=True)
class Chunk:
    """A chunk: its name, and the position and size of its body."""

    name: bytes
    body: int
    size: int


RIFF = ChunkFormat(12, b"data", 4, 4, "little", align=2)
RIFX = ChunkFormat(12, b"data", 4, 4, "big", align=2)
AIFF = ChunkFormat(12, b"SSND", 4, 4, "big", align=2)
CAF = ChunkFormat(8, b"data", 4, 8, "big")
W64 = ChunkFormat(40, b"data", 16, 8, "little", counted=24, align=8)


def chunk_at(file: BinaryIO, position: int, form: ChunkFormat) -> Chunk | None:
    """Return the chunk at a position; None if there is no valid name and size there."""
    if position >= 1 << 63:  # no file is that long, and seek would raise an error
        return None
    head = bytes_at(file, position, form.name_bytes + form.size_bytes)
    name = head[: form.name_bytes]
    is_name = name[4:] in W64_NAMES if form.name_bytes == 16 else all(32 <= byte < 127 for byte in name)
    if len(head) < form.name_bytes + form.size_bytes or not is_name:
        return None
    size = int_at(head, form.name_bytes, form.size_bytes, form.order)
    return Chunk(name, position + len(head), max(0, size - form.counted))


def next_chunk(file: BinaryIO, end: int, form: ChunkFormat) -> int:
    """Return the position after a chunk's end where the next chunk begins; some programs forget to align it."""
    aligned = end + -end % form.align
    return aligned if chunk_at(file, aligned, form) else end


def end_of_chunks(file: BinaryIO, position: int, end: int, form: ChunkFormat) -> int:
    """Return the position after the chunks that begin at a position and end before another one."""
    for _ in range(MAX_CHUNKS):
        chunk = chunk_at(file, position, form)
        if chunk is None or chunk.body + chunk.size > end or chunk.name in (b"RIFF", b"FORM"):
            return position
        position = next_chunk(file, chunk.body + chunk.size, form)
    return end


def ends_in_chunks(file: BinaryIO, position: int, end: int, form: ChunkFormat) -> bool:
    """Tell whether the bytes between two positions are chunks, tags and padding."""
    return not holds_data(file, end_of_chunks(file, next_chunk(file, position, form), end, form), end)


def is_unknown(size: int, bits: int = 32) -> bool:
    """Tell whether a size that exceeds the file stands for "unknown".

    >>> is_unknown(1000), is_unknown(0xFFFFFFFF), is_unknown(0x7FFFF000), is_unknown(2**64 - 1, 64)
    (False, True, True, True)
    """
    return bool(size >> 63) if bits == 64 else size % 2**31 >= UNKNOWN_SIZE


def chunk_layout(file: BinaryIO, size: int, form: ChunkFormat) -> Layout:
    """Return the layout of an AIFF, CAF or W64, whose data libsndfile reads to the end also if its size is 0."""
    position = form.start
    for _ in range(MAX_CHUNKS):
        chunk = chunk_at(file, position, form)
        if chunk is None:
            break
        if chunk.name.startswith(form.data):
            return layout_of_data(file, chunk, size, form)
        position = next_chunk(file, chunk.body + chunk.size, form)
    return Layout()


def layout_of_data(file: BinaryIO, chunk: Chunk, size: int, form: ChunkFormat) -> Layout:
    """Return the layout of a file of `size` bytes with this data chunk, without what follows its last chunk."""
    end = chunk.body + chunk.size
    if end > size:
        return Layout(frozenset() if is_unknown(chunk.size, 8 * form.size_bytes) else frozenset({TRUNCATED}))
    stop = end_of_chunks(file, next_chunk(file, end, form), size, form)
    more = holds_data(file, stop, size)
    if not chunk.size:
        return Layout(frozenset({TRUNCATED}) if more else frozenset())
    used = end if form is W64 else stop  # libsndfile reads a W64 to the end of the file
    parts = (((0, used),),) if size - used >= SLACK else ()
    return Layout(frozenset({TRAILING}) if more else frozenset(), parts)


def au_layout(file: BinaryIO, head: bytes, size: int) -> Layout:
    """Return the layout of an AU, which has one header and no chunks."""
    order: Order = "big" if head[:4] == b".snd" else "little"
    body, length = int_at(head, 4, 4, order), int_at(head, 8, 4, order)
    if not length and body < size:
        return Layout(frozenset({TRUNCATED}), (((0, 8), b"\xff" * 4, (12, size)),))
    if body + length > size:
        return Layout(frozenset() if is_unknown(length) else frozenset({TRUNCATED}))
    return Layout(frozenset({TRAILING}) if holds_data(file, body + length, size) else frozenset())


def voc_layout(file: BinaryIO, size: int) -> Layout:
    """Return the layout of a VOC: blocks with a type and a length, and type 0 at the end, which can be missing."""
    position = end = int_at(bytes_at(file, 20, 2), 0, 2, "little")
    for _ in range(MAX_CHUNKS):
        kind = int_at(bytes_at(file, end, 1), 0, 1, "little")
        if not 0 < kind <= VOC_LAST:
            break
        position, end = end, end + 4 + int_at(bytes_at(file, end + 1, 3), 0, 3, "little")
        if kind == VOC_LAST and end + 9 == size:  # libsndfile declares 8 bytes too few
            end += 8
    if end > size:
        rest = max(0, size - position - 4).to_bytes(3, "little")
        return Layout(frozenset({TRUNCATED}), (((0, position + 1), rest, (position + 4, size), b"\0"),))
    is_followed = kind > 0 or holds_data(file, end + 1, size)
    return Layout(frozenset({TRAILING} if is_followed else ()), (((0, end), b"\0"),) if end + 1 < size else ())


@dataclass
class RiffWalk:
    """What has been found in a WAV so far.

    Attributes:
        size: the size of the file.
        form: byte order and alignment.
        fmt: the body of the "fmt " chunk.
        long_size: the size of the audio by the chunk "ds64"; None without one.
        audio: the positions of the audio: from, to.
        flags: "truncated", "trailing-data".
        needs_header: whether libsndfile would read something else than `audio`.
    """

    size: int
    form: ChunkFormat
    fmt: bytes = b""
    long_size: int | None = None
    audio: list[tuple[int, int]] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    needs_header: bool = False

    def add_data(self, file: BinaryIO, chunk: Chunk) -> int:
        """Add a data chunk, and return the end of its audio."""
        is_long = self.long_size is not None and chunk.size == SIZE_RANGE - 1
        length = self.long_size if is_long and self.long_size is not None else chunk.size
        end = chunk.body + length
        if end > self.size:
            if not is_unknown(length, 64 if is_long else 32):
                self.flags.add(TRUNCATED)
            self.needs_header |= is_long and length >> 62 > 0  # libsndfile refuses it
            end = self.size
        elif not ends_in_chunks(file, end, self.size, self.form):
            if length == 0 and chunk.body < self.size:  # the recorder has not written the size
                self.flags.add(TRUNCATED)
                self.needs_header, end = True, self.size
            elif not is_long and is_unknown(length):
                self.needs_header, end = True, self.size
            elif not is_long and self.size - end >= SIZE_RANGE // 2:
                end = self.end_over_range(file, end)
        if end > chunk.body:
            self.audio.append((chunk.body, end))
        return end

    def end_over_range(self, file: BinaryIO, end: int) -> int:
        """Return the end of audio that is too long for a size of 32 bits."""
        self.needs_header = True
        while (end := end + SIZE_RANGE) <= self.size:
            if ends_in_chunks(file, end, self.size, self.form):
                return end
        self.flags.add(TRAILING)
        return self.size


def riff_layout(file: BinaryIO, head: bytes, start: int, size: int) -> Layout:
    """Return the layout of a WAV that begins at `start`."""
    walk = RiffWalk(size, RIFX if head[:4] == b"RIFX" else RIFF)
    position, data_chunks = start + walk.form.start, 0
    for _ in range(MAX_CHUNKS):
        chunk = chunk_at(file, position, walk.form)
        if chunk is None or chunk.name == b"RIFF" or data_chunks == MAX_DATA_CHUNKS:
            break
        end = chunk.body + chunk.size
        if chunk.name == b"fmt ":
            walk.fmt = bytes_at(file, chunk.body, min(chunk.size, MAX_FMT_BYTES))
        elif chunk.name == b"ds64":
            walk.long_size = int_at(bytes_at(file, chunk.body, 16), 8, 8, "little")
        elif chunk.name == b"data":
            data_chunks += 1
            end = walk.add_data(file, chunk)
        elif walk.audio and end > size:
            break
        position = next_chunk(file, end, walk.form)
    if not walk.audio or not walk.fmt:
        return Layout()
    if holds_data(file, position, size):
        walk.flags.add(TRAILING)
    if data_chunks > 1:  # libsndfile reads the last one
        walk.needs_header = True
        walk.flags |= {TRAILING} if len(walk.audio) > 1 else set()
    is_mpeg = int_at(walk.fmt, 0, 2, walk.form.order) in MPEG_TAGS
    return Layout(
        frozenset(walk.flags),
        (with_new_header(head, walk),) if walk.needs_header else (),
        "the length of MPEG audio in a WAV is only estimated" if is_mpeg else "",
    )


def with_new_header(head: bytes, walk: RiffWalk) -> tuple[Piece, ...]:
    """Return the pieces of a WAV whose header fits its audio; over 4 GB it is an RF64."""
    order = ">" if walk.form is RIFX else "<"
    length = sum(end - begin for begin, end in walk.audio)
    is_long = length + len(walk.fmt) + 64 >= SIZE_RANGE and walk.form is RIFF
    chunks = b"WAVE"
    if is_long:
        chunks += b"ds64" + struct.pack("<IQQQI", 28, length + len(walk.fmt) + 64, length, 0, 0)
    chunks += b"fmt " + struct.pack(f"{order}I", len(walk.fmt)) + walk.fmt + b"\0" * (len(walk.fmt) % 2)
    sizes = [min(SIZE_RANGE - 1, size) for size in (len(chunks) + 8 + length, length)]
    if is_long:
        sizes = [SIZE_RANGE - 1] * 2
    name = b"RF64" if is_long else head[:4] if walk.form is RIFX else b"RIFF"
    riff, data = (struct.pack(f"{order}I", size) for size in sizes)
    return (name + riff + chunks + b"data" + data, *walk.audio)


def avi_layout(file: BinaryIO, start: int, size: int) -> Layout:
    """Return the layout of an AVI: one RIFF chunk of up to 2 GB, or several that follow each other."""
    while bytes_at(file, start, 4) == b"RIFF":
        length = int_at(bytes_at(file, start + 4, 4), 0, 4, "little")
        if is_unknown(length):
            return Layout()
        start += 8 + length + length % 2
    if start > size + 1:
        return Layout(frozenset({TRUNCATED}))
    return Layout(frozenset({TRAILING}) if holds_data(file, start, size) else frozenset())
