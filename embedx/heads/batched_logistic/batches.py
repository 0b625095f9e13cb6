"""Batches: the torch side of a sweep. Training parts are standardised, batched, solved and scored."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedx.heads.batched_logistic.newton import BatchedProblem, build, find_axes, follow

# Maximum numbers in a batch of training parts. One part of 1600 x 768 keeps a CPU busy; smaller parts are batched,
# because calls of torch would cost more than the computation. A GPU is limited by its memory.
MAX_BATCH_NUMBERS = {"cpu": 1_500_000, "cuda": 250_000_000}
MIN_PROBABILITY = float(np.finfo(np.float64).eps)  # the lowest probability in scikit-learn's log_loss
Part = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass
class RegularizationPath:
    """The solutions for one part of one view, one per C."""

    scores: list[list[float]] = field(default_factory=list)  # accuracy, log loss, gap
    probabilities: list[NDArray[np.float32]] = field(default_factory=list)  # [rows to score, K]
    weights: list[NDArray[np.float64]] = field(default_factory=list)  # [K, D]
    biases: list[NDArray[np.float64]] = field(default_factory=list)  # [K]


@dataclass(frozen=True, eq=False)
class SweepPlan:
    """What is fitted for each view.

    Attributes:
        y: class numbers [N].
        parts: (training rows, rows to score).
        weights: the weights of the training rows of each part.
        classes: the number of classes K.
        Cs: inverse penalty strengths, ascending.
        keep: what to return besides the scores: "probabilities", "coefficients".
        tol: the gap at which a solution is accepted.
    """

    y: NDArray[np.int64]
    parts: Sequence[Part]
    weights: Sequence[NDArray[np.float64]]
    classes: int
    Cs: Sequence[float]
    keep: frozenset[str]
    tol: float

    def batches(self, dim: int, device: torch.device) -> list[list[int]]:
        """Return the numbers of the parts in each batch; parts of similar size are together, the largest first."""
        batches: list[list[int]] = []
        for number in sorted(range(len(self.parts)), key=lambda number: -len(self.parts[number][0])):
            size = (len(batches[-1]) + 1) * len(self.parts[batches[-1][0]][0]) * dim if batches else np.inf
            if size <= MAX_BATCH_NUMBERS[device.type]:
                batches[-1].append(number)
            else:
                batches.append([number])
        return batches

    def axes(self, matrix: Tensor) -> Tensor:
        """Return axes [D, D] for parts with more rows than dimensions, from the largest part; else empty."""
        train = max((train for train, _ in self.parts), key=len)
        if len(train) < matrix.shape[1]:
            return matrix.new_zeros(0)
        mean, scale = moments(matrix[train])
        return find_axes(((matrix[train] - mean) / scale).float())

    def run(self, matrix: Tensor, axes: Tensor, batch: Sequence[int]) -> dict[int, RegularizationPath]:
        """Solve and score a batch of parts of a view, vectors [N, D] on their device."""
        scalings = [moments(matrix[self.parts[number][0]]) for number in batch]
        problem = self._build_problem(matrix, axes, batch, scalings)
        projected = [
            ((matrix[self.parts[number][1]] - mean) / scale).float() @ problem.basis[i]
            for i, (number, (mean, scale)) in enumerate(zip(batch, scalings, strict=True))
        ]
        truths = [torch.as_tensor(self.y[self.parts[number][1]], device=matrix.device) for number in batch]
        paths, scores = {number: RegularizationPath() for number in batch}, []
        for W, gaps in follow(problem, self.Cs, self.tol):
            for i, (number, (mean, scale)) in enumerate(zip(batch, scalings, strict=True)):
                z = projected[i] @ W[i, :-1] + W[i, -1] + problem.absent[i]
                scores.append(torch.cat([score(z, truths[i]), gaps[i].double().flatten()]))
                if "probabilities" in self.keep:
                    paths[number].probabilities.append(z.softmax(1).cpu().numpy())
                if "coefficients" in self.keep:
                    weights = (problem.basis[i] @ W[i, :-1]) / scale[:, None]
                    biases = W[i, -1] + problem.absent[i, 0] - mean @ weights
                    paths[number].weights.append(weights.T.cpu().numpy())
                    paths[number].biases.append(biases.cpu().numpy())
        found = torch.stack(scores).view(-1, len(batch), 3).transpose(0, 1)  # [B, Cs, 3]
        for number, of_part in zip(batch, found.tolist(), strict=True):  # a GPU is waited for once
            paths[number].scores = of_part
        return paths

    def _build_problem(
        self, matrix: Tensor, axes: Tensor, batch: Sequence[int], scalings: Sequence[tuple[Tensor, Tensor]]
    ) -> BatchedProblem:
        """Standardise the training rows of some parts, and pad them to one length."""
        longest = max(len(self.parts[number][0]) for number in batch)
        rows = matrix.new_zeros(len(batch), longest, matrix.shape[1])
        y = torch.zeros(len(batch), longest, dtype=torch.int64, device=matrix.device)
        weight = matrix.new_zeros(len(batch), longest)
        for i, (number, (mean, scale)) in enumerate(zip(batch, scalings, strict=True)):
            train = self.parts[number][0]
            rows[i, : len(train)] = (matrix[train] - mean) / scale
            y[i, : len(train)] = torch.as_tensor(self.y[train])
            weight[i, : len(train)] = torch.as_tensor(self.weights[number])
        return build(rows, y, weight, self.classes, axes)


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and scale [D] in float64 as scikit-learn's StandardScaler does; a constant column has the scale 1.

    >>> [values.tolist() for values in moments(torch.tensor([[1.0, 7.0], [5.0, 7.0]]))]
    [[3.0, 7.0], [2.0, 1.0]]
    """
    variance, mean = torch.var_mean(rows.double(), dim=0, correction=0)
    error = len(rows) * torch.finfo(torch.float64).eps  # rounding error of the sum: less than that is not a variance
    constant = variance <= error * variance + (error * mean) ** 2
    return mean, variance.sqrt().masked_fill(constant, 1)


def score(z: Tensor, truth: Tensor) -> Tensor:
    """Return accuracy and mean log loss [2] of logits z [n, K] for the classes [n], NaN for no rows.

    >>> score(torch.tensor([[0.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 1]))
    tensor([1.0000, 0.3499], dtype=torch.float64)
    """
    loss = -z.log_softmax(1).gather(1, truth[:, None]).double().clamp_min(np.log(MIN_PROBABILITY))
    return torch.stack([(z.argmax(1) == truth).double().mean(), loss.mean()])


@contextmanager
def workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Open as many threads as torch has, and give each one thread of torch: this is faster than threaded products."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads if device.type == "cpu" else 1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
