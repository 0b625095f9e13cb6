"""Frames whose mean is what the classes of transformers for classification take of an encoder.

For most encoders this is the mean over the frames of the clip. AST has two class tokens for it, and Whisper takes the
mean of its whole context, with the frames of the silence after the clip.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.spectrogram import FRAME, AudioSpectrogramTransformer, Prepared, WhisperEncoder


class AstTokens(AudioSpectrogramTransformer):
    """The class token and the distillation token of AST as two frames."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.min_samples = FRAME  # the tokens need no whole patch

    def encode(self, prepared: Sequence[Prepared], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the two tokens [B, 2, D]; see `Extractor.frames`."""
        inputs = np.concatenate([features["input_values"] for _, features in prepared])
        counts = torch.full((len(inputs),), 2, device=self.model.device)
        for layer, states in self.run(self.send(inputs), layers):
            yield layer, states[:, :2], counts


class WhisperContext(WhisperEncoder):
    """All frames of Whisper's context."""

    def encode(self, prepared: Sequence[Prepared], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield all frames [B, T, D]; see `Extractor.frames`."""
        for layer, states, counts in super().encode(prepared, layers):
            yield layer, states, torch.full_like(counts, states.shape[1])


NATIVE = {"audio-spectrogram-transformer": AstTokens, "whisper": WhisperContext}
