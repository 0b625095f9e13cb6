"""The models that `embedx models` lists. Others of the same families load by hub id or folder as well."""

from dataclasses import dataclass

from embedx.extractors import VARIABLES, find_weights

HUB = "from the hub"


@dataclass(frozen=True)
class Entry:
    """A model as a user names it, and what is known of it without loading it."""

    name: str
    rate: int  # Hz
    dim: int
    layers: str
    what: str
    origin: str = HUB

    def weights(self) -> str:
        """Say whether the weights are on this machine."""
        if self.origin != HUB:
            return self.origin
        if self.name in VARIABLES:
            return "here" if find_weights(self.name) else f"set {VARIABLES[self.name]}"
        from huggingface_hub import try_to_load_from_cache

        return "here" if isinstance(try_to_load_from_cache(self.name, "config.json"), str) else HUB


CATALOGUE = (
    Entry("logmel", 16_000, 256, "0", "statistics of the log-mel spectrum, the default", "none needed"),
    Entry("mfcc", 16_000, 40, "0", "20 mel cepstral coefficients and their deltas", "none needed"),
    Entry("yamnet", 16_000, 1024, "0", "AudioSet sound events, Apache-2.0"),
    Entry("vggish", 16_000, 128, "0", "AudioSet embeddings of 2017, Apache-2.0"),
    Entry("melspec-resnet18", 16_000, 512, "0", "ImageNet's ResNet-18 on the log-mel spectrogram", "from torchvision"),
    Entry("facebook/wav2vec2-base", 16_000, 768, "0-12", "speech, LibriSpeech 960 h, Apache-2.0"),
    Entry("facebook/wav2vec2-large-xlsr-53", 16_000, 1024, "0-24", "speech, 53 languages, Apache-2.0"),
    Entry("facebook/hubert-base-ls960", 16_000, 768, "0-12", "speech, LibriSpeech 960 h, Apache-2.0"),
    Entry("facebook/hubert-large-ll60k", 16_000, 1024, "0-24", "speech, Libri-Light 60 000 h, Apache-2.0"),
    Entry("ntu-spml/distilhubert", 16_000, 768, "0-2", "HuBERT distilled to two layers, Apache-2.0"),
    Entry("microsoft/wavlm-base-plus", 16_000, 768, "0-12", "speech and speakers, 94 000 h"),
    Entry("microsoft/wavlm-large", 16_000, 1024, "0-24", "speech and speakers, 94 000 h"),
)
