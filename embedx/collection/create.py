"""Open a collection, or make one from audio or from vectors."""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Unpack, overload

from embedx.arguments.keywords import with_known_keywords
from embedx.arguments.types import ModelName
from embedx.collection.bucket_plans import find_plan
from embedx.collection.collection import Collection
from embedx.collection.several import Collections, Place, folder_of
from embedx.formats.importing import ImportOptions, import_into_store
from embedx.ingest.changes import name_sources
from embedx.ingest.extract import extract_into_store
from embedx.ingest.options import ExtractKwargs, ExtractOptions
from embedx.ingest.pipeline import Progress
from embedx.ingest.shards import embed_planned
from embedx.ingest.stored_options import complete_options

AnyPlace = TypeVar("AnyPlace", bound=Place)


@overload
def open(folder: Place, *, model: str | None = None, allow_pickle: bool = False) -> Collection: ...
@overload
def open(
    folder: list[AnyPlace] | tuple[AnyPlace, ...], *, model: str | None = None, allow_pickle: bool = False
) -> Collections: ...
@with_known_keywords
def open(folder: Any, *, model: ModelName | None = None, allow_pickle: bool = False) -> Any:
    """Open a collection, or several for a search over all of them.

    Args:
        folder: the folder of the collection; or hf:user/repo, a repository of the Hugging Face hub that
            `embedx share` wrote; or s3://bucket/name, where `embedx push` wrote it. It is downloaded once for each
            change; labels and indexes are written to a copy on this machine. A list of these opens several collections
            of one recipe, for `Collections.search`.
        model: the model for audio and text queries, if it is not where the recipe says: another folder, or code from
            outside embedx. Its weights must be the same.
        allow_pickle: read weights from a pickle file (.bin, .pth), which can run code.

    Raises:
        UsageError: there is no collection in the folder.
        RecipeMismatch: two of several collections have different recipes; the message names the fields.
        StoreError: the collection is damaged, or a newer embedx made it.
        DiskError: the repository or bucket cannot be read.
    """
    if isinstance(folder, (list, tuple)):
        return Collections(folder, model=model, allow_pickle=allow_pickle)
    return Collection(folder_of(folder), model=model, allow_pickle=allow_pickle)


@with_known_keywords
def extract(
    source: Any,
    *,
    out: str | os.PathLike[str],
    plan: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    interrupted: Callable[[], int] = lambda: 0,
    **options: Unpack[ExtractKwargs],
) -> Collection:
    """Embed the recordings of a source into a collection, or add new, changed and moved ones to it.

    Args:
        source: a folder, a file, a manifest, a pandas data frame, or a list of these.
        out: the folder of the collection, new or old; an old one gives the options that are not given here.
        on_progress: called after every recording.
        interrupted: called after every window; if it returns a signal number, the run commits and ends.
        model: "logmel" (default), "yamnet", a hub id, a folder, or another name of `embedx models`.
        layers: "last", "all", or layer numbers (0 is the input of the transformer, -1 the last layer).
        pooling: "mean", "sum", "max", or several of them. Every layer with every pooling is a view.
        window: window length in seconds; None: one window per recording of up to 60 s (or the model's maximum).
        hop: seconds between the starts of windows; default: `window`.
        tail: audio after the last full window: "keep" (a window that ends with the audio), "pad" (zeros) or "drop".
        channels: "mean" of all channels, the "first", or "each" with rows of its own (column `channel`).
        trim_silence: remove audio at both ends that is 40 dB or more below the loudest moment.
        max_seconds: use only the first seconds of each recording.
        label, group: a column, or a regular expression with one (group) for the path; a split never divides a group.
        segments: a file or folder of annotations: the rows are the annotated stretches, with labels and other columns.
        meta: NAME=REGEX, or several: columns from a regular expression with one (group) searched in the path.
        time_from: "name": `recorded_at` comes from the file's name; else from what the recorder wrote into the file.
        layout: "auto", a data set ("esc50", "urbansound8k", "speech-commands", "gtzan", "fsdd"), "folders" or "files".
        device: "auto", "cpu", "cuda", or several GPUs such as "cuda:0,cuda:1".
        precision: "auto" (float32), "float32", "bfloat16" or "float16".
        backend: model code: "fast" (built in, fewer models), "reference" (the library), or "auto" (fast if possible).
        batch_seconds: audio per batch; default 15 s on a CPU, 600 s on a GPU. Vectors do not depend on it.
        workers: processes that decode ahead: "auto" (up to one per core), a number, or 0 (one, on demand).
        store_dtype: "float32" or "float16" (half the size).
        allow_pickle: read weights from a pickle file (.bin, .pth) if there is no safetensors file.
        trust_model: False for a `model` that a file names: only a family of embedx whose weights are on this machine.
        shard: "i/n": embed only part i of n, of the plan for `out` if there is one; `embedx.merge` joins the parts.
        plan: with `shard`: the place of the plan in a bucket, such as s3://bucket/plan; the part is sent there.
        checksum, retry_failed: look again at the content of unchanged files; at recordings that failed before.
        prune: delete the recordings that are no longer in the source; none in folders that cannot be looked at.
        confine: refuse files outside of the folder of their source, also behind links: for manifests from strangers.
        dry_run: write nothing; report what would be done. The returned collection may be temporary and empty.
        wait: wait while another process writes the collection, instead of raising LockedError.

    Returns:
        The collection. Recordings that failed are in its `failures()`.

    Raises:
        UsageError: an invalid argument.
        NothingToDo: the source has no audio.
        ModelError: the model cannot be loaded, or the collection has another recipe.
        LockedError, StoreError, DiskError: the collection cannot be written; what was committed stays.
    """
    settings = complete_options(out, name_sources(source), options)
    shards, hooks = find_plan(out, settings, plan), (on_progress, interrupted)
    if shards is not None:
        return open_extracted(embed_planned(shards, source, options, settings, *hooks), settings)
    return open_extracted(extract_into_store(source, out, settings, *hooks), settings)


def open_extracted(folder: str | os.PathLike[str], options: ExtractOptions) -> Collection:
    """Open a collection after an extraction, and bring its indexes up to date."""
    collection = Collection(folder, model=options.trusted_model, allow_pickle=options.allow_pickle)
    if len(collection) and not options.dry_run:
        collection.indexes.refresh(collection.recipe.default_view)
    return collection


@with_known_keywords
def import_vectors(
    source: Any,
    *,
    out: str | os.PathLike[str],
    format: str | None = None,
    vectors: str | Sequence[str] | None = None,
    metadata: Any = None,
    name: str | None = None,
    label: str | None = None,
    group: str | None = None,
    store_dtype: str = "float32",
    wait: bool = False,
) -> Collection:
    """Import vectors from a file or an array into a collection.

    An export of embedx with its recipe (parquet, npy, hf) becomes the same collection again. Other vectors get the
    recipe "imported": filters, probe and search by row or vector work, search by audio file does not. Rows with the
    same path are one recording. A recording that is already stored is replaced if it has changed; rows without a path
    get `imported:SOURCE#N`. Relative paths are kept as they are.

    Args:
        source: a file or folder in a format of `Collection.export`, an array [N, D], or a pandas data frame.
        out: the folder of the collection; it is created if it does not exist.
        format: the format of the file, if it cannot be recognised from its name and content.
        vectors: the column with lists of numbers, or the columns with one number each.
        metadata: for arrays, .npy and FAISS: a CSV, Parquet or JSON lines file or a data frame, rows in the same order.
        name: the name of the model; a collection holds vectors of one name only. Default: the name of the file.
        label: the column with the label.
        group: the column with the group.
        store_dtype: "float32" or "float16" (half the size).
        wait: wait while another process writes the collection, instead of raising LockedError.

    Raises:
        UsageError: the source cannot be read, or a vector has another length or is not finite; nothing is stored then.
        NothingToDo: the source has no rows.
        RecipeMismatch: the collection has vectors of another model.
        LockedError, StoreError, DiskError: the collection cannot be written; what was committed stays.
    """
    options = ImportOptions(
        format=format,
        vectors=vectors,
        metadata=metadata,
        name=name,
        label=label,
        group=group,
        store_dtype=store_dtype,
        wait=wait,
    )
    import_into_store(source, out, options)
    return Collection(out)
