"""Routes that change a collection: labels, undo and heads. They need --allow-labels, and a token with that right."""

from dataclasses import asdict

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from embedx.server.answers import etag, json_response, state_of, stated_response
from embedx.server.bodies import Body, read_json
from embedx.server.errors import ApiError, scrub
from embedx.server.json_filter import read_filter
from embedx.server.labelling import change, set_labels_of
from embedx.server.live_heads import train_live
from embedx.server.query_routes import body_of
from embedx.server.schemas import HeadBody, LabelsBody, UndoBody
from embedx.server.searching import timeout_of
from embedx.server.served import Served
from embedx.server.service import Service, service_of
from embedx.server.settings import Limits
from embedx.server.shared_labels import set_shared, undo_shared

router = APIRouter(prefix="/v1/collections")


def require_right(request: Request, service: Service) -> None:
    """Refuse a client that may not change a collection.

    Raises:
        ApiError: the service was started without --allow-labels, or the token may only read.
    """
    if not service.settings.allow_labels:
        raise ApiError(403, "labels_not_allowed", "This service is read-only.", "Start it with --allow-labels.")
    if request.state.right != "label":
        raise ApiError(403, "labels_not_allowed", "This token may only read.", "Use a token with the right label:.")


async def read_change(request: Request, name: str, model: type[Body]) -> tuple[Service, Served, Body]:
    """Return the service, the collection and the body of a request that may change the collection.

    Raises:
        ApiError: the client has no right, there is no such collection, or the body is not valid.
    """
    service = service_of(request)
    require_right(request, service)
    served = service.get(name)
    return service, served, await read_json(request, model, service.limits)


@router.post("/{name}/labels", openapi_extra=body_of(LabelsBody, multipart=False))
async def set_labels(request: Request, name: str) -> Response:
    """Set values of columns, in one change: of single rows, of all rows that a filter selects, or by a table."""
    service, served, body = await read_change(request, name, LabelsBody)
    answer = await service.run(
        lambda: set_shared(served, body, lambda kept: set_labels_of(served, kept, service.limits))
    )
    return json_response(answer, headers={"ETag": etag(answer)})


@router.post("/{name}/labels/undo", openapi_extra=body_of(UndoBody, multipart=False))
async def undo(request: Request, name: str) -> Response:
    """Undo a change."""
    service, served, body = await read_change(request, name, UndoBody)
    answer = await service.run(
        lambda: undo_shared(served, body, lambda: change(served, lambda opened: opened.undo_label(body.revision)))
    )
    return json_response(answer, headers={"ETag": etag(answer)})


@router.post("/{name}/heads", openapi_extra=body_of(HeadBody, multipart=False))
async def train(request: Request, name: str) -> Response:
    """Train a head on the labels, score it on rows that it was not trained on, and save it."""
    service, served, body = await read_change(request, name, HeadBody)
    if not body.wait:
        job = service.jobs.start(name, lambda: train_live(served, body, service.limits))
        return json_response({"job": job}, 202)
    return await service.run(lambda: train_head(served, body, service.limits), audio=True)


def train_head(served: Served, body: HeadBody, limits: Limits) -> Response:
    """Train a head, and return its figures with the effect of the labels that came since the head before."""
    where = read_filter(body.filter, limits.filter)
    options = body.model_dump(exclude={"label", "using", "filter", "timeout", "wait"})
    with served.use() as collection:
        timeout = timeout_of(body.timeout, limits)
        trained = collection.fit_head(body.label, view=body.using, where=where, timeout=timeout, **options)
        facts = {
            "name": trained.name,
            "kind": trained.kind,
            "classes": list(trained.classes),
            "views": list(trained.views),
            "metrics": trained.metrics,
            "gain": None if trained.gain is None else asdict(trained.gain),
            "text": scrub(str(trained), served.name, served.private),
        }
        return stated_response(facts, state_of(collection))
