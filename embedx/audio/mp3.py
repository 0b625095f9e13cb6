"""MP3: the layout of a file of MPEG audio frames, layer III, found by going from frame to frame.

libsndfile decodes as many frames as the tag in the first frame counts. It is right in a file that one encoder wrote,
and wrong in files that were joined or cut.
"""

import re
from functools import cache
from typing import BinaryIO

from embedx.audio.layout import TRAILING, TRUNCATED, Layout
from embedx.audio.tags import BLOCK, before_tags, bytes_at, holds_data, int_at, skip_tags

BIT_RATES = {  # kbit/s by index, of MPEG 1, and of MPEG 2 and 2.5
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # by version
FRAME_START = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")  # the first two bytes of a frame of layer III
MAX_FRAME_BYTES = 2_881  # 320 kbit/s at 8 kHz
MAX_STRETCHES = 1_000  # of frames between tags and damage that are read; a malicious file may have millions
UNKNOWN_SIZE = 0x7FFF_E000  # a size from here on stands for "unknown"


@cache
def frame_lengths() -> list[int]:
    """Return the length of a frame in bytes by the second and third byte of its header; 0: not a header."""
    lengths = [0] * 65_536
    for version, rates in SAMPLE_RATES.items():
        for i, rate in enumerate(rates):
            for j, kilobits in enumerate(BIT_RATES[version == 3]):
                length = (144_000 if version == 3 else 72_000) * kilobits // rate
                for checked in (0, 1):
                    for padded in (0, 1):
                        for private in (0, 1):
                            second, third = 0xE2 | version << 3 | checked, j << 4 | i << 2 | padded << 1 | private
                            lengths[second << 8 | third] = length + padded if kilobits else 0
    return lengths


def count_frames(file: BinaryIO, start: int, end: int) -> tuple[int, int]:
    """Return the number of frames that follow each other from `start`, and the end of the last one.

    The end is beyond `end` if the last frame is incomplete.
    """
    lengths, frames = frame_lengths(), 0
    while end - start > 3:
        block, position = bytes_at(file, start, min(BLOCK, end - start)), 0
        last = len(block) - 3
        while position < last and block[position] == 0xFF:
            length = lengths[block[position + 1] << 8 | block[position + 2]]
            if not length:
                break
            position += length
            frames += 1
        start += position
        if position < last or not position:
            break
    return frames, start


def find_frame(file: BinaryIO, start: int, end: int) -> int:
    """Return the position of the next frame that two frames follow; `end` if there is none."""
    while end - start > 3:
        block = bytes_at(file, start, min(BLOCK, end - start))
        for match in FRAME_START.finditer(block):
            if is_followed(block, match.start()):
                return start + match.start()
        if len(block) < BLOCK:
            break
        start += BLOCK - 2 * MAX_FRAME_BYTES
    return end


def is_followed(block: bytes, position: int) -> bool:
    """Tell whether three frames of the same kind follow each other in a block."""
    lengths, kind = frame_lengths(), block[position : position + 2]
    for _ in range(3):
        head = block[position : position + 3]
        if len(head) < 3 or head[:2] != kind:
            return False
        length = lengths[head[1] << 8 | head[2]]
        if not length:
            return False
        position += length
    return True


def mp3_layout(file: BinaryIO, start: int, size: int) -> Layout:
    """Return the layout of an MP3 whose first frame is at `start`."""
    end = before_tags(file, start, size)
    declared_end, counted = read_tag(file, start)
    flags = {TRUNCATED} if (declared_end or 0) > size else set()
    frames, last_end = count_frames(file, start, end)
    if not frames:
        return Layout(frozenset(flags))
    for _ in range(MAX_STRETCHES):
        begin = skip_tags(file, last_end) if last_end < end else end
        more, stop = count_frames(file, begin, end)
        if not more:
            more, stop = count_frames(file, begin := find_frame(file, begin, end), end)
        if not more:
            break
        frames, last_end = frames + more, stop
    if last_end > end:
        frames -= 1
        if counted is None:
            flags.add(TRUNCATED)
    elif holds_data(file, last_end, size):
        flags.add(TRAILING)
    is_short = counted is not None and frames < counted and last_end < end  # zeros instead of frames
    if is_short:
        flags.add(TRUNCATED)
    problem = ""
    if counted is not None and frames - 1 > counted + 1:  # the frame of the tag has no audio; some encoders count it
        problem = f"the header counts {counted} of {frames - 1} frames"
    parts = (((start, last_end),),) if is_short else ()
    return Layout(frozenset(flags), parts, problem, is_counted=counted is not None)


def read_tag(file: BinaryIO, start: int) -> tuple[int | None, int | None]:
    """Return the end of the file and the number of frames by the tag in the first frame: Xing, Info or VBRI."""
    frame = bytes_at(file, start, 64)
    if not is_frame(frame[:4]):
        return None, None
    mono, first_version = frame[3] >> 6 == 3, bool(frame[1] & 8)
    tag = 4 + ((17 if mono else 32) if first_version else (9 if mono else 17))  # after the side information
    if frame[tag : tag + 4] in (b"Xing", b"Info"):
        present = int_at(frame, tag + 4, 4, "big")  # bit 0: a number of frames follows; bit 1: then a number of bytes
        has_count = present & 1
        size = int_at(frame, tag + 8 + 4 * has_count, 4, "big") if present & 2 else 0
        return end_of(start, size), int_at(frame, tag + 8, 4, "big") if has_count else None
    if frame[36:40] == b"VBRI":
        return end_of(start, int_at(frame, 46, 4, "big")), None
    return None, None


def end_of(start: int, size: int) -> int | None:
    """Return the end by a size, None if it stands for "unknown"."""
    return None if size == 0 or size % 2**31 >= UNKNOWN_SIZE else start + size


def is_frame(head: bytes) -> bool:
    """Tell whether four bytes are the header of an MPEG audio frame, layer III."""
    return len(head) == 4 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2 and head[1] & 0x18 != 0x08
