"""Connection: requests to a service, and its errors as the exceptions of embedx."""

import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

import numpy as np

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
from embedx.filesystem.paths import display_path

PAGE = 1000  # rows of a page: what a service allows by default
READ_ATTEMPTS = 10  # a reader of pages starts again if the collection changes between two of them
MAX_PATH = 30_000  # characters of a path with its filter; a service reads 32 kB of the head of a request
ERRORS: dict[str, type[EmbedxError]] = {  # code of an error -> its class; others are errors of usage below 500
    "recipe_mismatch": RecipeMismatch,
    "nothing_to_do": NothingToDo,
    "no_text": ModelError,
    "no_model": ModelError,
    "model_unavailable": ModelError,
    "locked": LockedError,
    "collection_unavailable": StoreError,
}
AUDIO_ERRORS = {"bad_audio": "", "audio_too_large": "", "body_too_large": "too-large", "audio_gone": "missing"}
Answer = TypeVar("Answer")


class Connection:
    """The address of a collection behind a service. Every request has a connection of its own.

    Args:
        url: the URL of the service with the name of the collection.
        token: the token, if the service needs one.
        timeout: seconds to wait for an answer.

    Raises:
        UsageError: the URL or the token is not valid.
    """

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        self.url = url
        self.timeout = timeout
        try:
            parts = urlsplit(url)
            self.address = parts.hostname or "", parts.port
        except ValueError:
            parts, self.address = urlsplit(""), ("", None)
        prefix, _, name = parts.path.rstrip("/").rpartition("/")
        self.name = unquote(name)
        has_others = parts.query or parts.fragment or parts.username is not None
        if parts.scheme not in ("http", "https") or not self.address[0] or not name or has_others:
            raise UsageError(
                f"{display_path(url)} is not the URL of a collection. Give the address of the service and the name of "
                "the collection, such as http://127.0.0.1:8000/field."
            )
        if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
            raise UsageError("The token is not valid: a token has ASCII characters without spaces.")
        self.is_secure = parts.scheme == "https"
        self.prefix = quote(prefix, safe="/%")
        self.base = f"{self.prefix}/v1/collections/{quote(self.name, safe='')}"
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def get(self, path: str = "", **fields: Any) -> dict[str, Any]:
        """Return the answer of a route of the collection; fields that are None are left out."""
        given = urlencode({name: value for name, value in fields.items() if value is not None})
        return self.as_json(self.request("GET", self.base + path + ("?" + given if given else "")))

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a body in JSON to a route of the collection, and return the answer."""
        return self.as_json(self.request("POST", self.base + path, json.dumps(body, default=plain).encode()))

    def pages(self, path: str, **fields: Any) -> list[dict[str, Any]]:
        """Return all pages of a route, from one state of the collection.

        Raises:
            LockedError: the collection changes all the time.
        """
        for _ in range(READ_ATTEMPTS):
            pages = list(self._pages(path, fields))
            if len({(page["generation"], page["revision"]) for page in pages}) == 1:
                return pages
        raise LockedError(f"{self.url} changes while it is read, again and again. Try again later.")

    def _pages(self, path: str, fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        after: int | None = -1
        while after is not None:
            page = self.get(path, **fields, limit=PAGE, after=after)
            yield page
            after = page["next"]

    def as_json(self, content: bytes) -> dict[str, Any]:
        """Return an answer in JSON.

        Raises:
            DiskError: it is something else.
        """
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise DiskError(f"The server at {self.url} has not answered as embedx does. Is it another program?")
        return answer

    def read(self, make: Callable[[], Answer]) -> Answer:
        """Return what a function makes of answers.

        Raises:
            DiskError: a field is missing or has another type, so the answers are not of this version of embedx.
        """
        try:
            return make()
        except (KeyError, TypeError, AttributeError, StopIteration) as error:
            problem = f"The server at {self.url} has not answered as this version of embedx expects ({error!r})."
            raise DiskError(problem) from error

    def request(self, method: str, path: str, data: bytes | None = None) -> bytes:
        """Send a request, and return the body of its answer; raise the error that it holds."""
        if len(path) > MAX_PATH:
            raise UsageError(f"The filter has too many characters: the request needs {len(path)} of {MAX_PATH}.")
        headers = self.headers | ({} if data is None else {"Content-Type": "application/json"})
        host, port = self.address
        connection = (
            http.client.HTTPSConnection(host, port, timeout=self.timeout, context=ssl.create_default_context())
            if self.is_secure
            else http.client.HTTPConnection(host, port, timeout=self.timeout)
        )
        try:
            connection.request(method, path, data, headers)
            reply = connection.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise DiskError(f"The service at {self.url} cannot be reached: {error or type(error).__name__}.") from error
        except ValueError as error:  # a host name that cannot be encoded
            raise UsageError(f"{display_path(self.url)} cannot be the URL of a service: {error}.") from error
        finally:
            connection.close()
        if reply.status != http.HTTPStatus.OK:
            raise error_of(reply.status, content)
        return content


def plain(value: Any) -> Any:
    """Return a number of NumPy as one of Python.

    Raises:
        UsageError: it is something else that JSON does not have.
    """
    if isinstance(value, np.generic):
        return value.item()
    raise UsageError(f"{value!r} cannot be sent to a service. Use texts, numbers and lists.")


def error_of(status: int, content: bytes) -> EmbedxError:
    """Return the error of an answer, of the class that a local collection raises."""
    try:
        error = json.loads(content)["error"]
        code, message, hint = str(error["code"]), str(error["message"]), str(error["hint"])
    except (ValueError, KeyError, TypeError):
        return DiskError(f"The server has answered with status {status}, and not as embedx does.")
    if code in AUDIO_ERRORS:
        return AudioError(AUDIO_ERRORS[code] or hint.removeprefix("reason: "), message)
    text = f"{message} {hint}".strip()
    return ERRORS.get(code, DiskError if status >= 500 or status in (408, 429) else UsageError)(text)
