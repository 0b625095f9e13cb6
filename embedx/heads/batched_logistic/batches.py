"""Plan: the torch side of a sweep: training parts are standardised, put together, solved, and scored."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedx.errors import UsageError
from embedx.heads.batched_logistic.newton import build, find_axes, follow

# Numbers in the rows that are solved together. A processor has enough to do with one part of 1 600 x 768, and takes
# several only where they are so small that calling torch costs more than computing; a GPU takes what it can hold.
BATCH = {"cpu": 1_500_000, "cuda": 250_000_000}
CLIP = float(np.finfo(np.float64).eps)  # the least probability in scikit-learn's log_loss
Part = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass
class RegularizationPath:
    """What one part of one view gave, C by C."""

    scores: list[tuple[float, float, float]] = field(default_factory=list)  # accuracy, log loss, gap
    probabilities: list[NDArray[np.float32]] = field(default_factory=list)  # [rows to score, K]
    weights: list[NDArray[np.float64]] = field(default_factory=list)  # [K, D]
    biases: list[NDArray[np.float64]] = field(default_factory=list)  # [K]


@dataclass(frozen=True, eq=False)
class Plan:
    """What is done with each view: y [N], the parts with the weights of their training rows, and ascending Cs."""

    y: NDArray[np.int64]
    parts: Sequence[Part]
    weights: Sequence[NDArray[np.float64]]
    classes: int
    Cs: Sequence[float]
    keep: frozenset[str]
    tol: float

    def batches(self, dim: int, device: torch.device) -> list[list[int]]:
        """Return the numbers of the parts that are solved together: such of about one size, the largest first."""
        batches: list[list[int]] = []
        for number in sorted(range(len(self.parts)), key=lambda one: -len(self.parts[one][0])):
            size = (len(batches[-1]) + 1) * len(self.parts[batches[-1][0]][0]) * dim if batches else np.inf
            if size <= BATCH[device.type]:
                batches[-1].append(number)
            else:
                batches.append([number])
        return batches

    def axes(self, matrix: Tensor) -> Tensor:
        """Return axes [D, D] for the parts that have more rows than dimensions: those of the largest part."""
        train = max((train for train, _ in self.parts), key=len)
        if len(train) < matrix.shape[1]:
            return matrix.new_zeros(0)
        mean, scale = moments(matrix[train])
        return find_axes(((matrix[train] - mean) / scale).float())

    def run(self, matrix: Tensor, axes: Tensor, batch: Sequence[int]) -> dict[int, RegularizationPath]:
        """Solve and score some parts of a view, vectors [N, D] on their device."""
        device = matrix.device
        most = max(len(self.parts[number][0]) for number in batch)
        rows = matrix.new_zeros(len(batch), most, matrix.shape[1])
        y = torch.zeros(len(batch), most, dtype=torch.int64, device=device)
        weight = matrix.new_zeros(len(batch), most)
        known = [moments(matrix[self.parts[number][0]]) for number in batch]
        for i, (number, (mean, scale)) in enumerate(zip(batch, known, strict=True)):
            train = self.parts[number][0]
            rows[i, : len(train)] = (matrix[train] - mean) / scale
            y[i, : len(train)] = torch.as_tensor(self.y[train])
            weight[i, : len(train)] = torch.as_tensor(self.weights[number])
        problem = build(rows, y, weight, self.classes, axes)
        foreign = [
            ((matrix[self.parts[number][1]] - mean) / scale).float() @ problem.basis[i]
            for i, (number, (mean, scale)) in enumerate(zip(batch, known, strict=True))
        ]
        paths = {number: RegularizationPath() for number in batch}
        for W, gaps in follow(problem, self.Cs, self.tol):
            for i, (number, (mean, scale)) in enumerate(zip(batch, known, strict=True)):
                z = foreign[i] @ W[i, :-1] + W[i, -1] + problem.absent[i]
                truth = torch.as_tensor(self.y[self.parts[number][1]], device=device)
                paths[number].scores.append((*score(z, truth), float(gaps[i])))
                if "probabilities" in self.keep:
                    paths[number].probabilities.append(z.softmax(1).cpu().numpy())
                if "coefficients" in self.keep:
                    weights = (problem.basis[i] @ W[i, :-1]) / scale[:, None]
                    biases = W[i, -1] + problem.absent[i, 0] - mean @ weights
                    paths[number].weights.append(weights.T.cpu().numpy())
                    paths[number].biases.append(biases.cpu().numpy())
        return paths


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and scale [D] in float64, as scikit-learn's StandardScaler: a constant column has the scale 1.

    >>> [one.tolist() for one in moments(torch.tensor([[1.0, 7.0], [5.0, 7.0]]))]
    [[3.0, 7.0], [2.0, 1.0]]
    """
    variance, mean = torch.var_mean(rows.double(), dim=0, correction=0)
    error = len(rows) * torch.finfo(torch.float64).eps  # of summing that many: less than that is no variance
    constant = variance <= error * variance + (error * mean) ** 2
    return mean, variance.sqrt().masked_fill(constant, 1)


def score(z: Tensor, truth: Tensor) -> tuple[float, float]:
    """Return accuracy and mean log loss of logits z [n, K] for the classes [n], or NaN for no rows.

    >>> score(torch.tensor([[0.0, 0.0], [0.0, 5.0]]), torch.tensor([0, 1]))
    (1.0, 0.34993...)
    """
    loss = -z.log_softmax(1).gather(1, truth[:, None]).double().clamp_min(np.log(CLIP))
    return float((z.argmax(1) == truth).double().mean()), float(loss.mean())


@contextmanager
def workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Open as many threads as torch has, each of which computes alone: threads within a product wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads if device.type == "cpu" else 1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def pick_device(device: str) -> torch.device:
    """Return the device that "auto" means here.

    Raises:
        UsageError: it is unknown, or there is no GPU.
    """
    if device.split(":")[0] not in ("auto", "cpu", "cuda"):
        raise UsageError(f"Unknown device {device!r}. Devices: auto, cpu, cuda.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"Device {device!r} was asked for, but torch sees no GPU here. Use cpu or auto.")
    return torch.device("cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu"))
