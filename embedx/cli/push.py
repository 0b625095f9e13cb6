"""embedx push: a collection to a bucket."""

from dataclasses import asdict

import click

from embedx.cli.options import COLLECTION, JSON
from embedx.cli.output import print_json, say, size
from embedx.filesystem.paths import display_path


@click.command(
    epilog="""\b
    Examples:
      embedx push indexes/field s3://bucket/field
      embedx status s3://bucket/field
    """
)
@COLLECTION
@click.argument("url", metavar="URL")
@JSON
def push(collection: str, url: str, as_json: bool) -> None:
    """Copy a COLLECTION with its heads and indexes to a bucket: s3://BUCKET/NAME or gs://BUCKET/NAME.

    Run it again to send only what has changed. `embedx.open(URL)`, and the commands that only read, take the URL. A
    push that is stopped leaves the collection that was there before.
    """
    from embedx.collection.pushing import push

    pushed = push(collection, url)
    if as_json:
        print_json({"exit_code": 0, "collection": collection, **asdict(pushed)})
        return
    say(f"{display_path(pushed.url)}: {size(pushed.bytes)}, {size(pushed.bytes_sent)} sent")
