"""Routes of the map and of what to label next."""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from embedx.formats.coordinates import Map
from embedx.server.answers import Paths, etag, json_response, state_of, stated_response
from embedx.server.blocks import MEDIA_TYPE, shuffled, small_ids, to_blocks
from embedx.server.bodies import read_json
from embedx.server.errors import ApiError
from embedx.server.json_filter import read_filter
from embedx.server.query_routes import body_of
from embedx.server.schemas import MAX_NAME, Name, Number, RowId, Strict
from embedx.server.served import Served
from embedx.server.service import service_of
from embedx.server.settings import Limits

router = APIRouter(prefix="/v1/collections/{name}")

MAX_POINTS = 200_000  # of an answer: what a page draws


class SuggestBody(Strict):
    """Which rows to label next; see `Collection.suggest`."""

    by: Name = "margin"
    head: Name | None = None
    limit: Annotated[int, Field(ge=1)] = 24
    label: Name | None = None
    of_class: Name | None = None
    score_band: tuple[Number, Number] | None = None
    stratify: Name | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    filter: str | dict[str, Any] | None = None
    without: Annotated[
        list[RowId], Field(max_length=10_000, alias="not", default_factory=list, description="rows that are at hand")
    ]


@router.get("/map")
async def get_map(
    request: Request,
    name: str,
    view: Annotated[str, Query(max_length=MAX_NAME)] = "",
    method: Annotated[str, Query(max_length=MAX_NAME, description="pca, or umap where it is installed")] = "pca",
    box: Annotated[str, Query(max_length=200, description="x0,y0,x1,y1")] = "",
    limit: Annotated[int, Query(ge=1, le=MAX_POINTS)] = MAX_POINTS,
) -> Response:
    """Return two coordinates of every row: JSON, or by the header Accept binary.

    A map by UMAP, or of more than 200 000 rows, is made in a job; until it is there, the answer is 202 with the name of
    the job. `application/octet-stream`: columns id, x, y of all rows. `application/x-exc1`: blocks of at most `limit`
    rows in `box`, in one random order, of which any first part is a fair sample; while PCA is made, they are those of a
    sample, and the header names the job.
    """
    service = service_of(request)
    served = service.get(name)
    coordinates, chosen, state = await service.run(lambda: served.map(view or None, method))
    accepted = request.headers.get("accept", "")
    if coordinates is None:
        key = ("map", method, chosen, state["generation"])
        make = served.make_umap if method == "umap" else served.make_pca
        job = service.jobs.once(name, key, lambda: make(chosen), is_lost=True)
        if method == "umap" or MEDIA_TYPE not in accepted:
            return json_response({"job": job}, 202)
        sample, rows = await service.run(lambda: served.sample(chosen))
        return Response(map_in_blocks(sample, state | {"all": rows, "job": job}, box, limit), 200, None, MEDIA_TYPE)
    if MEDIA_TYPE in accepted:
        shown, facts = coordinates, state | {"all": len(coordinates.ids)}
        data = await service.run(lambda: map_in_blocks(in_random_order(shown), facts, box, limit))
        return Response(data, 200, {"ETag": etag(state)}, MEDIA_TYPE)
    if "application/octet-stream" in accepted:
        headers = {"ETag": etag(state), "X-Embedx-Rows": str(len(coordinates.ids))}
        return Response(coordinates.to_bytes(), 200, headers, "application/octet-stream")
    return await service.run(lambda: stated_response(coordinates.to_json(), state))


def in_random_order(coordinates: Map) -> Map:
    """Return a map of all rows in the one random order."""
    order = shuffled(len(coordinates.ids))
    return Map(coordinates.ids[order], coordinates.places[order], coordinates.explained)


def map_in_blocks(coordinates: Map, facts: dict[str, Any], box: str, limit: int) -> bytes:
    """Return the points of a map in the one random order, or of its first part, in a box in binary blocks.

    Raises:
        ApiError: the box is not four numbers.
    """
    ids, places = coordinates.ids, coordinates.places
    within = np.ones(len(ids), np.bool_)
    if box:
        x0, y0, x1, y1 = read_box(box)
        x, y = places.T
        within = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
    chosen = np.flatnonzero(within)[:limit]
    columns = {"id": small_ids(ids[chosen]), "x": places[chosen, 0], "y": places[chosen, 1]}
    if box:
        columns["place"] = chosen.astype(np.int32)  # in the order of all rows, as columns have it
    header = {"order": facts["generation"], "explained": list(coordinates.explained), "within": int(within.sum())}
    return to_blocks(columns, header | facts)


def read_box(box: str) -> list[float]:
    """Return the corners of a box.

    Raises:
        ApiError: they are not four finite numbers.
    """
    try:
        corners = [float(part) for part in box.split(",")]
    except ValueError:
        corners = []
    if len(corners) != 4 or not np.isfinite(corners).all():
        raise ApiError(400, "bad_request", "box is four numbers: x0,y0,x1,y1.")
    return corners


@router.post("/suggest", openapi_extra=body_of(SuggestBody, multipart=False))
async def suggest(request: Request, name: str) -> Response:
    """Choose rows without a label to label next, the most useful first; with a head also what it thinks of them."""
    service = service_of(request)
    served, body = service.get(name), await read_json(request, SuggestBody, service.limits)
    return await service.run(lambda: suggested(served, body, service.limits))


def suggested(served: Served, body: SuggestBody, limits: Limits) -> Response:
    """Return the rows to label next.

    Raises:
        ApiError: there is no such head, an option is invalid, or every row has a label.
    """
    if body.limit > limits.hits:
        raise ApiError(400, "limit_too_large", f"limit may be at most {limits.hits}.")
    where = read_filter(body.filter or None, limits.filter)
    if body.without:
        excluded = f"id NOT IN ({', '.join(map(str, body.without))})"
        where = excluded if where is None else f"({where}) AND {excluded}"
    options = body.model_dump(include={"by", "label", "of_class", "score_band", "stratify", "seed"})
    with served.use() as collection:
        chosen = collection.suggest(head=body.head, where=where, timeout=limits.request_s, n=body.limit, **options)
        rows = {row.id: row for row in collection.store.rows([one.id for one in chosen])}
        proba: dict[int | None, dict[str, float]] = {}
        if body.head is not None and chosen:
            among = f"id IN ({', '.join(str(one.id) for one in chosen)})"
            predictions = collection.predict(where=among, head=body.head, k=2)
            proba = {one.id: {label: round(value, 4) for label, value in one.top} for one in predictions}
        paths = Paths(collection)
        shown = [
            paths.row(rows[one.id]) | {"proba": proba.get(one.id, {}), "why": f"{body.by} {one.value:.2f}"}
            for one in chosen
        ]
        return stated_response({"rows": shown, "label": chosen.label}, state_of(collection))
