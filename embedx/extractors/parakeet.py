"""Parakeet and Canary: the Fast Conformer encoder of NVIDIA's speech recognisers, 12.5 frames per second."""

import torch

from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.equal_lengths import EqualLengths
from embedx.extractors.spectrogram import Prepared


class Parakeet(EqualLengths):
    """Hidden states [B, T, D] of the encoder; a checkpoint with a decoder is loaded as its encoder.

    Layer 0 is the input of the first block. The mel frames of a clip are normalised over the clip.
    """

    front_end_class = "ParakeetFeatureExtractor"

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint.with_model(getattr(checkpoint.model, "encoder", checkpoint.model)))
        config = self.model.config
        self.layers = tuple(range(config.num_hidden_layers + 1))
        self.dim = int(config.hidden_size)
        hop = int(self.front_end.hop_length)
        self.frame_rate = self.sample_rate / hop / config.subsampling_factor
        self.min_samples = 2 * hop  # two mel frames: their deviation divides them
        self._check_fit("feature_size", f"{config.num_mel_bins} (num_mel_bins)", config.num_mel_bins)

    def count(self, prepared: Prepared) -> int:
        """Return the frames with audio of a clip: the last mel frame has none, and the library masks it."""
        frames = torch.as_tensor(prepared[1]["attention_mask"]).sum()
        return int(self.model._get_subsampling_output_length(frames))
