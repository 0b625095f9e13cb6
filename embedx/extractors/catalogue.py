"""The models that `embedx models` lists. Others of the same families load by hub id, folder or bundle name as well."""

from dataclasses import dataclass

from embedx.extractors.names import VARIABLES
from embedx.extractors.weight_files import find_weights, torch_cache


@dataclass(frozen=True)
class Entry:
    """A model as a user names it, and what is known of it without loading it."""

    name: str
    rate: int  # Hz
    dim: int
    layers: str
    licence: str  # of the published weights; a hint, the publisher's page decides
    source: str
    what: str
    file: str = ""  # in torch.hub's cache, for weights that torch fetches

    def weights(self) -> str:
        """Say whether the weights are on this machine."""
        if self.source == "built in":
            return "none needed"
        if self.name in VARIABLES:
            return "here" if find_weights(self.name) else f"set {VARIABLES[self.name]}"
        if self.file:
            return "here" if (torch_cache() / self.file).is_file() else "to be fetched"
        from huggingface_hub import try_to_load_from_cache

        return "here" if isinstance(try_to_load_from_cache(self.name, "config.json"), str) else "to be fetched"


HUB, BUNDLE = "model hub", "torchaudio"
CATALOGUE = (
    Entry("logmel", 16_000, 256, "0", "-", "built in", "statistics of the log-mel spectrum, the default"),
    Entry("mfcc", 16_000, 40, "0", "-", "built in", "20 mel cepstral coefficients and their deltas"),
    Entry("yamnet", 16_000, 1024, "0", "Apache-2.0", "a file", "sound events, AudioSet"),
    Entry("vggish", 16_000, 128, "0", "Apache-2.0", "a file", "the embeddings of the AudioSet release"),
    Entry(
        "melspec-resnet18", 16_000, 512, "0", "BSD-3", "torchvision", "ImageNet's ResNet-18 on the spectrogram",
        "resnet18-f37072fd.pth",
    ),
    Entry("facebook/wav2vec2-base", 16_000, 768, "0-12", "Apache-2.0", HUB, "speech, LibriSpeech 960 h"),
    Entry("facebook/wav2vec2-large-xlsr-53", 16_000, 1024, "0-24", "Apache-2.0", HUB, "speech, 53 languages"),
    Entry("facebook/hubert-base-ls960", 16_000, 768, "0-12", "Apache-2.0", HUB, "speech, LibriSpeech 960 h"),
    Entry("facebook/hubert-large-ll60k", 16_000, 1024, "0-24", "Apache-2.0", HUB, "speech, Libri-Light 60 000 h"),
    Entry("ntu-spml/distilhubert", 16_000, 768, "0-2", "Apache-2.0", HUB, "HuBERT distilled to two layers"),
    Entry("microsoft/wavlm-base-plus", 16_000, 768, "0-12", "see its page", HUB, "speech and speakers, 94 000 h"),
    Entry("microsoft/wavlm-large", 16_000, 1024, "0-24", "see its page", HUB, "speech and speakers, 94 000 h"),
    Entry("facebook/data2vec-audio-base", 16_000, 768, "0-12", "Apache-2.0", HUB, "speech, LibriSpeech 960 h"),
    Entry("facebook/w2v-bert-2.0", 16_000, 1024, "0-24", "MIT", HUB, "speech, 143 languages"),
    Entry("openai/whisper-base", 16_000, 512, "0-6", "Apache-2.0", HUB, "speech recognition, its encoder"),
    Entry("MIT/ast-finetuned-audioset-10-10-0.4593", 16_000, 768, "0-12", "BSD-3", HUB, "sound events, AudioSet"),
    Entry("laion/clap-htsat-unfused", 48_000, 512, "0", "Apache-2.0", HUB, "sounds and their descriptions"),
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
