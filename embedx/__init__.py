"""embedx: audio -> searchable, reusable embeddings.

A sound file is decoded to a clip, cut into windows, turned into frames by a frozen extractor, pooled into vectors,
kept in a store with its metadata, indexed, and searched. The file list reads as that sentence::

    errors    what is raised, and the exit codes        recipe    everything that changes a vector
    corpus/   folder, manifest or data set -> items     disk      writing files whole or not at all
    audio     path -> clip, decoded in blocks            tasks    known data sets and their official protocols
    headers   where a file ends by its header           stopwatch   how long each of these takes
    collector  imports that are not held up              child     processes of our own
    windows   clip -> windows                            decoding  both in a process of their own
    extractors/  waves -> frames, one file per family    readers   several of these, ahead of the model
    pooling   frames -> vectors                          hear      the extractors as a HEAR module
    lanes/    batches -> vectors, several at a time      (tensors end here, arrays begin)
    embedder  windows -> batches of like length -> vectors
    limit     the most that a device can compute
    store/    rows, vectors, failures and recipe: the truth, one SQLite file
    difference  what of a corpus a store lacks           request  what a user asks of a model -> an embedder
    index/    nearest neighbours: derived, disposable    indexing  keeps them true to the store
    ingest    corpus + model -> collection               run       what a store lacks is read, embedded, committed
    upkeep    remove, label, compact, merge              checkup   what is damaged, and its repair
    search/   file, row, vector, examples or text -> hits
    interchange/  store -> files of other tools, and back  intake    vectors from elsewhere -> store
    duplicates  what is there more than once

    labels    rows -> classes                            splits    rows -> training and test parts that leak nothing
    shots     a few training rows of every class         overlap   the same sound on both sides of a split
    heads/    vectors -> classes: fit, predict, save; numpy alone predicts
    metrics/  truth and probabilities -> figures with intervals, beside their baselines
    evaluation  heads that are asked about rows they have not learned from
    gain      what more labels have brought              layers    every view, fold and C of a probe at once
    probe     how well vectors tell labels apart         training  a head, scored and saved
    prediction  what rows and recordings are             suggest   which rows to label next
    bench/    models x layers x heads x data sets -> a table and a report

    collection  all of it, opened
    cli/      options in, results out                    synth     a labelled corpus made of nothing
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from embedx.errors import EmbedxError
from embedx.recipe import Recipe

if TYPE_CHECKING:
    from embedx.collection import Collection, open
    from embedx.ingest import extract
    from embedx.intake import import_vectors
    from embedx.run import Progress
    from embedx.search import Hit, Hits
    from embedx.upkeep import merge

__all__ = [
    "Collection",
    "EmbedxError",
    "Hit",
    "Hits",
    "Progress",
    "Recipe",
    "extract",
    "import_vectors",
    "merge",
    "open",
]
__version__ = "0.1.0"
HOMES = {  # what is exposed -> where it lives: it is imported when it is asked for, so that `embedx --help` is quick
    **dict.fromkeys(("Collection", "open"), "collection"),
    "extract": "ingest",
    "Progress": "run",
    **dict.fromkeys(("Hit", "Hits"), "search"),
    "import_vectors": "intake",
    "merge": "upkeep",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'embedx' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"embedx.{HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
