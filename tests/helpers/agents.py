"""An agent: the client of the MCP SDK in a thread of its own, for tests that are not asynchronous."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, ResourceLink, TextContent

MakeClient = Callable[[AsyncExitStack], Awaitable[Client]]


class Agent:
    """A client with methods that wait; `at_command` and `at_url` make one."""

    def __init__(self, make: MakeClient) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = Thread(target=self.loop.run_forever)
        self.thread.start()
        self.end: asyncio.Event
        self.client: Client
        started: Future[None] = Future()
        self.running = asyncio.run_coroutine_threadsafe(self._run(make, started), self.loop)
        try:
            started.result(60)
        except BaseException:
            self._stop()
            raise

    async def _run(self, make: MakeClient, started: "Future[None]") -> None:
        self.end = asyncio.Event()
        try:
            async with AsyncExitStack() as stack:
                self.client = await make(stack)
                started.set_result(None)
                await self.end.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    def wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def tools(self) -> dict[str, Any]:
        """Name -> tool of all tools that are listed."""
        return {tool.name: tool for tool in self.wait(self.client.list_tools()).tools}

    def call(self, tool: str, **arguments: Any) -> CallToolResult:
        result = self.wait(self.client.call_tool(tool, arguments))
        assert isinstance(result, CallToolResult)
        return result

    def value(self, tool: str, **arguments: Any) -> Any:
        """Call a tool that must succeed, and return its structured content."""
        result = self.call(tool, **arguments)
        assert not result.is_error, text(result)
        return result.structured_content

    def error(self, tool: str, **arguments: Any) -> str:
        """Call a tool that must fail, and return its words."""
        result = self.call(tool, **arguments)
        assert result.is_error, text(result)
        return text(result)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.end.set)
        try:
            self.running.result(60)
        finally:
            self._stop()

    def _stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(60)
        self.loop.close()


def at_command(server: StdioServerParameters, log: Path) -> Agent:
    """Return an agent that starts a command and speaks to it at its standard streams; its errors go to a file."""

    async def make(stack: AsyncExitStack) -> Client:
        errors = stack.enter_context(log.open("w"))
        return await stack.enter_async_context(Client(stdio_client(server, errlog=errors)))

    return Agent(make)


def at_url(url: str, *, token: str | None = None, mode: str = "auto") -> Agent:
    """Return an agent that speaks to a server over HTTP; `mode` chooses the version of the protocol."""

    async def make(stack: AsyncExitStack) -> Client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=60))
        transport = streamable_http_client(url, http_client=http)
        return await stack.enter_async_context(Client(transport, mode=mode))

    return Agent(make)


def text(result: CallToolResult) -> str:
    """Return the words of a result."""
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


def links(result: CallToolResult) -> list[ResourceLink]:
    """Return the links of a result."""
    return [one for one in result.content if isinstance(one, ResourceLink)]
