"""embedx push: a collection to a bucket or a search engine."""

from dataclasses import asdict

import click

from embedx.cli.options import COLLECTION, JSON, SectionedCommand, section
from embedx.cli.output import print_json, say, size
from embedx.cli.progress import PushDisplay
from embedx.errors import UsageError
from embedx.filesystem.paths import display_path
from embedx.filesystem.urls import is_engine
from embedx.text import plural


@click.command(
    cls=SectionedCommand,
    epilog="""\b
    Examples:
      embedx push indexes/field s3://bucket/field
      embedx status s3://bucket/field
      embedx push indexes/field qdrant://127.0.0.1:6333/field --view L12.mean
      embedx push indexes/field "postgresql://me@db.example.org/sounds?table=field"
      embedx push indexes/field milvus://127.0.0.1:19530/field --quantize int8
      embedx search qdrant://127.0.0.1:6333/field query.wav --where "site = 'A'"
    """,
)
@COLLECTION
@click.argument("url", metavar="URL")
@section(
    "Search engines",
    click.option(
        "--view",
        "views",
        multiple=True,
        metavar="VIEW",
        help="Vectors to send, such as L12.mean. Repeatable. [default: those that are there, or the default view]",
    ),
    click.option(
        "--metric", type=click.Choice(["cosine", "ip", "l2"]), help="How the engine compares vectors. [default: cosine]"
    ),
    click.option(
        "--quantize",
        type=click.Choice(["int8", "binary"]),
        help="Let Qdrant, or Milvus with int8, search in smaller vectors, and rank again with the full ones.",
    ),
    click.option(
        "--compare-all", is_flag=True, help="Compare the full content of the engine, not only its record of it."
    ),
)
@JSON
def push(
    collection: str,
    url: str,
    views: tuple[str, ...],
    metric: str | None,
    quantize: str | None,
    compare_all: bool,
    as_json: bool,
) -> None:
    """Copy a COLLECTION to a bucket or a search engine.

    In a bucket, s3://BUCKET/NAME or gs://BUCKET/NAME, it is whole, with heads and indexes: `embedx.open(URL)`, and the
    commands that only read, take the URL. A push that is stopped leaves the collection that was there before.

    A search engine gets the vectors and the metadata: qdrant://HOST:PORT/NAME, milvus://HOST:PORT/NAME or
    postgresql://USER@HOST/DATABASE?table=NAME. `embedx search URL` and `embedx serve URL` search there. See
    docs/engines.md.

    Run it again to send only what has changed, or to continue a push that was stopped.
    """
    if is_engine(url):
        from embedx.engines.pushing import push_rows

        with PushDisplay() as display:
            rows = push_rows(
                collection,
                url,
                views=views,
                metric=metric,
                quantize=quantize,
                whole=compare_all,
                on_progress=display,
            )
        if as_json:
            print_json({"exit_code": 0, "collection": collection, **asdict(rows)})
            return
        say(
            f"{rows.url}: {plural(rows.rows, 'row')}, {rows.inserted} inserted, {rows.replaced} with new vectors, "
            f"{rows.relabelled} with new metadata, {rows.deleted} deleted"
        )
        return
    if views or metric or quantize or compare_all:
        raise UsageError("--view, --metric, --quantize and --compare-all are for search engines, not for buckets.")
    from embedx.collection.pushing import push

    pushed = push(collection, url)
    if as_json:
        print_json({"exit_code": 0, "collection": collection, **asdict(pushed)})
        return
    say(f"{display_path(pushed.url)}: {size(pushed.bytes)}, {size(pushed.bytes_sent)} sent")
