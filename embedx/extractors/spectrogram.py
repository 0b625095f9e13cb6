"""Encoders of transformers that use a spectrogram: Wav2Vec2-BERT, AST, Whisper's encoder, CLAP's audio encoder.

The library's own feature extractor computes the spectrogram of each clip separately, so it does not depend on the
batch. AST and Whisper always run on a padded input of 10.24 s and 30 s; only frames with audio of the clip count as
valid. Longer clips are cut into windows, because of `max_samples`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedx.errors import ModelError
from embedx.extractors.base import Extractor, hash_weights
from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.devices import send
from embedx.extractors.front_ends import MISSING, check_fit, check_rate, check_spectrogram_settings
from embedx.extractors.texts import load_tokenizer, tokenize

Prepared = tuple[int, dict[str, Any]]  # samples of a clip, and the feature extractor's arrays with a batch of one
FRAME, HOP = 400, 160  # samples of a 25 ms frame and a 10 ms hop at 16 kHz, in all front ends except CLAP's


class Spectrogram:
    """Base class of these encoders: the library's feature extractor, run on one clip at a time."""

    front_end_class: str  # the class of transformers; the name in the checkpoint is not used
    frame_rate: float
    layers: tuple[int, ...]
    dim: int
    min_samples = FRAME
    max_samples: int | None = None
    memory = 1.0  # of a second of sound, relative to HuBERT-base; see benchmarks/memory.py

    def __init__(self, checkpoint: Checkpoint) -> None:
        import transformers

        if checkpoint.front_end is None:
            raise ModelError(
                f"{checkpoint.place} has {MISSING}. It defines how the spectrogram is computed, so copy the file from "
                "where the model was published."
            )
        check_spectrogram_settings(checkpoint.place, checkpoint.front_end)
        self.checkpoint = checkpoint
        self.model = checkpoint.model
        self.front_end = getattr(transformers, self.front_end_class)(**checkpoint.front_end)
        self.sample_rate = check_rate(checkpoint.place, self.front_end.sampling_rate)
        settings = checkpoint.settings | {"front_end": checkpoint.front_end}
        self.weights = hash_weights(self.model.state_dict(), settings)

    def _check_fit(self, name: str, expected: str, accepted: Any) -> None:
        """Raise ModelError unless a size of the front end is the one that the model accepts."""
        check_fit(self.checkpoint.place, name, getattr(self.front_end, name), expected, accepted)

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the hidden states of the requested layers; see `Extractor.frames`."""
        counts = lengths.tolist()
        clips = [wave[:count] for wave, count in zip(waves.float().cpu().numpy(), counts, strict=True)]
        yield from self.encode(self.prepare(clips), layers)

    def prepare(self, clips: Sequence[NDArray[np.float32]]) -> list[Prepared]:
        """Return what the model takes of each clip [S]: its length, and the output of the feature extractor."""
        with torch.autocast("cpu", enabled=False):  # some feature extractors use torch, and must stay in float32
            return [
                (len(clip), dict(self.front_end(clip, sampling_rate=self.sample_rate, return_tensors="np")))
                for clip in clips
            ]

    def encode(self, prepared: Sequence[Prepared], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the hidden states of the requested layers for clips of `prepare`; see `Extractor.frames`."""
        raise NotImplementedError

    def send(self, array: NDArray[Any]) -> Tensor:
        """Return an array on the device of the model, without waiting for the copy."""
        return send(torch.from_numpy(array), self.model.device)

    def run(self, features: Tensor, layers: tuple[int, ...], **options: Any) -> Iterator[tuple[int, Tensor]]:
        """Run the model and yield the requested layers; hidden states are kept only if one of them is needed."""
        hidden = any(layer != self.layers[-1] for layer in layers)
        output = self.model(features, output_hidden_states=hidden, **options)
        for layer in layers:
            yield layer, output.last_hidden_state if layer == self.layers[-1] else output.hidden_states[layer]

    def padded_samples(self, length: int) -> int:
        """Return the number of samples that are computed for a clip: always the maximum input, if there is one."""
        return self.max_samples or max(length, self.min_samples)

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.model.to(device)
        return self


class Wav2Vec2Bert(Spectrogram):
    """Hidden states [B, T, D] of a conformer over pairs of mel frames, 50 per second."""

    front_end_class = "SeamlessM4TFeatureExtractor"
    min_samples = FRAME + HOP  # a pair of frames

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.model.adapter = None
        self.layers = tuple(range(self.model.config.num_hidden_layers + 1))
        self.dim = int(self.model.config.hidden_size)
        self.frame_rate = self.sample_rate / HOP / self.front_end.stride
        size = self.model.config.feature_projection_input_dim // self.front_end.stride
        self._check_fit("num_mel_bins", f"{size} (feature_projection_input_dim / stride)", size)

    def encode(self, prepared: Sequence[Prepared], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the hidden states of the requested layers for clips of `prepare`; see `Extractor.frames`."""
        clips = [features["input_features"][0][features["attention_mask"][0] == 1] for _, features in prepared]
        lengths = np.array([len(clip) for clip in clips])
        features = np.zeros((len(clips), lengths.max(), clips[0].shape[1]), np.float32)
        for row, clip in zip(features, clips, strict=True):
            row[: len(clip)] = clip
        mask = np.arange(features.shape[1]) < lengths[:, None]
        counts = self.send(lengths)
        for layer, states in self.run(self.send(features), layers, attention_mask=self.send(mask.astype(np.int64))):
            yield layer, states, counts


class AudioSpectrogramTransformer(Spectrogram):
    """Patch tokens [B, T * F, D] of AST in the order of time, with F = 12 tokens (frequency bands) for every 0.1 s.

    The first two tokens (class and distillation) are left out.
    """

    front_end_class = "ASTFeatureExtractor"

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config = self.model.config
        self.layers = tuple(range(config.num_hidden_layers + 1))
        self.dim = int(config.hidden_size)
        self.patch, self.stride = int(config.patch_size), int(config.time_stride)
        self.rows = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1  # F
        self.columns = (config.max_length - config.patch_size) // config.time_stride + 1  # T
        self.frame_rate = self.sample_rate / HOP / self.stride * self.rows
        self.max_samples = (config.max_length - 1) * HOP + FRAME
        self._check_fit("num_mel_bins", f"{config.num_mel_bins} (num_mel_bins)", config.num_mel_bins)
        self._check_fit("max_length", f"{config.max_length} (max_length)", config.max_length)
        self.min_samples = (self.patch - 1) * HOP + FRAME

    def encode(self, prepared: Sequence[Prepared], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the hidden states of the requested layers for clips of `prepare`; see `Extractor.frames`."""
        inputs = np.concatenate([features["input_values"] for _, features in prepared])
        mel_frames = (np.array([length for length, _ in prepared]) - FRAME) // HOP + 1
        counts = self.send(np.minimum((mel_frames - self.patch) // self.stride + 1, self.columns) * self.rows)
        for layer, states in self.run(self.send(inputs), layers):
            tokens = states[:, -self.rows * self.columns :].reshape(
                len(states), self.rows, self.columns, -1
            )  # [B, F, T, D]
            yield layer, tokens.transpose(1, 2).flatten(1, 2), counts


class WhisperEncoder(Spectrogram):
    """Hidden states [B, T, D] of Whisper's encoder, 50 per second, for clips of at most 30 s."""

    front_end_class = "WhisperFeatureExtractor"

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.model = checkpoint.model.get_encoder()
        self.layers = tuple(range(self.model.config.encoder_layers + 1))
        self.dim = int(self.model.config.d_model)
        self.step = 2 * int(self.front_end.hop_length)  # samples: the second convolution has stride 2
        self.frame_rate = self.sample_rate / self.step
        self.max_samples = int(self.front_end.n_samples)
        bands, frames = self.model.config.num_mel_bins, 2 * self.model.config.max_source_positions
        self._check_fit("feature_size", f"{bands} (num_mel_bins)", bands)
        self._check_fit("nb_max_frames", f"{frames} (2 * max_source_positions)", frames)

    def encode(self, prepared: Sequence[Prepared], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the hidden states of the requested layers for clips of `prepare`; see `Extractor.frames`."""
        inputs = np.concatenate([features["input_features"] for _, features in prepared])
        lengths = np.array([length for length, _ in prepared])
        counts = self.send((lengths + self.step - 1) // self.step)
        for layer, states in self.run(self.send(inputs), layers):
            yield layer, states, counts


class ClapAudio(Spectrogram):
    """The audio embedding [B, 1, D] of CLAP, from a checkpoint without the text encoder."""

    front_end_class = "ClapFeatureExtractor"
    layers: tuple[int, ...] = (0,)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.dim = int(self.model.config.projection_dim)
        self.max_samples = int(self.front_end.nb_max_samples)
        config = getattr(self.model.config, "audio_config", self.model.config)
        self._check_fit("feature_size", f"{config.num_mel_bins} (num_mel_bins)", config.num_mel_bins)
        longest = config.spec_size * (config.spec_size // config.num_mel_bins)  # frames of the square image
        if self.max_samples // self.front_end.hop_length >= longest:
            check_fit(checkpoint.place, "max_length_s", self.front_end.max_length_s, f"{longest} frames at most", None)
        if (self.front_end.truncation == "fusion") != config.enable_fusion:
            expected = "fusion" if config.enable_fusion else "rand_trunc"
            self._check_fit("truncation", f"{expected} (enable_fusion)", expected)
        self.frame_rate = self.sample_rate / self.max_samples

    def encode(self, prepared: Sequence[Prepared], layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield one frame for each clip of `prepare`; see `Extractor.frames`."""
        features = self.send(np.concatenate([features["input_features"] for _, features in prepared]))
        longer = self.send(np.concatenate([np.atleast_2d(features["is_longer"]) for _, features in prepared]))
        vectors = self.model.audio_projection(self.model.audio_model(features, is_longer=longer).pooler_output)
        counts = torch.ones(len(prepared), dtype=torch.int64, device=features.device)
        yield 0, torch.nn.functional.normalize(vectors, dim=-1)[:, None], counts


class Clap(ClapAudio):
    """The audio embedding [B, 1, D] of CLAP, which can be compared with its text embeddings."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.text_scale = float(self.model.logit_scale_a.exp())  # a cosine times this is the logit of a text

    def embed_text(self, texts: list[str]) -> Tensor:
        """Return the embeddings [N, D] of texts; a text that describes a sound has a high cosine with its embedding.

        Raises:
            ModelError: the checkpoint has no tokenizer.
            UsageError: a text is longer than the model's maximum input.
        """
        limit = self.model.config.text_config.max_position_embeddings - 2  # RoBERTa's positions start at 2
        tokens = tokenize(load_tokenizer(self.checkpoint), texts, limit)
        features: Tensor = self.model.get_text_features(**tokens.to(self.model.device)).pooler_output
        return features


FAMILIES: dict[str, Callable[[Checkpoint], Extractor]] = {
    "wav2vec2-bert": Wav2Vec2Bert,
    "audio-spectrogram-transformer": AudioSpectrogramTransformer,
    "whisper": WhisperEncoder,
    "clap": Clap,
    "clap_audio_model": ClapAudio,
}
