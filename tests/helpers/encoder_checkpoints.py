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
DAC = {"encoder_hidden_size": 4, "downsampling_ratios": [4, 8, 10], "codebook_dim": 4, "decoder_hidden_size": 16}
SEANET = {"hidden_size": 16, "num_filters": 4, "codebook_size": 16, "codebook_dim": 8}
WHISPER = {"num_mel_bins": 16, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 32, "d_model": 32,
           "max_source_positions": 250}  # fmt: skip
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
BLOCKS = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, **HEADS}
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
    "canary": Tiny("CanaryModel", "CanaryConfig",
                   {"encoder_config": CONFORMER, "vocab_size": 32,
                    "decoder_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                                       "intermediate_size": 32, "vocab_size": 32}},
                   "ParakeetFeatureExtractor", {"feature_size": 16}),
    "mimi": Tiny("MimiModel", "MimiConfig",
                 {**SEANET, **HEADS, "intermediate_size": 32, "num_hidden_layers": 1, "num_quantizers": 2,
                  "vector_quantization_hidden_dimension": 8, "upsample_groups": 16, "sliding_window": 10},
                 "EncodecFeatureExtractor", {"sampling_rate": 24_000}),
    "encodec": Tiny("EncodecModel", "EncodecConfig", {**SEANET, "normalize": True, "target_bandwidths": [1.5]},
                    "EncodecFeatureExtractor", {"sampling_rate": 24_000}),
    "dac": Tiny("DacModel", "DacConfig", {**DAC, "n_codebooks": 2, "codebook_size": 16}, "DacFeatureExtractor",
                {"hop_length": 320}),
    "qwen2-audio": Tiny("Qwen2AudioForConditionalGeneration", "Qwen2AudioConfig",
                        {"audio_config": WHISPER, "text_config": {**BLOCKS, "vocab_size": 32},
                         "audio_token_index": 5},
                        "WhisperFeatureExtractor", {"feature_size": 16, "chunk_length": 5}),
    "qwen2-audio-tower": Tiny("Qwen2AudioEncoder", "Qwen2AudioEncoderConfig", WHISPER, "WhisperFeatureExtractor",
                              {"feature_size": 16, "chunk_length": 5}),
    "pe-audio": Tiny("PeAudioModel", "PeAudioConfig",
                     {"audio_config": {**BLOCKS, "dac_config": DAC, "max_position_embeddings": 4000},
                      "text_config": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                                      "num_attention_heads": 2, "vocab_size": 8, "pad_token_id": 0,
                                      "max_position_embeddings": 64}},
                     "PeAudioFeatureExtractor", {"hop_length": 320}),
    "embedding-gemma2": Tiny("EmbeddingGemma2Model", "EmbeddingGemma2Config",
                             {"audio_config": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                                               "subsampling_conv_channels": [128, 4], "output_proj_dims": 16},
                              "text_config": {**BLOCKS, "global_head_dim": 16, "num_global_key_value_heads": 1,
                                              "hidden_size_per_layer_input": 8, "embedding_dim": 24,
                                              "vocab_size": 8, "max_position_embeddings": 64,
                                              "sliding_window_pattern": 2},
                              "vision_config": None, "audio_token_id": 5},
                             "Gemma4AudioFeatureExtractor"),
}  # fmt: skip
WITH_TEXT = ("pe-audio", "embedding-gemma2")
WORDS = {"<pad>": 0, "<unk>": 1, "dog": 2, "rain": 3, "<begin>": 4, "<audio>": 5, "<end>": 6, "<bos>": 7}


def save_tiny(name: str, folder: Path) -> None:
    """Write a tiny model as save_pretrained does."""
    import transformers

    tiny = ENCODERS[name]
    torch.manual_seed(len(name))
    model = getattr(transformers, tiny.model)(getattr(transformers, tiny.config)(**tiny.options))
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            # fresh ones let the sound fade to numbers that float16 does not have
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
    model.save_pretrained(folder)
    getattr(transformers, tiny.front_end)(**tiny.front_end_options).save_pretrained(folder)
    if name in WITH_TEXT:
        save_tokenizer(folder)


def save_tokenizer(folder: Path) -> None:
    """Give a checkpoint a tokenizer that knows dog and rain, begins every text, and has marks around audio."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(WORDS, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 7)])
    marks = {"boa_token": "<begin>", "audio_token": "<audio>", "eoa_token": "<end>"}
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", bos_token="<bos>", extra_special_tokens=marks
    ).save_pretrained(folder)
