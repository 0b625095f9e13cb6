"""Routes of recordings: their rows, their waveform, their spectrogram and their sound, in parts."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.requests import Request
from starlette.responses import Response

from embedx.server.answers import state_of, stated_response
from embedx.server.recordings import describe_recording, find_recording, sound_of_recording, version_of
from embedx.server.service import Service, service_of
from embedx.server.sound_queries import (
    BinCount,
    Channel,
    Drawn,
    EndSeconds,
    StartSeconds,
    Version,
    channel_of,
    kept_headers,
    send_kept,
)
from embedx.server.sounds import MEDIA_TYPES, Format, Sound, draw_tile, encode, peaks

router = APIRouter(prefix="/v1/collections/{name}/recordings/{recording}")

RecordingName = Annotated[str, Path(max_length=40)]


@router.get("")
async def get_recording(request: Request, name: str, recording: RecordingName) -> Response:
    """Describe a recording, with its rows."""
    service = service_of(request)
    served = service.get(name)

    def describe() -> Response:
        with served.use() as collection:
            facts = describe_recording(collection, find_recording(served, collection, recording))
            return stated_response(facts, state_of(collection))

    return await service.run(describe)


async def look_up(
    service: Service, name: str, recording: str, start_s: float, end_s: float | None
) -> tuple[Sound, str]:
    """Return a part of a recording as a sound, and the version of the recording.

    Raises:
        ApiError: there is no such recording, or no such part of it.
    """
    served = service.get(name)

    def part() -> tuple[Sound, str]:
        with served.use() as collection:
            found = find_recording(served, collection, recording)
            return sound_of_recording(found, start_s, end_s), version_of(found)

    return await service.run(part)


@router.get("/peaks")
async def get_peaks(
    request: Request,
    name: str,
    recording: RecordingName,
    start_s: StartSeconds = 0.0,
    end_s: EndSeconds = None,
    bins: BinCount = 1600,
    v: Version = "",
) -> Response:
    """Return the waveform of a part as pairs of int8: the smallest and the largest sample, 127 at full scale."""
    service = service_of(request)
    sound, version = await look_up(service, name, recording, start_s, end_s)
    headers = kept_headers(v, version, f"{sound.version()}.{bins}")
    return await service.run(
        lambda: send_kept(request, headers, "application/octet-stream", lambda: peaks(sound, bins)), audio=True
    )


@router.get("/spectrogram.png")
async def get_tile(
    request: Request,
    name: str,
    recording: RecordingName,
    spectrum: Annotated[Drawn, Depends()],
    start_s: StartSeconds = 0.0,
    end_s: EndSeconds = None,
    channel: Channel = "mix",
    v: Version = "",
) -> Response:
    """Return the spectrogram of a part as a grey picture of levels; neighbouring parts join without a seam."""
    service = service_of(request)
    sound, version = await look_up(service, name, recording, start_s, end_s)
    headers = kept_headers(v, version, f"{sound.version()}.{spectrum.name}.{channel}")
    return await service.run(
        lambda: send_kept(request, headers, "image/png", lambda: draw_tile(sound, spectrum.value, channel_of(channel))),
        audio=True,
    )


@router.get("/audio")
async def get_recording_audio(
    request: Request,
    name: str,
    recording: RecordingName,
    start_s: StartSeconds = 0.0,
    end_s: EndSeconds = None,
    format: Format = "wav",
    v: Version = "",
) -> Response:
    """Return the sound of a part of up to ten minutes as WAV or FLAC."""
    service = service_of(request)
    sound, version = await look_up(service, name, recording, start_s, end_s)
    headers = kept_headers(v, version, f"{sound.version()}.{format}") | {"X-Start-S": f"{sound.start_s:g}"}
    return await service.run(
        lambda: send_kept(request, headers, MEDIA_TYPES[format], lambda: (encode(sound, format), {})), audio=True
    )
