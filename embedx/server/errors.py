"""Errors of the service: a status, a code for programs, and a sentence without any path of the server."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from embedx.errors import (
    AudioError,
    DiskError,
    EmbedxError,
    LockedError,
    ModelError,
    NothingToDo,
    RecipeMismatch,
    StoreError,
    UsageError,
)

NO_MODEL = "Searches by id or vector need no model."
RETRY_S = 1  # seconds after which a client that was turned away may come again
TOO_LARGE = ("too-large", "too-long")  # reasons of audio that exceeds a limit
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/\\])(?:/[^\s/'\",;:()]+)+/([^\s/'\",;:()]+)")


class ApiError(Exception):
    """An answer that is an error.

    Attributes:
        status: the status of HTTP.
        code: a word for programs; docs/service.md lists them.
        message: a sentence for people.
        hint: what to do.
        headers: headers of the answer, such as Retry-After.
        facts: what the answer says besides, for programs.
    """

    def __init__(
        self, status: int, code: str, message: str, hint: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.headers = dict(headers or {})
        self.facts: dict[str, Any] = {}
        if status in (429, 503):
            self.headers.setdefault("Retry-After", str(RETRY_S))

    def to_json(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint, **self.facts}}


class Cancelled(Exception):
    """The client has gone, or the deadline of its request has passed: the work is stopped."""


def unavailable(name: str) -> ApiError:
    """Return the error of a collection that cannot be read."""
    return ApiError(
        503,
        "collection_unavailable",
        f"The collection {name} cannot be read.",
        "It may be damaged; the log of the server says more. Other collections are not affected.",
    )


def api_error(error: EmbedxError, name: str = "", private: Sequence[str] = ()) -> ApiError:
    """Return an error of embedx as an answer.

    Args:
        error: the error.
        name: the name of the collection.
        private: names of folders and files of the server that the message must not show.
    """
    message = scrub(str(error), name, private)
    if isinstance(error, AudioError):
        status = 413 if error.reason in TOO_LARGE else 422
        return ApiError(status, "audio_too_large" if status == 413 else "bad_audio", message, f"reason: {error.reason}")
    if isinstance(error, UsageError):
        if message.startswith(("There is no row ", "There is no head ")):
            return ApiError(404, "no_row" if "no row" in message else "no_head", message)
        is_filter = message.startswith("The filter ")
        return ApiError(400, "bad_filter" if is_filter else "bad_request", message)
    if isinstance(error, RecipeMismatch):
        return ApiError(409, "recipe_mismatch", message)
    if isinstance(error, NothingToDo):
        return ApiError(409, "nothing_to_do", message)
    if isinstance(error, ModelError) and ("cannot embed text" in message or "no tokenizer" in message):
        return ApiError(400, "no_text", message)
    if isinstance(error, ModelError) and "were imported" in message:
        return ApiError(400, "no_model", "The vectors of this collection were imported: it has no model.", NO_MODEL)
    if isinstance(error, ModelError):
        return ApiError(503, "model_unavailable", message, NO_MODEL)
    if isinstance(error, LockedError):
        return ApiError(503, "locked", f"The collection {name} is being written. Try again.")
    if isinstance(error, (StoreError, DiskError)):
        return unavailable(name)
    return ApiError(500, "internal", "The server has failed to answer this request.")


def scrub(message: str, name: str, private: Sequence[str]) -> str:
    """Return a message without the folders of the server: known ones are replaced by a name, others by their end.

    >>> scrub("There is no row 7 in /srv/indexes/field.", "field", ["/srv/indexes/field"])
    'There is no row 7 in field.'
    >>> scrub("/tmp/x/0.wav is empty", "", [])
    '0.wav is empty'
    """
    for path in sorted(private, key=len, reverse=True):
        message = message.replace(path, name)
    return ABSOLUTE_PATH.sub(r"\1", message)
