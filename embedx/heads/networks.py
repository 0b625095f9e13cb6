"""Networks: the heads that are trained by descent, mlp and weighted-layers. Early stopping decides when they are done.

It is judged by rows of groups that are not trained on, and the weights of the best epoch are kept.
"""

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from embedx.heads.examples import Examples
from embedx.heads.logistic import describe_absent
from embedx.heads.preparation import Array, apply_chain

if TYPE_CHECKING:
    from torch import Tensor, nn

BLIND_EPOCHS = 30  # where no row can be held out; about where early stopping ends on small sets
Learned = tuple[dict[str, Array], dict[str, Any]]


def fit_mlp(examples: Examples, settings: Mapping[str, Any]) -> Learned:
    """Return the arrays of a network with one hidden layer, and how its training went."""
    from torch import nn

    def build(shape: tuple[int, ...], classes: int) -> "nn.Module":
        hidden, dropout = nn.Linear(shape[0], settings["hidden"]), nn.Dropout(settings["dropout"])
        return nn.Sequential(hidden, nn.ReLU(), dropout, nn.Linear(settings["hidden"], classes))

    names = {"0.weight": "hidden.weight", "0.bias": "hidden.bias", "3.weight": "weight", "3.bias": "bias"}
    arrays, state, learned = train_network(build, examples, settings)
    return arrays | {names[name]: array for name, array in state.items()}, learned


def fit_weighted_layers(examples: Examples, settings: Mapping[str, Any]) -> Learned:
    """Return the arrays of a linear classifier on a weighted sum of layers; the weights are learned, and sum to 1."""
    from torch import nn

    def build(shape: tuple[int, ...], classes: int) -> "nn.Module":
        return nn.Sequential(make_mixture(shape[0], settings["mixture_rate"]), nn.Linear(shape[1], classes))

    arrays, state, learned = train_network(build, examples, settings)
    powers = np.exp(settings["mixture_rate"] * state["0.strength"].astype(np.float64))
    mixture = powers / powers.sum()
    arrays |= {"mixture": mixture, "weight": state["1.weight"], "bias": state["1.bias"]}
    return arrays, {"layer_weights": mixture.tolist(), **learned}


def make_mixture(layers: int, rate: float) -> "nn.Module":
    """Return a module that sums layers [B, L, D] by a soft-max over L numbers, all equal at first.

    They are multiplied by `rate`: a few numbers must go further than the many of the classifier do in the same steps.
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
    build: Callable[[tuple[int, ...], int], "nn.Module"], examples: Examples, settings: Mapping[str, Any]
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Any]]:
    """Train a network; return the arrays of the preparation, those of the network, and how the training went.

    The same seed on the same device gives the same numbers; torch's own random state is left as it was.
    """
    import torch

    train, held = examples.hold_out()
    arrays, x = examples.prepare(train)
    foreign = apply_chain(len(examples.chain), arrays, examples.x[held])
    chosen = settings["device"]
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if chosen == "auto" else chosen)

    def move(rows: Array, vectors: Array) -> tuple["Tensor", ...]:
        parts = vectors, examples.one_hot()[rows], examples.weights[rows]
        return tuple(torch.tensor(part, dtype=torch.float32, device=device) for part in parts)

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(examples.seed)
        network = build(x.shape[1:], len(examples.classes)).to(device)
        history = descend(network, move(train, x), move(held, foreign), examples, settings)
    state = {name: tensor.cpu().numpy() for name, tensor in network.state_dict().items()}
    notes = describe_absent(examples)
    if not len(held):
        notes.append(f"No group could be held out for early stopping: trained for {BLIND_EPOCHS} epochs.")
    return arrays, state, history | {"held_out_rows": len(held), "notes": notes}


def descend(
    network: "nn.Module",
    train: tuple["Tensor", ...],
    held: tuple["Tensor", ...],
    examples: Examples,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Run epochs until the loss of held-out rows has not fallen for `patience` of them, and go back to the best."""
    import torch

    x, y, weights = train
    generator = torch.Generator().manual_seed(examples.seed)
    optimiser = torch.optim.AdamW(
        network.parameters(), settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    blind = not len(held[0])
    best, best_epoch, best_state = float("inf"), 0, copy.deepcopy(network.state_dict())
    epoch = 0
    while epoch < (BLIND_EPOCHS if blind else settings["max_epochs"]) and epoch - best_epoch < settings["patience"]:
        epoch += 1
        network.train()
        order = torch.randperm(len(x), generator=generator).to(x.device)
        for rows in torch.split(order, settings["batch_size"]):  # type: ignore[no-untyped-call]
            optimiser.zero_grad()
            loss = measure_loss(network(x[rows]), y[rows], weights[rows], examples.multilabel) / weights.mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        network.eval()
        with torch.no_grad():
            total = 0.0 if blind else float(measure_loss(network(held[0]), held[1], held[2], examples.multilabel))
        if blind or total < best:
            best, best_epoch, best_state = total, epoch, copy.deepcopy(network.state_dict())
    network.load_state_dict(best_state)
    return {"epochs": epoch, "best_epoch": best_epoch, "held_out_loss": None if blind else best / float(held[2].mean())}


def measure_loss(logits: "Tensor", y: "Tensor", weights: "Tensor", multilabel: bool) -> "Tensor":
    """Return the mean over rows [B] of the weighted cross-entropy, or over rows and labels of the binary one."""
    from torch.nn import functional as F

    if multilabel:
        return F.binary_cross_entropy_with_logits(logits, y, weights)
    return (weights * F.cross_entropy(logits, y, reduction="none")).mean()
