"""Routes that return the content of a collection: stored vectors, and heads with their numbers."""

import base64
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from embedx.heads.safetensors import write_tensors
from embedx.heads.storage import load_head
from embedx.recipe import check_view
from embedx.server.answers import public_recipe, state_of, stated_response
from embedx.server.collection_routes import After, Filter, PageLimit, Timeout, page_of_ids
from embedx.server.errors import ApiError
from embedx.server.schemas import MAX_NAME
from embedx.server.searching import check_page
from embedx.server.served import Served
from embedx.server.service import service_of

router = APIRouter(prefix="/v1/collections")

MAX_HEAD = 64 << 20  # bytes of the numbers of a head; only heads of the kind knn can have more


@router.get("/{name}/vectors")
async def get_vectors(
    request: Request,
    name: str,
    view: Annotated[str, Query(max_length=MAX_NAME)] = "",
    filter: Filter = "",
    after: After = -1,
    limit: PageLimit = 200,
    timeout: Timeout = None,
) -> Response:
    """Return a page of stored vectors [N, D], as base64 of little-endian float32, in the order of the ids."""
    service = service_of(request)
    served, limits = service.get_any(name), service.limits
    check_page(limit, limits)

    def page() -> Response:
        with served.use() as collection:
            chosen = view or collection.default_view
            check_view(chosen, collection.views)
            ids, following = page_of_ids(collection, filter, after, limit, timeout, limits)
            vectors = collection.store.vectors(chosen, ids)[1]
            facts = {"id": ids, "view": chosen, "dim": collection.views[chosen], "vectors": packed(vectors)}
            return stated_response(facts | {"next": following}, state_of(collection))

    return await service.run(page)


@router.get("/{name}/heads/{head}")
async def get_head(request: Request, name: str, head: str) -> Response:
    """Return a head: its settings, and its numbers as base64 of a safetensors file."""
    service = service_of(request)
    served = service.get(name)
    return await service.run(lambda: head_of(served, head))


def head_of(served: Served, name: str) -> Response:
    """Return a head with its numbers.

    Raises:
        ApiError: there is no such head, it is damaged, or it is too large.
    """
    with served.use() as collection:
        head = load_head(collection.folder, name)
        data = write_tensors(head.arrays)
        if len(data) > MAX_HEAD:
            problem = f"The head {name} has {len(data)} bytes, and an answer can have {MAX_HEAD}."
            raise ApiError(413, "head_too_large", problem, "Predict with it by the service.")
        facts: dict[str, Any] = {
            "name": name,
            "kind": head.kind,
            "classes": list(head.classes),
            "multilabel": head.multilabel,
            "views": list(head.views),
            "recipe": None if head.recipe is None else public_recipe(dict(head.recipe)),
            "settings": head.settings,
            "metrics": head.metrics,
            "arrays": base64.b64encode(data).decode(),
        }
        return stated_response(facts, state_of(collection))


def packed(vectors: NDArray[np.float32]) -> str:
    """Return vectors as base64 of little-endian float32."""
    return base64.b64encode(np.ascontiguousarray(vectors, "<f4").tobytes()).decode()
