"""Routes of the session of a page: it trades a token for a cookie, since pictures and sounds cannot carry a header."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from embedx.server.answers import json_response
from embedx.server.bodies import read_json
from embedx.server.errors import ApiError
from embedx.server.guard import cookie_name
from embedx.server.query_routes import body_of
from embedx.server.schemas import Strict
from embedx.server.service import service_of

router = APIRouter(prefix="/v1/session")


class SessionBody(Strict):
    """A token of the service, or the one-time token of `embedx open`."""

    token: Annotated[str, Field(min_length=1, max_length=1000)]


@router.post("", openapi_extra=body_of(SessionBody, multipart=False))
async def begin(request: Request) -> Response:
    """Trade a token for a cookie, which scripts cannot read."""
    service = service_of(request)
    body = await read_json(request, SessionBody, service.limits)
    tokens = service.settings.tokens
    cookie = tokens.trade(body.token) if tokens else ""
    if cookie is None:
        raise ApiError(401, "no_token", "The token is not valid, or was used before.", "Ask for a new one.")
    answer = Response(status_code=204)
    set_cookie(request, answer, cookie)
    return answer


@router.delete("")
async def end(request: Request) -> Response:
    """Delete the cookie."""
    answer = Response(status_code=204)
    set_cookie(request, answer, "", max_age=0)
    return answer


@router.get("")
async def get_session(request: Request) -> Response:
    """Tell whether this client may label; a client without a valid token or cookie gets 401."""
    may_label = service_of(request).settings.allow_labels and request.state.right == "label"
    return json_response(
        {"name": None, "may_label": may_label, "needs_token": bool(service_of(request).settings.tokens)}
    )


def set_cookie(request: Request, answer: Response, value: str, max_age: int | None = None) -> None:
    """Set the cookie of this server.

    It has no Path: a browser then sends it to all of /v1, also below the path that a proxy puts before it.
    """
    is_https = request.headers.get("origin", "").startswith("https://") or request.url.scheme == "https"
    name = cookie_name(request.headers["host"])
    answer.set_cookie(name, value, max_age, path=None, secure=is_https, httponly=True, samesite="strict")
