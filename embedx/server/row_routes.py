"""Routes of the sound of a row: the sound itself, the file that it comes from, and its spectrogram."""

import mimetypes
import os
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from embedx.audio.decode import require_regular
from embedx.audio.decoder_pool import DECODERS
from embedx.errors import AudioError
from embedx.filesystem.urls import is_url
from embedx.server.collection_routes import RowNumber
from embedx.server.errors import ApiError
from embedx.server.row_audio import MAX_CONTEXT_S, find_row, sound_of
from embedx.server.served import Served
from embedx.server.service import service_of
from embedx.server.sound_queries import Channel, Drawn, EndSeconds, Version, channel_of, kept_headers, send_kept
from embedx.server.sounds import MEDIA_TYPES, Format, draw, encode
from embedx.store.records import Row

router = APIRouter(prefix="/v1/collections")

Context = Annotated[float, Query(ge=0, le=MAX_CONTEXT_S, allow_inf_nan=False, description="seconds before and after")]


@router.get("/{name}/rows/{number}/audio")
async def get_audio(
    request: Request,
    name: str,
    number: RowNumber,
    context: Context = 0.0,
    start_s: EndSeconds = None,
    end_s: EndSeconds = None,
    format: Format = "wav",
    v: Version = "",
    original: Annotated[bool, Query(description="the bytes of the file, also in ranges")] = False,
) -> Response:
    """Return the sound of a row, or of another part of its recording, as WAV or FLAC, or the file it comes from."""
    service = service_of(request)
    row, version = await service.run(lambda: look_up(service.get(name), number))
    if original:
        return await service.run(lambda: original_file(row), audio=True)
    part = replace(
        row, start_s=row.start_s if start_s is None else start_s, end_s=row.end_s if end_s is None else end_s
    )
    sound = sound_of(part, context)
    headers = kept_headers(v, version, f"{sound.version()}.{format}") | {"X-Start-S": f"{sound.start_s:g}"}
    return await service.run(
        lambda: send_kept(request, headers, MEDIA_TYPES[format], lambda: (encode(sound, format), {})), audio=True
    )


@router.get("/{name}/rows/{number}/spectrogram.png")
async def get_spectrogram(
    request: Request,
    name: str,
    number: RowNumber,
    spectrum: Annotated[Drawn, Depends()],
    context: Context = 0.0,
    channel: Channel = "mix",
    v: Version = "",
) -> Response:
    """Return the spectrogram of a row as a grey picture of levels; 0 is -120 dB, 254 a sine at full scale."""
    service = service_of(request)
    row, version = await service.run(lambda: look_up(service.get(name), number))
    sound = sound_of(row, context)
    headers = kept_headers(v, version, f"{sound.version()}.{spectrum.name}.{channel}")
    return await service.run(
        lambda: send_kept(request, headers, "image/png", lambda: draw(sound, spectrum.value, channel_of(channel))),
        audio=True,
    )


def look_up(served: Served, number: int) -> tuple[Row, str]:
    """Return a row, and the version of the store."""
    with served.use() as collection:
        return find_row(collection, number), collection.store.version


def original_file(row: Row) -> Response:
    """Return the file of a row; only if it is audio, whatever the collection says about it."""
    if is_url(row.path):
        raise ApiError(
            400, "bad_format", "The recording is remote, and its file is not copied.", "Ask for format=flac."
        )
    try:
        require_regular(row.path)
        DECODERS.read_excerpt(row.path, row.start_s, min(row.end_s, row.start_s + 0.1))
    except AudioError as error:
        raise sound_of(row).error(error) from error
    kind = mimetypes.guess_type(row.path)[0] or ""
    media_type = kind if kind.startswith("audio/") else "application/octet-stream"
    return FileResponse(row.path, media_type=media_type, stat_result=os.stat(row.path))
