"""Inspection: which format a file has, and its layout."""

import os
from dataclasses import replace
from functools import lru_cache
from typing import BinaryIO

from embedx.audio import chunk_files
from embedx.audio.boxes import EBML, matroska_layout, mp4_layout
from embedx.audio.chunk_files import VOC_MAGIC, au_layout, avi_layout, chunk_layout, riff_layout, voc_layout
from embedx.audio.flac import flac_layout
from embedx.audio.frames import amr_layout, flv_layout, frames_layout, framing_of, tta_layout
from embedx.audio.layout import Layout
from embedx.audio.mp3 import is_frame, mp3_layout
from embedx.audio.ogg import ogg_layout
from embedx.audio.tags import before_tags, bytes_at, skip_id3

MAX_CACHED = 16  # layouts: a file is opened again for each stretch and each channel that is read of it


def inspect_layout(path: str) -> Layout:
    """Return the layout of a file; nothing is known about AAC, ASF and other formats that FFmpeg reads to the end."""
    status = os.stat(path)
    return read_layout(path, status.st_size, status.st_ino, status.st_mtime_ns)


@lru_cache(MAX_CACHED)
def read_layout(path: str, size: int, *version: int) -> Layout:
    """Return the layout of a file of `size` bytes; `version` differs when the file has changed."""
    with open(path, "rb") as file:
        start = skip_id3(file, 0)
        head = bytes_at(file, start, 12)
        layout = layout_of_format(file, head, start, size)
        if layout is None:
            layout, end = Layout(), before_tags(file, start, size)
        else:
            end = size
        is_skipped_by_decoders = is_frame(head[:4]) or head[:4] == b"fLaC"  # an ID3 tag in front of MP3 and FLAC
        if layout.parts or is_skipped_by_decoders or start >= end or (start, end) == (0, size):
            return layout
        return replace(layout, parts=(((start, end),),))


def layout_of_format(file: BinaryIO, head: bytes, start: int, size: int) -> Layout | None:
    """Return the layout of a file that has a format's first bytes at `start`; None if the format is another one."""
    kind = head[:4]
    if kind in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return riff_layout(file, head, start, size)
    if kind == b"OggS":
        return ogg_layout(file, start, size)
    if kind == b"fLaC":
        return flac_layout(file, start, size)
    if is_frame(kind):
        return mp3_layout(file, start, size)
    if head[4:8] == b"ftyp":
        return mp4_layout(file, start, size)
    if kind == EBML:
        return matroska_layout(file, start, size)
    if kind == b"RIFF":
        return avi_layout(file, start, size)
    if (framing := framing_of(head)) is not None:
        return frames_layout(file, start, size, framing)
    if kind == b"TTA1":
        return tta_layout(file, start, size)
    if kind[:3] == b"FLV":
        return flv_layout(file, head, start, size)
    if start:  # no other format has an ID3 tag in front
        return None
    if kind == b"#!AM":
        return amr_layout(file, size)
    if head == VOC_MAGIC[:12]:
        return voc_layout(file, size)
    chunk_formats = {b"FORM": chunk_files.AIFF, b"riff": chunk_files.W64, b"caff": chunk_files.CAF}
    if kind in chunk_formats:
        return chunk_layout(file, size, chunk_formats[kind])
    if kind in (b".snd", b"dns."):
        return au_layout(file, head, size)
    return None
