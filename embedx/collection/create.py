"""Create: open a collection, or make one from audio or from vectors."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Unpack

from embedx.collection.collection import Collection
from embedx.formats.importing import ImportOptions, import_into_store
from embedx.ingest.extract import extract_into_store
from embedx.ingest.options import ExtractKwargs, ExtractOptions
from embedx.ingest.pipeline import Progress


def open(folder: str | os.PathLike[str], *, model: str | None = None, allow_pickle: bool = False) -> Collection:
    """Open the collection in a folder; see `Collection`.

    A search by file loads the model that the recipe names, or `model`, which must have the same weights: a folder that
    has moved, or code from outside. `allow_pickle` lets it read weights from a pickle.
    """
    return Collection(folder, model=model, allow_pickle=allow_pickle)


def extract(
    source: Any,
    *,
    out: str | os.PathLike[str],
    on_progress: Callable[[Progress], None] | None = None,
    interrupted: Callable[[], int] = lambda: 0,
    **options: Unpack[ExtractKwargs],
) -> Collection:
    """Embed every recording of a source that the collection `out` does not hold yet, and return the collection.

    Again on a source that grew, shrank or changed it does the difference: new files are embedded, edited ones replaced,
    moved ones are known by their content, and what vanished is counted (and taken out with `prune`).

    Args:
        source: a folder, a file, a manifest, a pandas frame, or a list of these; see `embedx.datasets.read_corpus`.
        model: "logmel", "yamnet", a hub id or a local folder; see `embedx.extractors`.
        layers: "last", "all", or numbers (0 is the input of the transformer, -1 the last).
        pooling: one or several of "mean", "sum", "max". Every layer with every pooling becomes a view.
        window, hop: seconds; without a window a recording of up to 60 s (or what the model hears) is one row.
        tail: what becomes of the end behind the last whole window: "keep" (a window that ends where the audio ends),
            "pad" (with zeros) or "drop".
        channels: "mean" of all, the "first", or "each" with rows of its own (column `channel`).
        trim_silence: leave out what is 40 dB below the loudest moment at both ends.
        max_seconds: take so much of each recording at most, from its start.
        label, group: a column of the source, or a regular expression with one (group) searched in the path.
        layout: "auto", a known data set ("esc50", "urbansound8k", "speech-commands", "gtzan", "fsdd"), "folders" or
            "files".
        device: "auto", "cpu", "cuda", or several GPUs: "cuda:0,cuda:1".
        precision: "auto" (float32), "float32", "bfloat16" or "float16".
        backend: "fast" (our own forward, of Wav2Vec2, HuBERT and their like), "reference" (the library's), or "auto":
            the fast one where there is one. It changes the speed, and vectors by less than 1e-5.
        batch_seconds: audio in one batch, if not given 15 s on a CPU and 600 s on a GPU; it changes the speed, never
            the vectors. A batch that a GPU has no memory for is halved.
        workers: processes that decode ahead of the model: "auto" (up to one a core), a number, or 0 for one that
            decodes what is needed when it is; it changes the speed, never what comes out.
        store_dtype: "float32", or "float16" for half the size.
        allow_pickle: read weights from a pickle (.bin, .pth) where there is no safetensors file.
        shard: "i/n": embed the i-th of n parts only, for several machines or GPUs; `embedx.merge` joins them.
        checksum: compare the content of files whose size and time of change are as stored.
        retry_failed: try recordings again that failed before.
        prune: take out the recordings that are not in the source any more.
        dry_run: write nothing, and report through `on_progress` what would be done. If there is no collection yet, the
            one returned is empty and lies in a temporary folder.
        wait: wait while another process writes the collection, instead of giving up.
        out: the folder of the collection.
        on_progress: called after every recording.
        interrupted: asked after every window; the number of a signal ends the run after a commit.

    Raises:
        UsageError: an argument cannot be meant.
        NothingToDo: no audio was found.
        ModelError: the model cannot be loaded, or the collection was made by another recipe.
        LockedError, StoreError, DiskError: the collection cannot be written. What was committed stays.
    """
    settings = ExtractOptions(**options)
    folder = extract_into_store(source, out, settings, on_progress, interrupted)
    collection = Collection(folder, model=settings.model, allow_pickle=settings.allow_pickle)
    if len(collection) and not settings.dry_run:
        collection.indexes.refresh(collection.recipe.default_view)
    return collection


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
    """Put vectors that were made elsewhere into the collection `out`, and return it.

    An export of embedx that carries its recipe (Parquet, npy, hf) becomes the collection that it was. Any other has
    the recipe "imported": search by row and by vector, filters and probe work, search by audio file does not.

    Rows of one path are one recording. A path that is there is replaced, if anything of it has changed; rows without
    a path get `imported:SOURCE#N`. Relative paths are kept as they are.

    Args:
        source: a file or folder in one of the formats of `Collection.export`, an array [N, D], or a pandas frame.
        out: the folder of the collection.
        format: the format of the file, where its name and content do not tell.
        vectors: the column that holds lists of numbers, or the columns with one number each.
        metadata: for arrays, .npy and FAISS: a CSV (or Parquet, JSON lines, frame) with the rows in the same order.
        name: what made the vectors; imports can be mixed only where it agrees. If not given, the name of the file.
        label, group: the column that gives the label or the group.
        store_dtype: "float32", or "float16" for half the size.
        wait: wait while another process writes the collection, instead of giving up.

    Raises:
        UsageError: the source cannot be read, a vector has another length or is not finite; nothing is stored then.
        NothingToDo: the source holds no rows.
        RecipeMismatch: the collection holds vectors of something else.
        LockedError, StoreError, DiskError: the collection cannot be written. What was committed stays.
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
