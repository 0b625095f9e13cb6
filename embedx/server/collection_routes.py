"""Routes of collections: what they hold, and their rows."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from embedx.server.about import about, find_duplicates
from embedx.server.answers import Paths, etag, json_response, state_of, stated_response
from embedx.server.errors import ApiError
from embedx.server.json_filter import read_filter
from embedx.server.row_audio import find_row
from embedx.server.schemas import MAX_ID
from embedx.server.searching import check_page, timeout_of
from embedx.server.served_engine import AnyCollection
from embedx.server.service import service_of
from embedx.server.settings import Limits

router = APIRouter(prefix="/v1/collections")

DEFAULT_PAGE = 200

RowNumber = Annotated[int, Path(ge=0, le=MAX_ID)]
Filter = Annotated[str, Query(description="an SQL condition, or a JSON filter")]
After = Annotated[int, Query(ge=-1, le=MAX_ID, description="the last id of the page before")]
PageLimit = Annotated[int, Query(ge=1)]
Wait = Annotated[bool, Query(description="answer when the values of the columns are counted")]
Timeout = Annotated[float | None, Query(gt=0, allow_inf_nan=False, description="seconds that the filter can take")]


@router.get("")
async def list_collections(request: Request) -> Response:
    """List the collections."""
    service = service_of(request)
    served = list(service.collections.values())
    facts = await service.run(lambda: [service.describe(one) for one in served])
    return json_response({"collections": facts})


@router.get("/{name}")
async def get_collection(request: Request, name: str, wait: Wait = False) -> Response:
    """Describe a collection. While the values of its columns are counted, `counted` is false."""
    service = service_of(request)
    served = service.get_any(name)
    facts = await service.run(lambda: service.facts(served, wait=wait))
    return json_response(facts, headers={"ETag": etag(facts)} if facts["counted"] else {})


@router.get("/{name}/about")
async def get_about(request: Request, name: str) -> Response:
    """Tell what a collection is made of: flags, failures, heads with their reports, recipe, versions, a running run."""
    service = service_of(request)
    served = service.get(name)

    def answer() -> Response:
        with served.use() as collection:
            return stated_response(about(served, collection), state_of(collection))

    return await service.run(answer)


@router.post("/{name}/duplicates")
async def start_duplicates(request: Request, name: str) -> Response:
    """Look for rows with the same or nearly the same sound, in a job; once for every generation."""
    service = service_of(request)
    served = service.get(name)

    def start() -> Response:
        with served.use() as collection:
            key = ("duplicates", collection.store.generation)
        return json_response({"job": service.jobs.once(name, key, lambda: find_duplicates(served))}, 202)

    return await service.run(start)


@router.get("/{name}/rows")
async def get_rows(
    request: Request,
    name: str,
    filter: Filter = "",
    ids: Annotated[str, Query(max_length=10_000, description="rows, with commas between, in place of a filter")] = "",
    columns: Annotated[str, Query(max_length=2000, description="names with commas between; default: all")] = "",
    after: After = -1,
    limit: PageLimit = DEFAULT_PAGE,
    timeout: Timeout = None,
) -> Response:
    """Return a page of rows, in the order of their ids."""
    service = service_of(request)
    served, limits = service.get_any(name), service.limits
    check_page(limit, limits)
    chosen = [column.strip() for column in columns.split(",") if column.strip()]
    numbers = read_ids(ids, limits)

    def page() -> Response:
        with served.use() as collection:
            if numbers:
                found, following = collection.existing(numbers), None
            else:
                found, following = page_of_ids(collection, filter, after, limit, timeout, limits)
            paths = Paths(collection)
            rows = [only(paths.row(row), chosen) for row in collection.store.rows(found)]
            return stated_response({"rows": rows, "next": following}, state_of(collection))

    return await service.run(page)


@router.get("/{name}/rows/{number}")
async def get_row(request: Request, name: str, number: RowNumber) -> Response:
    """Return a row."""
    service = service_of(request)
    served = service.get_any(name)

    def row() -> Response:
        with served.use() as collection:
            return stated_response({"row": Paths(collection).row(find_row(collection, number))}, state_of(collection))

    return await service.run(row)


def read_ids(text: str, limits: Limits) -> list[int]:
    """Return the ids of a URL; none for an empty text.

    Raises:
        ApiError: one is not a number, or they are too many.
    """
    parts = text.split(",") if text else []
    check_page(max(1, len(parts)), limits)
    if not all(part.isascii() and part.isdecimal() and len(part) < 20 and int(part) <= MAX_ID for part in parts):
        raise ApiError(400, "bad_request", "ids are whole numbers with commas between.")
    return [int(part) for part in parts]


def page_of_ids(
    collection: AnyCollection, filter: str, after: int, limit: int, timeout: float | None, limits: Limits
) -> tuple[list[int], int | None]:
    """Return the ids of a page of rows, and the last of them if there is another page.

    Raises:
        ApiError: the filter is not valid.
    """
    where = read_filter(parse_filter(filter), limits.filter)
    ids = collection.next_ids(where, after, limit + 1, timeout_of(timeout, limits))
    return ids[:limit], ids[limit - 1] if len(ids) > limit else None


def parse_filter(text: str) -> Any:
    """Return a filter of a URL: None for an empty one, JSON, or an SQL condition."""
    if not text.startswith("{"):
        return text or None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ApiError(400, "bad_filter", "The filter begins with { but is not valid JSON.") from None


def only(row: dict[str, Any], columns: list[str]) -> dict[str, Any]:
    """Return a row with its id and the chosen columns; all columns if none is chosen."""
    if not columns:
        return row
    values = {**row["meta"], **{name: value for name, value in row.items() if name != "meta"}}
    return {name: values.get(name) for name in dict.fromkeys(["id", *columns])}
