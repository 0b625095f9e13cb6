"""The application: routes, the form of errors, and the gate in front of them."""

import html
import logging
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from embedx._version import __version__
from embedx.errors import EmbedxError
from embedx.server import (
    clip_routes,
    collection_routes,
    column_routes,
    content_routes,
    embedding_routes,
    event_routes,
    export_routes,
    label_routes,
    map_routes,
    page_routes,
    query_routes,
    recording_routes,
    row_routes,
    session_routes,
)
from embedx.server.answers import json_response, public_recipe
from embedx.server.errors import ApiError, api_error
from embedx.server.gate import Gate
from embedx.server.metrics import Metrics
from embedx.server.openapi import complete_description
from embedx.server.service import Service, service_of
from embedx.server.settings import Settings
from embedx.server.shortcut import Shortcut
from embedx.text import dump_json

log = logging.getLogger("embedx.server")

ROUTES = (
    page_routes,
    session_routes,
    clip_routes,
    collection_routes,
    row_routes,
    recording_routes,
    column_routes,
    map_routes,
    content_routes,
    query_routes,
    label_routes,
    event_routes,
    export_routes,
    embedding_routes,
)
CODES = {404: "not_found", 405: "bad_method"}


def create_app(settings: Settings) -> tuple[ASGIApp, Service]:
    """Return the application of a service, and the service.

    Raises:
        UsageError: a folder holds no collection, or two have the same name.
    """
    metrics = Metrics()
    service = Service(settings, metrics)
    app = FastAPI(
        title="embedx", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False, debug=False
    )
    app.state.service = service
    for routes in ROUTES:
        app.include_router(routes.router)
    add_routes_around(app, metrics)
    complete_description(app, service.collections)
    app.add_exception_handler(ApiError, answer_api_error)
    app.add_exception_handler(EmbedxError, answer_embedx_error)
    app.add_exception_handler(RequestValidationError, answer_validation_error)
    app.add_exception_handler(HTTPException, answer_http_error)
    app.add_exception_handler(Exception, answer_bug)
    if settings.mcp:
        from embedx.server.mcp_http import PATH, McpEndpoint

        app.router.routes.append(Route(PATH, McpEndpoint(service)))
    return Gate(Shortcut(app, service), settings, metrics), service


def add_routes_around(app: FastAPI, metrics: Metrics) -> None:
    """Add the routes for systems that watch the service, the models, and the list of all routes."""

    @app.get("/livez")
    async def livez() -> Response:
        """Tell that the process is alive."""
        return json_response({"status": "ok"})

    @app.get("/readyz")
    async def readyz(request: Request) -> Response:
        """Tell whether all collections can be read; their names are only for clients with a token."""
        service = service_of(request)
        names = await service.run(service.damaged)
        if not names:
            return json_response({"status": "ok"})
        shown = ", ".join(names) if request.state.right else f"{len(names)} of {len(service.collections)}"
        raise ApiError(503, "collection_unavailable", f"These collections cannot be read: {shown}.")

    @app.get("/metrics")
    async def get_metrics(request: Request) -> Response:
        """Return the metrics for Prometheus."""
        service = service_of(request)
        text = await service.run(lambda: metrics.text([service.measure]))
        return Response(text, media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        """List the models, in the form of OpenAI; the id of a model is the name of its collection."""
        service = service_of(request)
        return json_response({"object": "list", "data": await service.run(lambda: describe_models(service))})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        """Show the routes as a page without scripts."""
        return HTMLResponse(docs_page(app.openapi()))


def describe_models(service: Service) -> list[dict[str, Any]]:
    """Return the models of the collections that can be read."""
    models = []
    for name, served in service.collections.items():
        try:
            with served.use() as collection:
                recipe = collection.recipe
                models.append(
                    {
                        "id": name,
                        "object": "model",
                        "created": 0,
                        "owned_by": "embedx",
                        "recipe": public_recipe(asdict(recipe)),
                        "dim": collection.views[collection.default_view],
                        "sample_rate": recipe.sample_rate,
                        "views": list(collection.views),
                        "loaded": service.models.is_loaded(recipe, collection.model),
                    }
                )
        except ApiError:
            continue  # /readyz names it
    return models


def docs_page(schema: dict[str, Any]) -> str:
    """Return the list of all routes as HTML; nothing is loaded from anywhere."""
    parts = ["<!doctype html><html lang=en><meta charset=utf-8><title>embedx</title><h1>embedx: routes</h1>"]
    for path, methods in schema["paths"].items():
        for method, facts in methods.items():
            body = facts.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            shown = {"parameters": facts.get("parameters", []), **({"body": body} if body else {})}
            parts.append(
                f"<h2>{html.escape(method.upper())} {html.escape(path)}</h2><p>{html.escape(facts['description'])}</p>"
                f"<details><summary>details</summary><pre>{html.escape(dump_json(shown))}</pre></details>"
            )
    return "".join(parts)


async def answer_api_error(request: Request, error: Exception) -> Response:
    """Answer with an error of the service."""
    assert isinstance(error, ApiError)
    return json_response(error.to_json(), error.status, error.headers)


async def answer_embedx_error(request: Request, error: Exception) -> Response:
    """Answer with an error of embedx."""
    assert isinstance(error, EmbedxError)
    return await answer_api_error(request, api_error(error))


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """Answer a request with an invalid parameter."""
    assert isinstance(error, RequestValidationError)
    problems = [f"{'.'.join(map(str, one['loc'][1:3]))}: {one['msg']}" for one in error.errors()[:3]]
    return await answer_api_error(
        request, ApiError(400, "bad_request", "; ".join(problems)[:500], "See /openapi.json.")
    )


async def answer_bug(request: Request, error: Exception) -> Response:
    """Answer a request that the server has failed on; the gate logs the error."""
    return await answer_api_error(request, ApiError(500, "internal", "The server has failed to answer this request."))


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Answer a request for a route that does not exist, or with another method."""
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, "bad_request")
    answer = ApiError(error.status_code, code, f"{error.detail}.", "See /docs.", dict(error.headers or {}))
    return await answer_api_error(request, answer)
