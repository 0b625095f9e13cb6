"""fast: Wav2Vec2, HuBERT and their like in a forward pass of our own; the same numbers, several times as fast.

The weights are those of a loaded reference extractor, transformers' or torchaudio's; what is left out is work. Nothing
is computed on padding: the frames of all clips lie one behind the other, [N, D], for everything but attention and the
positional convolution. And no numbers go through memory that can be finished while they are at hand (`onednn`).

Letters: B clips, S samples, T frames of a clip, N frames of all clips, C channels, D dim, H heads.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from embedx.errors import UsageError
from embedx.extractors import huggingface, torchaudio
from embedx.extractors.base import Extractor
from embedx.extractors.convolutions import Convolutions
from embedx.extractors.masking import count_frames, normalise
from embedx.extractors.onednn import Layer, convolution, linear

TYPES = ("wav2vec2", "hubert", "unispeech", "unispeech-sat")  # of transformers, built alike; DistilHuBERT is a hubert
SUPPORTED = (
    "Wav2Vec2 (with XLS-R), HuBERT, DistilHuBERT, UniSpeech and UniSpeech-SAT of transformers, and the bundles of "
    "torchaudio but for WavLM"
)
STRETCH = 32  # frames that the positional convolution makes at a time; short clips fill few, long ones many
Runs = Sequence[tuple[int, int]]  # neighbouring clips of equal length: (clips, frames of each)


def hasten(extractor: Extractor, *, required: bool = False) -> Extractor:
    """Return the fast extractor with the weights of another, or the other itself where there is no fast one for it.

    Raises:
        UsageError: there is none, and it is required.
    """
    if isinstance(extractor, huggingface.Transformer | torchaudio.BundleEncoder) and is_supported(extractor):
        return Fast(extractor)
    if required:
        raise UsageError(f"There is no fast backend for this model. It has one: {SUPPORTED}. Use auto or reference.")
    return extractor


def is_supported(extractor: huggingface.Transformer | torchaudio.BundleEncoder) -> bool:
    """Tell whether a speech transformer is built as it is computed here."""
    if isinstance(extractor, torchaudio.BundleEncoder):
        return not extractor.biased
    config = extractor.model.config
    adapted = any(getattr(block, "adapter_layer", None) is not None for block in extractor.model.encoder.layers)
    activations = {config.feat_extract_activation, config.hidden_act}
    return config.model_type in TYPES and activations == {"gelu"} and not adapted


class Fast:
    """The extractor that a reference extractor is, with the same attributes and the same frames."""

    backend = "fast"

    def __init__(self, reference: huggingface.Transformer | torchaudio.BundleEncoder) -> None:
        self.reference = reference
        self.sample_rate, self.frame_rate = reference.sample_rate, reference.frame_rate
        self.layers, self.dim, self.weights = reference.layers, reference.dim, reference.weights
        self.min_samples, self.max_samples = reference.min_samples, reference.max_samples
        self.networks: dict[torch.dtype, Network] = {}
        position = transformer_of(reference.model).pos_conv_embed
        position.conv = resolve_weight_norm(position.conv)

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the asked hidden states, in float32; see `Extractor.frames`.

        Under autocast products are of its type; what is normalised or added up along the layers stays in float32.
        """
        kind, reference = waves.device.type, self.reference
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        if dtype not in self.networks:
            self.networks[dtype] = Network(reference.model, dtype)
        valid = torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]  # [B, S]
        if reference.normalise:
            waves = normalise(waves, lengths, valid, reference.epsilon)
        counts = count_frames(lengths, reference.strides)  # [B]
        sizes = counts.tolist()
        states = self.networks[dtype].states(waves.masked_fill(~valid, 0.0), lengths.tolist(), sizes)
        for layer, x in zip(range(layers[-1] + 1), states, strict=False):  # x [N, D]
            if layer in layers:
                yield layer, pad_sequence(list(torch.split(x, sizes)), batch_first=True), counts  # [B, T, D]

    def to(self, device: str) -> Self:
        """Move to a device and return self."""
        self.reference.to(device)
        self.networks.clear()
        return self

    def share_memory(self) -> Self:
        """Put the weights where processes that this extractor is sent to use them without a copy, and return self."""
        self.reference.model.share_memory()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"networks": {}}


class Network:
    """The encoder for one type of numbers. Base models normalise behind each half of a block, large ones before it."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        transformer = transformer_of(model)
        bundle, blocks = transformer is not model.encoder, transformer.layers
        self.norm_first = blocks[0].layer_norm_first if bundle else model.config.do_stable_layer_norm
        self.convolutions = Convolutions(model.feature_extractor.conv_layers, dtype)
        self.projection = Projection((model.encoder if bundle else model).feature_projection, dtype)
        self.position = Position(transformer.pos_conv_embed, dtype)
        self.norm = transformer.layer_norm
        self.blocks = [Block(block, dtype, self.norm_first) for block in blocks]

    def states(self, waves: Tensor, lengths: Sequence[int], counts: Sequence[int]) -> Iterator[Tensor]:
        """Yield the hidden states [N, D] of waves [B, S] that are zero behind their lengths, from layer 0 on."""
        runs = [(len(list(same)), count) for count, same in groupby(counts)]
        x = self.projection(self.convolutions(waves, lengths, counts))  # [N, C] -> [N, D]
        x = x + self.position(x, counts)
        yield (x := x if self.norm_first else self.norm(x))
        for block in self.blocks[:-1]:
            yield (x := block(x, runs))
        x = self.blocks[-1](x, runs)
        yield self.norm(x) if self.norm_first else x


class Projection:
    """Features [N, C] -> [N, D]: a norm, where the model has one, and a linear."""

    def __init__(self, projection: Any, dtype: torch.dtype) -> None:
        self.norm = getattr(projection, "layer_norm", nn.Identity())
        self.linear = dense(projection.projection, dtype=dtype)
        self.dtype = dtype

    def __call__(self, x: Tensor) -> Tensor:
        """Project."""
        return self.linear(self.norm(x.float()).to(self.dtype)).float()


class Position:
    """[N, D] -> [N, D]: a grouped convolution over 128 frames around each, zeros behind both ends of a clip."""

    def __init__(self, position: Any, dtype: torch.dtype) -> None:
        conv = position.conv
        self.kernel = conv.kernel_size[0]
        self.norm = getattr(position, "batch_norm", None) or nn.Identity()
        self.convolution = convolution(conv.weight.to(dtype), conv.bias.to(dtype), conv.groups, STRETCH)
        self.dtype = dtype

    def __call__(self, x: Tensor, counts: Sequence[int]) -> Tensor:
        """Return what is added for the place, clip by clip and a stretch at a time."""
        before, out = self.kernel // 2, []
        for clip in torch.split(self.norm(x).to(self.dtype), list(counts)):  # [T, D]
            parts = -(-len(clip) // STRETCH)
            padded = F.pad(clip, (0, 0, before, parts * STRETCH + self.kernel - 1 - before - len(clip)))
            seen = padded.unfold(0, STRETCH + self.kernel - 1, STRETCH).transpose(1, 2)  # [parts, STRETCH + K - 1, D]
            out.append(self.convolution(seen.contiguous()).flatten(0, 1)[: len(clip)])  # [T, D]
        return torch.cat(out)


class Block:
    """A block of the transformer: [N, D] -> [N, D], attention within each clip and a network for each frame."""

    def __init__(self, block: Any, dtype: torch.dtype, norm_first: bool) -> None:
        attention, network = block.attention, block.feed_forward
        self.heads = attention.num_heads
        self.query_key_value = dense(attention.q_proj, attention.k_proj, attention.v_proj, dtype=dtype)
        self.out = dense(attention.out_proj, dtype=dtype)
        self.widen = dense(network.intermediate_dense, dtype=dtype, gelu=True)
        self.narrow = dense(network.output_dense, dtype=dtype)
        self.norm, self.final_norm = block.layer_norm, block.final_layer_norm
        self.norm_first, self.dtype = norm_first, dtype

    def __call__(self, x: Tensor, runs: Runs) -> Tensor:
        """Return the next layer."""
        if self.norm_first:
            x = x + self.attend(self.norm(x), runs)
            return x + self.feed(self.final_norm(x))
        x = self.norm(x + self.attend(x, runs))
        normed: Tensor = self.final_norm(x + self.feed(x))
        return normed

    def attend(self, x: Tensor, runs: Runs) -> Tensor:
        """[N, D] -> [N, D], each frame from those of its clip."""
        out = []
        for one in per_run(self.query_key_value(x.to(self.dtype)), runs):  # [b, T, 3 D]
            q, k, v = one.view(*one.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # each [b, H, T, D / H]
            heard = F.scaled_dot_product_attention(q, k, v)  # [b, H, T, D / H]
            out.append(heard.transpose(1, 2).flatten(2).flatten(0, 1))  # [b * T, D]
        return self.out(torch.cat(out))

    def feed(self, x: Tensor) -> Tensor:
        """[N, D] -> [N, 4 D] -> [N, D]."""
        return self.narrow(self.widen(x.to(self.dtype)))


def transformer_of(model: Any) -> Any:
    """Return the module with the positional convolution and the blocks; torchaudio's lies one level further down."""
    return getattr(model.encoder, "transformer", model.encoder)


def resolve_weight_norm(conv: Any) -> nn.Conv1d:
    """Return a convolution with the weights that a weight-normed one works with; that one could not be pickled."""
    plain = nn.Conv1d(conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding, groups=conv.groups)
    plain.load_state_dict({"weight": conv.weight, "bias": conv.bias})
    return plain.requires_grad_(False)


def dense(*modules: nn.Linear, dtype: torch.dtype, gelu: bool = False) -> Layer:
    """Return several linears of the library as one, their outputs side by side."""
    if len(modules) == 1:
        return linear(modules[0].weight.to(dtype), modules[0].bias.to(dtype), gelu=gelu)
    weight, bias = torch.cat([one.weight for one in modules]), torch.cat([one.bias for one in modules])
    return linear(weight.to(dtype), bias.to(dtype), gelu=gelu)


def per_run(x: Tensor, runs: Runs) -> Iterator[Tensor]:
    """Yield neighbouring clips of equal length as [b, T, D], views of x [N, D]."""
    parts = torch.split(x, [clips * frames for clips, frames in runs])
    for part, (clips, frames) in zip(parts, runs, strict=True):
        yield part.view(clips, frames, -1)
