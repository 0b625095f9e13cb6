"""The MCP server: it lists the tools, calls them in threads, and reads the audio of rows for agents."""

import base64
import logging
import os
import re
import signal
from collections.abc import Callable
from typing import TypeVar

import anyio
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    BlobResourceContents,
    CallToolRequestParams,
    CallToolResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    ReadResourceRequestParams,
    ReadResourceResult,
    ResourceLink,
    ResourceTemplate,
    TextContent,
    Tool,
    ToolAnnotations,
)

from embedx._version import __version__
from embedx.audio.excerpts import wav_bytes
from embedx.errors import EmbedxError
from embedx.server.answers import without_nan
from embedx.server.bodies import is_deeper, validate
from embedx.server.errors import ApiError, Cancelled, api_error
from embedx.server.mcp_schemas import CollectionArguments
from embedx.server.mcp_tools import Result, Tools, audio_uri
from embedx.server.row_audio import look_up, read_audio
from embedx.server.work import WORK, Work

log = logging.getLogger("embedx.server")
Answer = TypeVar("Answer")
Context = object  # of a request; no tool needs it

WAV = "audio/wav"
AUDIO_URI = re.compile(r"embedx://([^/]+)/rows/([0-9]{1,18})/audio")
EXIT_SIGNAL = 128  # plus the number of the signal
STOP_S = 5.0  # that running calls get after a signal
TICK_S = 0.05
MAX_AUDIO_S = 60.0  # of a row that is sent to a model; some 15 MB at 48 kHz
INSTRUCTIONS = (
    "Collections of recorded sounds: {names}. A row is a stretch of a recording. Call describe_collection first: it "
    "lists the columns that a filter can use. Scores compare rows within one answer only."
)


class Handlers:
    """The answers to the requests of MCP."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self.running: set[Work] = set()

    async def list_tools(self, context: Context, params: object) -> ListToolsResult:
        """List the tools."""
        return ListToolsResult(
            tools=[
                Tool(
                    name=name,
                    description=spec.description,
                    input_schema=spec.arguments.model_json_schema(),
                    annotations=ToolAnnotations(
                        read_only_hint=not spec.changes, destructive_hint=False, open_world_hint=False
                    ),
                )
                for name, spec in self.tools.specs.items()
            ]
        )

    async def call_tool(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        """Call a tool; an error is a result in words, from which a model can learn."""
        try:
            result = await self.call(params)
        except ApiError as error:
            return CallToolResult(content=[TextContent(text=in_words(error))], is_error=True)
        links = [ResourceLink(uri=uri, name=name, mime_type=WAV) for uri, name in result.links]
        return CallToolResult(
            content=[TextContent(text=result.text), *links], structured_content=without_nan(result.value)
        )

    async def call(self, params: CallToolRequestParams) -> Result:
        """Call a tool with valid arguments.

        Raises:
            ApiError: the call has failed.
        """
        spec = self.tools.spec(params.name)
        if is_deeper(params.arguments, self.tools.service.limits.depth):
            raise ApiError(400, "bad_json", "The arguments have too many levels.")
        arguments = validate(spec.arguments, params.arguments or {})
        return await self.work(lambda: spec.run(self.tools, arguments), audio=spec.uses_model)

    async def work(self, function: Callable[[], Answer], *, audio: bool) -> Answer:
        """Run a function in a thread; stop it at its deadline, and when the client cancels its request.

        Raises:
            ApiError: it has failed, or its deadline has passed.
        """
        work, seconds = WORK.get() or Work(), self.tools.service.limits.request_s  # over HTTP that of the gate
        token = WORK.set(work)
        self.running.add(work)
        try:
            with anyio.fail_after(seconds):
                return await self.tools.service.run(function, audio=audio)
        except TimeoutError:
            raise ApiError(503, "deadline", f"The call was stopped after {seconds:g} s.") from None
        except EmbedxError as error:
            raise api_error(error) from error
        except Cancelled:
            raise ApiError(503, "stopped", "The call was stopped.") from None
        except ApiError:
            raise
        except Exception as error:  # a fault of the server ends one call, not the process
            log.exception("A call of MCP has failed")
            raise ApiError(500, "internal", "The tool has failed; its standard error says why.") from error
        finally:
            work.cancel()
            self.running.discard(work)
            WORK.reset(token)

    async def stop(self) -> None:
        """Stop the running calls, and wait some seconds until they have deleted their temporary files."""
        for work in self.running:
            work.cancel()
        with anyio.move_on_after(STOP_S):
            while self.running:
                await anyio.sleep(TICK_S)

    async def list_resources(self, context: Context, params: object) -> ListResourcesResult:
        """List no audio: there is too much of it; results of tools link to it."""
        return ListResourcesResult(resources=[])

    async def list_templates(self, context: Context, params: object) -> ListResourceTemplatesResult:
        """Tell the form of the URIs of audio."""
        uri = audio_uri("{collection}", "{id}")
        return ListResourceTemplatesResult(
            resource_templates=[
                ResourceTemplate(uri_template=uri, name="audio", description="the audio of a row", mime_type=WAV)
            ]
        )

    async def read_resource(self, context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        """Return the audio of a row."""
        try:
            match = AUDIO_URI.fullmatch(params.uri)
            if match is None:
                raise ApiError(404, "not_found", f"There is only {audio_uri('COLLECTION', 'ID')}.")
            name, number = match[1], int(match[2])
            wav = await self.work(lambda: self.audio(name, number), audio=True)
        except ApiError as error:
            raise MCPError(INVALID_PARAMS, in_words(error)) from error
        blob = base64.b64encode(wav).decode()
        return ReadResourceResult(contents=[BlobResourceContents(uri=params.uri, mime_type=WAV, blob=blob)])

    def audio(self, name: str, number: int) -> bytes:
        """Return the audio of a row as WAV.

        Raises:
            ApiError: there is no such row, or its audio is too long or has gone.
        """
        row, _ = look_up(self.tools.served(CollectionArguments(collection=name)), number)
        if row.end_s - row.start_s > MAX_AUDIO_S:
            problem = f"Row {number} has more than {MAX_AUDIO_S:g} s of audio."
            raise ApiError(413, "audio_too_large", problem, "Use cut_clip.")
        return wav_bytes(*read_audio(row, 0.0))


def in_words(error: ApiError) -> str:
    """Return an error as one text; hints about routes of HTTP are left out."""
    return error.message if not error.hint or "See /" in error.hint else f"{error.message} {error.hint}"


def make_server(handlers: Handlers) -> Server[dict[str, object]]:
    """Return a server that answers with these handlers."""
    return Server(
        "embedx",
        version=__version__,
        instructions=INSTRUCTIONS.format(names=", ".join(handlers.tools.service.collections)),
        on_list_tools=handlers.list_tools,
        on_call_tool=handlers.call_tool,
        on_list_resources=handlers.list_resources,
        on_list_resource_templates=handlers.list_templates,
        on_read_resource=handlers.read_resource,
    )


def serve_stdio(tools: Tools) -> None:
    """Answer at the standard streams until the client closes them; a signal ends the process.

    The thread that reads standard input cannot be interrupted, so a signal ends the process without it.
    """
    handlers = Handlers(tools)
    server = make_server(handlers)

    async def end_at_signal() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            number = await anext(signals)
            await handlers.stop()
            os._exit(EXIT_SIGNAL + number)

    async def run() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(end_at_signal)
            async with stdio_server() as (read, write):
                await server.run(read, write, server.create_initialization_options())
            group.cancel_scope.cancel()

    anyio.run(run)
