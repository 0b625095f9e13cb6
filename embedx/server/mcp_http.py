"""MCP over HTTP: the tools at /mcp, by the streamable HTTP transport of the SDK, behind the gate of the service.

Every request is answered by itself: there are no sessions and no streams, so tokens, limits and deadlines are those of
every other route.
"""

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from embedx.server.bodies import parse_json
from embedx.server.errors import ApiError
from embedx.server.gate import replay
from embedx.server.mcp_server import Handlers, make_server
from embedx.server.mcp_tools import Tools
from embedx.server.service import Service

PATH = "/mcp"


class McpEndpoint:
    """The application at /mcp. Clients whose token may only read have only the tools that change nothing.

    Args:
        service: the collections, and the folders for files and clips.
    """

    def __init__(self, service: Service) -> None:
        self.limits = service.limits
        settings = service.settings
        self.servers = {
            right: make_server(Handlers(Tools(service, settings.files, settings.clips, right=right, is_remote=True)))
            for right in ("read", "label")
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a message.

        Raises:
            ApiError: the method is not POST, or the body is not JSON within the limits.
        """
        if scope["method"] != "POST":
            raise ApiError(
                405, "bad_method", "MCP messages are sent with POST.", "See docs/service.md.", {"Allow": "POST"}
            )
        body = await Request(scope, receive).body()
        parse_json(body, self.limits)
        server = self.servers[scope["state"]["right"]]
        manager = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, max_request_body_size=self.limits.body
        )
        async with manager.run():
            await manager.handle_request(scope, replay(body), send)
