"""Shortcut: answer searches without the layers of FastAPI, which take as long as the search of a row.

Its route stays in FastAPI, for the description of the API and for other kinds of bodies; both call the same function.
"""

import re
from typing import NamedTuple

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from embedx.errors import EmbedxError
from embedx.server.bodies import content_type
from embedx.server.errors import api_error
from embedx.server.query_routes import answer_to_search
from embedx.server.service import Service

SEARCH = re.compile(r"/v1/collections/([^/]+)/search")


class Route(NamedTuple):
    """The path under which requests are counted."""

    path: str


ROUTE = Route("/v1/collections/{name}/search")


class Shortcut:
    """An application that answers searches in JSON, and passes on all other requests."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app = app
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; the gate answers with the errors."""
        match = SEARCH.fullmatch(scope["path"]) if scope.get("method") == "POST" else None
        request = Request(scope, receive) if match else None
        if match is None or request is None or content_type(request) != "application/json":
            await self.app(scope, receive, send)
            return
        scope["route"] = ROUTE
        try:
            response = await answer_to_search(self.service, request, match[1])
        except EmbedxError as error:
            raise api_error(error) from error
        await response(scope, receive, send)
