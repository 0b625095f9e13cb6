"""Network: an encoder with a head, and the loss of its logits."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedx.extractors.pooled_heads import HeadSettings, PooledHead
from embedx.finetune.labels import Output


class Network(nn.Module):
    """Waves [B, S] -> logits [B, C] of each output."""

    def __init__(self, encoder: Any, settings: HeadSettings) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = PooledHead(settings)

    def forward(self, waves: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the logits [B, C] of each output."""
        states = self.encoder.frames(waves, lengths, self.head.settings.layers)
        logits: dict[str, Tensor] = self.head([(frames, counts) for _, frames, counts in states])
        return logits


class Objective:
    """The loss of logits: cross-entropy, or binary cross-entropy for multi-label outputs.

    Args:
        outputs: the outputs.
        class_weights: name of an output -> the weight of each class [C]; an output that is not named has equal weights.
    """

    def __init__(self, outputs: Sequence[Output], class_weights: Mapping[str, Tensor] | None = None) -> None:
        self.multi_label = {output.name: output.multi_label for output in outputs}
        self.class_weights = dict(class_weights or {})

    def __call__(
        self, logits: Mapping[str, Tensor], targets: Mapping[str, Tensor], known: Mapping[str, Tensor]
    ) -> Tensor:
        """Return the sum of the losses of the rows over all outputs; rows without a label of an output add nothing.

        Args:
            logits: [B, C] of each output.
            targets: [B, C] of each output: 0 or 1, or shares of mixed rows.
            known: [B] of each output: whether a row has a label.
        """
        return torch.stack(
            [(self._losses(name, values.float(), targets[name]) * known[name]).sum() for name, values in logits.items()]
        ).sum()

    def _losses(self, name: str, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each row [B]."""
        weights = self.class_weights.get(name)
        if self.multi_label[name]:
            positive = None if weights is None else weights.to(logits.device)
            return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=positive, reduction="none").mean(1)
        losses = -logits.log_softmax(dim=1) * targets
        return (losses if weights is None else losses * weights.to(logits.device)).sum(dim=1)


def balance_classes(outputs: Sequence[Output], rows: Any) -> dict[str, Tensor]:
    """Return the weights of the classes [C] of each output by which all classes count alike in the training rows.

    One label: N / (C n_c), as in scikit-learn. Multi-label: the weight of positive rows, the number of negative rows
    over that of positive ones. A class without a row has weight 1.
    """
    weights = {}
    for output in outputs:
        truth = output.truth[rows][output.known[rows]]
        counts = truth.sum(axis=0)
        if output.multi_label:
            values = (len(truth) - counts) / counts.clip(1)
        else:
            values = len(truth) / (len(counts) * counts.clip(1))
        weights[output.name] = torch.from_numpy(values.astype("float32")).where(torch.from_numpy(counts > 0), 1.0)
    return weights
