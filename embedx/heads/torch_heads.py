"""Heads that torch trains: mlp and weighted-layers, with early stopping.

Early stopping is decided on held-out groups, and the best epoch is kept.
"""

import copy
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from embedx.heads.criteria import Score, describe_absent, make_judge
from embedx.heads.preprocessing import Array, apply_chain
from embedx.heads.training_data import Examples, Positions

if TYPE_CHECKING:
    from torch import Tensor, nn

# Minimum training if no row can be held out; early stopping usually ends at about these numbers.
MIN_EPOCHS, MIN_STEPS = 30, 200
Build = Callable[[tuple[int, ...], int], "nn.Sequential"]  # (shape of a row, number of classes) -> network
Learned = tuple[dict[str, Array], dict[str, Any]]


def fit_mlp(examples: Examples, settings: Mapping[str, Any]) -> Learned:
    """Return the arrays of a network with one hidden layer, and its training history."""
    from torch import nn

    def build(shape: tuple[int, ...], classes: int) -> "nn.Sequential":
        hidden, dropout = nn.Linear(shape[0], settings["hidden"]), nn.Dropout(settings["dropout"])
        return nn.Sequential(hidden, nn.ReLU(), dropout, nn.Linear(settings["hidden"], classes))

    names = {"0.weight": "hidden.weight", "0.bias": "hidden.bias", "3.weight": "weight", "3.bias": "bias"}
    arrays, state, learned = train_network(build, examples, settings)
    arrays |= {names[name]: array for name, array in state.items()}
    examples.fill_absent(arrays["weight"], arrays["bias"])
    return arrays, learned


def fit_weighted_layers(examples: Examples, settings: Mapping[str, Any]) -> Learned:
    """Return the arrays of a linear classifier on a weighted sum of layers; the learned weights sum to 1."""
    from torch import nn

    def build(shape: tuple[int, ...], classes: int) -> "nn.Sequential":
        return nn.Sequential(make_mixture(shape[0], settings["mixture_rate"]), nn.Linear(shape[1], classes))

    arrays, state, learned = train_network(build, examples, settings)
    powers = np.exp(settings["mixture_rate"] * state["0.strength"].astype(np.float64))
    mixture = powers / powers.sum()
    arrays |= {"mixture": mixture, "weight": state["1.weight"], "bias": state["1.bias"]}
    examples.fill_absent(arrays["weight"], arrays["bias"])
    return arrays, {"layer_weights": mixture.tolist(), **learned}


def make_mixture(layers: int, rate: float) -> "nn.Module":
    """Return a module that sums layers [B, L, D] with softmax weights, which are equal at the start.

    The L numbers are multiplied by `rate`, so that they change faster than the many weights of the classifier.
    """
    import torch
    from torch import nn

    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.strength = nn.Parameter(torch.zeros(layers))

        def forward(self, x: "Tensor") -> "Tensor":
            return torch.einsum("bld,l->bd", x, (rate * self.strength).softmax(dim=0))

    return Mixture()


def train_network(
    build: Build, examples: Examples, settings: Mapping[str, Any]
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Any]]:
    """Train a network; return the arrays of the preprocessing, those of the network, and the training history.

    With `refit` a second network is trained on all rows for the best number of epochs. With few groups, the held-out
    group is a large part of the data (spoken digits of 3 speakers: accuracy 0.51 instead of 0.41).
    """
    train, held = examples.hold_out()
    epochs = max(MIN_EPOCHS, math.ceil(MIN_STEPS / math.ceil(len(examples) / settings["batch_size"])))
    everything, nothing = np.arange(len(examples)), np.zeros(0, np.int64)
    notes = describe_absent(examples)
    if len(held):
        arrays, state, history = train_once(build, examples, train, held, settings, settings["max_epochs"])
        if settings["refit"]:
            arrays, state, _ = train_once(build, examples, everything, nothing, settings, history["best_epoch"])
    else:
        arrays, state, history = train_once(build, examples, everything, nothing, settings, epochs)
        notes.append(f"No group could be held out for early stopping: trained for {epochs} epochs.")
    return arrays, state, history | {"held_out_rows": len(held), "notes": notes}


def train_once(
    build: Build, examples: Examples, train: Positions, held: Positions, settings: Mapping[str, Any], epochs: int
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Any]]:
    """Train on some rows, with early stopping on others if there are any; see `train_network` for the result.

    The same seed on the same device gives the same numbers; the random state of torch does not change.
    """
    import torch

    from embedx.extractors.devices import pick_device

    arrays, x = examples.prepare(train)
    device = pick_device(settings["device"])
    held_x = apply_chain(len(examples.chain), arrays, examples.x[held])
    tensors = x, examples.one_hot()[train], examples.weights[train], held_x
    inputs, truth, weights, held_inputs = (torch.tensor(part, dtype=torch.float32, device=device) for part in tensors)
    judge = make_judge(examples, settings["criterion"])

    def score() -> Score:
        return judge(train, held, network(held_inputs).cpu().numpy().astype(np.float64))

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(examples.seed)
        network = build(x.shape[1:], len(examples.classes)).to(device)
        prior = torch.tensor(examples.prior(train), dtype=torch.float32)
        network[-1].bias.data = prior.to(device)  # else most of the training goes into learning how rare labels are
        history = descend(network, inputs, truth, weights, score if len(held) else None, examples, settings, epochs)
    return arrays, {name: tensor.cpu().numpy() for name, tensor in network.state_dict().items()}, history


def descend(
    network: "nn.Module",
    x: "Tensor",
    y: "Tensor",
    weights: "Tensor",
    score: Callable[[], Score] | None,
    examples: Examples,
    settings: Mapping[str, Any],
    epochs: int,
) -> dict[str, Any]:
    """Train until the held-out score has not improved for `patience` epochs, and restore the best epoch.

    Without a score function all epochs are run, and the last is kept.
    """
    import torch

    generator = torch.Generator().manual_seed(examples.seed)
    rate, decay = settings["learning_rate"], settings["weight_decay"]
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=decay)
    best: Score = (-float("inf"),)
    epoch, best_epoch, best_state = 0, 0, network.state_dict()
    while epoch < epochs and (score is None or epoch - best_epoch < settings["patience"]):
        epoch += 1
        network.train()
        order = torch.randperm(len(x), generator=generator).to(x.device)
        for rows in torch.split(order, settings["batch_size"]):
            optimizer.zero_grad()
            loss = measure_loss(network(x[rows]), y[rows], weights[rows], examples.multilabel) / weights.mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        network.eval()
        if score is None:
            continue
        with torch.no_grad():
            current = score()
        if current > best:
            best, best_epoch, best_state = current, epoch, copy.deepcopy(network.state_dict())
    if score is None:
        return {"epochs": epoch}
    network.load_state_dict(best_state)
    return {"epochs": epoch, "best_epoch": best_epoch, "held_out_score": best[0]}


def measure_loss(logits: "Tensor", y: "Tensor", weights: "Tensor", multilabel: bool) -> "Tensor":
    """Return the weighted mean cross-entropy over rows [B]; multi-label: the binary one over rows and labels."""
    from torch.nn import functional as F

    if multilabel:
        return F.binary_cross_entropy_with_logits(logits, y, weights)
    return (weights * F.cross_entropy(logits, y, reduction="none")).mean()
