"""Connection: HTTP/1.1 with the parser of httptools, and limits on everything that is not a body."""

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from embedx.server.answers import json_text
from embedx.server.errors import ApiError
from embedx.server.guard import SECURITY_HEADERS

MAX_HEAD = 32_768  # bytes that are read at a time, and that the parser may read without an end of what they belong to


class Connection(HttpToolsProtocol):
    """A connection that is closed when a request does not begin in time, or when there are more than allowed."""

    header_s: float
    max_connections: int
    waiting: asyncio.TimerHandle | None = None
    unused = 0  # bytes that have come since the last head, part of a body, or end of a request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
            return
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        """Read parts of requests."""
        self._unset_keepalive_if_required()
        while data and not self.transport.is_closing():
            part, data = data[:MAX_HEAD], data[MAX_HEAD:]
            self.unused += len(part)
            try:
                self.parser.feed_data(part)
            except httptools.HttpParserUpgrade as stop:
                data = self._without_upgrade() + part[stop.args[0] :] + data
            except httptools.HttpParserError:
                self._refuse("The request is not valid HTTP/1.1.")
            if self.unused > MAX_HEAD:
                self._refuse("The head of the request is too long.")

    def on_headers_complete(self) -> None:
        """Begin to answer a request; one that asks for another protocol is read again without this wish."""
        self.unused = 0
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self.headers = []  # trailers after a chunked body are collected apart from the headers

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self.unused = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a request."""
        self.unused = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait."""
        if self.waiting is not None:
            self.waiting.cancel()
        super().connection_lost(exc)

    def _without_upgrade(self) -> bytes:
        """Return the head of a request without its header Upgrade, for a new parser: the old one has stopped."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse("CONNECT is for proxies.")
        self.parser = httptools.HttpRequestParser(self)
        head = [(name, value) for name, value in self.headers if name != b"upgrade"]
        lines = [method + b" " + self.url + b" HTTP/1.1", *(name + b": " + value for name, value in head)]
        return b"\r\n".join([*lines, b"", b""])

    def _refuse(self, message: str) -> None:
        """Send an error for bytes that are not a valid request, and close the connection."""
        if self.transport.is_closing():
            return
        body = json_text(ApiError(400, "bad_request", message).to_json())
        headers = {"Content-Type": "application/json", "Content-Length": len(body), "Connection": "close"}
        lines = [f"{name}: {value}" for name, value in (headers | SECURITY_HEADERS).items()]
        self.transport.write("\r\n".join(["HTTP/1.1 400 Bad Request", *lines, "", body]).encode("ascii"))
        self.transport.close()

    def _expect_request(self) -> None:
        if self.waiting is not None:
            self.waiting.cancel()
        self.waiting = self.loop.call_later(self.header_s, self._close_without_request)

    def _close_without_request(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
