"""SEW and SEW-D: speech transformers that run on pairs of frames ("squeezed"), 25 per second."""

import math
from collections.abc import Iterator, Mapping

from torch import Tensor

from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.equal_lengths import EqualWaves
from embedx.extractors.masking import receptive_field


class Sew(EqualWaves):
    """Hidden states [B, T, D], 50 frames per second.

    Layer 0 is the input of the transformer, layer n the output of its n-th block. Each of their states stands for
    `squeeze_factor` frames and is repeated so many times, so that all layers have the same rate and the mean is that
    of the library's states. Layer n + 1 is `last_hidden_state`, which the model itself brings back to 50 per second.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config = self.model.config
        self.layers = tuple(range(config.num_hidden_layers + 2))
        self.dim = int(config.hidden_size)
        self.squeeze = int(config.squeeze_factor)
        strides = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
        hop = math.prod(stride for _, stride in strides)
        self.frame_rate = self.sample_rate / hop
        self.min_samples = receptive_field(strides) + (self.squeeze - 1) * hop  # one state of the transformer

    def states(self, inputs: Mapping[str, Tensor], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
        """Yield the states of clips of one length; see `EqualLengths.states`."""
        for layer, states in super().states(inputs, layers):
            yield layer, states if layer == self.layers[-1] else states.repeat_interleave(self.squeeze, dim=1)
