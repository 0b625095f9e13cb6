"""huggingface: speech transformers over the waveform, by hub id or local folder, through transformers' own forward.

Wav2Vec2 (with XLS-R and MMS), Wav2Vec2-Conformer, HuBERT, DistilHuBERT, WavLM, data2vec-audio, UniSpeech and
UniSpeech-SAT. Everything is the library's, with an attention mask, but for what would let the padding of a batch in:
the GroupNorm behind the first convolution of base models, and convolutions that upstream runs unmasked.
"""

import logging
import math
import warnings
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from embedx.extractors import spectrogram
from embedx.extractors.base import Extractor, hash_weights
from embedx.extractors.checkpoints import Checkpoint, load_checkpoint

log = logging.getLogger(__name__)

WAVEFORM_TYPES = (  # DistilHuBERT is a "hubert" with two layers; XLS-R and MMS are "wav2vec2"
    *("wav2vec2", "wav2vec2-conformer", "hubert", "wavlm"),
    *("data2vec-audio", "unispeech", "unispeech-sat"),
)


class MaskedGroupNorm(nn.Module):
    """GroupNorm over the valid frames of each clip alone: [B, C, T] -> [B, C, T], zero behind `lengths` [B].

    Each clip gets the library's own group_norm on its own slice, so its frames equal those of the clip run alone.
    """

    lengths: Tensor

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Normalise clip by clip."""
        out = torch.zeros_like(x)
        for clip, result, length in zip(x, out, self.lengths.tolist(), strict=True):
            result[:, :length] = self.norm(clip[None, :, :length])[0]
        return out


class Transformer:
    """Hidden states [B, T, D] of a speech transformer, 50 frames a second.

    Layer 0 is the input of the transformer, layer n the output of its n-th block; the last is the model's
    `last_hidden_state` (with the closing layer norm, where a model has one).
    """

    max_samples: int | None = None

    def __init__(self, checkpoint: Checkpoint) -> None:
        front_end = checkpoint.front_end
        if front_end is None:
            log.warning("%s has no preprocessor_config.json: waves are normalised, as is usual.", checkpoint.place)
            front_end = {}
        self.model = checkpoint.model
        self.model.adapter = None  # it would shorten the last hidden state of models tuned for translation
        config = self.model.config
        self.normalise = bool(front_end.get("do_normalize", True))
        self.sample_rate = int(front_end.get("sampling_rate", 16_000))
        self.layers = tuple(range(config.num_hidden_layers + 1))
        self.dim = int(config.hidden_size)
        self.strides = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.frame_rate = self.sample_rate / math.prod(stride for _, stride in self.strides)
        self.min_samples = receptive_field(self.strides)
        self.weights = hash_weights(self.model.state_dict(), checkpoint.settings | {"normalise": self.normalise})
        self.norms = mask_group_norms(self.model.feature_extractor)
        self.mask = FrameMask()
        mask_inputs(self.model, self.mask)

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the asked hidden states; see `Extractor.frames`."""
        valid = torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]  # [B, S]
        if self.normalise:
            waves = normalise(waves, lengths, valid)
        counts = count_frames(lengths, self.strides)
        self.mask.valid = (torch.arange(int(counts.max()), device=waves.device) < counts[:, None])[:, None]
        waves = waves[:, : int(lengths.max())]
        for norm in self.norms:
            norm.lengths = count_frames(lengths, self.strides[:1])
        hidden = any(layer != self.layers[-1] for layer in layers)
        with warnings.catch_warnings():  # WavLM's own forward calls torch in a way that torch warns of
            warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
            output = self.model(waves, attention_mask=valid.long(), output_hidden_states=hidden)
        for layer in layers:
            last = layer == self.layers[-1]
            yield layer, output.last_hidden_state if last else output.hidden_states[layer], counts

    def to(self, device: str) -> Self:
        """Move to a device and return self."""
        self.model.to(device)
        return self


def normalise(waves: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
    """Give each wave [B, S] zero mean and unit variance over its own valid samples; padding stays zero.

    Source: transformers' Wav2Vec2FeatureExtractor, which adds 1e-7 to the variance.
    """
    count = lengths[:, None]
    centred = (waves - waves.sum(dim=1, keepdim=True, dtype=torch.float64) / count) * valid
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return (centred / torch.sqrt(variance + 1e-7)).float()


def count_frames(lengths: Tensor, strides: tuple[tuple[int, int], ...]) -> Tensor:
    """Return how many frames unpadded convolutions make of `lengths` samples.

    >>> count_frames(torch.tensor([400, 16000]), ((10, 5),) + 4 * ((3, 2),) + 2 * ((2, 2),))
    tensor([ 1, 49])
    """
    for kernel, stride in strides:
        lengths = (lengths - kernel) // stride + 1
    return lengths


def receptive_field(strides: tuple[tuple[int, int], ...]) -> int:
    """Return how many samples one frame sees.

    >>> receptive_field(((10, 5),) + 4 * ((3, 2),) + 2 * ((2, 2),))
    400
    """
    samples = 1
    for kernel, stride in reversed(strides):
        samples = (samples - 1) * stride + kernel
    return samples


def mask_group_norms(feature_extractor: nn.Module) -> list[MaskedGroupNorm]:
    """Replace every GroupNorm among the convolutions, and return the replacements (one, or none)."""
    masked: list[MaskedGroupNorm] = []
    for layer in list(feature_extractor.modules()):
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            masked.append(MaskedGroupNorm(norm))
            layer.layer_norm = masked[-1]
    return masked


def mask_inputs(model: nn.Module, mask: "FrameMask") -> None:
    """Zero the padding in front of convolutions over time that upstream runs without a mask.

    They are the depthwise convolutions of conformers and the stacked positional convolutions of data2vec: alone, a
    clip meets zeros behind its end there, and so it does in a batch.
    """
    for name, module in model.named_modules():
        if name.endswith("depthwise_conv") or (".pos_conv_embed.layers." in f".{name}" and name.endswith(".conv")):
            module.register_forward_pre_hook(mask)


class FrameMask:
    """Multiplies the input [B, C, T] of a module with the mask [B, 1, T] of valid frames."""

    valid: Tensor

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Be the hook."""
        return (inputs[0] * self.valid, *inputs[1:])


def load(source: str, *, allow_pickle: bool = False) -> Extractor:
    """Load a checkpoint by hub id (`name` or `name@revision`) or from a local folder; see `load_checkpoint`."""
    checkpoint = load_checkpoint(source, (*WAVEFORM_TYPES, *spectrogram.FAMILIES), allow_pickle)
    kind = checkpoint.settings["model_type"]
    if kind in spectrogram.FAMILIES:
        return spectrogram.FAMILIES[kind](checkpoint)
    return Transformer(checkpoint)
