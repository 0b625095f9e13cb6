"""The route of embeddings, in the form of OpenAI's, with audio in place of text."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from embedx.errors import AudioError
from embedx.recipe import check_view
from embedx.server.answers import json_response
from embedx.server.bodies import Uploads, audio_files, read_request
from embedx.server.errors import ApiError
from embedx.server.query_routes import body_of
from embedx.server.schemas import EmbeddingsBody
from embedx.server.service import Service, service_of

router = APIRouter(prefix="/v1")

MAX_TEXT = 2000  # characters of a sentence


@router.post("/embeddings", openapi_extra=body_of(EmbeddingsBody))
async def embeddings(request: Request) -> Response:
    """Embed audio, or sentences with a model that has a text side."""
    service = service_of(request)
    body, uploads = await read_request(request, EmbeddingsBody, service.limits, service.clips)
    return json_response(await service.run(lambda: embed(service, body, uploads), audio=True))


def embed(service: Service, body: EmbeddingsBody, uploads: Uploads) -> dict[str, Any]:
    """Return the answer to a request for embeddings.

    Raises:
        ApiError: the request is invalid.
        AudioError: an input is not audio.
    """
    inputs = inputs_of(body)
    if len(inputs) > service.limits.queries:
        raise ApiError(400, "too_many_queries", f"A request may have {service.limits.queries} inputs.")
    with service.get_by_model(body.model).use() as collection:
        view = body.view or collection.default_view
        check_view(view, collection.views)
        embedder = collection._load_embedder()
    data: list[dict[str, Any]] = []
    seconds = 0.0
    if body.modality == "text":
        for number, text in enumerate(inputs):
            if len(text) > MAX_TEXT or not text.strip():
                raise ApiError(400, "bad_request", f"A sentence has 1 to {MAX_TEXT} characters.")
            data.append(entry(len(data), number, embedder.embed_text(text, view)[0], body))
    else:
        from embedx.server.batched_embedder import added_s  # it loads torch, as the model has

        with audio_files(uploads) as files:
            embedded = embedder.embed_files([(files.add(one), 0.0, None) for one in inputs])
        for number, file in enumerate(embedded):
            if isinstance(file, AudioError):
                raise AudioError(file.reason, f"Input {number}: {file.detail}")
            times = [(start_s, end_s) for (_, start_s), end_s in zip(file.places, file.ends_s, strict=True)]
            seconds += sum(added_s(now, before) for now, before in zip(times, [None, *times[:-1]], strict=True))
            vectors = file.vectors[view]
            if body.pool:
                times, vectors = [(times[0][0], times[-1][1])], vectors.mean(axis=0, keepdims=True)
            for (start_s, end_s), vector in zip(times, vectors, strict=True):
                data.append(entry(len(data), number, vector, body) | {"start_s": start_s, "end_s": end_s})
    usage = {"prompt_tokens": 0, "total_tokens": 0, "audio_seconds": round(seconds, 6)}
    return {"object": "list", "model": body.model, "data": data, "usage": usage}


def inputs_of(body: EmbeddingsBody) -> list[str]:
    """Return the inputs of a request as texts: audio as base64, data URI or `file:NAME`, or sentences.

    Raises:
        ApiError: an input is none of these.
    """
    inputs = body.input if isinstance(body.input, list) else [body.input]
    if not inputs:
        raise ApiError(400, "bad_request", "input is an empty list.")
    return [one if isinstance(one, str) else text_of_part(one, body) for one in inputs]


def text_of_part(part: Any, body: EmbeddingsBody) -> str:
    """Return the text of a part `{"type": "input_audio" | "audio_url" | "text", ...}`.

    Raises:
        ApiError: it is another object.
    """
    kind = part.get("type") if isinstance(part, Mapping) else None
    content = part.get(kind) if isinstance(kind, str) else None
    if kind == "text" and body.modality == "text" and isinstance(content, str):
        return content
    if kind in ("input_audio", "audio_url") and isinstance(content, Mapping) and body.modality == "audio":
        text = content.get("data" if kind == "input_audio" else "url")
        is_url = kind == "audio_url"
        if isinstance(text, str) and is_url and not text[:5].lower() == "data:":
            raise ApiError(400, "remote_url", "URLs are not opened.", "audio_url takes a data URI.")
        if isinstance(text, str):
            return text
    raise ApiError(
        400,
        "bad_input",
        "An input is a text (base64 or a data URI of audio), or a part of type input_audio or audio_url.",
        'Sentences need "modality": "text" and a model with a text side.',
    )


def entry(index: int, number: int, vector: NDArray[np.float32], body: EmbeddingsBody) -> dict[str, Any]:
    """Return a vector in the form of OpenAI's, with the number of its input."""
    packed = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
    embedding = packed if body.encoding_format == "base64" else vector.tolist()
    return {"object": "embedding", "index": index, "embedding": embedding, "input": number}
