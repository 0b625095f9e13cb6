"""Routes of clips: sounds that were uploaded, to be used as `"audio": "clip:ID"`."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from starlette.requests import Request
from starlette.responses import Response

from embedx.server.answers import json_response
from embedx.server.bodies import content_type, read_form
from embedx.server.errors import ApiError
from embedx.server.service import service_of
from embedx.server.sound_queries import BinCount, Channel, Drawn, EndSeconds, StartSeconds, channel_of
from embedx.server.sounds import MEDIA_TYPES, Format, draw, encode, peaks

router = APIRouter(prefix="/v1/clips")

ClipName = Annotated[str, Path(max_length=40)]
FORM: dict[str, Any] = {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}}}
KEEP = {"Cache-Control": "private, max-age=900, immutable"}  # a clip never changes under its name


@router.post("", openapi_extra=BODY)
async def add_clip(request: Request) -> Response:
    """Keep a sound in memory for 15 minutes after its last use."""
    service = service_of(request)
    if content_type(request) != "multipart/form-data":
        raise ApiError(415, "bad_content_type", "Send multipart/form-data with the part file.")
    _, files = await read_form(request, service.limits)
    if len(files) != 1:
        raise ApiError(400, "bad_request", f"Send one part file, not {len(files)}.")
    (data,) = files.values()
    facts = await service.run(lambda: service.clips.add(data, service.limits), audio=True)
    return json_response(facts)


@router.get("/{clip}")
async def get_clip(request: Request, clip: ClipName) -> Response:
    """Describe a clip, and keep it for another 15 minutes."""
    return json_response(service_of(request).clips.get(clip).facts(clip))


@router.get("/{clip}/audio")
async def get_clip_audio(
    request: Request, clip: ClipName, start_s: StartSeconds = 0.0, end_s: EndSeconds = None, format: Format = "wav"
) -> Response:
    """Return a clip, or a part of it, as WAV or FLAC."""
    service = service_of(request)

    def audio() -> Response:
        with service.clips.sound(clip, start_s, end_s) as sound:
            return Response(encode(sound, format), 200, KEEP, MEDIA_TYPES[format])

    return await service.run(audio, audio=True)


@router.get("/{clip}/spectrogram.png")
async def get_clip_spectrogram(
    request: Request,
    clip: ClipName,
    spectrum: Annotated[Drawn, Depends()],
    start_s: StartSeconds = 0.0,
    end_s: EndSeconds = None,
    channel: Channel = "mix",
) -> Response:
    """Return the spectrogram of a clip, or of a part of it, as a grey picture of levels."""
    service = service_of(request)

    def image() -> Response:
        with service.clips.sound(clip, start_s, end_s) as sound:
            data, headers = draw(sound, spectrum.value, channel_of(channel))
            return Response(data, 200, KEEP | headers, "image/png")

    return await service.run(image, audio=True)


@router.get("/{clip}/peaks")
async def get_clip_peaks(
    request: Request, clip: ClipName, start_s: StartSeconds = 0.0, end_s: EndSeconds = None, bins: BinCount = 1600
) -> Response:
    """Return the waveform of a clip, or of a part of it, as pairs of int8: the smallest and the largest sample."""
    service = service_of(request)

    def waveform() -> Response:
        with service.clips.sound(clip, start_s, end_s) as sound:
            data, headers = peaks(sound, bins)
            return Response(data, 200, KEEP | headers, "application/octet-stream")

    return await service.run(waveform, audio=True)
