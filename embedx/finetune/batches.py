"""Batches: the rows of a step -> batches of clips of similar length, in an order that depends on seed and step only.

A step of the optimizer has `batch_size` rows drawn at random. They are sorted by length and cut into batches that pad
little and fit the memory; the gradients of the batches are added. So a step has the gradient of its rows one by one,
whatever the batches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedx.audio.augmentation import Augmentation, augmentation_generator, mix_waves
from embedx.finetune.labels import Output
from embedx.finetune.waves import Samples, Waves

MAX_PADDING = 1.15  # longest clip of a batch over its shortest: small batches are cheap, and padding is not
Positions = NDArray[np.int64]
Mix = tuple[Positions, NDArray[np.float32]]  # the partner of each window, and the share that it keeps
Batch = dict[str, Any]


def cut_batches(lengths: Sequence[int], budget: int, cost: Callable[[int], int]) -> list[list[int]]:
    """Return the positions of clips in batches of similar length, longest first.

    Args:
        lengths: samples of each clip.
        budget: samples of a batch, padding included; one clip may exceed it.
        cost: the samples that the model computes for a clip of some length.

    >>> cut_batches([10, 90, 100, 9], budget=250, cost=lambda length: length)
    [[2, 1], [0, 3]]
    """
    costs = [cost(length) for length in lengths]
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-costs[i], -lengths[i], i)):
        last = batches[-1] if batches else []
        longest = costs[last[0]] if last else 0
        if last and longest <= MAX_PADDING * costs[i] and longest * (len(last) + 1) <= budget:
            last.append(i)
        else:
            batches.append([i])
    return batches


def order_windows(windows: Positions, seed: int, epoch: int, weights: NDArray[np.float64] | None) -> Positions:
    """Return the windows of an epoch in a random order that depends on seed and epoch only.

    Args:
        windows: the training windows.
        seed, epoch: what the order depends on.
        weights: how often each window is drawn, with replacement; None takes each window once.
    """
    random = np.random.default_rng([seed, epoch])
    if weights is None:
        return random.permutation(windows)
    return random.choice(windows, len(windows), p=weights / weights.sum())


@dataclass(frozen=True)
class Batcher:
    """Makes batches of windows with their targets.

    Attributes:
        waves: the windows.
        outputs: the labels of the rows.
        min_samples: shorter windows are padded with zeros to this length.
        rate: sample rate of the windows.
        budget: samples of a batch; see `cut_batches`.
        cost: see `cut_batches`.
    """

    waves: Waves
    outputs: Sequence[Output]
    min_samples: int
    rate: int
    budget: int
    cost: Callable[[int], int]

    def make(self, windows: Positions, clips: Sequence[Samples] | None = None, mix: Mix | None = None) -> list[Batch]:
        """Return batches of windows: `waves` [B, S], `lengths` [B], the `windows` [B], and the targets of each output.

        Args:
            windows: the windows [N], in any order.
            clips: the samples of each window; by default those that were decoded.
            mix: the partner of each window among them [N] and the share [N] that it keeps, where waves were mixed.
        """
        clips = [self.waves[int(window)] for window in windows] if clips is None else clips
        clips = [np.pad(clip, (0, max(0, self.min_samples - len(clip)))) for clip in clips]
        truth, known = self._targets(windows, mix)
        batches = []
        for batch in cut_batches([len(clip) for clip in clips], self.budget, self.cost):
            lengths = torch.tensor([len(clips[i]) for i in batch])
            waves = torch.zeros(len(batch), int(lengths.max()))
            for wave, i in zip(waves, batch, strict=True):
                wave[: len(clips[i])] = torch.from_numpy(np.ascontiguousarray(clips[i], np.float32))
            batches.append(
                {
                    "waves": waves,
                    "lengths": lengths,
                    "windows": torch.from_numpy(windows[batch]),
                    "targets": {name: torch.from_numpy(values[batch]) for name, values in truth.items()},
                    "known": {name: torch.from_numpy(values[batch]) for name, values in known.items()},
                }
            )
        return batches

    def _targets(self, windows: Positions, mix: Mix | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the targets [N, C] of each output, and whether they are known [N]."""
        rows = self.waves.row[windows]
        truth = {output.name: output.truth[rows] for output in self.outputs}
        known = {output.name: output.known[rows] for output in self.outputs}
        if mix is not None:
            partners, shares = mix
            part = shares[:, None]
            truth = {name: part * values + (1 - part) * values[partners] for name, values in truth.items()}
            known = {name: values & (values[partners] | (shares == 1)) for name, values in known.items()}
        return truth, known


@dataclass(frozen=True)
class Steps(torch.utils.data.Dataset[list[Batch]]):
    """The steps of a training; step i is the same whether the training was interrupted or not.

    Attributes:
        batcher: makes the batches.
        windows: the training windows.
        batch_size: windows of a step.
        total: the number of steps.
        seed: the seed of order and augmentation.
        weights: see `order_windows`.
        augmentation: how training windows are altered; None for not at all.
        first: the step at which the training goes on.
    """

    batcher: Batcher
    windows: Positions
    batch_size: int
    total: int
    seed: int
    weights: NDArray[np.float64] | None = None
    augmentation: Augmentation | None = None
    first: int = 0

    @property
    def per_epoch(self) -> int:
        """The number of steps of an epoch."""
        return -(-len(self.windows) // self.batch_size)

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, position: int) -> list[Batch]:
        """Return the batches of a step."""
        step = self.first + position
        epoch, number = divmod(step, self.per_epoch)
        order = order_windows(self.windows, self.seed, epoch, self.weights)
        windows = order[number * self.batch_size : (number + 1) * self.batch_size]
        if self.augmentation is None:
            return self.batcher.make(windows)
        rate = self.batcher.rate
        clips = [
            self.augmentation.clip(self.batcher.waves[int(window)], rate, augmentation_generator(self.seed, step, i))
            for i, window in enumerate(windows)
        ]
        mix = self.augmentation.draw_mixup(len(clips), augmentation_generator(self.seed, step))
        return self.batcher.make(windows, mix_clips(clips, *mix), mix)


def mix_clips(clips: Sequence[Samples], partners: Positions, shares: NDArray[np.float32]) -> list[Samples]:
    """Return clips that are mixed with their partners, each with its own length."""
    if (shares == 1).all():
        return list(clips)
    lengths = np.array([len(clip) for clip in clips])
    waves = np.zeros((len(clips), lengths.max()), np.float32)
    for wave, clip in zip(waves, clips, strict=True):
        wave[: len(clip)] = clip
    mixed = mix_waves(waves, lengths, partners, shares)
    return [wave[:length] for wave, length in zip(mixed, lengths, strict=True)]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on a device."""
    return {
        key: {name: tensor.to(device) for name, tensor in value.items()}
        if isinstance(value, dict)
        else value.to(device)
        if isinstance(value, Tensor)
        else value
        for key, value in batch.items()
    }
