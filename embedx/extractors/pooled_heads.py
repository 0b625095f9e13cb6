"""The head of a fine-tuned model: frames of one or several layers -> logits of one or several outputs.

::

    frames [B, T, D] of each layer --learned weights--> frames --pool over valid frames--> [B, D]
    --layer norm, dropout, shared dense layer--> shared [B, D'] --dense layer of an output--> head [B, D'']
    --linear layer--> logits [B, C]

The layer norm and both dense layers are optional.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from embedx.errors import ModelError

POOLINGS = ("native", "mean", "sum", "max")
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
}
MAX_WIDTH = 65_536  # of a dense layer; far above the widest encoder
States = Sequence[tuple[Tensor, Tensor]]  # (frames [B, T, D], frame lengths [B]) of each layer


@dataclass(frozen=True)
class HeadSettings:
    """The shape of a head.

    Attributes:
        outputs: name of each output -> its C classes.
        multi_label: the outputs of which several classes can be true at once.
        dim: D, the dimension of the frames.
        layers: the layers of the encoder that the head takes; several are summed with learned weights.
        pooling: "mean", "sum" or "max" over the frames of the clip; "native" as the class of transformers for
            classification pools: for AST the mean of its two class tokens, for Whisper the mean of all frames with
            those of the silence after the clip, else the mean.
        shared: the width of a dense layer that all outputs share; 0 for none.
        hidden: the width of a dense layer of each output; 0 for none.
        activation: what follows each dense layer: "none", "relu", "gelu" or "tanh".
        dropout: the share of values that are set to zero in training, before each linear layer.
        layer_norm: whether the pooled vector is normalised first.
        norm_epsilon: what the layer norm adds to the variance.
    """

    outputs: Mapping[str, tuple[str, ...]]
    multi_label: tuple[str, ...]
    dim: int
    layers: tuple[int, ...]
    pooling: str = "native"
    shared: int = 0
    hidden: int = 0
    activation: str = "none"
    dropout: float = 0.1
    layer_norm: bool = False
    norm_epsilon: float = 1e-5

    @property
    def shared_dim(self) -> int:
        """The dimension of the vector that all outputs share."""
        return self.shared or self.dim

    @property
    def head_dim(self) -> int:
        """The dimension of the vectors before the last linear layers, of all outputs together."""
        return (self.hidden or self.shared_dim) * (len(self.outputs) if self.hidden else 1)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self) | {"outputs": {name: list(classes) for name, classes in self.outputs.items()}}

    @classmethod
    def from_dict(cls, values: Any, place: str) -> "HeadSettings":
        """Return the settings that `to_dict` gave.

        Raises:
            ModelError: a value is missing or invalid.
        """
        try:
            outputs = {str(name): tuple(map(str, classes)) for name, classes in values["outputs"].items()}
            fixed = {"multi_label": tuple(values["multi_label"]), "layers": tuple(map(int, values["layers"]))}
            settings = cls(**{**values, **fixed, "outputs": outputs})
            widths = (settings.dim, settings.shared, settings.hidden)
            is_valid = (
                all(type(width) is int and 0 <= width <= MAX_WIDTH for width in widths)
                and settings.pooling in POOLINGS
                and settings.activation in ACTIVATIONS
                and bool(settings.layers and outputs and all(outputs.values()))
            )
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ModelError(f"The head of {place} cannot be read: {error}.") from error
        if not is_valid:
            raise ModelError(f"The head of {place} has an invalid value. It was changed, or a newer version wrote it.")
        return settings


class PooledHead(nn.Module):
    """The head as a module; see `HeadSettings`."""

    def __init__(self, settings: HeadSettings) -> None:
        super().__init__()
        self.settings = settings
        activation = ACTIVATIONS[settings.activation]
        count = len(settings.layers)
        self.layer_weights = nn.Parameter(torch.zeros(count)) if count > 1 else None
        self.norm = nn.LayerNorm(settings.dim, settings.norm_epsilon) if settings.layer_norm else nn.Identity()

        def dense(inputs: int, width: int) -> nn.Module:
            if not width:
                return nn.Identity()
            return nn.Sequential(nn.Dropout(settings.dropout), nn.Linear(inputs, width), activation())

        self.shared = dense(settings.dim, settings.shared)
        self.hidden = nn.ModuleList()
        self.linear = nn.ModuleList()
        for classes in settings.outputs.values():
            self.hidden.append(dense(settings.shared_dim, settings.hidden))
            self.linear.append(nn.Linear(settings.hidden or settings.shared_dim, len(classes)))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, states: States) -> dict[str, Tensor]:
        """Return the logits [B, C] of each output."""
        shared = self.shared_vector(states)
        vectors = [hidden(shared) for hidden in self.hidden]
        return {
            name: linear(self.dropout(vector))
            for name, linear, vector in zip(self.settings.outputs, self.linear, vectors, strict=True)
        }

    def shared_vector(self, states: States) -> Tensor:
        """Return the vector [B, D'] that all outputs share."""
        vector: Tensor = self.shared(self.norm(self.pool(states)))
        return vector

    def head_vector(self, states: States) -> Tensor:
        """Return the vectors before the last linear layers [B, D''], those of all outputs side by side."""
        shared = self.shared_vector(states)
        return torch.cat([hidden(shared) for hidden in self.hidden], dim=1) if self.settings.hidden else shared

    def pool(self, states: States) -> Tensor:
        """Return the pooled frames [B, D] of the layer, or of the weighted sum of the layers."""
        frames, counts = states[0]
        if self.layer_weights is not None:
            weights = self.layer_weights.softmax(dim=0)
            stacked = torch.stack([layer for layer, _ in states])
            frames = torch.einsum("l,lbtd->btd", weights, stacked)
        valid = (torch.arange(frames.shape[1], device=frames.device) < counts[:, None])[..., None]
        if self.settings.pooling == "max":
            return frames.masked_fill(~valid, -torch.inf).amax(dim=1)
        total = frames.masked_fill(~valid, 0.0).sum(dim=1)
        return total if self.settings.pooling == "sum" else total / counts[:, None]

    def probabilities(self, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the probabilities [B, C] of logits [B, C], float32."""
        return {
            name: values.float().sigmoid() if name in self.settings.multi_label else values.float().softmax(dim=1)
            for name, values in logits.items()
        }
