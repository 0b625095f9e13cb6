"""embedx open: show a collection in the browser."""

import secrets
import threading
import webbrowser
from pathlib import Path

import click

from embedx.cli.options import refuse_buckets
from embedx.cli.output import say
from embedx.cli.serve import EXIT_SIGNAL, MISSING
from embedx.errors import UsageError
from embedx.filesystem.urls import is_engine

TOKEN_BYTES = 24  # of a token, which nobody can guess


@click.command(
    epilog="""\b
    Examples:
      embedx open indexes/field
      embedx open indexes/field --no-browser
    """,
)
@click.argument("collections", metavar="COLLECTION...", nargs=-1, required=True, callback=refuse_buckets)
@click.option("--no-browser", is_flag=True, help="Print the address only; open it yourself.")
def open(collections: tuple[str, ...], no_browser: bool) -> int:
    """Show one or more collections in the browser: search, listen, label.

    Serves them at a free port of this machine until Ctrl-C, with labels allowed. The address holds a token that is
    valid once: other users of this machine cannot use the service. Needs the packages of embedx[serve].
    """
    if any(map(is_engine, collections)):
        raise UsageError("The page needs the folder of a collection. `embedx serve URL` serves one in a search engine.")
    try:
        from embedx.server.running import serve as run
    except ModuleNotFoundError as error:
        message = MISSING.format(name=error.name, extra="serve").replace("embedx serve", "embedx open")
        raise UsageError(message) from error
    from embedx.server.settings import Settings
    from embedx.server.tokens import OneTimeToken, Tokens, hash_token

    once = secrets.token_urlsafe(TOKEN_BYTES)
    tokens = Tokens(((hash_token(secrets.token_urlsafe(TOKEN_BYTES)), "label"),), OneTimeToken(once))
    settings = Settings(tuple(map(Path, collections)), port=0, tokens=tokens, allow_labels=True)

    def show(address: str) -> None:
        is_shown = not no_browser and webbrowser.open(address)
        say("The browser shows the page." if is_shown else f"Open this address, once: {address}", err=True)
        say("Ctrl-C ends the service.", err=True)

    def on_ready(url: str) -> None:
        threading.Thread(target=show, args=(f"{url}/#token={once}",), daemon=True).start()  # some browsers block

    number = run(settings, on_ready)
    return EXIT_SIGNAL + number if number else 0
