"""Start: linear layers from a logistic regression on the frozen encoder, and weights between the start and the end.

Kumar et al. (2022) train the head on the frozen encoder first: a random head would change the encoder while it is still
wrong. Wortsman et al. (2022) average the weights before and after fine-tuning. Both help on test rows that differ from
the training rows, such as those of other speakers.
"""

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedx.finetune.batches import Batcher, Positions, to_device
from embedx.finetune.labels import LabelledRows
from embedx.finetune.network import Network
from embedx.finetune.scoring import Context
from embedx.heads.fitting import fit

SOLVER = "logistic"  # the head of `embedx train` and `embedx probe`; it chooses its penalty inside the training rows
BATCH = 256  # windows in memory at a time, as in scoring


def start_from_probe(
    network: Network,
    batcher: Batcher,
    labelled: LabelledRows,
    rows: Positions,
    class_weight: str | None,
    seed: int,
    context: Context,
) -> None:
    """Set the last linear layer of each output to a logistic regression on what the network gives it.

    Args:
        network: the network, not trained yet, on its device.
        batcher: makes the batches.
        labelled: the rows with labels and groups.
        rows: positions of the training rows.
        class_weight: None or "balanced".
        seed: the seed of the regression.
        context: the number format.

    Raises:
        UsageError: fewer than two classes have training rows.
    """
    windows = batcher.waves.of_rows(rows)
    row = batcher.waves.row[windows]
    for output, linear, x in zip(
        labelled.outputs, layers_of(network), vectors_of(network, batcher, windows, context), strict=True
    ):
        known = output.known[row]
        truth = output.truth[row[known]]
        head = fit(
            SOLVER,
            x[known],
            truth.astype(np.int64) if output.multi_label else truth.argmax(axis=1),
            output.classes,
            multilabel=output.multi_label,
            groups=labelled.splits.inner_groups[row[known]],
            class_weight=class_weight,
            seed=seed,
        )
        weight = head.arrays["weight"] / head.arrays["step0.scale"]  # the regression standardises its input
        bias = head.arrays["bias"] - weight @ head.arrays["step0.mean"]
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))


def layers_of(network: Network) -> list[nn.Linear]:
    """Return the last linear layer of each output."""
    return [layer for layer in network.head.linear if isinstance(layer, nn.Linear)]


def vectors_of(network: Network, batcher: Batcher, windows: Positions, context: Context) -> list[NDArray[np.float32]]:
    """Return the vectors [W, D] of windows before the last linear layer of each output, in evaluation mode."""
    head, place = network.head, {int(window): i for i, window in enumerate(windows)}
    found = [np.empty((len(windows), linear.in_features), np.float32) for linear in layers_of(network)]
    was_training, device = network.training, next(network.parameters()).device
    network.eval()
    order = windows[np.argsort(-batcher.waves.length[windows], kind="stable")]
    for start in range(0, len(order), BATCH):
        for batch in batcher.make(order[start : start + BATCH]):
            on_device = to_device(batch, device)
            with torch.inference_mode(), context():
                states = network.encoder.frames(on_device["waves"], on_device["lengths"], head.settings.layers)
                shared = head.shared_vector([(frames, counts) for _, frames, counts in states])
                given = [hidden(shared).float().cpu().numpy() for hidden in head.hidden]
            at = [place[int(window)] for window in batch["windows"]]
            for vectors, values in zip(found, given, strict=True):
                vectors[at] = values
    network.train(was_training)
    return found


def copy_weights(network: Network) -> dict[str, Tensor]:
    """Return a copy of all parameters by name."""
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def average_weights(network: Network, start: Mapping[str, Tensor], share: float) -> None:
    """Set each parameter to `share` times its value and 1 - `share` times that of the start.

    Of LoRA's two matrices only the second one, which starts at zero, is averaged, so that their product is averaged.
    """
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_A" not in name:
                parameter.copy_(start[name].to(parameter.device).lerp(parameter, share))


@contextlib.contextmanager
def averaged(network: Network, start: Mapping[str, Tensor], share: float) -> Iterator[None]:
    """Average the weights of a network in this context; see `average_weights`."""
    if share == 1:
        yield
        return
    trained = copy_weights(network)
    average_weights(network, start, share)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(trained[name])
