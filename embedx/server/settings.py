"""Settings of the service, and the limits that it applies before it does any work."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedx.server.shared_folder import SharedFolder
from embedx.server.tokens import Tokens

MB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a request may ask for. The defaults are those of docs/service.md.

    Attributes:
        body: bytes of a body.
        all_bodies: bytes of all bodies that are in memory at a time; a JSON body needs some four times its size.
        read_s: seconds to read a body.
        header_s: seconds to read the head of a request.
        request_s: seconds that a request may take once its body is there.
        audio_s: seconds of audio in a request.
        rate: Hz of audio.
        channels: of audio.
        files: files in a request.
        hits: the largest `limit` of a search, or of a page of rows.
        queries: queries in a request.
        all_hits: `limit` times the number of queries.
        filter: characters of a filter.
        depth: levels of a JSON body.
        in_flight: requests that are answered at the same time.
        per_client: of these, requests of one client.
        connections: open connections.
    """

    body: int = 64 * MB
    all_bodies: int = 512 * MB
    read_s: float = 20.0
    header_s: float = 10.0
    request_s: float = 30.0
    audio_s: float = 1800.0
    rate: int = 384_000  # the highest of recorders for bats
    channels: int = 64
    files: int = 16
    hits: int = 1000
    queries: int = 256
    all_hits: int = 50_000
    filter: int = 10_000
    depth: int = 32
    in_flight: int = 64
    per_client: int = 8
    connections: int = 2000


@dataclass(frozen=True)
class Settings:
    """What `embedx serve` was asked for.

    Attributes:
        folders: the folders of the collections.
        engines: the URLs of collections in search engines.
        host, port: the address; port 0 takes a free one.
        tokens: the tokens of the clients; empty: none is needed.
        allow_labels: whether clients may set labels and train heads.
        hosts: names of this server that requests may be sent to, besides the address itself.
        cors: origins of web pages that may use the service.
        preload: load the models before the first request.
        models: collection -> the model, if it is not where the recipe says.
        allow_pickle: read weights from a pickle file.
        mcp: whether agents can use the tools at /mcp.
        files, clips: for these tools; see `embedx mcp`.
        limits: see `Limits`.
    """

    folders: tuple[Path, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    tokens: Tokens = field(default_factory=Tokens)
    allow_labels: bool = False
    hosts: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    preload: bool = False
    models: Mapping[str, str] = field(default_factory=dict)
    allow_pickle: bool = False
    mcp: bool = False
    files: SharedFolder | None = None
    clips: Path | None = None
    limits: Limits = field(default_factory=Limits)
    engines: tuple[str, ...] = ()

    def model_of(self, name: str) -> str | None:
        """Return the model of a collection, if it is not where the recipe says."""
        return self.models.get(name) or self.models.get("")
