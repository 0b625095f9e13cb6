"""Moonshine: the encoder of a speech recogniser on the waveform, 41.7 frames per second."""

from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.equal_lengths import EqualWaves
from embedx.extractors.masking import receptive_field

STRIDES = ((127, 64), (7, 3), (3, 2))  # kernel and stride of the three convolutions of transformers' MoonshineEncoder
HOP = 64 * 3 * 2  # samples of a frame


class Moonshine(EqualWaves):
    """Hidden states [B, T, D] of Moonshine's encoder.

    A group norm over all frames follows the first convolution, so a padded batch would change every frame.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint.with_model(checkpoint.model.encoder))
        config = self.model.config
        self.layers = tuple(range(config.encoder_num_hidden_layers + 1))
        self.dim = int(config.hidden_size)
        self.frame_rate = self.sample_rate / HOP
        self.min_samples = receptive_field(STRIDES)
