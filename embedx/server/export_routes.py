"""Routes of exports: make a file of rows, and download it once."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from embedx.server.answers import state_of, stated_response
from embedx.server.bodies import read_json
from embedx.server.errors import ApiError
from embedx.server.exports import Kind, make_export
from embedx.server.query_routes import body_of
from embedx.server.schemas import RowId, Strict
from embedx.server.service import service_of

router = APIRouter(prefix="/v1")

MAX_ROWS = 100_000  # of an export


class ExportBody(Strict):
    """The rows to export, in this order, and the format."""

    ids: Annotated[list[RowId], Field(min_length=1, max_length=MAX_ROWS)]
    format: Kind = "csv"


@router.post("/collections/{name}/exports", openapi_extra=body_of(ExportBody, multipart=False))
async def add_export(request: Request, name: str) -> Response:
    """Make a file of rows: CSV, a selection table of Raven, a label track of Audacity, or their sounds as ZIP."""
    service = service_of(request)
    served, body = service.get(name), await read_json(request, ExportBody, service.limits)

    def make() -> Response:
        with served.use() as collection:
            rows = {row.id: row for row in collection.store.rows(sorted(set(body.ids)))}
            if missing := set(body.ids) - rows.keys():
                raise ApiError(404, "no_row", f"There is no row {min(missing)}.")
            data, file, media_type = make_export(collection, [rows[number] for number in body.ids], body.format)
            key = service.exports.add(data, f"{name}-{file}", media_type)
            return stated_response({"url": f"exports/{key}", "bytes": len(data)}, state_of(collection))

    return await service.run(make, audio=body.format == "clips")


@router.get("/exports/{export}")
async def get_export(request: Request, export: str) -> Response:
    """Download an export, once and within five minutes."""
    found = service_of(request).exports.take(export)
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in found.name)
    headers = {"Content-Disposition": f'attachment; filename="{safe}"'}
    return Response(found.data, 200, headers, found.media_type)
