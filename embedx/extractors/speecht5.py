"""SpeechT5: the encoder for speech of models for speech recognition and voice conversion, 50 frames per second."""

import math
from collections.abc import Mapping
from typing import Any

from embedx.extractors.checkpoints import Checkpoint, Part
from embedx.extractors.equal_lengths import EqualWaves
from embedx.extractors.masking import receptive_field

PART = Part(
    module="speecht5.modeling_speecht5",
    name="SpeechT5EncoderWithSpeechPrenet",
    prefix=r"^speecht5\.encoder\.",
    hint=" A SpeechT5 model for text to speech has no encoder for speech; give one for speech recognition or voice "
    "conversion, such as microsoft/speecht5_asr.",
)


class SpeechT5(EqualWaves):
    """Hidden states [B, T, D] of the encoder.

    Layer 0 is the input of the first block, after the convolutions, positions and a layer norm.
    """

    front_end_class = "SpeechT5FeatureExtractor"
    defaults: Mapping[str, Any] = {"do_normalize": False, "sampling_rate": 16_000}

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config = self.model.config
        self.layers = tuple(range(config.encoder_layers + 1))
        self.dim = int(config.hidden_size)
        strides = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
        hop = math.prod(stride for _, stride in strides)
        self.frame_rate = self.sample_rate / hop
        self.min_samples = receptive_field(strides)
        self.max_samples = config.max_speech_positions * hop  # the library's table of positions is not extended
