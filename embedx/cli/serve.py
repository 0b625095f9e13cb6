"""embedx serve: answer requests of programs over HTTP."""

import re
from collections.abc import Sequence

import click

from embedx.cli.options import (
    ALLOW_PICKLE,
    MODELS,
    SectionedCommand,
    agent_folders,
    read_models,
    refuse_buckets,
    section,
    served_places,
)
from embedx.cli.output import say
from embedx.errors import UsageError
from embedx.filesystem.urls import is_engine, masked

MISSING = (
    "`embedx serve` needs more packages ({name} is missing). Install them with: pip install 'embedx[{extra}]' (in a "
    "checkout: pip install '.[{extra}]')."
)
HOST = re.compile(r"[A-Za-z0-9_.-]+|\[?[0-9A-Fa-f:.]+\]?")  # a name, or an address of IPv6
ORIGIN = re.compile(r"https?://[^/\s?#]+")
EXIT_SIGNAL = 128  # plus the number of the signal


@click.command(
    cls=SectionedCommand,
    epilog="""\b
    Examples:
      embedx serve indexes/field
      embedx serve indexes/field indexes/esc --port 9000 --allow-labels
      embedx serve indexes/field indexes/esc --model field=models/beats --mcp
      embedx serve qdrant://127.0.0.1:6333/field
      embedx serve indexes/field --host 0.0.0.0 --token-file tokens.txt --allow-host audio.example.org
      curl http://127.0.0.1:8000/v1/collections/field
    """,
)
@click.argument("collections", metavar="COLLECTION...", nargs=-1, required=True, callback=refuse_buckets)
@section(
    "Address",
    click.option(
        "--host",
        default="127.0.0.1",
        show_default=True,
        help="Address to listen on; others than this machine need --token-file.",
    ),
    click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0: a free one."),
    click.option(
        "--allow-host",
        multiple=True,
        metavar="NAME",
        help="A name of this server, as in the URLs of its clients. Repeatable.",
    ),
    click.option(
        "--cors",
        multiple=True,
        metavar="ORIGIN",
        help="Let web pages of this origin use the service, such as https://example.org. Repeatable.",
    ),
)
@section(
    "Clients",
    click.option(
        "--token-file",
        metavar="FILE",
        help="Tokens of clients, one a line: read:TOKEN, or label:TOKEN to set labels too.",
    ),
    click.option("--allow-labels", is_flag=True, help="Let clients set labels and train heads."),
    click.option(
        "--per-client",
        type=click.IntRange(1, 64),
        default=8,
        show_default=True,
        help="Requests of one client at a time.",
    ),
)
@section(
    "Model",
    click.option(
        "--preload", is_flag=True, help="Load the models before the first request. [default: when a request needs them]"
    ),
    MODELS,
    ALLOW_PICKLE,
)
@section(
    "Agents",
    click.option("--mcp", is_flag=True, help="Let agents that speak MCP use the collections, at /mcp."),
    click.option(
        "--files", metavar="FOLDER", help="With --mcp: let agents search with the audio files of this folder."
    ),
    click.option("--clips", metavar="FOLDER", help="With --mcp: let agents write the audio of rows into this folder."),
)
def serve(
    collections: tuple[str, ...],
    host: str,
    port: int,
    allow_host: tuple[str, ...],
    cors: tuple[str, ...],
    token_file: str | None,
    allow_labels: bool,
    per_client: int,
    preload: bool,
    models: tuple[str, ...],
    allow_pickle: bool,
    mcp: bool,
    files: str | None,
    clips: str | None,
) -> int:
    """Serve one or more collections over HTTP: search, embed, predict and label.

    The name of a collection is that of its folder. A collection in a search engine is served by its URL, without what
    needs audio, labels or heads. Other processes can extract into a collection, label it and build
    its indexes meanwhile. Needs the packages of embedx[serve]. See docs/service.md for the requests and for limits.

    Ctrl-C and SIGTERM let running requests finish for 7 s. The exit code is then 130 or 143.
    """
    require_packages(mcp)
    from embedx.server.guard import is_loopback
    from embedx.server.running import serve as run
    from embedx.server.settings import Limits, Settings
    from embedx.server.tokens import Tokens, read_tokens

    tokens = Tokens() if token_file is None else read_tokens(token_file)
    if not tokens and not is_loopback(host):
        raise UsageError(
            f"--host {host} can be reached from other machines, so it needs --token-file. Without it, use 127.0.0.1."
        )
    check_names(allow_host, cors)
    if (files or clips) and not mcp:
        raise UsageError("--files and --clips are folders for agents: they go with --mcp.")
    limits = Limits(per_client=per_client)
    settings = Settings(
        **served_places(collections),
        host=host,
        port=port,
        tokens=tokens,
        allow_labels=allow_labels,
        hosts=allow_host,
        cors=cors,
        preload=preload,
        models=read_models(models, collections),
        allow_pickle=allow_pickle,
        mcp=mcp,
        **agent_folders(files, clips, limits.body),
        limits=limits,
    )
    shown = ", ".join(masked(name) if is_engine(name) else name for name in collections)
    number = run(settings, lambda url: say(f"Serving {shown} at {url}. Routes: {url}/docs", err=True))
    return EXIT_SIGNAL + number if number else 0


def require_packages(mcp: bool) -> None:
    """Refuse to start without the packages of the service, and with `mcp` those for agents.

    Raises:
        UsageError: a package is missing; the message has the command that installs it.
    """
    try:
        import embedx.server.running

        if mcp:
            import embedx.server.mcp_http  # noqa: F401
    except ModuleNotFoundError as error:
        extra = "mcp" if (error.name or "").startswith("mcp") else "serve"
        raise UsageError(MISSING.format(name=error.name, extra=extra)) from error


def check_names(hosts: Sequence[str], origins: Sequence[str]) -> None:
    """Refuse names of hosts and origins that no request can have.

    Raises:
        UsageError: a host is a URL or has a port, or an origin is not a URL without a path.
    """
    for host in hosts:
        if not HOST.fullmatch(host):
            raise UsageError(
                f"--allow-host {host}: give a name without http:// and without a port, as audio.example.org."
            )
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise UsageError(f"--cors {origin}: give an origin without a path, as https://example.org.")
