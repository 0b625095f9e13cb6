"""Zero-shot: names of classes -> a scorer without training, by texts or by the classes that YAMNet knows.

Both work on stored vectors. A model with texts, such as CLAP: a vector is compared with the embeddings of the classes.
YAMNet: the last layer is applied to the mean embedding of a window, and a class has the logit of the best of its names.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedx.errors import ModelError, UsageError
from embedx.evaluation.splits import group_ids
from embedx.evaluation.targets import column
from embedx.extractors.names import resolve
from embedx.heads.calibration import fit_temperature
from embedx.heads.inference import to_probabilities
from embedx.recipe import view_name
from embedx.store.records import Row
from embedx.training.calibration_trial import Trial, try_calibration
from embedx.training.scoring import LABEL, Matrices, Output, Scorer, Scores

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

TEMPLATE = "This is a sound of {}."  # as in transformers' pipeline zero-shot-audio-classification
SLOT = "{}"
FOLDS = 5  # as in a probe
TINY = 1e-12  # shorter vectors have no direction

Classes = Mapping[str, Sequence[str]]  # name -> prompts


@dataclass(frozen=True)
class ZeroShot:
    """Classes by name, without training.

    Attributes:
        classes: the names of the C classes.
        view: the view whose vectors are scored.
        weights: [K, D] embeddings of texts, or rows of YAMNet's last layer.
        bias: [K].
        scale: factor of the products.
        members: for each class the rows of `weights` whose maximum is its logit.
        is_cosine: whether vectors are scaled to length 1.
        temperature: what logits are divided by; 1 without calibration.
        trial: what a calibration on labelled rows does; None if there was none.
    """

    classes: tuple[str, ...]
    view: str
    weights: Scores
    bias: Scores
    scale: float
    members: tuple[tuple[int, ...], ...]
    is_cosine: bool
    temperature: float = 1.0
    trial: Trial | None = None

    def logits(self, vectors: NDArray[np.float32]) -> Scores:
        """Return logits [N, C] of vectors [N, D]."""
        x = np.asarray(vectors, np.float64)
        if self.is_cosine:
            x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY)
        products = self.scale * (x @ self.weights.T) + self.bias
        return np.stack([products[:, list(members)].max(axis=1) for members in self.members], axis=1)

    def score(self, matrices: Matrices) -> Scores:
        """Return probabilities [N, C] that sum to 1."""
        return to_probabilities(self.logits(matrices[0]) / self.temperature, False)

    def scorer(self) -> Scorer:
        """Return the classes as a scorer."""
        return Scorer({LABEL: Output(self.classes)}, (self.view,), self.score)


def read_classes(value: Any) -> dict[str, tuple[str, ...]]:
    """Return name -> prompts of the classes to choose from; see `read_prompts`.

    Raises:
        UsageError: there are fewer than two classes; or see `read_prompts`.
    """
    classes = read_prompts(value)
    if len(classes) < 2:
        raise UsageError(
            f"Zero-shot needs at least two classes to choose from, not {len(classes)}: {value!r}. "
            'Give what else may be heard, such as "dog barking, rain, silence".'
        )
    return classes


def read_prompts(value: Any) -> dict[str, tuple[str, ...]]:
    """Return name -> prompts of classes.

    Args:
        value: a text such as "dog barking, rain"; a class can have several prompts and a name of its own, as in
            "dog=dog barking|a dog growls, rain", and a prompt with a comma is quoted. Or a list of names, or a mapping
            from names to a prompt or several.

    Raises:
        UsageError: a class has no prompt, or two have the same name.

    >>> read_prompts('dog=dog barking|growl, "rain, heavy"')
    {'dog': ('dog barking', 'growl'), 'rain, heavy': ('rain, heavy',)}
    """
    try:
        if isinstance(value, str):
            lines = csv.reader([value.replace("\n", " ")], skipinitialspace=True)
            pairs = [split_entry(entry) for line in lines for entry in line]
        elif isinstance(value, Mapping):
            pairs = [(str(name), [texts] if isinstance(texts, str) else list(texts)) for name, texts in value.items()]
        else:
            pairs = [(str(name), [str(name)]) for name in value]
    except (TypeError, csv.Error) as error:
        raise UsageError(
            f'zero_shot is a text such as "dog, rain", a list of names, or a mapping from names to prompts: {error}.'
        ) from error
    classes = {name.strip(): tuple(str(prompt).strip() for prompt in prompts) for name, prompts in pairs}
    if not all(name and prompts and all(prompts) for name, prompts in classes.items()):
        raise UsageError(f'A zero-shot class has no name or an empty prompt: {value!r}. Give names as "dog, rain".')
    if len(classes) < len(pairs):
        raise UsageError(f'Two zero-shot classes have the same name: {value!r}. Join their prompts: "dog=bark|growl".')
    return classes


def split_entry(entry: str) -> tuple[str, list[str]]:
    """Return the name and the prompts of NAME=PROMPT|PROMPT, or of PROMPT|PROMPT, whose name is the first prompt.

    >>> split_entry("dog=bark|growl"), split_entry("rain")
    (('dog', ['bark', 'growl']), ('rain', ['rain']))
    """
    name, equals, prompts = entry.partition("=")
    texts = (prompts if equals else entry).split("|")
    return (name if equals else texts[0]), texts


def make_zero_shot(
    embedder: "Embedder", views: Sequence[str], classes: Any, templates: str | Sequence[str] | None
) -> ZeroShot:
    """Return classes by name for the vectors of a model.

    Args:
        embedder: the loaded model: YAMNet, or one with texts.
        views: the views that there are.
        classes: see `read_classes`.
        templates: sentences with {} in the place of a prompt; several are averaged. By default `TEMPLATE`.

    Raises:
        UsageError: invalid classes or templates, or views that do not fit.
        ModelError: the model cannot name classes without training, or its texts or names are missing.
    """
    names = read_classes(classes)
    if embedder.recipe.extractor == "yamnet":
        if templates:
            raise UsageError("A prompt template is for a model with texts; YAMNet knows its classes by name alone.")
        return by_names(embedder, views, names)
    if not hasattr(embedder.extractor, "embed_text"):
        raise ModelError(
            f"{embedder.model.name} cannot name classes without training. Zero-shot needs a model with texts (CLAP, "
            "PE-Audio, EmbeddingGemma 2), such as --model laion/clap-htsat-unfused, or yamnet."
        )
    return by_texts(embedder, views, names, read_templates(templates))


def read_templates(templates: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the templates; refuse one without a slot."""
    texts = (templates,) if isinstance(templates, str) else tuple(templates or (TEMPLATE,))
    for text in texts:
        if SLOT not in text:
            raise UsageError(f"A prompt template needs {SLOT} in the place of the class, as in {TEMPLATE!r}: {text!r}.")
    return texts


def by_texts(embedder: "Embedder", views: Sequence[str], classes: Classes, templates: Sequence[str]) -> ZeroShot:
    """Return classes that are compared with the embeddings of their texts; those of a class are averaged."""
    view = next((view for view in views if view.startswith(f"L{embedder.extractor.layers[-1]}.")), views[0])
    scale = float(getattr(embedder.extractor, "text_scale", 1.0))
    is_cosine = bool(getattr(embedder.extractor, "text_by_cosine", True))
    weights = []
    for prompts in classes.values():
        texts = [template.replace(SLOT, prompt) for prompt in prompts for template in templates]
        vectors = np.concatenate([embedder.embed_text(text, view) for text in texts]).astype(np.float64)
        if is_cosine:
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        mean = vectors.mean(axis=0)
        weights.append(mean / max(float(np.linalg.norm(mean)), TINY) if is_cosine else mean)
    count = len(classes)
    members = tuple((number,) for number in range(count))
    return ZeroShot(tuple(classes), view, np.stack(weights), np.zeros(count), scale, members, is_cosine)


def by_names(embedder: "Embedder", views: Sequence[str], classes: Classes) -> ZeroShot:
    """Return classes that are unions of YAMNet's own, with the members of wider ones."""
    from embedx.extractors.yamnet_classes import find_classes, last_layer, read_names

    view = view_name(0, "mean")
    if view not in views:
        raise UsageError(f"Zero-shot by YAMNet needs the view {view}; there are {', '.join(views)}.")
    names = read_names(resolve(embedder.model.name)[1])
    members = tuple(
        tuple(sorted({number for prompt in prompts for number in find_classes(names, prompt)}))
        for prompts in classes.values()
    )
    weights, bias = last_layer(embedder.extractor)
    return ZeroShot(tuple(classes), view, weights, bias, 1.0, members, is_cosine=False)


def calibrate(zero_shot: ZeroShot, logits: Scores, y: NDArray[np.int64], groups: NDArray[np.int64]) -> ZeroShot:
    """Return the classes with a temperature, if held-out groups of labelled rows show that it helps.

    Args:
        zero_shot: the classes.
        logits: [M, C] of the labelled rows.
        y: [M] the class number of each row.
        groups: [M] rows of one group are right or wrong together.
    """
    numbers = np.unique(groups, return_inverse=True)[1]
    count = int(numbers.max(initial=-1)) + 1
    if count < FOLDS:
        return zero_shot
    before, after = to_probabilities(logits, False), np.empty_like(logits)
    for fold in range(FOLDS):
        test = numbers % FOLDS == fold
        known = len(np.unique(groups[~test]))
        after[test] = to_probabilities(logits[test] / fit_temperature(logits[~test], y[~test], False, known), False)
    trial = try_calibration("temperature", before, after, y, groups, multilabel=False)
    temperature = fit_temperature(logits, y, False, count) if trial.kept else 1.0
    return replace(zero_shot, temperature=temperature, trial=trial)


def labelled(
    rows: Sequence[Row], cells: Sequence[str | None], classes: Sequence[str]
) -> tuple[list[int], NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of the rows whose label is one of the classes, their class numbers and their groups."""
    numbers = {name: number for number, name in enumerate(classes)}
    kept = [i for i, cell in enumerate(cells) if cell in numbers]
    groups = group_ids([rows[i].path for i in kept], [rows[i].group or "" for i in kept])
    return kept, np.array([numbers[str(cells[i])] for i in kept], np.int64), groups


def label_cells(rows: Sequence[Row], name: str | None) -> list[str | None]:
    """Return the labels of rows in a column; None for the column "label", which may be empty.

    Raises:
        UsageError: no row has the column that is named.
    """
    return [row.label for row in rows] if name is None else column(rows, name)
