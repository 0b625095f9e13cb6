"""Routes that ask a collection: search and predict."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from embedx.server.answers import etag, json_response
from embedx.server.bodies import read_request
from embedx.server.predicting import answer_predict
from embedx.server.schemas import PredictBody, SearchBody
from embedx.server.search_batches import is_batched
from embedx.server.searching import answer_search
from embedx.server.served import Served
from embedx.server.service import Service, service_of

router = APIRouter(prefix="/v1/collections")


def body_of(model: type[BaseModel], *, multipart: bool = True) -> dict[str, Any]:
    """Return the description of a body for OpenAPI."""
    schema = inline(model.model_json_schema())
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if multipart:
        form = {"type": "object", "properties": {"query": {"type": "string", "description": "the JSON"}}}
        content["multipart/form-data"] = {"schema": form}
    return {"requestBody": {"required": True, "content": content}}


def inline(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with its definitions in the places that refer to them."""
    definitions = schema.pop("$defs", {})

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).rpartition("/")[2]
            return replaced(definitions[name]) if name else {key: replaced(item) for key, item in value.items()}
        return [replaced(item) for item in value] if isinstance(value, list) else value

    result: dict[str, Any] = replaced(schema)
    return result


@router.post("/{name}/predict", openapi_extra=body_of(PredictBody))
async def predict(request: Request, name: str) -> Response:
    """Predict the labels of audio or of stored rows with a head of the collection."""
    service = service_of(request)
    served = service.get(name)
    body, uploads = await read_request(request, PredictBody, service.limits, service.clips)
    answer = await service.run(lambda: answer_predict(served, body, uploads, service.limits), audio=True)
    return json_response(answer, headers={"ETag": etag(answer)})


@router.post("/{name}/search", openapi_extra=body_of(SearchBody))
async def search(request: Request, name: str) -> Response:
    """Find the rows that are most similar to a row, a vector, audio, a text or examples."""
    return await answer_to_search(service_of(request), request, name)


async def answer_to_search(service: Service, request: Request, name: str) -> Response:
    """Return the answer to the request for a search."""
    served = service.get_any(name)
    body, uploads = await read_request(request, SearchBody, service.limits, service.clips)
    if isinstance(served, Served) and is_batched(body):
        return await service.searches(served).search(body)
    has_audio = bool(body.audio or body.text or uploads.files or any(not isinstance(one, int) for one in body.like))
    answer = await service.run(lambda: answer_search(served, body, uploads, service.limits), audio=has_audio)
    service.metrics.stage("search", answer["took_ms"] / 1000)
    return json_response(answer, headers={"ETag": etag(answer)})
