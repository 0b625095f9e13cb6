"""Gate: read the body of a request within limits, then let it in, watch its client, and end it at its deadline.

The gate is taken after the body is there: clients that send a byte a second take no place in it.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedx.filesystem.paths import display_path
from embedx.server.answers import json_response
from embedx.server.errors import ApiError, Cancelled
from embedx.server.guard import OPEN_FOLDER, OPEN_PATHS, SECURITY_HEADERS, Guard, encode_headers
from embedx.server.metrics import Metrics
from embedx.server.settings import Limits, Settings
from embedx.server.work import WORK, Work

log = logging.getLogger("embedx.server")

STOP_S = 5.0  # seconds that work gets to stop after it was cancelled
WITH_BODY = ("POST", "PUT", "PATCH", "DELETE")
ENCODED = encode_headers(SECURITY_HEADERS.items())


class Gate:
    """The outermost layer of the service: everything that a request passes before and after its route."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app = app
        self.guard = Guard(settings)
        self.limits = settings.limits
        self.metrics = metrics
        self.places = Places(settings.limits)
        self.streams = Places(settings.limits)  # of events: a page holds one for as long as it is open
        self.buffered = 0  # bytes of all bodies in memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # WebSockets are refused
        start, headers = time.monotonic(), Headers(scope=scope)
        answer = Answer(send, self.guard.cors_headers(headers.get("origin")))
        size = 0
        try:
            right = self.guard.check(scope["method"], scope["path"], headers) if not self.is_preflight(scope) else None
            body = await self.read_body(scope, headers, receive)
            size = len(body)
            if self.is_preflight(scope):
                await Response(status_code=204)(scope, receive, answer)
            else:
                scope.setdefault("state", {})["right"] = right
                await self.answer_in_time(scope, body, receive, answer, client_of(scope, headers))
        except ApiError as error:
            await answer.error(scope, receive, error)
        except Cancelled:
            pass  # the client has gone
        except Exception:  # a fault of the server ends one request, not the process
            log.exception("The answer to %s %s failed.", scope["method"], display_path(scope["path"]))
            await answer.error(
                scope, receive, ApiError(500, "internal", "The server has failed to answer this request.")
            )
        finally:
            self.buffered -= size
            seconds = time.monotonic() - start
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.request(route, scope["method"], answer.status, seconds)
            path = display_path(scope["path"])
            log.info("%s %s %s %.0f ms", scope["method"], path, answer.status or "gone", 1000 * seconds)

    def is_preflight(self, scope: Scope) -> bool:
        """Tell whether a browser asks if a page of an allowed origin may send a request."""
        if scope["method"] != "OPTIONS":
            return False
        headers = Headers(scope=scope)
        return "access-control-request-method" in headers and headers.get("origin") in self.guard.cors

    async def read_body(self, scope: Scope, headers: Headers, receive: Receive) -> bytes:
        """Return the body of a request; the caller subtracts its length from `buffered`.

        Raises:
            ApiError: it is too large, has no length, takes too long, or the server has no room for it.
            Cancelled: the client has gone.
        """
        if scope["method"] not in WITH_BODY:
            return b""
        declared = headers.get("content-length")
        if declared is None and "transfer-encoding" not in headers:
            if scope["method"] == "DELETE":
                return b""  # browsers declare no length for it
            raise ApiError(411, "no_length", "A request with a body needs a Content-Length, or chunks.")
        if declared is not None and (not declared.isdecimal() or int(declared[:20]) > self.limits.body):
            raise self.too_large()
        taken: list[bytes] = []
        try:
            async with asyncio.timeout(self.limits.read_s):
                return await self.collect(taken, receive)
        except TimeoutError:
            self.buffered -= sum(map(len, taken))
            raise ApiError(
                408,
                "slow_body",
                f"The body was not there after {self.limits.read_s:g} s.",
                headers={"Connection": "close"},
            ) from None
        except BaseException:
            self.buffered -= sum(map(len, taken))
            raise

    async def collect(self, taken: list[bytes], receive: Receive) -> bytes:
        """Read the parts of a body into a list, and return them joined."""
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Cancelled
            part = message.get("body", b"")
            size += len(part)
            if size > self.limits.body:
                raise self.too_large()
            if self.buffered + len(part) > self.limits.all_bodies:
                raise ApiError(503, "busy", "The server holds as many bodies as it can.", "Try again.")
            self.buffered += len(part)
            taken.append(part)
            more = message.get("more_body", False)
        return b"".join(taken)

    def too_large(self) -> ApiError:
        """Return the error of a body that exceeds the limit."""
        return ApiError(
            413,
            "body_too_large",
            f"A body may have {self.limits.body} bytes.",
            headers={"Connection": "close"},
        )

    async def answer_in_time(self, scope: Scope, body: bytes, receive: Receive, answer: "Answer", client: str) -> None:
        """Let a request in, and end it when it is done, at its deadline, or when its client has gone."""
        work = Work()
        WORK.set(work)
        is_open = scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_FOLDER)
        places = self.streams if scope["path"].endswith("/events") else self.places
        leave = do_nothing if is_open else places.enter(client)
        answer.before_end = lambda: None if work.running else leave()  # its client can send the next request at once
        running = asyncio.create_task(as_coroutine(self.app(scope, replay(body), answer)))
        gone = asyncio.create_task(wait_until_gone(receive))
        try:
            await asyncio.wait({running, gone}, timeout=self.limits.request_s, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
                return
            work.cancel()
            if not gone.done():
                raise ApiError(503, "deadline", f"The request was stopped after {self.limits.request_s:g} s.")
        finally:
            if not running.done():
                work.cancel()
            gone.cancel()
            if not running.done():
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):  # of this request: the rest is still cleaned up
                    await asyncio.wait({running}, timeout=STOP_S)
            threads = set(work.running)
            if threads:  # their place is free when they have stopped
                remaining = len(threads)

                def one_less(_: object) -> None:
                    nonlocal remaining
                    remaining -= 1
                    if not remaining:
                        with contextlib.suppress(RuntimeError):  # the server has ended
                            loop.call_soon_threadsafe(leave)

                loop = asyncio.get_running_loop()
                for future in threads:
                    future.add_done_callback(one_less)
            else:
                leave()


class Places:
    """The places for requests that are answered at the same time, for all clients and for each."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.taken: Counter[str] = Counter()

    def enter(self, client: str) -> Callable[[], None]:
        """Take a place, and return the function that gives it back.

        Raises:
            ApiError: all places are taken, or all that one client may take.
        """
        if self.taken.total() >= self.limits.in_flight:
            raise ApiError(503, "busy", f"{self.limits.in_flight} requests are being answered.", "Try again.")
        if self.taken[client] >= self.limits.per_client:
            raise ApiError(
                429,
                "too_many_requests",
                f"A client may have {self.limits.per_client} requests at a time.",
                "Try again.",
            )
        self.taken[client] += 1
        has_left = False

        def leave() -> None:
            nonlocal has_left
            if has_left:
                return
            has_left = True
            self.taken[client] -= 1
            if not self.taken[client]:
                del self.taken[client]

        return leave


class Answer:
    """The way back to the client: it adds the headers of every answer, and remembers the status."""

    def __init__(self, send: Send, cors_headers: dict[str, str]) -> None:
        self.send = send
        self.headers = encode_headers((SECURITY_HEADERS | cors_headers).items()) if cors_headers else ENCODED
        self.status = 0
        self.before_end: Callable[[], None] = do_nothing

    async def __call__(self, message: Message) -> None:
        """Send a message of ASGI."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            names = {name for name, _ in message.get("headers", [])}
            added = [pair for pair in self.headers if pair[0] not in names]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        elif not message.get("more_body", False):
            self.before_end()
        await self.send(message)

    async def error(self, scope: Scope, receive: Receive, error: ApiError) -> None:
        """Send an error, unless an answer has begun."""
        if not self.status:
            await json_response(error.to_json(), error.status, error.headers)(scope, receive, self)


def do_nothing() -> None:
    """Do nothing."""


async def as_coroutine(awaitable: Awaitable[None]) -> None:
    """Await something, so that a task can be made of it."""
    await awaitable


def replay(body: bytes) -> Receive:
    """Return the `receive` of a request whose body has been read."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()  # the gate watches the client
        raise AssertionError

    return receive


async def wait_until_gone(receive: Receive) -> None:
    """Return when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def client_of(scope: Scope, headers: Headers) -> str:
    """Return the name under which the requests of a client are counted: its token, or else its address."""
    return headers.get("authorization") or (scope.get("client") or ("",))[0]
