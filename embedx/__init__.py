"""embedx: audio -> searchable, reusable embeddings.

A recording is decoded to a clip, cut into windows, turned into frames by a frozen extractor, pooled into vectors,
stored with its metadata, indexed and searched. Heads are trained on the stored vectors. This is the list of packages;
a package imports only from packages below it::

    cli/          the command line
    engines/      extraction in shards, by this process or by Ray
    sharing/      a model or collection with a card, for the model hub
    server/       the service: collections over HTTP
    bench/        compare models, layers, poolings and heads; measure the speed of this machine
    client        a collection behind the service, with the methods of a local one
    collection/   the facade: open, extract, search, train, maintain, merge and verify a collection
    training/     fit and save heads, predict, choose rows to label
    finetune/     fine-tune checkpoints on labelled audio
    ingest/       find new and changed recordings, embed them, store the vectors
    search/       query -> hits; duplicates
    evaluation/   labels, splits, leakage, cross-validation, probe, layer sweep
    formats/      export and import of vectors
    encoder       a model and its vectors, without a collection
    hear          the extractors as a module of the HEAR benchmark
    copies/       rows -> pairs that look alike, by their sounds or vectors
    datasets/     folders, manifests and known data sets -> items; tasks; a synthetic corpus
    embedding/    windows -> batches -> vectors
    index/        nearest neighbors with FAISS
    annotations/  stretches with labels in the files of Raven, Audacity, Label Studio, BirdNET and Praat
    audio/        recording -> clip -> windows
    store/        rows, vectors, failures and recipe in one SQLite file
    heads/        vectors -> classes; predicting needs NumPy only
    extractors/   waves [B, S] -> frames [B, T, D]; one file per family
    metrics/      truth and probabilities -> figures with intervals
    recipe        everything that changes a vector
    filesystem/   atomic writes, state of files, display of paths, remote files
    processes/    child processes and their channels
    text          natural order, NAME=VALUE pairs, numbers with nouns, JSON
    arguments     calls of public functions: unknown keywords, and values of wrong types
    neighbours    the nearest rows by exact scores, equal scores in order
    errors        the exceptions and their exit codes
    timing        the time that each stage of a run takes
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from embedx._version import __version__
from embedx.errors import EmbedxError
from embedx.recipe import Recipe

if TYPE_CHECKING:
    from embedx.client.remote import RemoteCollection, connect
    from embedx.collection.collection import Collection
    from embedx.collection.create import extract, import_vectors, open
    from embedx.collection.merge import merge
    from embedx.collection.predicting import predict
    from embedx.collection.several import Collections
    from embedx.encoder import Encoder, load
    from embedx.ingest.pipeline import Progress
    from embedx.search.hit import Hit
    from embedx.search.hits import Hits

__all__ = [
    "Collection",
    "Collections",
    "EmbedxError",
    "Encoder",
    "Hit",
    "Hits",
    "Progress",
    "Recipe",
    "RemoteCollection",
    "__version__",
    "connect",
    "extract",
    "import_vectors",
    "load",
    "merge",
    "open",
    "predict",
]
HOMES = {  # public name -> its module, which is imported on first use, so that `import embedx` is quick
    "Collection": "collection.collection",
    "Collections": "collection.several",
    "Encoder": "encoder",
    "Hit": "search.hit",
    "Hits": "search.hits",
    "Progress": "ingest.pipeline",
    "RemoteCollection": "client.remote",
    "connect": "client.remote",
    "extract": "collection.create",
    "import_vectors": "collection.create",
    "load": "encoder",
    "merge": "collection.merge",
    "open": "collection.create",
    "predict": "collection.predicting",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'embedx' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"embedx.{HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
