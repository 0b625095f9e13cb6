"""Configurations of tiny models with random weights, of the types that run on clips of equal length."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.helpers.checkpoints import SMALL


class Tiny(NamedTuple):
    """A tiny model: its class, its configuration's class and values, and the same of its front end."""

    model: str
    config: str
    options: dict[str, Any]
    front_end: str = "Wav2Vec2FeatureExtractor"
    front_end_options: dict[str, Any] = {}  # noqa: RUF012 - not changed


SPEECH_DECODER = {"vocab_size": 32, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
                  "decoder_start_token_id": 2, "decoder_layers": 1, "decoder_attention_heads": 4,
                  "decoder_ffn_dim": 16, "encoder_layers": 2, "encoder_attention_heads": 4,
                  "encoder_ffn_dim": 64}  # fmt: skip
SQUEEZED = {**SMALL, "squeeze_factor": 2, "num_hidden_layers": 2, "conv_stride": (5, 2, 2, 2, 2, 2, 2),
            "conv_kernel": (10, 3, 3, 3, 3, 2, 2)}  # fmt: skip
CONFORMER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
             "subsampling_conv_channels": 8, "num_mel_bins": 16}  # fmt: skip
ENCODERS: dict[str, Tiny] = {
    "sew": Tiny("SEWModel", "SEWConfig", SQUEEZED, front_end_options={"do_normalize": False}),
    "sew-d": Tiny("SEWDModel", "SEWDConfig", {**SQUEEZED, "position_buckets": 8, "max_position_embeddings": 32,
                                              **{"feat_extract_norm": "layer", "conv_bias": True}}),
    "speech2text": Tiny("Speech2TextModel", "Speech2TextConfig",
                        {"d_model": 32, "conv_channels": 16, "input_feat_per_channel": 16,
                         "max_source_positions": 200, **SPEECH_DECODER},
                        "Speech2TextFeatureExtractor", {"num_mel_bins": 16, "feature_size": 16}),
    "speecht5": Tiny("SpeechT5ForSpeechToText", "SpeechT5Config",
                     {**SMALL, **SPEECH_DECODER, "speech_decoder_prenet_units": 16, "max_speech_positions": 400},
                     "SpeechT5FeatureExtractor"),
    "moonshine": Tiny("MoonshineModel", "MoonshineConfig",
                      {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 32, "encoder_num_hidden_layers": 2,
                       "decoder_num_hidden_layers": 1, "encoder_num_attention_heads": 4,
                       "decoder_num_attention_heads": 4}, front_end_options={"do_normalize": False}),
    "parakeet": Tiny("ParakeetEncoder", "ParakeetEncoderConfig", CONFORMER, "ParakeetFeatureExtractor",
                     {"feature_size": 16}),
    "parakeet-ctc": Tiny("ParakeetForCTC", "ParakeetCTCConfig", {"encoder_config": CONFORMER, "vocab_size": 32},
                         "ParakeetFeatureExtractor", {"feature_size": 16}),
}  # fmt: skip


def save_tiny(name: str, folder: Path) -> None:
    """Write a tiny model as save_pretrained does."""
    import transformers

    tiny = ENCODERS[name]
    torch.manual_seed(len(name))
    model = getattr(transformers, tiny.model)(getattr(transformers, tiny.config)(**tiny.options))
    model.save_pretrained(folder)
    getattr(transformers, tiny.front_end)(**tiny.front_end_options).save_pretrained(folder)
