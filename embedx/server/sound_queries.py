"""What a request for a picture or a sound can ask for, and the headers that let a browser keep the answer."""

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Annotated

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from embedx.audio.spectrum import Scale, Spectrum

MAX_SECONDS = 1e7  # no file is longer

Channel = Annotated[str, Query(pattern=r"^(mix|[0-9]{1,4})$", description="mix (the mean of all), or a number from 0")]
StartSeconds = Annotated[float, Query(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
EndSeconds = Annotated[float | None, Query(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
BinCount = Annotated[int, Query(ge=1, le=4000, description="pairs of the waveform")]
Version = Annotated[str, Query(max_length=64, description="the version that the answer may be kept under")]
Frequency = Annotated[float | None, Query(ge=0, le=1e6, allow_inf_nan=False, description="Hz")]


@dataclass
class Drawn:
    """The parameters of a spectrogram in a URL."""

    width: Annotated[int, Query(ge=8, le=2000)] = 640
    height: Annotated[int, Query(ge=8, le=512)] = 128
    scale: Scale = "mel"
    fmin: Frequency = None
    fmax: Frequency = None
    window_ms: Annotated[float | None, Query(ge=1, le=200, allow_inf_nan=False)] = None

    @property
    def name(self) -> str:
        """A text that differs when the picture differs."""
        return "-".join(map(str, astuple(self)))

    @property
    def value(self) -> Spectrum:
        """What the picture shows."""
        return Spectrum(self.width, self.height, self.scale, self.fmin, self.fmax, self.window_ms)


def channel_of(text: str) -> int | None:
    """Return the number of a channel; None for the mean of all."""
    return None if text == "mix" else int(text)


def kept_headers(version: str, current: str, etag: str) -> dict[str, str]:
    """Return the headers that let a browser keep an answer: for ever if it was asked for under the current version.

    Args:
        version: the version that the client has asked for; "" if none.
        current: the version of the answer.
        etag: differs when the answer differs.
    """
    is_fixed = bool(version) and version == current
    kept = "private, max-age=31536000, immutable" if is_fixed else "private, no-cache"
    return {"Cache-Control": kept, "ETag": f'"{etag}"'}


def send_kept(
    request: Request, headers: Mapping[str, str], media_type: str, make: Callable[[], tuple[bytes, Mapping[str, str]]]
) -> Response:
    """Return a picture or a sound with its headers; 304 without making it if the client has it."""
    if headers.get("ETag", "-") in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=dict(headers))
    data, more = make()
    return Response(data, 200, {**headers, **more}, media_type)
