"""embedx search: a query in, ranked hits out."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from embedx.cli.hits import FORMATS, HitTable
from embedx.cli.options import (
    ABSOLUTE_PATHS,
    ANNOTATIONS,
    METRIC,
    OUTPUT_OR_FOLDER,
    TIMEOUT,
    VIEW,
    SectionedCommand,
    format_option,
    model_section,
    require_file,
    section,
)
from embedx.cli.output import deliver, deliver_annotations, say
from embedx.errors import EXIT_SOME_FAILED, AudioError, UsageError
from embedx.filesystem.paths import display_path, safe_stem
from embedx.filesystem.urls import is_engine, masked
from embedx.text import plural

if TYPE_CHECKING:
    from embedx.client.remote import RemoteCollection
    from embedx.collection.collection import Collection
    from embedx.collection.several import Collections
    from embedx.engines.collection import EngineCollection
    from embedx.search.answers import Answers
    from embedx.search.hits import Hits

    AnyCollection = Collection | Collections | RemoteCollection | EngineCollection

QUERIES = ("query", "id", "vector", "like", "unlike", "text")  # options that --queries replaces


@click.command(
    cls=SectionedCommand,
    epilog="""\b
    Examples:
      embedx search indexes/field query.wav
      embedx search indexes/field "long.flac#12.5-15" -k 5 --exclude-self
      embedx search indexes/esc --id 17 --where "category = 'dog' and fold <> 1" --columns fold,category
      embedx search indexes/field --like a.wav --like 17 --unlike rain.wav
      embedx search indexes/clap --text "a dog barks in the rain"
      embedx search indexes/field call.wav --radius 0.8 --merge --format raven --output found.txt
      embedx search indexes/field call.wav --group-by recording --save-clips clips/
      embedx search http://127.0.0.1:8000/field query.wav
      embedx search qdrant://127.0.0.1:6333/field query.wav -k 5 --where "site = 'A'"
      embedx search indexes/field --queries calls.csv -k 3 --format csv --output hits.csv
      embedx search indexes/north indexes/south query.wav
      embedx search indexes/north indexes/south --id indexes/south:17
    """,
)
@click.argument("places", metavar="COLLECTION... [QUERY]", nargs=-1, required=True)
@section(
    "Instead of QUERY",
    click.option(
        "--id",
        callback=lambda context, option, value: read_row(value),
        metavar="N",
        help="Search with row N of the collection; COLLECTION:N of one of several.",
    ),
    click.option(
        "--vector", metavar="FILE.npy", help="Search with a vector. With several, each row gets its best score."
    ),
    click.option(
        "--like",
        multiple=True,
        metavar="EXAMPLE",
        help="Example that the hits should resemble: a row as for --id, a file or file#start-end. Repeatable.",
    ),
    click.option(
        "--unlike",
        multiple=True,
        metavar="EXAMPLE",
        help="Example that the hits should not resemble; requires --like. Repeatable.",
    ),
    click.option(
        "--text",
        metavar="SENTENCE",
        help="Search with a description; requires a collection made with a model of audio and text.",
    ),
    click.option("--queries", metavar="SOURCE", help="Many queries: a folder, or a manifest of files and time ranges."),
)
@section(
    "Which rows",
    click.option("-k", type=int, help="Number of hits. [default: 10; with --radius all]"),
    click.option("--where", metavar="SQL", help="Search only rows that match this SQL condition."),
    TIMEOUT,
    click.option(
        "--exclude-self/--include-self",
        default=None,
        help="Whether to leave out the query itself. [default: exclude for --id, include for files]",
    ),
    VIEW,
    METRIC,
    click.option("--exact", is_flag=True, help="Do not use an approximate index."),
)
@section(
    "Selection of hits (at most one; --radius also combines with --group-by, --merge, --align)",
    click.option(
        "--radius",
        type=float,
        metavar="R",
        help="All rows with a score of at least R (for l2: a distance of at most R).",
    ),
    click.option(
        "--score-band",
        type=float,
        nargs=2,
        metavar="LOW HIGH",
        help="Rows with a score in this range, best first; if more than k, those nearest to its middle.",
    ),
    click.option(
        "--group-by",
        metavar="COLUMN",
        help="Show only the best hit for each value of a column: recording, label or another.",
    ),
    click.option("--merge", is_flag=True, help="Merge hits of one recording that overlap or touch."),
    click.option(
        "--diverse",
        type=float,
        metavar="0..1",
        help="Make the hits differ from each other. 1: rank by similarity only; 0: by difference only. Try 0.5.",
    ),
    click.option(
        "--align", is_flag=True, help="Align all windows of QUERY with each recording, and show its best position."
    ),
)
@section(
    "Output",
    format_option(*FORMATS),
    OUTPUT_OR_FOLDER,
    click.option("--columns", default="", metavar="A,B", help="Metadata columns to show."),
    click.option("--save-clips", metavar="DIR", help="Save the audio of the hits as WAV files in DIR."),
    ABSOLUTE_PATHS,
)
@model_section
def search(
    places: tuple[str, ...],
    queries: str | None,
    columns: str,
    form: str,
    output: str | None,
    save_clips: str | None,
    absolute_paths: bool,
    model: str | None,
    allow_pickle: bool,
    **options: Any,
) -> int:
    """Find the rows of a COLLECTION, or of several of one recipe, that are most similar to QUERY.

    QUERY is an audio file, or file#start-end for a part of it in seconds. It is embedded with the recipe of the
    collection. With an option instead of QUERY, every argument is a collection. A higher score is more similar; with
    cosine, 1 is the same direction. See docs/search.md for details.

    A query that cannot be read or a clip that cannot be saved is reported and does not stop the rest. The exit code is
    then 3.
    """
    require_file(output, form)
    collections, query = split_places(places, options, queries)
    options["query"] = query
    with open_collections(collections, model, allow_pickle) as opened:
        if queries is None:
            answers: dict[str | None, Hits] = {None: opened.search(**options)}
            failures: list[AudioError] = []
        else:
            many = search_many(opened, queries, options)
            answers, failures = dict(many.items()), list(many.failures.values())
        root = None if absolute_paths else opened.root
        table = HitTable(answers, check_columns(columns, answers), root, opened.recipe.sample_rate / 2)
        if save_clips is not None:
            failures += save(answers, save_clips)
    if form in ANNOTATIONS:
        deliver_annotations(form, table.annotations(form), output, table.max_hz)
    else:
        deliver(table.write(form), output)
    for failure in failures:
        say(display_path(failure.detail), err=True)
    return EXIT_SOME_FAILED if failures else 0


def split_places(
    places: Sequence[str], options: Mapping[str, Any], queries: str | None
) -> tuple[Sequence[str], str | None]:
    """Return the collections, and QUERY: the last of several arguments, unless an option gives the query.

    Raises:
        UsageError: the last one is a collection too, and there is no query.
    """
    from embedx.store.schema import FILE_NAME

    *collections, last = places
    if queries is not None or any(options[name] not in (None, ()) for name in QUERIES if name != "query"):
        is_sound = os.path.isfile(last) or "#" in last  # then a query too many, which is refused later
        return (collections, last) if collections and is_sound else (places, None)
    if collections and os.path.isfile(os.path.join(last, FILE_NAME)):
        raise UsageError(f"{display_path(last)} is a collection. Give a query after it, or as an option.")
    return (collections, last) if collections else (places, None)


def read_row(value: str | None) -> int | str | None:
    """Return the value of --id: a number, or the text COLLECTION:N."""
    return int(value) if value is not None and re.fullmatch(r"-?\d{1,18}", value) else value


def open_collections(places: Sequence[str], model: str | None, allow_pickle: bool) -> "AnyCollection":
    """Open a collection, or several for a search over all of them; these are folders or in buckets.

    Raises:
        UsageError: one of several is behind a service or in a search engine.
    """
    if len(places) == 1:
        return open_collection(places[0], model, allow_pickle)
    from embedx.collection.several import Collections

    for place in places:
        if place.startswith(("http://", "https://")) or is_engine(place):
            raise UsageError(
                f"{display_path(masked(place))} cannot be searched together with other collections: several "
                "collections are folders, or in buckets."
            )
    return Collections(places, model=model, allow_pickle=allow_pickle)


def open_collection(name: str, model: str | None, allow_pickle: bool) -> "AnyCollection":
    """Open a collection: a folder, one behind `embedx serve` (its token is in EMBEDX_TOKEN), or in a search engine."""
    if name.startswith(("http://", "https://")):
        from embedx.client.remote import RemoteCollection

        if model is not None or allow_pickle:
            raise UsageError("The model of a service is on its machine: leave out --model and --allow-pickle.")
        return RemoteCollection(name, token=os.environ.get("EMBEDX_TOKEN") or None)
    if is_engine(name):
        from embedx.engines.collection import EngineCollection

        return EngineCollection(name, model=model, allow_pickle=allow_pickle)
    from embedx.collection.collection import Collection
    from embedx.collection.pushing import local_folder

    return Collection(local_folder(name), model=model, allow_pickle=allow_pickle)


def search_many(collection: "AnyCollection", queries: str, options: Mapping[str, Any]) -> "Answers":
    """Search with the queries of a manifest or folder.

    Raises:
        UsageError: another query is given too.
    """
    others = [name for name in QUERIES if options[name] not in (None, ())]
    if others:
        name = "QUERY" if others[0] == "query" else f"--{others[0]}"
        raise UsageError(f"--queries and {name} cannot be used together. Give one of them.")
    return collection.search_many(queries, **{name: value for name, value in options.items() if name not in QUERIES})


def check_columns(columns: str, answers: "Mapping[str | None, Hits]") -> list[str]:
    """Return the names in --columns.

    Raises:
        UsageError: no hit has one of the columns.
    """
    names = [name.strip() for name in columns.split(",") if name.strip()]
    known = {name for hits in answers.values() for hit in hits for name in hit.meta}
    unknown = [name for name in names if name not in known]
    if unknown and any(answers.values()):
        raise UsageError(
            f"The hits have no metadata column {', '.join(unknown)}. "
            f"Their metadata columns: {', '.join(sorted(known)) or 'none'}."
        )
    return names


def save(answers: "Mapping[str | None, Hits]", folder: str) -> list[AudioError]:
    """Save the audio of the hits; each of several queries gets its own folder."""
    failures = []
    for number, (query, hits) in enumerate(answers.items(), start=1):
        place = folder if query is None else os.path.join(folder, f"{number:04d}_{safe_stem(query)}")
        failures += hits.save_clips(place)
    count = sum(map(len, answers.values())) - len(failures)
    say(f"{plural(count, 'clip')} saved in {display_path(folder)}", err=True)
    return failures
