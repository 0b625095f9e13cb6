"""embedx search: a query in, ranked hits out."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from embedx.cli.hits import FORMATS, Lines
from embedx.cli.output import Heading, Sectioned, deliver
from embedx.errors import EXIT_SOME_FAILED, AudioError, UsageError
from embedx.filesystem.paths import display_path

if TYPE_CHECKING:
    from embedx.collection.collection import Collection
    from embedx.search.answers import Answers
    from embedx.search.hits import Hits

METRICS = click.Choice(["cosine", "ip", "l2"])
ASKING = ("query", "id", "vector", "like", "unlike", "text")  # what --queries takes the place of


@click.command(
    cls=Sectioned,
    epilog="""\b
    Examples:
      embedx search indexes/field query.wav
      embedx search indexes/field "long.flac#12.5-15" -k 5 --exclude-self
      embedx search indexes/esc --id 17 --where "category = 'dog' and fold <> 1" --columns fold,category
      embedx search indexes/field --like a.wav --like 17 --unlike rain.wav
      embedx search indexes/clap --text "a dog barks in the rain"
      embedx search indexes/field call.wav --radius 0.8 --merge --format raven --output found.txt
      embedx search indexes/field call.wav --group-by recording --save-clips clips/
      embedx search indexes/field --queries calls.csv -k 3 --format csv --output hits.csv
    """,
)
@click.argument("collection", metavar="COLLECTION")
@click.argument("query", required=False)
@click.option("--id", type=int, metavar="N", cls=Heading, heading="Instead of QUERY", help="A row of the collection.")
@click.option("--vector", metavar="FILE.npy", help="A stored vector, or several.")
@click.option("--like", multiple=True, metavar="EXAMPLE", help="A file, file#start-end or row to be near; repeatable.")
@click.option("--unlike", multiple=True, metavar="EXAMPLE", help="One to keep away from, with --like; repeatable.")
@click.option("--text", metavar="SENTENCE", help="A description, in a collection that was made by CLAP.")
@click.option("--queries", metavar="SOURCE", help="Many queries: a manifest (also with stretches), or a folder.")
@click.option("-k", type=int, cls=Heading, heading="Which rows", help="How many. [default: 10; all with --radius]")
@click.option("--where", metavar="SQL", help="A condition on the rows, applied before the search.")
@click.option("--exclude-self/--include-self", default=None, help="Leave the query itself out. [default: for rows]")
@click.option("--view", help="Which vectors to compare. [default: last layer, first pooling]")
@click.option("--metric", type=METRICS, default="cosine", show_default=True, help="l2: minus the distance.")
@click.option("--exact", is_flag=True, help="Never use an approximate index.")
@click.option(
    "--radius",
    type=float,
    metavar="R",
    cls=Heading,
    heading="Chosen how (one of these; --radius also goes with --group-by, --merge, --align)",
    help="All with a score of at least R, or a distance of at most R (l2).",
)
@click.option("--score-band", type=float, nargs=2, metavar="LOW HIGH", help="Scores in between, the middle first.")
@click.option("--group-by", metavar="COLUMN", help="The best of each value, such as recording, label or site.")
@click.option("--merge", is_flag=True, help="Hits of a recording that overlap or touch become one.")
@click.option("--diverse", type=float, metavar="0..1", help="Unlike each other too; 1 is likeness alone (try 0.5).")
@click.option("--align", is_flag=True, help="Lay all windows of QUERY on each recording; its best place there.")
@click.option("--format", "form", type=FORMATS, default="table", show_default=True, cls=Heading, heading="Output")
@click.option("--output", metavar="FILE", help="Write there instead, whole or not at all.")
@click.option("--columns", default="", metavar="A,B", help="Metadata columns to show beside each hit.")
@click.option("--save-clips", metavar="DIR", help="Cut the hits out of their recordings, as WAV.")
@click.option(
    "--model", cls=Heading, heading="Model", help="Where it lies now, or code from outside that made the collection."
)
@click.option("--allow-pickle", is_flag=True, help="Load the model even if its weights are a pickle.")  # fmt: skip
def search(
    collection: str,
    queries: str | None,
    columns: str,
    form: str,
    output: str | None,
    save_clips: str | None,
    model: str | None,
    allow_pickle: bool,
    **options: Any,
) -> int:
    """Find the rows of a COLLECTION that are most like QUERY.

    QUERY is an audio file, or file#start-end for a stretch of it in seconds. It is embedded by the recipe of the
    collection, so it cannot be compared wrongly. Scores are cosines unless --metric says otherwise: 1 is the same
    direction. docs/search.md explains every option.

    What could not be read or cut is named, and never stops the rest; the exit code is then 3.
    """
    from embedx.collection.collection import Collection

    with Collection(collection, model=model, allow_pickle=allow_pickle) as opened:
        if queries is None:
            answers: dict[str | None, Hits] = {None: opened.search(**options)}
            failures: list[AudioError] = []
        else:
            found = search_many(opened, queries, options)
            answers, failures = dict(found.items()), list(found.failures.values())
        chosen = check_columns(columns, answers)
        band_hz = opened.recipe.sample_rate / 2
    if save_clips is not None:
        failures += save(answers, save_clips)
    deliver(Lines(answers, chosen, band_hz).write(form), output)
    for failure in failures:
        click.echo(failure.detail, err=True)
    return EXIT_SOME_FAILED if failures else 0


def search_many(collection: "Collection", queries: str, options: Mapping[str, Any]) -> "Answers":
    """Put the queries of a manifest or folder.

    Raises:
        UsageError: there is another query beside them.
    """
    others = [name for name in ASKING if options[name] not in (None, ())]
    if others:
        raise UsageError(f"--queries and {others[0]} are two questions: give one of them.")
    return collection.search_many(queries, **{name: value for name, value in options.items() if name not in ASKING})


def check_columns(columns: str, answers: "Mapping[str | None, Hits]") -> list[str]:
    """Return the names of metadata columns.

    Raises:
        UsageError: no hit has one of them.
    """
    chosen = [name.strip() for name in columns.split(",") if name.strip()]
    known = {name for hits in answers.values() for hit in hits for name in hit.meta}
    unknown = [name for name in chosen if name not in known]
    if unknown and any(answers.values()):
        names = ", ".join(sorted(known)) or "none"
        raise UsageError(f"The hits have no column {', '.join(unknown)}. Columns: {names}.")
    return chosen


def save(answers: "Mapping[str | None, Hits]", folder: str) -> list[AudioError]:
    """Cut out the hits; those of several queries go to a folder for each."""
    from embedx.search.hits import safe_stem

    failures = []
    for number, (query, hits) in enumerate(answers.items(), start=1):
        place = folder if query is None else os.path.join(folder, f"{number:04d}_{safe_stem(query)}")
        failures += hits.save_clips(place)
    count = sum(map(len, answers.values())) - len(failures)
    click.echo(f"{count} clips saved in {display_path(folder)}", err=True)
    return failures
