"""embedx index: approximate kinds, tuned and measured."""

from typing import Any

import click

from embedx.cli.output import print_json, print_table, size

KINDS = ("auto", "flat", "hnsw", "ivf-flat", "ivf-sq8", "ivf-pq", "ivf-rabitq")
METRICS = ("cosine", "ip", "l2")
COLUMNS = ("view", "metric", "kind", "rows", "tail", "gone", "recall@10", "recall@100", "p50 ms", "p99 ms", "queries/s",
           "memory", "build s", "built")  # fmt: skip


@click.group(
    epilog="""\b
    Examples:
      embedx index build indexes/field
      embedx index build indexes/field --kind hnsw --recall 0.95
    """
)
def index() -> None:
    """Build the index of a collection by hand: a kind, a recall, a limit of memory."""


@index.command(
    epilog="""\b
    Examples:
      embedx index build indexes/field
      embedx index build indexes/field --max-memory 4GB --view L12.mean
      embedx index build indexes/field --kind hnsw --recall 0.95 --metric l2 --json
    """
)
@click.argument("collection", metavar="COLLECTION")
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="auto",
    show_default=True,
    help="auto is flat (exact) up to 150 million numbers, then ivf-rabitq.",
)
@click.option("--recall", type=float, default=0.99, show_default=True, help="Share of the true nearest 10 to be found.")
@click.option("--max-memory", metavar="SIZE", help="What the index may take in memory, such as 4GB.")
@click.option("--view", help="Which vectors. [default: last layer, first pooling]")
@click.option("--metric", type=click.Choice(METRICS), default="cosine", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print what was measured as JSON.")
def build(collection: str, as_json: bool, **options: Any) -> None:
    """Build the index of a COLLECTION anew, tune it to a recall, and measure it.

    Scores are exact with every kind, and so are filtered searches and those for more than 100 rows. Searches by other
    processes go on meanwhile, with the index that was there before.
    """
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        found = opened.build_index(**options)
    if as_json:
        print_json(found)
        return
    print_indexes([found])
    if found["remark"]:
        click.echo(f"Note: {found['remark']}.")


def print_indexes(found: list[dict[str, Any]]) -> None:
    """Print indexes as a table."""
    rows = [
        {name: one[name] for name in ("view", "metric", "kind", "rows", "tail", "gone", "built")}
        | {
            "recall@10": one["recall_at_10"],
            "recall@100": one["recall_at_100"],
            "p50 ms": one["p50_ms"],
            "p99 ms": one["p99_ms"],
            "queries/s": one["per_s"],
            "memory": None if one["memory_bytes"] is None else size(one["memory_bytes"]),
            "build s": one["build_s"],
        }
        for one in found
    ]
    print_table(rows, COLUMNS)
