"""The files of the page at `/`: HTML, scripts and styles, with the headers that keep everything else out of it."""

import gzip
import hashlib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from embedx.server.errors import ApiError
from embedx.server.guard import host_of, is_loopback

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,60}")
MIN_GZIP = 1000  # bytes; smaller files do not get shorter by what a packet holds
MAX_FILES = 128  # that are kept in memory; the page has some 70
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self'; worker-src 'self'; font-src 'none'; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types embedx"
    ),
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-cache",  # kept, but asked for again: a new version is seen at once
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True)
class PageFile:
    """A file of the page as it is sent."""

    content: bytes
    packed: bytes  # with gzip; empty if that is not shorter
    etag: str
    media_type: str


@router.get("/")
async def get_page(request: Request) -> Response:
    """Return the page."""
    return send_file(request, "index.html")


@router.get("/page/{file}")
async def get_page_file(request: Request, file: str) -> Response:
    """Return a file of the page."""
    return send_file(request, file)


def send_file(request: Request, name: str) -> Response:
    """Return a file of the page, or 304 if the client has it.

    Raises:
        ApiError: there is no such file.
    """
    try:
        status = os.stat(FOLDER / name) if NAME.fullmatch(name) else None
    except OSError:
        status = None
    if status is None or Path(name).suffix not in TYPES:
        raise ApiError(404, "not_found", "The page has no such file.")
    file = read_file(name, status.st_mtime_ns, status.st_size)
    headers = HEADERS | {"ETag": file.etag}
    if is_trustworthy(request):
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    content = file.content
    if file.packed and "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = file.packed, "gzip"
    return Response(content, 200, headers, file.media_type)


@lru_cache(MAX_FILES)
def read_file(name: str, *version: int) -> PageFile:
    """Return a file of the page; `version` differs when the file has changed."""
    content = (FOLDER / name).read_bytes()
    packed = gzip.compress(content, mtime=0) if len(content) >= MIN_GZIP else b""
    etag = f'W/"{hashlib.sha256(content).hexdigest()[:16]}"'
    return PageFile(content, packed if len(packed) < len(content) else b"", etag, TYPES[Path(name).suffix])


def is_trustworthy(request: Request) -> bool:
    """Tell whether browsers trust the origin of the page: on others they report an opener policy as an error."""
    return is_loopback(host_of(f"//{request.headers['host']}") or "") or request.url.scheme == "https"
