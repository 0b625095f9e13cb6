"""embedx share: write a model or a collection with a card, for the model hub or for another machine."""

from dataclasses import asdict

import click

from embedx.cli.options import JSON
from embedx.cli.output import print_json, say, size
from embedx.filesystem.paths import display_path
from embedx.text import plural


@click.command(
    epilog="""\b
    Examples:
      embedx share models/birds --local-dir build/birds
      embedx share models/birds --to hf:user/birds
      embedx share indexes/field --to hf:user/field --public
    """
)
@click.argument("folder", metavar="FOLDER")
@click.option("--to", metavar="hf:USER/NAME", help="Upload to this repository of the Hugging Face hub.")
@click.option("--local-dir", metavar="DIR", help="Write the same files to a new folder; needs no network.")
@click.option("--public", is_flag=True, help="Make a new repository public; by default it is private.")
@JSON
def share(folder: str, to: str | None, local_dir: str | None, public: bool, as_json: bool) -> None:
    """Share FOLDER: a model of `embedx finetune`, or a collection with its heads, with a card of what was measured.

    A collection contains the paths, labels and metadata of its rows, but no audio.
    """
    from embedx.sharing.share import share as write

    shared = write(folder, to=to, local_dir=local_dir, private=not public)
    if as_json:
        print_json({"exit_code": 0, **asdict(shared)})
        return
    what = "model" if shared.kind == "model" else "collection, with the paths, labels and metadata of its rows"
    say(f"{what}: {plural(len(shared.files), 'file')}, {size(sum(shared.files.values()))}")
    for place in (shared.folder, shared.address):
        if place is not None:
            say(f"written to {display_path(place)}")
