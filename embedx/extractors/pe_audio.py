"""PE-Audio (Perception Encoder): an embedding of each clip, in one space with texts."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.codecs import DAC_BYTES, memory_of
from embedx.extractors.equal_lengths import EqualLengths
from embedx.extractors.texts import load_tokenizer, tokenize


class PeAudio(EqualLengths):
    """The audio embedding [B, 1, D] of PE-Audio, which can be compared with its text embeddings."""

    front_end_class = "PeAudioFeatureExtractor"
    layers: tuple[int, ...] = (0,)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config = self.model.config
        hop = int(config.audio_config.dac_config.hop_length)
        self.dim = int(config.text_config.hidden_size)
        self._check_fit("feature_size", "1, because it takes mono sound", 1)
        self._check_fit("hop_length", f"{hop} (downsampling_ratios of dac_config)", hop)
        self.memory = memory_of(DAC_BYTES, self.sample_rate)  # it begins with the encoder of a DAC
        self.min_samples = hop
        self.max_samples = hop * config.audio_config.max_position_embeddings
        self.frame_rate = self.sample_rate / self.max_samples

    def states(self, inputs: Mapping[str, Tensor], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
        """Yield the embeddings of clips of one length; see `EqualLengths.states`."""
        yield 0, self.model.get_audio_embeds(**inputs)[:, None]

    def embed_text(self, texts: list[str]) -> Tensor:
        """Return the embeddings [N, D] of texts; a text that describes a sound has a high cosine with its embedding.

        Raises:
            ModelError: the checkpoint has no tokenizer.
            UsageError: a text is longer than the model's maximum input.
        """
        tokenizer, text_model = load_tokenizer(self.checkpoint), self.model.text_model
        embeddings = []
        for text in texts:  # one at a time, so that no text depends on the padding of another one
            tokens = tokenize(tokenizer, [text], text_model.config.max_position_embeddings).to(self.model.device)
            output = text_model(tokens["input_ids"], tokens["attention_mask"], output_hidden_states=True)
            embeddings.append(self.model.text_audio_head(output.hidden_states[-1][:, 0]))
        return torch.cat(embeddings)
