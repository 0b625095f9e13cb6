"""Routes of columns: how many rows meet a filter, the values of a column, and what the map needs of all rows."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Path, Query
from numpy.typing import NDArray
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from embedx.collection.collection import Collection
from embedx.index.vectors import unit
from embedx.recipe import check_view
from embedx.server.answers import Paths, etag, state_of, stated_response
from embedx.server.blocks import MEDIA_TYPE, shuffled, to_blocks
from embedx.server.bodies import read_json
from embedx.server.collection_routes import Filter, parse_filter
from embedx.server.columns import HEAD, class_of_rows, coded, count_values, position_of, read_values
from embedx.server.errors import ApiError, scrub
from embedx.server.json_filter import read_filter
from embedx.server.query_routes import body_of
from embedx.server.schemas import MAX_ID, MAX_NAME, Name, RowId, Strict
from embedx.server.served import Served
from embedx.server.service import service_of
from embedx.server.settings import Limits
from embedx.server.work import current_work
from embedx.store.filters import COLUMNS

router = APIRouter(prefix="/v1/collections/{name}")

Ids = NDArray[np.int64]
ColumnName = Annotated[str, Path(max_length=MAX_NAME)]


class CountBody(Strict):
    """The rows to count."""

    filter: str | dict[str, Any] | None = None


class ScoresBody(Strict):
    """Examples that all rows are compared with."""

    like: Annotated[list[RowId], Field(min_length=1, max_length=256)]
    unlike: Annotated[list[RowId], Field(max_length=256, default_factory=list)]
    using: Name | None = None


@contextlib.contextmanager
def use_with_filter(served: Served, where: str | None, limits: Limits) -> Iterator[tuple[Collection, Ids | None]]:
    """Open a collection for a request, with the ids of the rows that meet a condition; None for all.

    Raises:
        ApiError: see `Served.use`. The error of an invalid condition says where in it, and lists the columns.
    """
    try:
        with served.use() as collection:
            ids = None if where is None else collection.store.filter(where, limits.request_s)
            yield collection, ids
    except ApiError as error:
        if error.code == "bad_filter" and where is not None:
            with served.use() as collection:
                columns = [*COLUMNS, *collection.store.columns]
            problem = error.message.partition(" is invalid: ")[2].rpartition(". A filter is ")[0]
            error.facts = {"position": position_of(where, problem), "why": problem, "columns": columns}
        raise


@router.post("/count", openapi_extra=body_of(CountBody, multipart=False))
async def count(request: Request, name: str) -> Response:
    """Count the rows that meet a filter; an error says where in the condition it is."""
    service = service_of(request)
    served, body = service.get(name), await read_json(request, CountBody, service.limits)

    def answer() -> Response:
        where = read_filter(body.filter or None, service.limits.filter)
        with use_with_filter(served, where, service.limits) as (collection, ids):
            rows = len(collection) if ids is None else len(ids)
            return stated_response({"rows": rows}, state_of(collection))

    return await service.run(answer)


@router.get("/values")
async def get_values(
    request: Request,
    name: str,
    column: Annotated[str, Query(max_length=MAX_NAME)],
    prefix: Annotated[str, Query(max_length=MAX_NAME)] = "",
    filter: Filter = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> Response:
    """List the commonest values of a column, each with its number of rows; of numbers also a histogram."""
    service = service_of(request)
    served = service.get(name)

    def answer() -> Response:
        where = read_filter(parse_filter(filter), service.limits.filter)
        with use_with_filter(served, where, service.limits) as (collection, chosen):
            ids, values = read_values(served, collection, column)
            if chosen is not None:
                values = [values[place] for place in np.flatnonzero(np.isin(ids, chosen))]
            return stated_response(count_values(values, prefix, limit), state_of(collection))

    return await service.run(answer)


@router.get("/columns/{column}")
async def get_column(request: Request, name: str, column: ColumnName, order: Literal["id", "map"] = "map") -> Response:
    """Return a column of all rows in binary blocks: numbers, or codes and in the header their values.

    `head:NAME` is the most probable class of a head, and `head:NAME:p` its probability.
    """
    service = service_of(request)
    served = service.get(name)

    def answer() -> Response:
        with served.use() as collection:
            data, values = column_of(served, collection, column)
            return send_blocks(collection, {"value": data}, {"values": values}, order)

    return await service.run(answer)


def column_of(served: Served, collection: Collection, name: str) -> tuple[NDArray[Any], list[Any]]:
    """Return a column of all rows in the order of their ids, and the values that its codes stand for."""
    match = HEAD.fullmatch(name)
    if match is None:
        _, column = read_values(served, collection, name)
        key = (collection, *state_of(collection).values())
        codes, values, _ = served.keep(f"codes {name}", key, lambda: coded(column))
        return codes, values
    head = collection.head(match[1])
    classes, proba = class_of_rows(collection, head)
    return (proba, []) if match[2] else (classes, list(head.classes))


def send_blocks(
    collection: Collection, columns: dict[str, NDArray[Any]], header: dict[str, Any], order: str
) -> Response:
    """Return columns of all rows in binary blocks, in the order of their ids or of the map."""
    state = state_of(collection)
    if order == "map":
        places = shuffled(len(collection))
        columns = {name: column[places] for name, column in columns.items()}
    data = to_blocks(columns, header | state | {"order": state["generation"] if order == "map" else None})
    return Response(data, 200, {"ETag": etag(state)}, MEDIA_TYPE)


@router.post("/scores", openapi_extra=body_of(ScoresBody, multipart=False))
async def scores(request: Request, name: str) -> Response:
    """Return the cosine of every row to examples in binary blocks, in the order of the map; see the search by like."""
    service = service_of(request)
    served, body = service.get(name), await read_json(request, ScoresBody, service.limits)

    def answer() -> Response:
        with served.use() as collection:
            view = body.using or collection.recipe.default_view
            check_view(view, collection.views)
            query = mean_of(collection, view, body.like)
            if body.unlike:
                query = 2 * query - mean_of(collection, view, body.unlike)
            query = unit(query[None])[0]
            blocks = [np.zeros(0, np.float32)]
            for _, vectors in collection.store.blocks(view):
                current_work().check()
                blocks.append((unit(vectors) @ query).astype(np.float32))
            return send_blocks(collection, {"value": np.concatenate(blocks)}, {}, "map")

    return await service.run(answer)


def mean_of(collection: Collection, view: str, ids: Sequence[int]) -> NDArray[np.float32]:
    """Return the mean of the vectors of rows, each with length 1.

    Raises:
        ApiError: there is no such row.
    """
    found, vectors = collection.store.vectors(view, sorted(set(ids)))
    if missing := set(ids).difference(found.tolist()):
        raise ApiError(404, "no_row", f"There is no row {min(missing)}.")
    return np.asarray(unit(vectors).mean(axis=0), np.float32)


@router.get("/failures")
async def get_failures(
    request: Request,
    name: str,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="`next` of the page before")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """List the recordings that could not be read, with the reasons."""
    service = service_of(request)
    served = service.get(name)

    def answer() -> Response:
        with served.use() as collection:
            paths, key = Paths(collection), (collection, *state_of(collection).values())
            failed = served.keep("failures", key, collection.failures)
            page = [
                {"path": paths.shown(one.path), "reason": one.reason, "detail": scrub(one.detail, "", paths.folders)}
                for one in failed[after : after + limit]
            ]
            reasons = dict(Counter(one.reason for one in failed).most_common())
            following = after + limit if len(failed) > after + limit else None
            facts = {"failures": page, "next": following, "total": len(failed), "reasons": reasons}
            return stated_response(facts, state_of(collection))

    return await service.run(answer)
