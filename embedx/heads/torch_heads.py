"""Networks: the heads that are trained by descent, mlp and weighted-layers. Early stopping decides when they are done.

It is judged by rows of groups that are not trained on, and the best epoch counts.
"""

import copy
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from embedx.errors import UsageError
from embedx.heads.criteria import Score, describe_absent, make_judge
from embedx.heads.preprocessing import Array, apply_chain
from embedx.heads.training_data import Examples, Positions

if TYPE_CHECKING:
    from torch import Tensor, nn

BLIND_EPOCHS, BLIND_STEPS = 30, 200  # at least, where no row can be held out; early stopping ends about there
Build = Callable[[tuple[int, ...], int], "nn.Sequential"]  # shape of a row, number of classes
Learned = tuple[dict[str, Array], dict[str, Any]]


def fit_mlp(examples: Examples, settings: Mapping[str, Any]) -> Learned:
    """Return the arrays of a network with one hidden layer, and how its training went."""
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
    """Return the arrays of a linear classifier on a weighted sum of layers; the weights are learned, and sum to 1."""
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
    build: Build, examples: Examples, settings: Mapping[str, Any]
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Any]]:
    """Train a network; return the arrays of the preparation, those of the network, and how the training went.

    With `refit` a second one learns from all rows for as many epochs as were best: where groups are few, one that is
    held out is much of what there is to learn (spoken digits of 3 speakers: 0.51 right instead of 0.41).
    """
    train, held = examples.hold_out()
    blind = max(BLIND_EPOCHS, math.ceil(BLIND_STEPS / math.ceil(len(examples) / settings["batch_size"])))
    everything, nothing = np.arange(len(examples)), np.zeros(0, np.int64)
    notes = describe_absent(examples)
    if len(held):
        arrays, state, history = train_once(build, examples, train, held, settings, settings["max_epochs"])
        if settings["refit"]:
            arrays, state, _ = train_once(build, examples, everything, nothing, settings, history["best_epoch"])
    else:
        arrays, state, history = train_once(build, examples, everything, nothing, settings, blind)
        notes.append(f"No group could be held out for early stopping: trained for {blind} epochs.")
    return arrays, state, history | {"held_out_rows": len(held), "notes": notes}


def train_once(
    build: Build, examples: Examples, train: Positions, held: Positions, settings: Mapping[str, Any], epochs: int
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Any]]:
    """Train on some rows, judged by others if there are any; what is returned is as of `train_network`.

    The same seed on the same device gives the same numbers; torch's own random state is left as it was.
    """
    import torch

    arrays, x = examples.prepare(train)
    foreign = apply_chain(len(examples.chain), arrays, examples.x[held])
    chosen = settings["device"]
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if chosen == "auto" else chosen)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"torch has no device {chosen!r} here. Give 'auto' or 'cpu'.") from error

    parts = x, examples.one_hot()[train], examples.weights[train], foreign
    given, truth, weights, inputs = (torch.tensor(part, dtype=torch.float32, device=device) for part in parts)
    judge = make_judge(examples, settings["criterion"])

    def score() -> Score:
        return judge(train, held, network(inputs).cpu().numpy().astype(np.float64))

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(examples.seed)
        network = build(x.shape[1:], len(examples.classes)).to(device)
        prior = torch.tensor(examples.prior(train), dtype=torch.float32)
        network[-1].bias.data = prior.to(device)  # rare labels would take most of the training to get there
        history = descend(network, given, truth, weights, score if len(held) else None, examples, settings, epochs)
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
    """Run epochs until the score of held-out rows has not risen for `patience` of them, and go back to the best.

    Without a score every epoch is run, and the last is taken.
    """
    import torch

    generator = torch.Generator().manual_seed(examples.seed)
    rate, decay = settings["learning_rate"], settings["weight_decay"]
    optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=decay)
    best: Score = (-float("inf"),)
    epoch, best_epoch, best_state = 0, 0, network.state_dict()
    while epoch < epochs and (score is None or epoch - best_epoch < settings["patience"]):
        epoch += 1
        network.train()
        order = torch.randperm(len(x), generator=generator).to(x.device)
        for rows in torch.split(order, settings["batch_size"]):
            optimiser.zero_grad()
            loss = measure_loss(network(x[rows]), y[rows], weights[rows], examples.multilabel) / weights.mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        network.eval()
        if score is None:
            continue
        with torch.no_grad():
            found = score()
        if found > best:
            best, best_epoch, best_state = found, epoch, copy.deepcopy(network.state_dict())
    if score is None:
        return {"epochs": epoch}
    network.load_state_dict(best_state)
    return {"epochs": epoch, "best_epoch": best_epoch, "held_out_score": best[0]}


def measure_loss(logits: "Tensor", y: "Tensor", weights: "Tensor", multilabel: bool) -> "Tensor":
    """Return the mean over rows [B] of the weighted cross-entropy, or over rows and labels of the binary one."""
    from torch.nn import functional as F

    if multilabel:
        return F.binary_cross_entropy_with_logits(logits, y, weights)
    return (weights * F.cross_entropy(logits, y, reduction="none")).mean()
