"""embedx mcp: give agents that speak MCP tools to search collections, over the standard streams."""

import logging

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
from embedx.errors import UsageError

MISSING = (
    "`embedx mcp` needs more packages ({name} is missing). Install them with: pip install 'embedx[mcp]' (in a "
    "checkout: pip install '.[mcp]')."
)
CALL_S = 120.0  # seconds of a call: the first one loads the model


@click.command(
    cls=SectionedCommand,
    epilog="""\b
    Examples:
      embedx mcp indexes/field
      embedx mcp indexes/field --files recordings/ --clips clips/
      embedx mcp indexes/field indexes/esc --allow-labels
    """,
)
@click.argument("collections", metavar="COLLECTION...", nargs=-1, required=True, callback=refuse_buckets)
@section(
    "What agents may do",
    click.option("--files", metavar="FOLDER", help="Let agents search with the audio files of this folder."),
    click.option("--clips", metavar="FOLDER", help="Let agents write the audio of rows into this folder."),
    click.option("--allow-labels", is_flag=True, help="Let agents set labels and metadata of rows."),
)
@section("Model", MODELS, ALLOW_PICKLE)
def mcp(
    collections: tuple[str, ...],
    files: str | None,
    clips: str | None,
    allow_labels: bool,
    models: tuple[str, ...],
    allow_pickle: bool,
) -> None:
    """Give agents tools to search collections: an MCP server at the standard streams.

    An agent starts this command itself; docs/service.md has its configuration. Without options the tools only read
    the collections. Needs the packages of embedx[mcp].
    """
    try:
        from embedx.server.mcp_server import serve_stdio
        from embedx.server.metrics import Metrics
    except ModuleNotFoundError as error:
        raise UsageError(MISSING.format(name=error.name)) from error
    from embedx.server.mcp_tools import Tools
    from embedx.server.service import Service
    from embedx.server.settings import Limits, Settings

    limits = Limits(request_s=CALL_S)
    settings = Settings(
        **served_places(collections),
        allow_labels=allow_labels,
        models=read_models(models, collections),
        allow_pickle=allow_pickle,
        **agent_folders(files, clips, limits.body),
        limits=limits,
    )
    service = Service(settings, Metrics())
    try:
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")  # standard error
        serve_stdio(Tools(service, settings.files, settings.clips))
    finally:
        service.close()
