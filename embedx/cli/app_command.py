"""embedx app: show a collection as a Gradio interface."""

import secrets
import threading
import webbrowser
from pathlib import Path

import click

from embedx.cli.open import TOKEN_BYTES
from embedx.cli.options import ALLOW_PICKLE, COLLECTION, MODEL_PLACE
from embedx.cli.output import say
from embedx.cli.serve import EXIT_SIGNAL, MISSING
from embedx.errors import UsageError


@click.command(
    epilog="""\b
    Examples:
      embedx app indexes/field
      embedx app indexes/field --no-browser
    """,
)
@COLLECTION
@click.option("--no-browser", is_flag=True, help="Print the address only; open it yourself.")
@MODEL_PLACE
@ALLOW_PICKLE
def app(collection: str, no_browser: bool, model: str | None, allow_pickle: bool) -> int:
    """Show a collection as a Gradio interface: give a file or record a sound, and get labels and similar sounds.

    Serves it at a free port of this machine until Ctrl-C; the collection is only read. The address holds a secret:
    other users of this machine cannot use the page. Needs the packages of embedx[gradio]. `embedx open` shows more:
    a map, recordings, labelling and training.
    """
    from embedx.collection.collection import Collection

    with Collection(Path(collection)) as opened:  # a damaged collection is refused here
        if opened.recipe.extractor == "imported":
            raise UsageError(
                "The vectors of this collection were imported: it has no model for new sounds. `embedx open` shows it."
            )
    try:
        from embedx.server.gradio_page import serve
    except ModuleNotFoundError as error:
        message = MISSING.format(name=error.name, extra="gradio").replace("embedx serve", "embedx app")
        raise UsageError(message) from error
    from embedx.server.settings import Settings

    def show(address: str) -> None:
        is_shown = not no_browser and webbrowser.open(address)
        say("The browser shows the page." if is_shown else f"Open this address: {address}", err=True)
        say("Ctrl-C ends the service.", err=True)

    def on_ready(address: str) -> None:
        threading.Thread(target=show, args=(address,), daemon=True).start()  # some browsers block

    settings = Settings(
        (Path(collection),),
        port=0,
        preload=True,
        models={} if model is None else {"": model},
        allow_pickle=allow_pickle,
    )
    number = serve(settings, secrets.token_urlsafe(TOKEN_BYTES), on_ready)
    return EXIT_SIGNAL + number if number else 0
