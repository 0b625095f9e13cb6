"""Qwen2-Audio: its audio encoder, which is Whisper's with a pooling of pairs of frames at the end."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from embedx.extractors.checkpoints import Checkpoint, Part
from embedx.extractors.spectrogram import Prepared, WhisperEncoder

PART = Part(
    module="qwen2_audio.modeling_qwen2_audio",
    name="Qwen2AudioEncoder",
    prefix=r"^(model\.)?audio_tower\.",
    config="audio_config",
)


class Qwen2Audio(WhisperEncoder):
    """Hidden states [B, T, D], 50 per second, for clips of at most 30 s.

    The last layer is `last_hidden_state`: 25 states per second, of which each is repeated, so that all layers have the
    same rate and the mean is that of the library's states.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.min_samples = 2 * self.step  # a pair of frames

    def encode(self, prepared: Sequence[Prepared], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the hidden states of the requested layers for clips of `prepare`; see `Extractor.frames`."""
        for layer, states, counts in super().encode(prepared, layers):
            if layer == self.layers[-1]:
                yield layer, states.repeat_interleave(2, dim=1), counts // 2 * 2
            else:
                yield layer, states, counts
