"""Prediction without a head: by a classifier of audio or by names of classes, with a collection and without one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from embedx.arguments.keywords import with_known_keywords
from embedx.arguments.types import ModelName
from embedx.collection.base import CollectionBase
from embedx.datasets.sources import read_corpus
from embedx.embedding.options import EmbeddingOptions, WindowKwargs
from embedx.errors import ModelError, UsageError
from embedx.extractors.names import resolve
from embedx.extractors.shared_models import locate

if TYPE_CHECKING:
    from embedx.datasets.items import Item
    from embedx.extractors.classifier import Classifier
    from embedx.training.predict import Predictions, PredictOptions
    from embedx.training.zero_shot import ZeroShot

NEEDS_ZERO_SHOT = "{0} belongs to zero-shot classes; give these too (--zero-shot, zero_shot=)."


@dataclass(frozen=True)
class Naming:
    """What gives the classes in the place of a head; see `Collection.predict`."""

    classifier: str | None = None
    zero_shot: Any = None
    prompt: str | Sequence[str] | None = None
    label: str | None = None

    def check(self, head: object) -> "Naming | None":
        """Return self, or None if a head gives the classes.

        Raises:
            UsageError: there are several of head, classifier and zero-shot classes; or an option lacks these classes.
        """
        given = [value for value in (head, self.classifier, self.zero_shot) if value is not None]
        if len(given) > 1:
            raise UsageError("Give a head, a classifier or zero-shot classes, one of them.")
        if self.zero_shot is None and (self.prompt is not None or self.label is not None):
            raise UsageError(NEEDS_ZERO_SHOT.format("label" if self.prompt is None else "prompt"))
        return self if given and head is None else None


@with_known_keywords
def predict(
    source: Any,
    *,
    model: ModelName,
    zero_shot: Any = None,
    prompt: str | Sequence[str] | None = None,
    per: str = "window",
    aggregate: str = "mean",
    k: int = 1,
    **options: Unpack[WindowKwargs],
) -> "Predictions":
    """Predict the classes of recordings by a classifier of audio, or by names of classes without training (zero-shot).

    Args:
        source: a folder, a file, a manifest, a pandas data frame, or a list of these.
        model: a checkpoint of transformers that was trained for audio classification (hub id or folder), a folder that
            `embedx finetune` wrote, an ONNX file as "onnx:FILE?rate=32000&scores=NAME&labels=FILE", or "yamnet" for the
            521 classes of AudioSet. With `zero_shot`: a model with texts
            (CLAP, PE-Audio, EmbeddingGemma 2), or "yamnet".
        zero_shot: the names of the classes to choose from: a text such as "dog barking, rain" or "dog=bark|growl,
            rain", a list, or a mapping from names to a prompt or several. YAMNet takes only names that it knows.
        prompt: sentence for a model with texts, with {} in the place of a name, or several, whose embeddings are
            averaged; default "This is a sound of {}."
        per: "window" (default), or "recording": all windows of a recording (and channel) together.
        aggregate: how the windows of a recording are combined: the "mean" of their probabilities (default), or the
            "max" of each class.
        k: number of most probable classes to return with their probabilities; default 1.
        window: window length in seconds; None: one window per recording of up to 60 s (or the model's maximum).
        hop, tail, channels, trim_silence, max_seconds: see `extract`.
        device, precision, backend, batch_seconds, allow_pickle: see `extract`.
        options: the keywords from `window` on.

    Returns:
        The predictions in the order of the files, with the files that could not be read in `failures`.

    Raises:
        UsageError: an invalid argument.
        NothingToDo: the source has no audio.
        ModelError: the model cannot be loaded, or is not a classifier.
    """
    from embedx.extractors.classifier import ScoringExtractor
    from embedx.training.classifiers import classifier_scorer
    from embedx.training.predict import PredictOptions, predict_files
    from embedx.training.zero_shot import make_zero_shot, read_classes, read_templates

    if zero_shot is not None:  # an error before the model is loaded
        read_classes(zero_shot)
        read_templates(prompt)
    choice = PredictOptions(per=per, aggregate=aggregate, k=k)
    settings = EmbeddingOptions(model=model, **options)
    items = read_corpus(source)
    if zero_shot is not None:
        embedder = settings.load()
        classes = make_zero_shot(embedder, embedder.recipe.views, zero_shot, prompt)
        return predict_files(embedder, classes.scorer(), items, choice)
    if prompt is not None:
        raise UsageError(NEEDS_ZERO_SHOT.format("prompt"))
    classifier = load_classifier(settings)
    embedder = settings.make_embedder(ScoringExtractor(classifier))
    return predict_files(embedder, classifier_scorer(classifier), items, choice)


def load_classifier(options: EmbeddingOptions) -> "Classifier":
    """Load the classifier that a user names, on the CPU.

    Raises:
        ModelError: the model cannot be loaded, or is not a classifier.
        UsageError: the backend does not support it.
    """
    family, source = locate(*resolve(options.model), download=options.trust_model)
    loading: dict[str, Any] = {"allow_pickle": options.allow_pickle, "download": options.trust_model}
    if family == "yamnet":
        from embedx.extractors import yamnet, yamnet_classes

        names = yamnet_classes.read_names(source)
        return yamnet_classes.YamnetClassifier(yamnet.load(source, **loading), names)
    if family == "finetuned":
        from embedx.extractors import finetuned

        return finetuned.load_classifier(source)
    if family == "onnx":
        from embedx.extractors import onnx

        return onnx.load_classifier(source)
    if family != "huggingface":
        raise ModelError(
            f"{options.model} is no classifier. Give a checkpoint of transformers that was trained for audio "
            "classification (hub id or folder), a folder of `embedx finetune`, onnx:FILE?scores=NAME&labels=FILE, or "
            "yamnet. Other models embed: `embedx extract`, then `embedx train`."
        )
    from embedx.extractors import hub_classifiers

    return hub_classifiers.load(source, backend=options.backend, **loading)


def predict_without_head(
    collection: CollectionBase,
    items: "Sequence[Item] | None",
    ids: Sequence[int] | None,
    options: "PredictOptions",
    naming: Naming,
) -> "Predictions":
    """Predict the classes of stored rows, or of recordings, by a classifier or by names; see `Collection.predict`."""
    from embedx.training.classifiers import vector_scorer
    from embedx.training.predict import predict_files, predict_rows

    if options.precision is not None or options.recall is not None:
        raise UsageError("precision and recall are thresholds of a head; a classifier and zero-shot classes have none.")
    if naming.classifier is not None:
        if items is not None:
            raise UsageError("A classifier takes files without a collection: embedx.predict(files, model=...).")
        classifier = load_classifier(EmbeddingOptions(model=naming.classifier, allow_pickle=collection.allow_pickle))
        scorer = vector_scorer(classifier, naming.classifier, collection.store, ids)
        return predict_rows(collection.store, scorer, ids, options)
    classes = zero_shot_of(collection, naming)
    if items is None:
        predictions = predict_rows(collection.store, classes.scorer(), ids, options)
    else:
        predictions = predict_files(collection._load_embedder(), classes.scorer(), items, options)
    predictions.note = "" if classes.trial is None else str(classes.trial)
    return predictions


def zero_shot_of(collection: CollectionBase, naming: Naming) -> "ZeroShot":
    """Return classes by name for the vectors of a collection, calibrated on its labelled rows if there are any."""
    from embedx.evaluation.cross_validation import read_vectors
    from embedx.training.zero_shot import calibrate, label_cells, labelled, make_zero_shot, read_classes

    read_classes(naming.zero_shot)  # an error before the model is loaded
    classes = make_zero_shot(collection._load_embedder(), list(collection.views), naming.zero_shot, naming.prompt)
    rows = collection.store.rows()
    kept, y, groups = labelled(rows, label_cells(rows, naming.label), classes.classes)
    if not kept:
        return classes
    ids = np.array([rows[i].id for i in kept], np.int64)
    return calibrate(classes, classes.logits(read_vectors(collection.store, classes.view, ids)), y, groups)
