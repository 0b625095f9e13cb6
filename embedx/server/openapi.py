"""The description of the API (/openapi.json): the collections, the kinds of answers, and the form of errors."""

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI

from embedx.server.blocks import MEDIA_TYPE as BLOCKS

JSON = "application/json"
BINARY = "application/octet-stream"
MEDIA = {  # end of a route -> the types of its answers that are not, or not only, JSON
    "/metrics": ("text/plain",),
    "/audio": ("audio/*", BINARY),
    ".png": ("image/png",),
    "/peaks": (JSON, BINARY),
    "/map": (JSON, BINARY, BLOCKS),
    "/vectors": (JSON, BINARY),
    "/scores": (JSON, BLOCKS),
    "/columns/{column}": (JSON, BLOCKS),
    "/events": ("text/event-stream",),
    "/exports/{export}": ("*/*",),
}
TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
STATE = {"generation": COUNT, "revision": COUNT}


def object_of(**fields: Any) -> dict[str, Any]:
    """Return the schema of an object with these fields, and maybe others."""
    return {"type": "object", "required": list(fields), "properties": fields}


def list_of(**fields: Any) -> dict[str, Any]:
    """Return the schema of a list of objects with these fields."""
    return {"type": "array", "items": object_of(**fields)}


ERROR = object_of(error=object_of(code=TEXT, message=TEXT, hint=TEXT))
HITS = list_of(id=COUNT, score={"type": "number"}, path=TEXT, meta={"type": "object"})
NUMBERS = {"type": "array", "items": COUNT}
CLIP = object_of(clip=TEXT, sample_rate=COUNT, channels=COUNT, duration_s={"type": "number"})
JOBS = (("post", "/heads"), ("post", "/duplicates"), ("get", "/map"))  # routes that can answer with the name of a job
KEPT = ("/audio", ".png", "/peaks", "/page/{file}")  # ends of routes whose answers clients keep
ANSWERS = {  # (method, route) -> the schema of its JSON
    ("get", "/v1/collections"): object_of(collections=list_of(name=TEXT, status=TEXT)),
    ("get", "/v1/collections/{name}"): object_of(name=TEXT, rows=COUNT, views={"type": "array"}, **STATE),
    ("get", "/v1/collections/{name}/rows"): object_of(rows=list_of(id=COUNT), **STATE),
    ("get", "/v1/collections/{name}/rows/{number}"): object_of(row=object_of(id=COUNT, path=TEXT), **STATE),
    ("get", "/v1/collections/{name}/map"): object_of(id=NUMBERS, **STATE),
    ("post", "/v1/collections/{name}/search"): {
        **object_of(took_ms={"type": "number"}, **STATE),
        "anyOf": [object_of(hits=HITS), object_of(results=list_of(name=TEXT, hits=HITS))],
    },
    ("post", "/v1/collections/{name}/predict"): object_of(predictions={"type": "array"}, **STATE),
    ("post", "/v1/collections/{name}/labels"): object_of(changed=COUNT, **STATE),
    ("post", "/v1/collections/{name}/labels/undo"): object_of(changed=COUNT, **STATE),
    ("post", "/v1/collections/{name}/heads"): object_of(name=TEXT, classes={"type": "array"}, **STATE),
    ("get", "/v1/collections/{name}/heads/{head}"): object_of(name=TEXT, kind=TEXT, arrays=TEXT, **STATE),
    ("get", "/v1/collections/{name}/about"): object_of(bytes=COUNT, heads={"type": "array"}, **STATE),
    ("get", "/v1/collections/{name}/vectors"): object_of(id=NUMBERS, dim=COUNT, vectors=TEXT, **STATE),
    ("get", "/v1/collections/{name}/recordings/{recording}"): object_of(path=TEXT, rows=list_of(id=COUNT), **STATE),
    ("get", "/v1/collections/{name}/values"): object_of(values={"type": "array"}, more={"type": "boolean"}, **STATE),
    ("get", "/v1/collections/{name}/failures"): object_of(failures=list_of(path=TEXT, reason=TEXT), **STATE),
    ("post", "/v1/collections/{name}/count"): object_of(rows=COUNT, **STATE),
    ("post", "/v1/collections/{name}/suggest"): object_of(rows=list_of(id=COUNT, why=TEXT), **STATE),
    ("post", "/v1/collections/{name}/exports"): object_of(url=TEXT, bytes=COUNT, **STATE),
    ("get", "/v1/jobs/{job}"): object_of(job=TEXT, collection=TEXT, state=TEXT),
    ("post", "/v1/clips"): CLIP,
    ("get", "/v1/clips/{clip}"): CLIP,
    ("get", "/v1/session"): object_of(may_label={"type": "boolean"}, needs_token={"type": "boolean"}),
    ("post", "/v1/embeddings"): object_of(
        object=TEXT, data=list_of(index=COUNT, input=COUNT), usage={"type": "object"}
    ),
    ("get", "/v1/models"): object_of(object=TEXT, data=list_of(id=TEXT, dim=COUNT)),
}


def complete_description(app: FastAPI, names: Iterable[str]) -> None:
    """Let an application describe its collections, answers and errors as they are."""
    make, known = app.openapi, list(names)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = make()
            for path, methods in schema["paths"].items():
                for method, operation in methods.items():
                    complete(operation, method, path, known)
            for name in ("HTTPValidationError", "ValidationError"):  # errors have another form here
                schema.get("components", {}).get("schemas", {}).pop(name, None)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def complete(operation: dict[str, Any], method: str, path: str, names: list[str]) -> None:
    """Write the names, the answers and the errors of a route into its description."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path" and parameter["name"] == "name":
            parameter["schema"] = {"type": "string", "enum": names}
    kinds = next((kinds for end, kinds in MEDIA.items() if path.endswith(end)), (JSON,))
    json_schema = {"schema": ANSWERS.get((method, path), {})}
    answer = operation["responses"]["200"]
    answer["content"] = {kind: json_schema if kind == JSON else {} for kind in kinds}
    if path.endswith("/audio"):
        operation["responses"]["206"] = {**answer, "description": "A part of the file"}
        operation["responses"]["416"] = {"description": "A range outside of the file", "content": {"text/plain": {}}}
    if any(method == one and path.endswith(end) for one, end in JOBS):
        job = {JSON: {"schema": object_of(job=TEXT)}}
        operation["responses"]["202"] = {"description": "Has begun; see /v1/jobs", "content": job}
    if path.endswith(KEPT):
        operation["responses"]["304"] = {"description": "The client has it"}
    if path == "/v1/session":
        operation["responses"]["204"] = {"description": "Done"}
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = {"description": "An error", "content": {JSON: {"schema": ERROR}}}
