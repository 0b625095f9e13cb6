"""PE-Audio (Perception Encoder): an embedding of each clip, in one space with texts."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.codecs import DAC_BYTES, memory_of
from embedx.extractors.equal_lengths import EqualLengths
from embedx.extractors.texts import load_tokenizer, tokenize


class CodecFeatures(nn.Module):
    """The first part of PE-Audio's encoder: waves [B, 1, S] and their mask [B, S] -> states [B, T, D] and mask [B, T].

    The library's own module switches cuDNN off and on for the whole process, and fails where another thread or the
    exact float32 of embedx has set cuDNN. This one has its weights and computes the same.
    """

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.dac_encoder, self.bottleneck, self.data_proj = module.dac_encoder, module.bottleneck, module.data_proj
        self.hop = int(module.config.dac_config.hop_length)

    def forward(self, waves: Tensor, padding_mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the states and their mask."""
        states = self.data_proj(self.bottleneck(self.dac_encoder(waves)).transpose(1, 2))
        return states, None if padding_mask is None else padding_mask[:, :: self.hop]


class PeAudio(EqualLengths):
    """The audio embedding [B, 1, D] of PE-Audio, which can be compared with its text embeddings."""

    front_end_class = "PeAudioFeatureExtractor"
    layers: tuple[int, ...] = (0,)
    text_by_cosine = False  # the model compares sounds with texts by the inner product

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        encoder, config = self.model.audio_encoder, self.model.config
        encoder.embedder = CodecFeatures(encoder.embedder)
        hop = int(config.audio_config.dac_config.hop_length)
        self.dim = int(config.text_config.hidden_size)
        self._check_fit("feature_size", "1, because it takes mono sound", 1)
        self._check_fit("hop_length", f"{hop} (downsampling_ratios of dac_config)", hop)
        self.memory = memory_of(DAC_BYTES, self.sample_rate)  # it begins with the encoder of a DAC
        self.text_scale = float(self.model.text_audio_logit_scale) or 1.0  # 0 in a model that was not trained
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
