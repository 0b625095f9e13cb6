"""Scorer: what turns the vectors of windows into probabilities: a head, a classifier of audio, or zero-shot classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedx.heads.head import Head
from embedx.heads.thresholds import is_candidate

LABEL = "label"  # the name of the only output of a head, as in embedx.extractors.classifier, which needs torch
Scores = NDArray[np.float64]
Matrices = Sequence[NDArray[np.float32]]  # vectors [N, D] of each view
LIKELY = 0.5  # multi-label: a class whose probability is above is predicted, as by a head


class Labels(Protocol):
    """The classes of an output, and which of them are predicted; a `Head` has both."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the C classes."""
        ...

    def choose(self, proba: Scores, thresholds: Scores | None = None) -> NDArray[np.bool_]:
        """Return which classes [N, C] are predicted for probabilities [N, C]."""
        ...


@dataclass(frozen=True)
class Output:
    """The classes of one output of a classifier; `multilabel`: any number of them can be true at once."""

    classes: tuple[str, ...]
    multilabel: bool = False

    def choose(self, proba: Scores, thresholds: Scores | None = None) -> NDArray[np.bool_]:
        """Return which classes [N, C] are predicted: the most probable one; multi-label: all above 0.5."""
        return proba > LIKELY if self.multilabel else is_candidate(proba, multilabel=False)


@dataclass(frozen=True)
class Scorer:
    """What turns vectors into probabilities.

    Attributes:
        outputs: name -> classes; "label" if there is only one output.
        views: the views whose vectors it takes.
        score: vectors [N, D] of each view -> probabilities [N, C] of all outputs, one after the other.
    """

    outputs: Mapping[str, Labels]
    views: tuple[str, ...]
    score: Callable[[Matrices], Scores]

    @property
    def size(self) -> int:
        """The number of columns of the probabilities."""
        return sum(len(output.classes) for output in self.outputs.values())

    def split(self, proba: Scores) -> dict[str, Scores]:
        """Return the probabilities [N, C] of each output.

        >>> word, speaker = Output(("no", "yes")), Output(("ann",))
        >>> parts = Scorer({"word": word, "speaker": speaker}, (), lambda _: np.zeros((0, 3))).split(np.ones((4, 3)))
        >>> {name: part.shape for name, part in parts.items()}
        {'word': (4, 2), 'speaker': (4, 1)}
        """
        ends = np.cumsum([len(output.classes) for output in self.outputs.values()])
        return dict(zip(self.outputs, np.split(proba, ends[:-1], axis=1), strict=True))


def head_scorer(head: Head) -> Scorer:
    """Return a head as a scorer."""
    return Scorer({LABEL: head}, tuple(head.views), lambda matrices: predict_proba(head, matrices))


def predict_proba(head: Head, matrices: Matrices) -> Scores:
    """Return the probabilities [N, C] of vectors, one matrix per view; calibrated if the head is calibrated."""
    x = matrices[0] if len(matrices) == 1 else np.stack(matrices, axis=1)
    return np.asarray(head.predict_proba(x, calibrated=head.calibrated), np.float64)
