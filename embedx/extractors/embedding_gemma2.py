"""EmbeddingGemma 2: an embedding of each clip, in one space with texts, by a text model that takes audio tokens too."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedx.errors import ModelError
from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.equal_lengths import EqualLengths
from embedx.extractors.spectrogram import Prepared
from embedx.extractors.texts import load_tokenizer, tokenize

MARKS = ("boa_token", "audio_token", "eoa_token")  # of the tokenizer: begin of audio, one token of it, end
TOKEN_S = 0.04  # seconds of an audio token: four mel frames of 10 ms
MAX_TOKENS = 750  # audio tokens of a clip: `audio_seq_length` of the library's processor


class EmbeddingGemma2(EqualLengths):
    """The embedding [B, 1, D] of a clip: the mean of the last states of all its tokens, as of a text."""

    front_end_class = "Gemma4AudioFeatureExtractor"
    layers: tuple[int, ...] = (0,)
    precisions = ("float32", "bfloat16")  # the library limits states to 1e10, which float16 does not have

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config = self.model.config
        if config.audio_config is None:
            raise ModelError(f"{checkpoint.place} has no audio tower (audio_config), so it embeds no sound.")
        self.dim = int(config.text_config.embedding_dim)
        self.min_samples = int(self.front_end.frame_length + self.front_end.hop_length)
        self.max_samples = round(MAX_TOKENS * TOKEN_S * self.sample_rate)
        self.frame_rate = self.sample_rate / self.max_samples

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, which the tokens around audio need too."""
        tokenizer = load_tokenizer(self.checkpoint)
        missing = [name for name in MARKS if getattr(tokenizer, name, None) is None]
        if missing:
            raise ModelError(
                f"The tokenizer in {self.checkpoint.place} has no {', '.join(missing)}, so it is for text."
            )
        return tokenizer

    def prepare(self, clips: Sequence[NDArray[np.float32]]) -> list[Prepared]:
        """Return the mel frames of each clip and its tokens, of which the library's processor makes a prompt."""
        from transformers import EmbeddingGemma2Processor

        begin, audio, end = (getattr(self.tokenizer, name) for name in MARKS)
        prepared = []
        for clip in clips:
            arrays = dict(self.front_end([clip], return_tensors="np"))
            count = EmbeddingGemma2Processor.compute_sscp(np.asarray(arrays["input_features_mask"][0]))
            tokens = self.tokenizer([begin + audio * count + end], return_tensors="np")
            arrays |= {name: tokens[name] for name in ("input_ids", "attention_mask")}
            prepared.append((len(clip), arrays))
        return prepared

    def states(self, inputs: Mapping[str, Tensor], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor]]:
        """Yield the embeddings of clips of one length; see `EqualLengths.states`."""
        yield 0, self.model(**inputs).last_hidden_state.mean(dim=1, keepdim=True)

    def embed_text(self, texts: list[str]) -> Tensor:
        """Return the embeddings [N, D] of texts; a text that describes a sound has a high cosine with its embedding.

        Raises:
            ModelError: the checkpoint has no tokenizer.
            UsageError: a text is longer than the model's maximum input.
        """
        embeddings = []
        for text in texts:  # one at a time, so that no text depends on the padding of another one
            tokens = tokenize(self.tokenizer, [text], self.model.config.text_config.max_position_embeddings)
            ids = tokens["input_ids"].to(self.model.device)
            embeddings.append(self.model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state.mean(dim=1))
        return torch.cat(embeddings)
