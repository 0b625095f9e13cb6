"""Hits in a notebook: a table with a player and a spectrogram for each of the first hits."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape

import numpy as np

from embedx.audio.excerpts import flac_bytes, read_wav
from embedx.audio.pictures import png
from embedx.audio.spectrum import Spectrum, levels
from embedx.errors import AudioError
from embedx.filesystem.paths import display_path
from embedx.search.hit import Hit

MAX_PLAYERS = 10  # hits with sound: at 44.1 kHz some 5 MB of a notebook
MAX_SOUND_S = 10.0  # of a hit that a player has; a merged hit can have hours
PICTURE = Spectrum(width=240, height=48)
STEPS_16_BIT = np.float32(1 << 15)


def hits_html(hits: Sequence[Hit], read_clip: Callable[[Hit], bytes]) -> str:
    """Return hits as an HTML table; the sound of the first 10, of up to 10 s each, is inside it."""
    names = ("", "id", "score", "label", "recording", "seconds", "sound")
    lines = [row_html(rank, hit, read_clip if rank <= MAX_PLAYERS else None) for rank, hit in enumerate(hits, 1)]
    head = "".join(f"<th>{name}</th>" for name in names)
    more = f"<p>The first {MAX_PLAYERS} of {len(hits)} hits have players.</p>" if len(hits) > MAX_PLAYERS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>{more}"


def row_html(rank: int, hit: Hit, read_clip: Callable[[Hit], bytes] | None) -> str:
    """Return a hit as a row of the table."""
    place = "" if hit.collection is None else f"{hit.collection}:"
    texts = (
        str(rank), place + str(hit.id), f"{hit.score:.4f}", hit.label or "", display_path(hit.path).rpartition("/")[2],
        f"{hit.start_s:.2f} - {hit.end_s:.2f}",
    )  # fmt: skip
    cells = "".join(f"<td>{escape(text)}</td>" for text in texts)
    return f"<tr>{cells}<td>{'' if read_clip is None else sound_html(hit, read_clip)}</td></tr>"


def sound_html(hit: Hit, read_clip: Callable[[Hit], bytes]) -> str:
    """Return the spectrogram and the player of a hit, or the reason why there is no sound."""
    try:
        part = replace(hit, end_s=min(hit.end_s, hit.start_s + MAX_SOUND_S))
        frames, rate = read_wav(read_clip(part))
        mono = np.nan_to_num(frames.mean(axis=1, dtype=np.float32))
        sound = flac_bytes((np.clip(np.round(mono * STEPS_16_BIT), -32768, 32767) / STEPS_16_BIT)[:, None], rate)
    except AudioError as error:
        return f"<em>{escape(error.detail)}</em>"
    picture = data_url("image/png", png(np.flipud(levels(mono, rate, PICTURE))))
    alt = escape(f"spectrogram of row {hit.id}", quote=True)
    return (
        f'<img src="{picture}" alt="{alt}" width="240" height="48"><br>'
        f'<audio controls preload="metadata" style="width:240px" src="{data_url("audio/flac", sound)}"></audio>'
    )


def data_url(kind: str, data: bytes) -> str:
    """Return bytes as a URL that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
