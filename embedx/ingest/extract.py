"""Extract: a corpus and a model -> a store. Recordings that fail are stored and counted, never raised."""

import atexit
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from embedx.audio.decoder_pool import DECODERS
from embedx.audio.decoder_process import Decoder
from embedx.audio.windows import count_windows
from embedx.datasets.items import Item, describe_labels
from embedx.datasets.segments import cut_items
from embedx.datasets.sources import read_corpus, root_of, set_columns
from embedx.datasets.walk import UNREADABLE_FOLDER, Survey
from embedx.errors import RecipeMismatch, UsageError
from embedx.filesystem.paths import display_path
from embedx.filesystem.urls import require_folder
from embedx.ingest.carry_over import EarlierRows, values_of
from embedx.ingest.changes import Difference, compare, name_sources, parse_shard
from embedx.ingest.options import ExtractOptions
from embedx.ingest.pipeline import ExtractionPipeline, Progress
from embedx.ingest.prefetch import parse_workers
from embedx.ingest.stored_options import SOURCE_OPTIONS, canonical_options, source_settings
from embedx.recipe import Recipe
from embedx.store.edits import with_source
from embedx.store.reading import sources_of
from embedx.store.running import RunNote
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store
from embedx.text import plural

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

MIN_S = 1e-3  # avoids a division by zero at the start of a run
HEADERS = 64  # recordings whose headers are read to estimate the number of rows


def extract_into_store(
    source: Any,
    out: str | os.PathLike[str],
    options: ExtractOptions,
    on_progress: Callable[[Progress], None] | None = None,
    interrupted: Callable[[], int] = lambda: 0,
) -> str:
    """Embed the recordings of a source that the store in the folder `out` does not hold yet; see `embedx.extract`.

    Returns:
        The folder of the store. A dry run without a store returns an empty one in a temporary folder.
    """
    require_folder(out)
    survey = Survey(options.confine)
    items = read_items(source, options, survey)
    return extract_items(items, name_sources(source), out, options, on_progress, interrupted, survey=survey)


def extract_items(
    items: Sequence[Item],
    sources: Sequence[str],
    out: str | os.PathLike[str],
    options: ExtractOptions,
    on_progress: Callable[[Progress], None] | None = None,
    interrupted: Callable[[], int] = lambda: 0,
    *,
    survey: Survey | None = None,
    embedder: "Embedder | None" = None,
) -> str:
    """Embed the items that a store does not hold yet; see `extract_into_store`.

    Args:
        items: what to embed.
        sources: the absolute paths of the sources of these items.
        survey: where the search of the sources could not look.
        embedder: for these options; None: it is loaded if it is needed.
    """
    shard, workers = parse_shard(options.shard), parse_workers(options.workers)
    by_path: dict[str, list[Item]] = {}
    for item in items:
        by_path.setdefault(item.path, []).append(item)
    known = (embedder.recipe, embedder.extractor.dim) if embedder is not None else None
    known = known or load_cached_recipe(out, options.fingerprint(), options.wait)
    if known is None:
        embedder = load_embedder(out, options)
        known = embedder.recipe, embedder.extractor.dim
    report = on_progress or (lambda progress: None)
    with open_store(out, *known, options) as store:
        known[0].require_same(store.recipe, os.fspath(out))
        difference, progress = plan_run(store, by_path, sources, options, shard, survey)
        progress.labels, progress.segments = describe_labels(items), str(options.segments or "")
        if options.dry_run:
            report(progress)
            return os.fspath(store.folder)
        if difference.todo and embedder is None:
            embedder = options.load()
            embedder.recipe.require_same(store.recipe, os.fspath(out))
        apply_metadata_changes(store, difference, by_path, progress, options.prune)
        about = describe_run(store, sources, options)
        earlier = EarlierRows(store, [recording.path for recording, _ in difference.edited])
        report(progress)
        if embedder is not None and difference.todo:
            with RunNote(store.folder) as note:
                report = noted(report, note, progress)
                ExtractionPipeline(
                    store, embedder, difference.todo, progress, report, interrupted, about, workers, earlier=earlier
                ).run()
        elif reads_differently(store, about):
            store.start_run({**store.last_run(), **about})
    return os.fspath(out)


def read_items(source: Any, options: ExtractOptions, survey: Survey) -> list[Item]:
    """Return the recordings of a source, or with `segments` their annotated stretches."""
    if options.segments is None:
        return read_corpus(source, options.layout, options.label, options.group, survey, options.names)
    if not os.path.exists(options.segments):
        raise UsageError(
            f"The annotations {display_path(os.fspath(options.segments))} do not exist. Those of an earlier run are "
            "used again; if they have moved, give --segments (segments=) with their new place."
        )
    recordings = read_corpus(source, options.layout, None, None, survey, options.names)
    items = cut_items(recordings, options.segments, survey)
    return set_columns(items, options.label, options.group, root_of(name_sources(source)) or os.getcwd())


def noted(report: Callable[[Progress], None], note: RunNote, progress: Progress) -> Callable[[Progress], None]:
    """Return a function that reports how far a run is, and notes it for those who look at the collection meanwhile."""
    begin = time.monotonic()

    def write(progress: Progress) -> None:
        speed = progress.seconds / max(time.monotonic() - begin, MIN_S)  # hours of audio in an hour
        counts = {"done": progress.done, "planned": progress.total, "failed": progress.failures.total()}
        note.write({**counts, "rows": progress.windows, "speed": round(speed, 1)})

    def report_and_note(progress: Progress) -> None:
        write(progress)
        report(progress)

    write(progress)
    return report_and_note


def describe_run(store: Store, sources: Sequence[str], options: ExtractOptions) -> dict[str, Any]:
    """Return what the store records about a run before it begins."""
    canonical = canonical_options(options, store.recipe)
    requests = [canonical.fingerprint(), replace(canonical, layers=store.recipe.layers).fingerprint()]
    about = {"sources": sources, "request": [request for request in dict.fromkeys(requests) if request]}
    return {**about, **source_settings(options)}


def reads_differently(store: Store, about: Mapping[str, Any]) -> bool:
    """Tell whether a run reads its sources in another way than the last run of the same sources."""
    earlier = [run for run in store.runs() if set(sources_of(run)) == set(about["sources"])]
    return bool(earlier) and any((earlier[-1].get(name) or None) != about[name] for name in SOURCE_OPTIONS)


def load_embedder(out: str | os.PathLike[str], options: ExtractOptions) -> "Embedder":
    """Load the model of an extraction; one that lacks what a collection needs is not the model of the collection."""
    try:
        return options.load()
    except UsageError as error:
        if not os.path.isfile(os.path.join(out, FILE_NAME)):
            raise
        raise RecipeMismatch(f"The model {options.model} cannot extend {os.fspath(out)}: {error}") from error


def open_store(out: str | os.PathLike[str], recipe: Recipe, dim: int, options: ExtractOptions) -> Store:
    """Open or create the store of a folder for writing; for a dry run open it for reading, or create an empty one."""
    if not options.dry_run:
        return Store.create(out, recipe, dim, options.store_dtype, wait=options.wait)
    if os.path.isfile(os.path.join(out, FILE_NAME)):
        store = Store(out)
        if store.count() or store.recipe == recipe:
            return store
        store.close()
    return Store(empty_collection(recipe, dim))


def load_cached_recipe(
    folder: str | os.PathLike[str], fingerprint: str | None, wait: bool
) -> tuple[Recipe, int] | None:
    """Return recipe and dimension of a collection whose last run had the same options; None if there is none."""
    if fingerprint is None or not os.path.isfile(os.path.join(folder, FILE_NAME)):
        return None
    with Store(folder, wait=wait) as store:
        known = store.last_run().get("request")
        if fingerprint not in (known if isinstance(known, list) else [known]):
            return None
        return store.recipe, next(iter(store.views.values()))


def plan_run(
    store: Store,
    by_path: Mapping[str, Sequence[Item]],
    sources: Sequence[str],
    options: ExtractOptions,
    shard: tuple[int, int] = (1, 1),
    survey: Survey | None = None,
) -> tuple[Difference, Progress]:
    """Compare a corpus with a store, and return the differences and the state of the run before it begins."""
    with DECODERS.borrow() as decoder:
        difference = compare(
            store,
            by_path,
            sources,
            decoder.hash_content,
            survey=survey,
            shard=shard,
            checksum=options.checksum,
            retry_failed=options.retry_failed,
        )
        progress = estimate(store, difference, decoder)
    note_unreachable(progress, difference, by_path, survey or Survey(), options.prune)
    return difference, progress


def note_unreachable(
    progress: Progress, difference: Difference, by_path: Mapping[str, Sequence[Item]], survey: Survey, prune: bool
) -> None:
    """Add to the failures of a run what it could not look at although the store holds rows of it."""
    progress.passed_over = survey.passed_over
    for error in difference.unreachable:
        progress.add_problem(error.reason, f"{error.detail} The rows of an earlier run stay.")
    for folder, count in difference.hidden.items():
        progress.hidden += count
        if prune and count and folder not in by_path:  # a folder in by_path is a failure of its own
            why = f"{survey.hidden_below[folder]}, so {plural(count, 'recording')} in the collection cannot be removed"
            advice = "Is a disk missing? If they were deleted on purpose, remove the folder or use `embedx rm`."
            progress.add_problem(UNREADABLE_FOLDER, f"{why}. {advice}")
    progress.total += len(progress.problems)


def estimate(store: Store, difference: Difference, decoder: Decoder) -> Progress:
    """Return the state of a run before it begins, with an estimate of what it will add."""
    todo, recipe = difference.todo, store.recipe
    rows = expected_rows([recording.path for recording, _ in todo], recipe, decoder)
    row_bytes = sum(store.views.values()) * np.dtype(store.dtype).itemsize
    return Progress(
        total=len(todo) + difference.present + len(difference.failed),
        present=difference.present,
        failures=Counter(recording.reason for recording in difference.failed),
        failed_before=[recording.detail for recording in difference.failed],
        new=len(difference.new),
        edited=len(difference.edited),
        retried=len(difference.retried),
        moved=len(difference.moved),
        vanished=len(difference.missing),
        expected_rows=rows,
        expected_bytes=rows * row_bytes,
    )


def apply_metadata_changes(
    store: Store, difference: Difference, by_path: Mapping[str, Sequence[Item]], progress: Progress, prune: bool
) -> None:
    """Write the changes that need no embedding: moved files, new labels, and with `prune` the removal of files."""
    if difference.moved or difference.touched:
        store.relink({**difference.moved, **difference.touched})
    if difference.resolved:
        store.forget(difference.resolved)
    if prune and difference.missing:
        store.forget(difference.missing)
        progress.pruned = len(difference.missing)
    update_labels(store, by_path)


def empty_collection(recipe: Recipe, dim: int) -> str:
    """Create an empty collection in a temporary folder, which is removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="embedx-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Store.create(os.path.join(folder, "empty"), recipe, dim).close()
    return os.path.join(folder, "empty")


def expected_rows(paths: Sequence[str], recipe: Recipe, decoder: Decoder) -> int:
    """Estimate the number of rows of recordings from the headers of up to 64 of them."""
    sample = paths[:: max(1, len(paths) // HEADERS)][:HEADERS]
    lengths = [length for path in sample if (length := decoder.length_of(path)) is not None]
    if not lengths:
        return len(paths)
    return round(sum(count_windows(length, recipe) for length in lengths) / len(lengths) * len(paths))


def update_labels(store: Store, by_path: Mapping[str, Sequence[Item]]) -> None:
    """Give stored rows the labels and metadata of their items, except in edited columns.

    What an item does not give stays as it is.
    """
    if not any(item.label or item.group or item.split or item.meta for items in by_path.values() for item in items):
        return
    changed = []
    for row in store.each_row():
        items = by_path.get(row.path, ())
        if row.stretch < len(items) and (updated := with_source(row, values_of(items[row.stretch]))) != row:
            changed.append(updated)
    if changed:
        store.relabel(changed)
