"""embedx export and import: vectors and metadata for other tools, and from them."""

from typing import Any

import click

from embedx.cli.embedding_options import STORE_DTYPE
from embedx.cli.options import ABSOLUTE_PATHS, ANNOTATIONS, JSON, MERGE, READ_COLLECTION, TIMEOUT, WAIT, check_folder
from embedx.cli.output import print_json, say, size, views_text
from embedx.errors import EXIT_SOME_FAILED
from embedx.filesystem.paths import display_path
from embedx.formats.coordinates import METHODS
from embedx.formats.picture_columns import KINDS
from embedx.formats.registry import FORMATS, WRITTEN
from embedx.text import plural

FORMAT = click.Choice(tuple(FORMATS))


@click.command(
    epilog="""\b
    Examples:
      embedx export indexes/field -o field.parquet --view all
      embedx export indexes/field -o field.csv --where "site = 'A'"
      embedx export indexes/field -o field.txt --format raven --merge
      embedx export indexes/field -o atlas.parquet --with-audio clip --xy pca
      embedx export indexes/field -o projector/ --format tensorboard
      embedx export indexes/field --format npy -o field/
      embedx export indexes/field -o s3://bucket/field.parquet
      embedx export indexes/field -o field.faiss --view L12.mean --overwrite
    """
)
@READ_COLLECTION
@click.option(
    "-o",
    "--out",
    required=True,
    callback=check_folder,
    metavar="OUT",
    help="A file; for npy, hf, tensorboard a folder.",
)
@click.option(
    "--format", type=click.Choice((*WRITTEN, *ANNOTATIONS)), help="Output format. [default: from the extension of OUT]"
)
@MERGE
@click.option("--view", help="Vectors to write, or all (not for csv and faiss). [default: last layer, first pooling]")
@click.option("--where", metavar="SQL", help="Write only rows that match this SQL condition.")
@TIMEOUT
@click.option(
    "--with-audio",
    type=click.Choice(KINDS),
    help="For parquet: a column audio, {bytes, path}: clip (the sound of each row), path (the file of its recording) "
    "or url (its sound in `embedx serve`).",
)
@click.option("--url", metavar="URL", help="For --with-audio url: the served collection, http://localhost:8000/field.")
@click.option("--xy", type=click.Choice(METHODS), help="For parquet: columns x and y, a map of all rows.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@ABSOLUTE_PATHS
@JSON
def export(collection: str, out: str, as_json: bool, **options: Any) -> int:
    """Write rows of a COLLECTION, with vectors and metadata, for other tools.

    An export that is stopped leaves no incomplete OUT. Parquet, npy and hf contain the recipe, so `embedx import`
    restores the collection from them. A faiss index holds vectors of length 1; OUT.csv describes its rows. Paths in
    CSV are relative to the folder of the sources; the other formats hold full paths.

    With --with-audio and --xy, Parquet files open as a picture with sound in Embedding Atlas, and their audio plays in
    tools of Hugging Face. A tensorboard folder is for its projector, and cannot be imported.

    raven, audacity, labelstudio, birdnet and textgrid are annotations, without vectors. An audacity or textgrid file is
    about one recording: give a folder, OUT/, for several.
    """
    from embedx.collection.collection import Collection
    from embedx.collection.pushing import local_folder

    failures: list[str] = []
    with Collection(local_folder(collection)) as opened:
        rows = opened.export(out, failures=failures, **options)
    code = EXIT_SOME_FAILED if failures else 0
    if as_json:
        print_json({"exit_code": code, "out": out, "rows": rows, "without_audio": len(failures)})
    else:
        say(f"{display_path(out)}: {plural(rows, 'row')}")
    if failures:
        say(f"{plural(len(failures), 'row')} without audio; the first: {display_path(failures[0])}", err=True)
    return code


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
@click.option("-o", "--out", required=True, metavar="FOLDER", help="The collection to create or extend.")
@click.option("--format", type=FORMAT, help="Format of FILE. [default: from its name and content]")
@click.option("--vectors", metavar="COLUMN", help="Column with the vectors, or one column per dimension: x0,x1,x2.")
@click.option("--metadata", metavar="FILE", help="For npy and faiss: CSV with one line per vector, in the same order.")
@click.option(
    "--name", help="Name of the model. A collection holds vectors of one name only. [default: the name of FILE]"
)
@click.option("--label", metavar="COLUMN", help="Column with labels.")
@click.option("--group", metavar="COLUMN", help="Column with groups. A split never divides a group.")
@STORE_DTYPE
@WAIT
@JSON
def import_(source: str, as_json: bool, **options: Any) -> None:
    """Create a collection from vectors that were made elsewhere, or add them to one.

    FILE is a Parquet, CSV, JSON lines or .npy file, a flat FAISS index, or a folder written by `embedx export` or
    Hugging Face datasets. Run it again to add new rows and replace changed ones.
    """
    from embedx.collection.create import import_vectors

    with import_vectors(source, **options) as collection:
        summary = {"rows": len(collection), "views": collection.views, "bytes": collection.store.size()}
        if as_json:
            print_json({"exit_code": 0, "collection": str(collection.folder), **summary})
        else:
            say(
                f"{display_path(str(collection.folder))}: {plural(len(collection), 'row')}, "
                f"{size(collection.store.size())}, "
                f"views {views_text(collection.views)}"
            )
