"""Recorder notes: what a recorder writes about itself into a file -> columns such as recorded_at and latitude.

GUANO is a chunk `guan` of a WAV file with lines "Key: value" (https://guano-md.org). AudioMoth writes a sentence into
the comment of the file, "Recorded at 21:00:00 08/08/2019 (UTC) by AudioMoth 24F3 ...". Notes are a help, never a
condition: what cannot be understood is left out.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, BinaryIO

from embedx.audio.tags import bytes_at, int_at

MAX_CHUNKS = 1000  # of a file that are looked at; recorders write up to ten
MAX_TEXT = 1000  # characters of a text that are kept
MAX_NOTE_BYTES = 1 << 20  # of a chunk with text; GUANO has some hundred bytes
WAV_SUFFIXES = (".wav", ".wave", ".bwf", ".rf64")
COMMENT_SUFFIXES = (".flac", ".ogg", ".oga")  # into which people convert the files of an AudioMoth
DATE = r"Recorded at (\d\d:\d\d:\d\d)(\.\d+)? (\d\d)/(\d\d)/(\d{4})(?: \((UTC)(?:([+-])(\d{1,2})(?::?(\d\d))?)?\))?"
DEVICE = r"by (AudioMoth[\w-]* [0-9A-F]{16})"
GAIN = r"at (?:gain setting )?([\w-]+?)(?: gain\b| while| and|\.)"
BATTERY = r"battery (?:state )?was (?:(?:less|greater) than )?[<>]? ?(\d+\.?\d*) ?V"
TEMPERATURE = r"temperature was (-?\d+\.?\d*) ?C"
NUMBERS = {  # key of GUANO in lower case -> column; the first key that is there wins
    "loc elevation": "elevation_m",
    "temperature ext": "temperature_c",
    "temperature int": "temperature_c",
    "humidity": "humidity",
}
NEW_LINE = r"\n"  # a backslash and an n: how GUANO writes a new line inside of a text
TEXTS = {
    "firmware version": "firmware",
    "species manual id": "species_manual",
    "species auto id": "species_auto",
    "note": "note",
}


def may_have_notes(path: str) -> bool:
    """Tell by its name whether a recording can have notes: WAV, FLAC or Ogg, also inside of a table."""
    return os.path.splitext(path)[1].lower() in (*WAV_SUFFIXES, *COMMENT_SUFFIXES)


def read_notes(path: str) -> dict[str, Any]:
    """Return the columns that a recorder wrote into a file; none if it wrote nothing that can be understood.

    The values are numbers and texts. `recorded_at` is ISO 8601, with an offset from UTC where the file states one.
    """
    notes: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # RuntimeError: of libsndfile
        for kind, data in text_chunks(path):
            text = data.decode("utf-8", "replace").strip("\0 \r\n\t\ufeff")
            notes = {**notes, **read_guano(text)} if kind == "guan" else {**read_comment(text), **notes}
    return notes


def text_chunks(path: str) -> Iterator[tuple[str, bytes]]:
    """Yield the chunks `guan` and the comments of a file."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in WAV_SUFFIXES:
        with open(path, "rb") as file:
            for kind, position, size in riff_chunks(file):
                if kind == b"guan":
                    yield "guan", bytes_at(file, position, size)
                elif kind == b"LIST":
                    yield from comments_of(bytes_at(file, position, size))
    elif suffix in COMMENT_SUFFIXES:
        import soundfile

        with soundfile.SoundFile(os.fsencode(path)) as opened:
            yield "comment", str(opened.comment).encode()


def riff_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, position and size of the chunks of a WAV file that may hold text; the audio is passed over."""
    head = bytes_at(file, 0, 12)
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:12] != b"WAVE":
        return
    position, data_bytes = 12, None
    for _ in range(MAX_CHUNKS):
        chunk = bytes_at(file, position, 8)
        if len(chunk) < 8:
            return
        kind, size = chunk[:4], int_at(chunk, 4, 4, "little")
        if kind == b"ds64":  # the size of the audio of a file over 4 GB
            data_bytes = int_at(bytes_at(file, position + 8, 16), 8, 8, "little")
        if kind == b"data" and size == 0xFFFFFFFF and data_bytes:
            size = data_bytes
        if size <= MAX_NOTE_BYTES:
            yield kind, position + 8, size
        position += 8 + size + size % 2


def comments_of(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the comments ICMT in a chunk LIST."""
    position = 4
    while data[:4] == b"INFO" and position + 8 <= len(data):
        size = int_at(data, position + 4, 4, "little")
        if data[position : position + 4] == b"ICMT":
            yield "comment", data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def read_comment(text: str) -> dict[str, Any]:
    """Return the columns of an AudioMoth's comment, of any firmware.

    >>> read_comment("Recorded at 21:00:00 08/08/2019 (UTC+2) by AudioMoth 24F319055FDF2902 at medium gain setting "
    ...     "while battery state was 4.1V and temperature was 22.1C")["recorded_at"]
    '2019-08-08T21:00:00+02:00'
    """
    if not (match := re.search(DATE, text)):
        return {}
    time, fraction, day, month, year, utc, sign, hours, minutes = match.groups()
    zone = f"{sign or '+'}{int(hours or 0):02d}:{minutes or '00'}" if utc else ""
    notes: dict[str, Any] = {"recorded_at": iso_time(f"{year}-{month}-{day}T{time}{fraction or ''}{zone}")}
    for name, pattern in (("device", DEVICE), ("gain", GAIN)):
        notes[name] = found[1] if (found := re.search(pattern, text)) else None
    for name, pattern in (("battery_v", BATTERY), ("temperature_c", TEMPERATURE)):
        notes[name] = float(found[1]) if (found := re.search(pattern, text)) else None
    return without_gaps(notes)


def read_guano(text: str) -> dict[str, Any]:
    """Return the columns of a GUANO chunk.

    >>> read_guano("GUANO|Version: 1.0\\nTimestamp: 2012-03-29T23:14:57Z\\nLoc Position: 32.18 -110.34\\nMake: Acme")
    {'recorded_at': '2012-03-29T23:14:57+00:00', 'device': 'Acme', 'latitude': 32.18, 'longitude': -110.34}
    """
    pairs = (line.partition(":") for line in re.split(r"\r?\n", text) if ":" in line)
    fields = {key.strip().lower(): value.strip() for key, _, value in pairs}
    device = " ".join(fields[key] for key in ("make", "model", "serial") if fields.get(key))
    notes: dict[str, Any] = {"recorded_at": iso_time(fields.get("timestamp", "")), "device": device[:MAX_TEXT] or None}
    notes["latitude"], notes["longitude"] = position_of(fields.get("loc position", ""))
    for key, name in NUMBERS.items():
        notes[name] = number_of(fields.get(key)) if notes.get(name) is None else notes[name]
    notes |= {name: fields.get(key, "").replace(NEW_LINE, "\n")[:MAX_TEXT] or None for key, name in TEXTS.items()}
    return without_gaps(notes)


def iso_time(text: str) -> str | None:
    """Return a time in ISO 8601; None if it is none.

    >>> iso_time("2019-05-22 00:30:00Z"), iso_time("2019-02-30T00:00:00")
    ('2019-05-22T00:30:00+00:00', None)
    """
    if len(text) < len("2019-05-22T00:30"):  # only a date
        return None
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        return None


def position_of(text: str) -> tuple[float | None, float | None]:
    """Return latitude and longitude in degrees; None for both if they are not on the earth.

    >>> position_of("32.18 -110.34"), position_of("132.1 0"), position_of("")
    ((32.18, -110.34), (None, None), (None, None))
    """
    numbers = [number_of(part) for part in re.split(r"[\s,]+", text.strip())]
    if len(numbers) < 2 or numbers[0] is None or numbers[1] is None:
        return None, None
    return (numbers[0], numbers[1]) if abs(numbers[0]) <= 90 and abs(numbers[1]) <= 180 else (None, None)


def number_of(text: str | None) -> float | None:
    """Return the number at the start of a text; None if there is none."""
    match = re.match(r"[+-]?\d+\.?\d*", text or "")
    return float(match[0]) if match else None


def without_gaps(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the notes that have a value."""
    return {name: value for name, value in notes.items() if value is not None}
