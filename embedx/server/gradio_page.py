"""The page of `embedx app`: a Gradio interface, served to this machine only, that asks no other host for anything."""

import os
import tempfile
from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio_client.utils import traverse
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedx.filesystem.paths import is_inside
from embedx.server import row_routes
from embedx.server.app import answer_api_error
from embedx.server.errors import ApiError
from embedx.server.gradio_answers import Answer, Questions
from embedx.server.guard import encode_headers
from embedx.server.metrics import Metrics
from embedx.server.running import Server, configure, run_until_signal
from embedx.server.service import Service
from embedx.server.settings import Settings

FOLDER = "GRADIO_TEMP_DIR"  # the variable of the environment with the folder of uploads
ANSWER_S = 120.0  # seconds that an answer may take, as a call of an agent
DEFAULT_HITS, MAX_HITS = 10, 50  # players on a page
GRACE_S = 1  # that requests get after a signal: an open page keeps one open for ever
AT_A_TIME = 2  # questions: the model takes all cores
MAX_WAITING = 16  # questions that wait
KEEP_S = 3600  # seconds after which an uploaded sound is deleted; all are deleted at the end
NO_HEAD = ("no labels", "")  # the choice that asks for hits only: what is shown, and its value
HEADERS = encode_headers(
    {
        # Gradio's page has scripts and styles in itself, and compiles templates; everything comes from this server.
        "Content-Security-Policy": (
            "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; frame-ancestors 'none'"
        ),
        "Referrer-Policy": "no-referrer",  # the address holds the secret
        "X-Content-Type-Options": "nosniff",
    }.items()
)
CSS = """
.wide { overflow-x: auto }
.hits { width: 100%; border-collapse: collapse }
.hits th, .hits td { padding: 4px 8px; text-align: left; white-space: nowrap }
.hits td:nth-child(4) { white-space: normal; overflow-wrap: anywhere; min-width: 10em }
.hits audio { width: 220px; height: 36px }
"""


class WithHeaders:
    """An application whose answers all carry `HEADERS`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Page(gr.Blocks):
    """An interface that reads no file but those that were uploaded; Gradio checks that only for its own server."""

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Refuse a file of this machine, or of another one, in a question; then go on as Gradio does."""
        traverse(inputs, check_upload, lambda value: isinstance(value, dict) and "path" in value)
        values: list[Any] = await super().preprocess_data(block_fn, inputs, state, explicit_call)
        return values


def check_upload(file: dict[str, Any]) -> dict[str, Any]:
    """Return a file of a question.

    Raises:
        Error: it was not uploaded.
    """
    folder = os.path.realpath(os.environ[FOLDER])
    if not is_inside(os.path.realpath(str(file["path"])), folder):
        raise gr.Error("The file was not uploaded.", print_exception=False)
    return file


def make_page(questions: Questions) -> gr.Blocks:
    """Return the interface: a sound and a head in, labels and hits out."""

    def show_heads() -> tuple[Any, Any]:
        names = questions.heads()
        choices = [*((name, name) for name in names), NO_HEAD]
        return gr.Dropdown(choices=choices, value=choices[0][1], visible=bool(names)), gr.Label(visible=bool(names))

    def ask(path: str | None, head: str | None, count: float) -> tuple[str, dict[str, float], str]:
        answer = questions.ask(path, head or None, int(count))
        return show_message(answer), dict(answer.labels), answer.hits

    name = questions.served.name
    with Page(title=f"embedx: {name}", analytics_enabled=False, delete_cache=(KEEP_S, KEEP_S)) as page:
        gr.HTML(f"<h1>{escape(name)}</h1><p>Give a sound: the page shows the sounds of the collection near to it.</p>")
        with gr.Row():
            with gr.Column():
                sound = gr.Audio(sources=["upload", "microphone"], type="filepath", label="Sound", buttons=[])
                head = gr.Dropdown(label="Head, which gives labels", choices=[NO_HEAD], value=NO_HEAD[1], visible=False)
                count = gr.Slider(1, MAX_HITS, DEFAULT_HITS, step=1, label="Hits", buttons=[])
                find = gr.Button("Find", variant="primary")
            labels = gr.Label(label="Labels", visible=False)
        message, hits = gr.HTML(), gr.HTML(elem_classes="wide")
        page.load(show_heads, outputs=[head, labels], api_visibility="private")
        find.click(ask, [sound, head, count], [message, labels, hits], api_visibility="private")
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=AT_A_TIME)
    return page


def show_message(answer: Answer) -> str:
    """Return the message of an answer as HTML, which a screen reader reads out."""
    role = "alert" if answer.is_error else "status"
    return f'<p class="message" role="{role}">{escape(answer.message)}</p>'


def create_app(service: Service, secret: str) -> tuple[ASGIApp, Questions]:
    """Return the application, all of whose addresses begin with a secret path, and its questions."""
    prefix = f"/{secret}"
    questions = Questions(service, prefix, ANSWER_S)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = service
    app.include_router(row_routes.router, prefix=prefix)
    app.add_api_route("/favicon.ico", lambda: Response(status_code=204))  # browsers ask for it, and print an error
    app.add_exception_handler(ApiError, answer_api_error)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[service.settings.host])
    gr.mount_gradio_app(
        app,
        make_page(questions),
        prefix,
        css=CSS,
        footer_links=[],
        max_file_size=service.limits.body,
        mcp_server=False,
        pwa=False,
        run_history=False,
        show_error=False,
        ssr_mode=False,
        theme=gr.themes.Default(primary_hue="blue"),
    )
    return WithHeaders(app), questions


def serve(settings: Settings, secret: str, on_ready: Callable[[str], None]) -> int:
    """Serve the page of one collection until a signal comes, and return the number of the signal.

    Args:
        settings: the collection, the address and the limits; the model is loaded first.
        secret: the path that all addresses begin with: who does not know it gets nothing.
        on_ready: called with the URL once requests are answered.

    Raises:
        UsageError: the folder holds no collection, or its vectors were imported, so that it has no model.
        StoreError: the collection is damaged.
        ModelError: the model cannot be loaded.
    """
    service = Service(settings, Metrics())
    with tempfile.TemporaryDirectory(prefix="embedx-", ignore_cleanup_errors=True) as folder:
        os.environ[FOLDER] = folder  # where uploads go
        app, questions = create_app(service, secret)
        config = configure(app, settings, lifespan="on")
        config.timeout_graceful_shutdown = GRACE_S
        try:
            return run_until_signal(Server(config, lambda url: on_ready(f"{url}/{secret}/")), service)
        finally:
            questions.stop()
