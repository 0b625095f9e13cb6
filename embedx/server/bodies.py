"""Bodies: JSON or multipart -> values within limits, and audio as temporary files of this request."""

import base64
import binascii
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from embedx.server.clips import CLIP, Clips
from embedx.server.errors import ApiError
from embedx.server.settings import Limits

Body = TypeVar("Body", bound=BaseModel)
FILE = "file:"  # begins the name of a file of a multipart request, in JSON and as the name of its field
MAX_VALUES = 1_000_000  # of a JSON body, which nothing interrupts: 0.1 s; 256 vectors of 1024 numbers are 262 144
MAX_FIELDS = 32  # of a multipart request, besides files


class Uploads:
    """The files of a multipart request, by the names of their fields, and the clips of the service."""

    def __init__(self, files: Mapping[str, bytes], limits: Limits, clips: Clips | None = None) -> None:
        self.files = files
        self.limits = limits
        self.clips = clips
        self.count = 0

    def audio(self, value: str) -> bytes:
        """Return the bytes of `file:NAME`, `clip:ID`, of a data URI, or of plain base64.

        Raises:
            ApiError: there is no such file or clip, the text is not base64, it is a URL, or there are too many files.
        """
        self.count += 1
        if self.count > self.limits.files:
            raise ApiError(413, "too_many_files", f"A request may have {self.limits.files} files.")
        if value.startswith(FILE):
            if value not in self.files:
                raise ApiError(400, "no_file", f"The request has no part {value[:100]!r}.", "Send it as multipart.")
            return self.files[value]
        if value.startswith(CLIP) and self.clips is not None:
            return self.clips.get(value.removeprefix(CLIP)).data
        return decode_base64(value)


def decode_base64(value: str) -> bytes:
    """Return the bytes of a data URI or of plain base64; a URL or a path is refused."""
    text = value
    if value[:5].lower() == "data:":
        head, comma, text = value.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise ApiError(400, "bad_audio_text", "A data URI must be in base64: data:audio/wav;base64,...")
    elif "://" in value[:20]:
        raise ApiError(400, "remote_url", "URLs are not opened.", "Send the bytes: base64, a data URI or multipart.")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(
            400, "bad_audio_text", "The audio is not valid base64.", "Paths are not opened; send the bytes."
        ) from None
    if not data:
        raise ApiError(422, "bad_audio", "The audio is empty.")
    return data


class AudioFiles:
    """The audio of a request as temporary files, which decoders open; they are deleted at its end."""

    def __init__(self, uploads: Uploads) -> None:
        self.uploads = uploads
        self.paths: list[str] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None  # made for the first file

    def add(self, value: str) -> str:
        """Write the audio that a value stands for to a file, and return its path."""
        data = self.uploads.audio(value)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="embedx-", ignore_cleanup_errors=True)
        path = os.path.join(self._folder.name, f"audio{len(self.paths)}")
        with open(path, "xb") as file:
            file.write(data)
        self.paths.append(path)
        return path

    def delete(self) -> None:
        """Delete the files."""
        if self._folder is not None:
            self._folder.cleanup()


@contextlib.contextmanager
def audio_files(uploads: Uploads) -> Iterator[AudioFiles]:
    """Return a context for the audio of a request, in a private folder."""
    files = AudioFiles(uploads)
    try:
        yield files
    finally:
        files.delete()


async def read_json(request: Request, model: type[Body], limits: Limits) -> Body:
    """Return the body of a request that must be JSON: no form of a web page can send it to change something.

    Raises:
        ApiError: the body is not JSON, or not valid.
    """
    if content_type(request) != "application/json":
        raise ApiError(415, "bad_content_type", "Send application/json.")
    return validate(model, parse_json(await request.body(), limits))


def content_type(request: Request) -> str:
    """Return the type of a body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_request(request: Request, model: type[Body], limits: Limits, clips: Clips) -> tuple[Body, Uploads]:
    """Return the body of a request as a model, with its files.

    Raises:
        ApiError: the body is not JSON or multipart, or not valid.
    """
    kind = content_type(request)
    if kind == "application/json":
        return validate(model, parse_json(await request.body(), limits)), Uploads({}, limits, clips)
    if kind != "multipart/form-data":
        raise ApiError(415, "bad_content_type", "Send application/json or multipart/form-data.")
    fields, files = await read_form(request, limits)
    if "query" in fields:
        return validate(model, parse_json(fields["query"].encode("utf-8", "replace"), limits)), Uploads(
            files, limits, clips
        )
    return validate(model, from_fields(fields, files, model)), Uploads(files, limits, clips)


async def read_form(request: Request, limits: Limits) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the text fields of a multipart request, and its files under names that begin with `file:`."""
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    try:
        async with request.form(max_files=limits.files, max_fields=MAX_FIELDS, max_part_size=limits.body) as form:
            for name, part in form.multi_items():
                if isinstance(part, str):
                    fields[name] = part
                else:
                    key = name if name.startswith(FILE) else f"{FILE}{len(files)}"
                    files[key] = await part.read()
    except HTTPException as error:
        too_many = "Too many files" in str(error.detail)
        if too_many:
            raise ApiError(413, "too_many_files", f"A request may have {limits.files} files.") from error
        raise ApiError(400, "bad_multipart", "The body is not valid multipart/form-data.") from error
    return fields, files


def from_fields(fields: Mapping[str, str], files: Mapping[str, bytes], model: type[BaseModel]) -> dict[str, Any]:
    """Return the fields of a form, and all its files as `input` or `audio`, as the body of a request."""
    value: dict[str, Any] = dict(fields)
    target = "input" if "input" in model.model_fields else "audio"
    if files and target not in value:
        names = list(files)
        value[target] = names if target == "input" or len(names) > 1 else names[0]
    for name in ("pool", "limit", "k", "with_vector", "exact", "merge", "align", "exclude_self", "id"):
        if name in value:
            with contextlib.suppress(ValueError):  # the schema refuses the text by name
                value[name] = json.loads(value[name])
    return value


def parse_json(data: bytes, limits: Limits) -> Any:
    """Return JSON within limits.

    Raises:
        ApiError: it is not valid, or too deep, or has too many values.
    """
    count = data.count(b",") + data.count(b"[") + data.count(b"{")  # at most so many values, and those in texts
    if count > MAX_VALUES:
        raise ApiError(400, "bad_json", f"The JSON has more than {MAX_VALUES} values.", "Send vectors as base64.")
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        is_deep = isinstance(error, RecursionError)
        raise ApiError(400, "bad_json", "The JSON is too deep." if is_deep else "The body is not valid JSON.") from None
    if is_deeper(value, limits.depth):
        raise ApiError(400, "bad_json", f"The JSON has more than {limits.depth} levels.")
    return value


def refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which are not JSON."""
    raise ValueError(name)


def is_deeper(value: Any, depth: int) -> bool:
    """Tell whether a value has more levels of lists and objects than allowed.

    >>> is_deeper([[1]], 2), is_deeper([[[1]]], 2), is_deeper({"a": {"b": []}}, 2)
    (False, True, True)
    """
    level = [value]
    for _ in range(depth + 1):
        level = [
            child
            for item in level
            if isinstance(item, (list, dict))
            for child in ((item.values() if isinstance(item, dict) else item) or [None])
        ]
        if not level:
            return False
    return True


def validate(model: type[Body], value: Any) -> Body:
    """Return a value as a model.

    Raises:
        ApiError: it is not valid; the message names the first fields that are not.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        first = [f"{'.'.join(map(str, one['loc'][:3])) or 'body'}: {one['msg']}" for one in problems[:3]]
        raise ApiError(400, "bad_request", "; ".join(first)[:500], "See /openapi.json.") from None
