"""The protocol of a classifier of audio, and a classifier as an extractor, so that it is run in the same way."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LABEL = "label"  # the name of the only output of a model with one


class Classifier(Protocol):
    """A classifier: waves [B, S] -> probabilities [B, C] of each output.

    Row i of the result must depend on `waves[i, :lengths[i]]` only, and not on other rows or on the padding after it
    (within 1e-5 in float32).

    Attributes:
        sample_rate: sample rate of the waves in Hz.
        outputs: name of each output -> its C classes; one output is named "label".
        multi_label: the outputs of which several classes can be true at once: probabilities by sigmoid, which need not
            sum to 1.
        min_samples: the shortest clip that the model accepts; shorter clips are padded with zeros.
        max_samples: the longest clip that the model accepts, None for any length; longer recordings are cut.

    A classifier may also have `weights` (a hash), `backend`, `has_gpu`, `reads_lengths` and `padded_samples`; see
    `embedx.extractors.base`. One that computes its input on the CPU has `prepare` too, and `prepared_scores(prepared)`.
    """

    sample_rate: int
    outputs: dict[str, tuple[str, ...]]
    multi_label: frozenset[str]
    min_samples: int
    max_samples: int | None

    def scores(self, waves: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the probabilities [B, C] of each output, float32.

        Args:
            waves: [B, S], from -1 to 1.
            lengths: samples of each wave [B], at least `min_samples`.
        """
        ...

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        ...


@runtime_checkable
class VectorClassifier(Classifier, Protocol):
    """A classifier that can also work on pooled vectors, because its input is the mean of hidden states.

    Attributes:
        encoder_weights: the hash of the extractor whose vectors it takes; see `embedx.extractors.base.hash_weights`.
            None if the model needs a state that is not stored.
        layers: the layers whose means it takes.
        max_window_s: the length of a window in seconds from which on vectors give other scores than audio; None if
            windows of any length give the same.
    """

    encoder_weights: str | None
    layers: tuple[int, ...]
    max_window_s: float | None

    def vector_scores(self, means: Sequence[NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Return the probabilities [N, C] of each output from the means [N, D] of each of `layers`."""
        ...


class ScoringExtractor:
    """A classifier as an extractor: the probabilities of all outputs, one after the other, are one frame of a clip."""

    layers: tuple[int, ...] = (0,)
    frame_rate = 1.0  # not used: there is one frame

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.sample_rate = classifier.sample_rate
        self.min_samples, self.max_samples = classifier.min_samples, classifier.max_samples
        self.dim = sum(map(len, classifier.outputs.values()))
        self.weights = str(getattr(classifier, "weights", ""))
        self.backend = str(getattr(classifier, "backend", "reference"))
        self.has_gpu = bool(getattr(classifier, "has_gpu", True))
        self.reads_lengths = bool(getattr(classifier, "reads_lengths", False))

    @property
    def prepare(self) -> Any:
        """What the classifier computes of clips on the CPU, or None; see `Extractor`."""
        return getattr(self.classifier, "prepare", None)

    def encode(self, prepared: Sequence[Any], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the probabilities of clips of `prepare`; see `Extractor.frames`."""
        scores: Callable[..., dict[str, Tensor]] = getattr(self.classifier, "prepared_scores")  # noqa: B009
        yield from self._frame(scores(prepared))

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the probabilities [B, 1, C]; see `Extractor.frames`."""
        yield from self._frame(self.classifier.scores(waves, lengths))

    def _frame(self, scores: Mapping[str, Tensor]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the probabilities of all outputs as one frame."""
        frame = torch.cat([scores[name] for name in self.classifier.outputs], dim=1)[:, None]
        yield 0, frame, torch.ones(len(frame), dtype=torch.int64, device=frame.device)

    def padded_samples(self, length: int) -> int:
        """Return the number of samples that are computed for a clip."""
        pad = getattr(self.classifier, "padded_samples", None)
        return length if pad is None else int(pad(length))

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.classifier.to(device)
        return self


def output_slices(outputs: Mapping[str, Sequence[str]]) -> dict[str, slice]:
    """Return the columns of each output in the frames of a `ScoringExtractor`.

    >>> output_slices({"word": ("no", "yes"), "speaker": ("ann",)})
    {'word': slice(0, 2, None), 'speaker': slice(2, 3, None)}
    """
    slices, start = {}, 0
    for name, classes in outputs.items():
        slices[name] = slice(start, start + len(classes))
        start += len(classes)
    return slices
