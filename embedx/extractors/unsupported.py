"""The model types of transformers with sound in or out that embedx refuses, and the reason for each."""

LANGUAGE_MODEL = (
    "it is a language model that takes sound, and embedx does not load its audio encoder apart from the language model"
)
TOWER = (
    "it is the audio encoder of a language model or recogniser, and its padding and masks have not yet been compared "
    "with the library, so that the vectors of a clip might depend on its batch"
)
STREAMING = "it works on a stream in pieces with a memory, and embedx embeds whole windows"
GENERATOR = "it makes sound from text, notes or codes, and has no encoder whose states describe a given sound"
PART = "it is a part of a model that does not take sound, or that is of use only with the rest. Give the whole model"
CODEC = "it is a codec whose latents have not yet been compared with the library. Mimi, EnCodec and DAC are supported"
VIDEO = "it embeds sound together with video. For sound alone use PE-Audio (type 'pe_audio')"
TRANSLATION = (
    "it is a translation model for speech and text. Its kind of speech encoder is supported as facebook/w2v-bert-2.0"
)

REASONS: dict[str, tuple[str, ...]] = {
    LANGUAGE_MODEL: (
        *("audioflamingo3", "musicflamingo", "dots3_note", "diffusion_gemma", "fun_asr_nano", "gemma3n", "gemma4"),
        *("gemma4_unified", "glmasr", "granite_speech", "granite_speech_plus", "inkling_mm_model", "muse_spark"),
        *("moss_transcribe_diarize", "nemo_speechlm", "nemotron_h_omni", "phi4_multimodal", "qwen2_5_omni"),
        *("qwen2_5_omni_thinker", "qwen3_asr", "qwen3_omni_moe", "qwen3_omni_moe_thinker", "voxtral", "vibevoice_asr"),
        "cosmos3_omni",
    ),
    TOWER: (
        *("audioflamingo3_encoder", "cohere_asr", "dots3_note_audio_encoder", "fun_asr_nano_encoder", "gemma3n_audio"),
        *("gemma4_audio", "gemma4_unified_audio", "glmasr_encoder", "granite_speech5_ctc", "granite_speech5_encoder"),
        *("granite_speech_encoder", "granite_speech_plus_encoder", "inkling_audio", "lasr_ctc", "lasr_encoder"),
        *("moss_transcribe_diarize_audio", "muse_spark_audio", "nemotron3_5_transcribe_asr_audio"),
        *("nemotron3_5_transcribe_audio", "nemotron3_diarization", "nemotron3_diarization_audio"),
        *("phi4_multimodal_audio", "qwen2_5_omni_audio_encoder", "qwen3_asr_encoder"),
        *("qwen3_omni_moe_audio_encoder", "voxtral_encoder", "perceiver", "speech-encoder-decoder", "clvp"),
    ),
    STREAMING: (
        *("moonshine_streaming", "moonshine_streaming_encoder", "nemotron_asr_streaming", "kyutai_speech_to_text"),
        *("nemotron_asr_streaming_encoder", "nemotron3_5_asr", "voxtral_realtime", "voxtral_realtime_encoder"),
    ),
    GENERATOR: (
        *("bark", "csm", "dia", "fastspeech2_conformer", "fastspeech2_conformer_hifigan", "gradium_phonon_tts"),
        *("fastspeech2_conformer_with_hifigan", "higgs_audio_v2", "moshi", "musicgen", "musicgen_melody"),
        *("pocket_tts", "pop2piano", "qwen2_5_omni_bigvgan", "qwen2_5_omni_dit", "qwen2_5_omni_talker"),
        *("qwen2_5_omni_token2wav", "speecht5_hifigan", "univnet", "vibevoice", "vibevoice_diffusion", "vits"),
    ),
    PART: (
        *("canary_decoder", "clap_text_model", "clvp_decoder", "clvp_encoder", "dia_encoder"),
        *("csm_depth_decoder_model", "dia_decoder", "embedding_gemma2_text", "mimi_decoder", "moshi_depth"),
        *("musicgen_decoder", "musicgen_melody_decoder", "nemotron3_5_transcribe_word_timestamp", "pe_audio_encoder"),
        *("pocket_tts_audio_tokenizer_decoder", "vibevoice_acoustic_tokenizer_decoder", "voxtral_realtime_text"),
    ),
    CODEC: (
        *("higgs_audio_v2_tokenizer", "neucodec", "pocket_tts_audio_tokenizer", "pocket_tts_audio_tokenizer_encoder"),
        *("vibevoice_acoustic_tokenizer", "vibevoice_acoustic_tokenizer_encoder", "xcodec", "xcodec2"),
    ),
    VIDEO: ("pe_audio_video", "pe_audio_video_encoder"),
    TRANSLATION: ("seamless_m4t", "seamless_m4t_v2"),
}
REFUSED = {kind: reason for reason, kinds in REASONS.items() for kind in kinds}  # model type -> reason
