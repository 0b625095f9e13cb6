"""The models that `embedx models` lists. Other models of these families load by hub id, folder or bundle name."""

from dataclasses import dataclass

from embedx.extractors.names import VARIABLES
from embedx.extractors.weight_files import find_weights, torch_cache


@dataclass(frozen=True)
class Entry:
    """What is known about a model without loading it.

    Attributes:
        name: the name that a user types.
        rate: sample rate in Hz.
        dim: dimension of its vectors.
        layers: the layers that can be requested.
        licence: licence of the published weights; a hint only, the publisher's page is binding.
        source: where the weights come from.
        what: what the model was trained on.
        file: name of the weights file in torch.hub's cache, if torch downloads the weights.
    """

    name: str
    rate: int
    dim: int
    layers: str
    licence: str
    source: str
    what: str
    file: str = ""

    @property
    def good_for(self) -> str:
        """What sounds the model is good for, such as "events, music"."""
        return ", ".join(need for need, names in GOOD_FOR.items() if self.name in names)

    def weights(self) -> str:
        """Say whether the weights are on this machine."""
        if self.source == "built in":
            return "none needed"
        if self.name in VARIABLES:
            return "here" if find_weights(self.name) else f"set {VARIABLES[self.name]}"
        if self.file:
            is_cached = (torch_cache() / self.file).is_file()
        else:
            from huggingface_hub import try_to_load_from_cache

            is_cached = isinstance(try_to_load_from_cache(self.name, "config.json"), str)
        return "here" if is_cached else "to be fetched"


HUB, BUNDLE = "model hub", "torchaudio"
CATALOGUE = (
    Entry("logmel", 16_000, 256, "0", "-", "built in", "statistics of the log-mel spectrum (default)"),
    Entry("mfcc", 16_000, 40, "0", "-", "built in", "20 mel-frequency cepstral coefficients and deltas"),
    Entry("yamnet", 16_000, 1024, "0", "Apache-2.0", "a file", "sound events, AudioSet"),
    Entry("vggish", 16_000, 128, "0", "Apache-2.0", "a file", "embeddings of the AudioSet release"),
    Entry(
        "melspec-resnet18", 16_000, 512, "0", "BSD-3", "torchvision", "ResNet-18 (ImageNet) on the spectrogram",
        "resnet18-f37072fd.pth",
    ),
    Entry("facebook/wav2vec2-base", 16_000, 768, "0-12", "Apache-2.0", HUB, "speech, LibriSpeech 960 h"),
    Entry("facebook/wav2vec2-large-xlsr-53", 16_000, 1024, "0-24", "Apache-2.0", HUB, "speech, 53 languages"),
    Entry("facebook/hubert-base-ls960", 16_000, 768, "0-12", "Apache-2.0", HUB, "speech, LibriSpeech 960 h"),
    Entry("facebook/hubert-large-ll60k", 16_000, 1024, "0-24", "Apache-2.0", HUB, "speech, Libri-Light 60 000 h"),
    Entry("ntu-spml/distilhubert", 16_000, 768, "0-2", "Apache-2.0", HUB, "HuBERT, distilled to two layers"),
    Entry("microsoft/wavlm-base-plus", 16_000, 768, "0-12", "see its page", HUB, "speech and speakers, 94 000 h"),
    Entry("microsoft/wavlm-large", 16_000, 1024, "0-24", "see its page", HUB, "speech and speakers, 94 000 h"),
    Entry("facebook/data2vec-audio-base", 16_000, 768, "0-12", "Apache-2.0", HUB, "speech, LibriSpeech 960 h"),
    Entry("facebook/w2v-bert-2.0", 16_000, 1024, "0-24", "MIT", HUB, "speech, 143 languages"),
    Entry("openai/whisper-base", 16_000, 512, "0-6", "Apache-2.0", HUB, "speech recognition (encoder)"),
    Entry("MIT/ast-finetuned-audioset-10-10-0.4593", 16_000, 768, "0-12", "BSD-3", HUB, "sound events, AudioSet"),
    Entry("laion/clap-htsat-unfused", 48_000, 512, "0", "Apache-2.0", HUB, "sounds and text descriptions"),
    Entry("asapp/sew-tiny-100k", 16_000, 512, "0-13", "Apache-2.0", HUB, "speech, LibriSpeech 960 h; small"),
    Entry("microsoft/speecht5_asr", 16_000, 768, "0-12", "MIT", HUB, "speech recognition (encoder)"),
    Entry("UsefulSensors/moonshine-tiny", 16_000, 288, "0-6", "MIT", HUB, "speech recognition (encoder); small"),
    Entry("facebook/s2t-small-librispeech-asr", 16_000, 256, "0-12", "MIT", HUB, "speech recognition (encoder)"),
    Entry("nvidia/parakeet-ctc-1.1b", 16_000, 1024, "0-42", "CC-BY-4.0", HUB, "speech recognition (encoder)"),
    Entry("Qwen/Qwen2-Audio-7B", 16_000, 1280, "0-32", "Apache-2.0", HUB, "sounds and speech (audio encoder)"),
    Entry("google/embeddinggemma-2", 16_000, 768, "0", "see its page", HUB, "sounds, images and text"),
    Entry("kyutai/mimi", 24_000, 512, "0", "CC-BY-4.0", HUB, "codec of speech (latents)"),
    Entry("facebook/encodec_24khz", 24_000, 128, "0", "see its page", HUB, "codec of all sound (latents)"),
    Entry("descript/dac_16khz", 16_000, 1024, "0", "MIT", HUB, "codec of all sound (latents)"),
    Entry(
        "WAV2VEC2_BASE", 16_000, 768, "0-12", "MIT", BUNDLE, "speech, LibriSpeech 960 h",
        "wav2vec2_fairseq_base_ls960.pth",
    ),
    Entry(
        "HUBERT_BASE", 16_000, 768, "0-12", "MIT", BUNDLE, "speech, LibriSpeech 960 h",
        "hubert_fairseq_base_ls960.pth",
    ),
    Entry("WAVLM_BASE_PLUS", 16_000, 768, "0-12", "MIT", BUNDLE, "speech and speakers", "wavlm_base_plus.pth"),
    Entry("WAV2VEC2_XLSR_300M", 16_000, 1024, "0-24", "MIT", BUNDLE, "speech, 128 languages", "wav2vec2_xlsr_300m.pth"),
)  # fmt: skip

GOOD_FOR = {  # by the published figures in docs/models.md, and where there are none by what the model was trained on
    "speech": (
        *("facebook/hubert-base-ls960", "microsoft/wavlm-base-plus", "microsoft/wavlm-large", "openai/whisper-base"),
        *("facebook/wav2vec2-base", "facebook/wav2vec2-large-xlsr-53", "facebook/hubert-large-ll60k"),
        *("ntu-spml/distilhubert", "facebook/data2vec-audio-base", "facebook/w2v-bert-2.0"),
        *("asapp/sew-tiny-100k", "microsoft/speecht5_asr", "UsefulSensors/moonshine-tiny"),
        *("facebook/s2t-small-librispeech-asr", "nvidia/parakeet-ctc-1.1b", "Qwen/Qwen2-Audio-7B", "kyutai/mimi"),
        *("WAV2VEC2_BASE", "HUBERT_BASE", "WAVLM_BASE_PLUS", "WAV2VEC2_XLSR_300M"),
    ),
    "speakers": ("microsoft/wavlm-base-plus", "microsoft/wavlm-large", "WAVLM_BASE_PLUS"),
    "events": (
        "laion/clap-htsat-unfused",
        "MIT/ast-finetuned-audioset-10-10-0.4593",
        "yamnet",
        "vggish",
        "Qwen/Qwen2-Audio-7B",
    ),
    "music": ("MIT/ast-finetuned-audioset-10-10-0.4593", "yamnet", "vggish", "laion/clap-htsat-unfused"),
    "text": ("laion/clap-htsat-unfused", "google/embeddinggemma-2"),
    "compression": ("kyutai/mimi", "facebook/encodec_24khz", "descript/dac_16khz"),  # latents of codecs
    "comparison": ("logmel", "mfcc", "melspec-resnet18"),  # simple models, to see what a larger one adds
}
