"""embedx export and import: vectors and metadata to other tools, and from them."""

from typing import Any

import click

from embedx.cli.maintenance import JSON, WAIT
from embedx.cli.output import print_json, size
from embedx.formats.registry import FORMATS as NAMES
from embedx.ingest.options import DTYPES

FORMATS = click.Choice(NAMES)


@click.command(
    epilog="""\b
    Examples:
      embedx export indexes/field -o field.parquet --view all
      embedx export indexes/field -o field.csv --where "site = 'A'"
      embedx export indexes/field --format npy -o field/
      embedx export indexes/field -o field.faiss --view L12.mean --overwrite
    """
)
@click.argument("collection", metavar="COLLECTION")
@click.option("-o", "--out", required=True, metavar="OUT", help="The file; a folder for npy and hf.")
@click.option("--format", type=FORMATS, help="[default: the ending of OUT]")
@click.option("--view", help="Which vectors; all where the format holds several. [default: last layer, first pooling]")
@click.option("--where", metavar="SQL", help="Write the rows that meet a condition.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it is there.")
@JSON
def export(collection: str, out: str, as_json: bool, **options: Any) -> None:
    """Write rows of a COLLECTION, with vectors and metadata, for other tools.

    OUT appears whole or not at all. Parquet, npy and hf carry the recipe, so that `embedx import` restores the
    collection. The index for faiss holds vectors of length 1, and OUT.csv has its rows.
    """
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        rows = opened.export(out, **options)
    if as_json:
        print_json({"exit_code": 0, "out": out, "rows": rows})
    else:
        click.echo(f"{out}: {rows} rows")


@click.command(
    "import",
    epilog="""\b
    Examples:
      embedx import field.parquet -o indexes/field
      embedx import clap.npy -o indexes/clap --metadata clips.csv --label species
      embedx import vectors.jsonl -o indexes/others --vectors embedding --name openl3-512
    """,
)
@click.argument("source", metavar="FILE")
@click.option("-o", "--out", required=True, metavar="FOLDER", help="The collection, such as indexes/NAME.")
@click.option("--format", type=FORMATS, help="[default: told from name and content]")
@click.option("--vectors", metavar="COLUMN", help="The column with vectors, or those with a number each: x0,x1,x2.")
@click.option("--metadata", metavar="FILE", help="For npy and faiss: a CSV with the rows in the same order.")
@click.option("--name", help="What made the vectors; only those of one name can be mixed. [default: the file's name]")
@click.option("--label", metavar="COLUMN", help="The column with labels.")
@click.option("--group", metavar="COLUMN", help="The column with groups that a probe never splits.")
@click.option("--store-dtype", type=click.Choice(DTYPES), default="float32", show_default=True)
@WAIT
@JSON
def import_(source: str, as_json: bool, **options: Any) -> None:
    """Make a collection of vectors that were made elsewhere, or add them to one.

    FILE is Parquet, CSV, JSON lines, .npy, a flat FAISS index, or a folder that `embedx export` or `datasets` wrote.
    Again: what is there is left, what has changed is replaced.
    """
    from embedx.collection.create import import_vectors

    with import_vectors(source, **options) as collection:
        if as_json:
            facts = {"rows": len(collection), "views": collection.views, "bytes": collection.store.size()}
            print_json({"exit_code": 0, "collection": str(collection.folder), **facts})
            return
        views = ", ".join(f"{view} ({dim})" for view, dim in collection.views.items())
        click.echo(f"{collection.folder}: {len(collection)} rows, {size(collection.store.size())}, views {views}")
