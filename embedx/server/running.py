"""Running: listen, answer, and end within 10 s of a signal."""

import contextlib
import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Literal

import uvicorn
from starlette.types import ASGIApp

from embedx.audio.decoder_pool import DECODERS
from embedx.errors import DiskError
from embedx.processes.memory import keep_memory
from embedx.server.app import create_app
from embedx.server.connection import Connection
from embedx.server.service import Service
from embedx.server.settings import Settings
from embedx.server.work import AUDIO_THREADS

GRACE_S = 7  # seconds that running requests get after a signal; all must end within 10 s
KEEP_ALIVE_S = 5  # seconds that a connection without a request stays open
SWITCH_S = 0.001  # after which a search lets the event loop run; with the default of 5 ms every request waits longer
GARBAGE = 10_000, 20, 20  # objects until a collection of garbage, which stops all requests; the default is 700, 10, 10
HANDLED = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """A server that remembers the signal that has ended it; a second signal ends it at once."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self.on_ready = on_ready
        self.signal_number = 0

    async def startup(self, sockets: Any = None) -> None:
        """Listen, and tell the address."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self.on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread gets signals
            return
        before = {number: signal.signal(number, self.handle_exit) for number in HANDLED}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; at the second signal without waiting for running requests."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self.signal_number = sig


def make_server(settings: Settings, on_ready: Callable[[str], None]) -> tuple[Server, Service]:
    """Return a server for these settings, and its service.

    Raises:
        UsageError: a folder holds no collection, or two have the same name.
    """
    app, service = create_app(settings)
    server = Server(configure(app, settings), on_ready)
    service.is_ending = lambda: server.should_exit
    return server, service


def configure(app: ASGIApp, settings: Settings, *, lifespan: Literal["on", "off"] = "off") -> uvicorn.Config:
    """Return how an application is served at the address, and within the limits, of these settings."""
    limits = {"header_s": settings.limits.header_s, "max_connections": settings.limits.connections}
    return uvicorn.Config(
        app,
        settings.host.strip("[]"),
        settings.port,
        http=type("LimitedConnection", (Connection,), limits),
        ws="none",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )


def serve(settings: Settings, on_ready: Callable[[str], None]) -> int:
    """Serve until a signal comes, and return its number.

    Args:
        settings: the collections, the address and the limits.
        on_ready: called with the URL once requests are answered.

    Raises:
        UsageError: a folder holds no collection, or two have the same name.
        DiskError: the address cannot be used.
    """

    def begin(url: str) -> None:
        gc.collect()
        gc.freeze()  # what is loaded now stays: a collection of garbage then takes 1 ms and not 50
        gc.set_threshold(*GARBAGE)
        on_ready(url)
        service.warm_up()

    server, service = make_server(settings, begin)
    return run_until_signal(server, service)


def run_until_signal(server: Server, service: Service) -> int:
    """Serve until a signal comes, close the service, and return the number of the signal.

    Raises:
        ModelError: a model that is loaded before the first request cannot be loaded.
        DiskError: the address cannot be used.
    """
    settings = service.settings
    DECODERS.max_idle = AUDIO_THREADS  # to start a process for each clip takes longer than to decode it
    keep_memory()
    log_to_stderr()
    sys.setswitchinterval(SWITCH_S)
    try:
        if settings.preload:
            service.preload()
        server.run()
    except SystemExit:
        raise DiskError(
            f"The address {settings.host} port {settings.port} cannot be used: another program may listen there, or "
            "ports below 1024 need permission. Choose another --port."
        ) from None
    finally:
        service.close()
    return server.signal_number


def log_to_stderr() -> None:
    """Write the log to standard error; a library that warns writes there too.

    What is not written is not looked up: that halves the time of a line, and every request has one.
    """
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("embedx", "embedx.server"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("embedx").addHandler(handler)
    logging.getLogger("uvicorn.error").addHandler(handler)
