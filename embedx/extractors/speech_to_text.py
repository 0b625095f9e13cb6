"""Speech2Text: the encoder of a speech recogniser or translator on mel frames, 25 frames per second."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.equal_lengths import EqualLengths
from embedx.extractors.spectrogram import FRAME, HOP, Prepared


class Speech2Text(EqualLengths):
    """Hidden states [B, T, D] of the encoder, for clips of at most `max_source_positions` frames."""

    front_end_class = "Speech2TextFeatureExtractor"
    min_samples = FRAME + HOP  # two mel frames: their deviation divides them

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint.with_model(checkpoint.model.encoder))
        config = self.model.config
        self.layers = tuple(range(config.encoder_layers + 1))
        self.dim = int(config.d_model)
        step = HOP * 2**config.num_conv_layers
        self.frame_rate = self.sample_rate / step
        self.max_samples = config.max_source_positions * step  # the library's table of positions is not extended
        bands = config.input_feat_per_channel * config.input_channels
        self._check_fit("num_mel_bins", f"{bands} (input_feat_per_channel * input_channels)", bands)

    def prepare(self, clips: Sequence[NDArray[np.float32]]) -> list[Prepared]:
        """Return the mel frames of each clip; a band without any change is zero, where the library divides by zero."""
        with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
            prepared = super().prepare(clips)
        for _, features in prepared:
            features["input_features"] = np.nan_to_num(features["input_features"], posinf=0.0, neginf=0.0)
        return prepared
