"""predict: recordings -> classes by a classifier or by zero-shot names, without a collection."""

from typing import TYPE_CHECKING, Any, Unpack

from embedx.datasets.sources import read_corpus
from embedx.embedding.options import EmbeddingOptions, WindowKwargs
from embedx.errors import ModelError
from embedx.extractors.names import resolve

if TYPE_CHECKING:
    from embedx.extractors.classifier import Classifier
    from embedx.training.predict import Predictions


def predict(
    source: Any,
    *,
    model: str,
    per: str = "window",
    aggregate: str = "mean",
    k: int = 1,
    **options: Unpack[WindowKwargs],
) -> "Predictions":
    """Predict the classes of recordings by a classifier of audio.

    Args:
        source: a folder, a file, a manifest, a pandas data frame, or a list of these.
        model: a checkpoint of transformers that was trained for audio classification (hub id or folder), a folder that
            `embedx finetune` wrote, or "yamnet" for the 521 classes of AudioSet.
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

    choice = PredictOptions(per=per, aggregate=aggregate, k=k)
    settings = EmbeddingOptions(model=model, **options)
    items = read_corpus(source)
    classifier = load_classifier(settings)
    embedder = settings.make_embedder(ScoringExtractor(classifier))
    return predict_files(embedder, classifier_scorer(classifier), items, choice)


def load_classifier(options: EmbeddingOptions) -> "Classifier":
    """Load the classifier that a user names, on the CPU.

    Raises:
        ModelError: the model cannot be loaded, or is not a classifier.
        UsageError: the backend does not support it.
    """
    family, source = resolve(options.model)
    loading: dict[str, Any] = {"allow_pickle": options.allow_pickle, "download": options.trust_model}
    if family == "yamnet":
        from embedx.extractors import yamnet, yamnet_classes

        names = yamnet_classes.read_names(source)
        return yamnet_classes.YamnetClassifier(yamnet.load(source, **loading), names)
    if family == "finetuned":
        from embedx.extractors import finetuned

        return finetuned.load_classifier(source)
    if family != "huggingface":
        raise ModelError(
            f"{options.model} is no classifier. Give a checkpoint of transformers that was trained for audio "
            "classification (hub id or folder), a folder of `embedx finetune`, or yamnet. Other models embed: "
            "`embedx extract`, then `embedx train`."
        )
    from embedx.extractors import hub_classifiers

    return hub_classifiers.load(source, backend=options.backend, **loading)
