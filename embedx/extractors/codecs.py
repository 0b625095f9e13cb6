"""Neural codecs: the continuous latents of Mimi, EnCodec and DAC, before they are quantised.

These models code audio for transmission and synthesis. Their encoder gives one latent per hop; the codes are the
nearest entries of the codebooks, and are not used here. Convolutions with padding (causal ones pad on the left, and all
pad the end), EnCodec's LSTM and Mimi's transformer see the end of a clip, so clips of one length run together.
"""

import math
from collections.abc import Iterator, Mapping

from torch import Tensor

from embedx.errors import ModelError
from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.equal_lengths import EqualLengths

# Peak memory of a forward pass of 10 s in float32, in bytes for each sample, with models of published size; HuBERT-base
# needs 1130 (benchmarks/memory.py, AMD EPYC Zen 4, loaded). EnCodec needs 600: less than HuBERT-base in a second too.
# SpeechT5 needs 1127, EmbeddingGemma 2 needs 444, and Qwen2-Audio 256 with 8 of its 32 blocks, whose
# states have 16 bytes for each sample: at most 640.
HUBERT_BYTES_PER_S = 1130 * 16_000
MIMI_BYTES, DAC_BYTES = 1172, 1305


class Codec(EqualLengths):
    """Latents [B, T, D] of a codec's encoder, as layer 0."""

    layers: tuple[int, ...] = (0,)
    front_end_class = "EncodecFeatureExtractor"

    def __init__(self, checkpoint: Checkpoint, hop: float) -> None:
        """Take a checkpoint; `hop` is the distance of latents in samples."""
        super().__init__(checkpoint)
        config = self.model.config
        if getattr(config, "audio_channels", 1) != 1 or getattr(config, "chunk_length_s", None) is not None:
            raise ModelError(
                f"{checkpoint.place} codes stereo, or overlapping pieces with a level each (EnCodec at 48 kHz), so its "
                "latents are not one sequence in time. Use a codec of mono sound in one piece, such as "
                "facebook/encodec_24khz."
            )
        self._check_fit("sampling_rate", f"{config.sampling_rate} (sampling_rate)", config.sampling_rate)
        self._check_fit("feature_size", "1 (audio_channels)", 1)
        self.frame_rate = self.sample_rate / hop
        self.min_samples = math.ceil(hop)

    def states(self, inputs: Mapping[str, Tensor], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
        """Yield the latents of clips of one length; see `EqualLengths.states`."""
        yield 0, self.latents(inputs["input_values"]).transpose(1, 2)

    def latents(self, waves: Tensor) -> Tensor:
        """Return the latents [B, D, T] of waves [B, 1, S]."""
        raise NotImplementedError


class Mimi(Codec):
    """Latents of Mimi: after its transformer and the convolution that brings them to 12.5 per second."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        encoder = getattr(checkpoint.model, "encoder", checkpoint.model)
        config = encoder.config
        super().__init__(checkpoint.with_model(encoder), config.sampling_rate / config.frame_rate)
        self.memory = memory_of(MIMI_BYTES, self.sample_rate)
        self.dim = int(encoder.downsample.conv.out_channels if encoder.downsample else config.hidden_size)

    def latents(self, waves: Tensor) -> Tensor:
        """Return the latents; see `Codec.latents`."""
        latents: Tensor = self.model(waves).latents
        return latents


class Encodec(Codec):
    """Latents of EnCodec's convolutional encoder with LSTM, 75 per second at 24 kHz."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.model.config
        super().__init__(checkpoint, config.hop_length)
        self.dim = int(config.hidden_size)

    def latents(self, waves: Tensor) -> Tensor:
        """Return the latents; see `Codec.latents`."""
        if self.model.config.normalize:
            waves = waves / (waves.square().mean(dim=(1, 2), keepdim=True).sqrt() + 1e-8)  # as the library
        latents: Tensor = self.model.encoder(waves)
        return latents


class Dac(Codec):
    """Latents of the Descript Audio Codec's convolutional encoder, 50 to 87 per second."""

    front_end_class = "DacFeatureExtractor"

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.model.config
        super().__init__(checkpoint, config.hop_length)
        self.dim = int(config.hidden_size)
        self.memory = memory_of(DAC_BYTES, self.sample_rate)
        self._check_fit("hop_length", f"{config.hop_length} (downsampling_ratios)", config.hop_length)

    def latents(self, waves: Tensor) -> Tensor:
        """Return the latents; see `Codec.latents`."""
        latents: Tensor = self.model.encoder(waves)
        return latents


def memory_of(bytes_per_sample: int, rate: int) -> float:
    """Return the memory of a second of sound relative to HuBERT-base, at least 1.

    >>> round(memory_of(DAC_BYTES, 44_100), 2)
    3.18
    """
    return max(1.0, bytes_per_sample * rate / HUBERT_BYTES_PER_S)
