"""embedx index: build, tune and measure an index."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from embedx.cli.options import COLLECTION, JSON, METRIC, VIEW
from embedx.cli.output import print_json, print_rows, say, size

KINDS = ("auto", "flat", "hnsw", "ivf-flat", "ivf-sq8", "ivf-pq", "ivf-rabitq")
COLUMNS = {  # column of the table -> key of the description of an index
    "view": "view",
    "metric": "metric",
    "kind": "kind",
    "rows": "rows",
    "pending": "tail",
    "deleted": "gone",
    "recall@10": "recall_at_10",
    "recall@100": "recall_at_100",
    "p50 ms": "p50_ms",
    "p99 ms": "p99_ms",
    "queries/s": "per_s",
    "memory": "memory_bytes",
    "build s": "build_s",
    "built": "built",
}


@click.group(
    epilog="""\b
    Examples:
      embedx index build indexes/field
      embedx index build indexes/field --kind hnsw --recall 0.95
    """
)
def index() -> None:
    """Build an index of a chosen kind, recall and memory limit.

    Search works without this command: embedx builds and updates an exact index automatically.
    """


@index.command(
    epilog="""\b
    Examples:
      embedx index build indexes/field
      embedx index build indexes/field --max-memory 4GB --view L12.mean
      embedx index build indexes/field --kind hnsw --recall 0.95 --metric l2 --json
    """
)
@COLLECTION
@click.option(
    "--kind",
    type=click.Choice(KINDS),
    default="auto",
    show_default=True,
    help="Kind of index. auto: flat (exact) up to 150 million values (rows x dimension), then ivf-rabitq.",
)
@click.option(
    "--recall",
    type=float,
    default=0.99,
    show_default=True,
    help="Share of the true 10 nearest rows that a search must find, 0 to 1.",
)
@click.option("--max-memory", metavar="SIZE", help="Memory limit of the index, such as 4GB. [default: none]")
@VIEW
@METRIC
@JSON
def build(collection: str, as_json: bool, **options: Any) -> None:
    """Build, tune and measure the index of a COLLECTION.

    Scores are exact with every kind. Filtered searches and searches for more than 100 rows are exact too. Searches by
    other processes continue during the build with the old index.
    """
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        description = opened.build_index(**options)
    if as_json:
        print_json(description)
        return
    print_indexes([description])
    if description["remark"]:
        say(f"Note: {description['remark']}.")


def print_indexes(descriptions: Sequence[Mapping[str, Any]]) -> None:
    """Print indexes as a table."""
    rows = []
    for description in descriptions:
        row = {column: description[key] for column, key in COLUMNS.items()}
        memory = description["memory_bytes"]
        rows.append(row | {"memory": None if memory is None else size(memory)})
    print_rows(rows, list(COLUMNS), "table")
