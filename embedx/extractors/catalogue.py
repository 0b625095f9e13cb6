"""The models that `embedx models` lists. Others of the same families load by hub id or folder as well."""

from dataclasses import dataclass

from embedx.extractors import torch_cache, yamnet_weights


@dataclass(frozen=True)
class Entry:
    """A model as a user names it, and what is known of it without loading it."""

    name: str
    rate: int  # Hz
    dim: int
    layers: str
    what: str
    file: str = ""  # in the cache of torch.hub, for a bundle of torchaudio

    def weights(self) -> str:
        """Say whether the weights are on this machine."""
        if self.name == "logmel":
            return "none needed"
        if self.name == "yamnet":
            return "here" if yamnet_weights() else "set EMBEDX_YAMNET_WEIGHTS"
        if self.file:
            return "here" if (torch_cache() / self.file).is_file() else "from pytorch.org"
        from huggingface_hub import try_to_load_from_cache

        return "here" if isinstance(try_to_load_from_cache(self.name, "config.json"), str) else "from the hub"


CATALOGUE = (
    Entry("logmel", 16_000, 256, "0", "statistics of the log-mel spectrum, the default"),
    Entry("yamnet", 16_000, 1024, "0", "AudioSet sound events, Apache-2.0"),
    Entry("facebook/wav2vec2-base", 16_000, 768, "0-12", "speech, LibriSpeech 960 h, Apache-2.0"),
    Entry("facebook/wav2vec2-large-xlsr-53", 16_000, 1024, "0-24", "speech, 53 languages, Apache-2.0"),
    Entry("facebook/hubert-base-ls960", 16_000, 768, "0-12", "speech, LibriSpeech 960 h, Apache-2.0"),
    Entry("facebook/hubert-large-ll60k", 16_000, 1024, "0-24", "speech, Libri-Light 60 000 h, Apache-2.0"),
    Entry("ntu-spml/distilhubert", 16_000, 768, "0-2", "HuBERT distilled to two layers, Apache-2.0"),
    Entry("microsoft/wavlm-base-plus", 16_000, 768, "0-12", "speech and speakers, 94 000 h"),
    Entry("microsoft/wavlm-large", 16_000, 1024, "0-24", "speech and speakers, 94 000 h"),
    Entry(
        "WAV2VEC2_BASE", 16_000, 768, "0-12", "torchaudio, LibriSpeech 960 h, MIT", "wav2vec2_fairseq_base_ls960.pth"
    ),
    Entry("HUBERT_BASE", 16_000, 768, "0-12", "torchaudio, LibriSpeech 960 h, MIT", "hubert_fairseq_base_ls960.pth"),
    Entry("WAVLM_BASE_PLUS", 16_000, 768, "0-12", "torchaudio, speech and speakers, 94 000 h", "wavlm_base_plus.pth"),
    Entry("WAV2VEC2_XLSR_300M", 16_000, 1024, "0-24", "torchaudio, 128 languages, MIT", "wav2vec2_xlsr_300m.pth"),
)
