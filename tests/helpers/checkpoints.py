"""Configurations of tiny models with random weights: of transformers, of torchaudio, and VGGish at full size."""

from pathlib import Path
from typing import Any

SMALL = {  # a transformer that runs at hundreds of times real time
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


LARGE = {"feat_extract_norm": "layer", "conv_bias": True}
SPECTRAL: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "wav2vec2-bert": ("Wav2Vec2Bert", {"feature_projection_input_dim": 160}, "SeamlessM4TFeatureExtractor", {}),
    "ast": ("AST", {}, "ASTFeatureExtractor", {}),
    "whisper": ("Whisper", {"d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 4, "encoder_ffn_dim": 64,
                            "decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 64, "vocab_size": 64,
                            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
                "WhisperFeatureExtractor", {}),
    "clap": ("Clap", {"projection_dim": 16,
                      "audio_config": {"patch_embeds_hidden_size": 16, "hidden_size": 128, "depths": [1, 1, 1, 1],
                                       "num_attention_heads": [1, 2, 2, 4], "enable_fusion": False},
                      "text_config": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                                      "intermediate_size": 16, "vocab_size": 64}},
             "ClapFeatureExtractor", {"truncation": "rand_trunc"}),
}  # fmt: skip


CHECKPOINTS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    # name -> class and configuration of transformers, class and configuration of its front end
    name: (kind, options, "Wav2Vec2FeatureExtractor", {"do_normalize": normalise})
    for name, kind, options, normalise in (
        ("wav2vec2", "Wav2Vec2", {}, True),
        ("wav2vec2-large", "Wav2Vec2", {"do_stable_layer_norm": True, **LARGE}, True),
        ("hubert", "Hubert", {}, True),
        ("hubert-batch-norm", "Hubert", {"conv_pos_batch_norm": True}, True),
        ("distilhubert", "Hubert", {"num_hidden_layers": 2, "feat_proj_layer_norm": False}, False),
        ("wavlm", "WavLM", {}, False),
        ("wavlm-large", "WavLM", {"do_stable_layer_norm": True, **LARGE}, True),
        ("conformer-relative", "Wav2Vec2Conformer", {"position_embeddings_type": "relative", **LARGE}, True),
        ("conformer-rotary", "Wav2Vec2Conformer", {"position_embeddings_type": "rotary"}, True),
        ("data2vec", "Data2VecAudio", {"num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19}, True),
        ("unispeech", "UniSpeech", {}, True),
        ("unispeech-sat", "UniSpeechSat", {}, True),
        ("hubert-wide", "Hubert", {"hidden_size": 128, "conv_dim": (64,) * 7, "intermediate_size": 256}, True),
    )
} | SPECTRAL


SMALL_TORCHAUDIO: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(16, 10, 5)] + 4 * [(16, 3, 2)] + 2 * [(16, 2, 2)],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 32,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 3,
    "encoder_num_heads": 4,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 64,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.5,
    "aux_num_out": None,
}


def add_tokenizer(folder: Path) -> None:
    """Give a checkpoint of CLAP a tokenizer that knows the words dog and rain."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "dog": 2, "rain": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>").save_pretrained(folder)
