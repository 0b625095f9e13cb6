"""A built-in forward pass of Wav2Vec2, HuBERT and similar models: the same numbers, several times as fast.

The weights are those of a loaded reference extractor of transformers or torchaudio. The forward pass is faster for two
reasons. Nothing is computed on padding: the frames of all clips are placed one after the other, [N, D], except for
attention and the positional convolution. And operations are fused, so that fewer intermediate results go through memory
(`onednn`).

Letters: B clips, S samples, T frames of a clip, N frames of all clips, C channels, D dim, H heads.
"""

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedx.errors import UsageError
from embedx.extractors import huggingface, torchaudio
from embedx.extractors.base import Extractor
from embedx.extractors.fast import gpu
from embedx.extractors.fast.checked import Kernels, Layer
from embedx.extractors.fast.convolutions import Convolutions
from embedx.extractors.fast.norms import Join, pick_join
from embedx.extractors.fast.onednn import convolution, linear
from embedx.extractors.fast.packing import Batched, Packing
from embedx.extractors.masking import count_frames

TYPES = ("wav2vec2", "hubert", "unispeech", "unispeech-sat")  # model types of transformers with the same structure
SUPPORTED = (
    "Wav2Vec2 (with XLS-R), HuBERT, DistilHuBERT, UniSpeech and UniSpeech-SAT of transformers, and the bundles of "
    "torchaudio except WavLM"
)
STRETCH = 32  # frames that the positional convolution computes together; more would waste work on short clips
BUILDING = threading.Lock()  # held while a network is built, so that several threads do not build it twice


def accelerate(extractor: Extractor, *, required: bool = False) -> Extractor:
    """Return the fast version of an extractor.

    Args:
        extractor: the reference extractor.
        required: whether an extractor without a fast version is an error; default False.

    Returns:
        The fast extractor, or the given one if there is no fast version of it.

    Raises:
        UsageError: there is no fast version, and it is required.
    """
    if isinstance(extractor, huggingface.Transformer | torchaudio.BundleEncoder) and is_supported(extractor):
        return FastEncoder(extractor)
    if required:
        raise UsageError(
            f"The fast backend does not support this model. It supports: {SUPPORTED}. Use auto or reference."
        )
    return extractor


def is_supported(extractor: huggingface.Transformer | torchaudio.BundleEncoder) -> bool:
    """Tell whether a speech transformer has the structure that is implemented here."""
    if isinstance(extractor, torchaudio.BundleEncoder):
        return not extractor.is_wavlm
    config = extractor.model.config
    has_adapters = any(getattr(block, "adapter_layer", None) is not None for block in extractor.model.encoder.layers)
    activations = {config.feat_extract_activation, config.hidden_act}
    return config.model_type in TYPES and activations == {"gelu"} and not has_adapters


class FastEncoder:
    """The fast version of a reference extractor, with the same attributes and the same frames."""

    backend = "fast"
    reads_lengths = True  # the packing of clips follows from them

    def __init__(self, reference: huggingface.Transformer | torchaudio.BundleEncoder) -> None:
        self.reference = reference
        self.sample_rate, self.frame_rate = reference.sample_rate, reference.frame_rate
        self.layers, self.dim, self.weights = reference.layers, reference.dim, reference.weights
        self.min_samples, self.max_samples = reference.min_samples, reference.max_samples
        self.networks: dict[torch.dtype, Network] = {}
        position = transformer_of(reference.model).pos_conv_embed
        position.conv = resolve_weight_norm(position.conv)

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the hidden states of the given layers in float32; see `Extractor.frames`.

        Under autocast, products are computed in its type; norms and the residual sum stay in float32.
        """
        device, reference = waves.device, self.reference
        dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
        counts = count_frames(lengths, reference.strides)  # [B]
        packing = Batched(counts.tolist(), device) if self.batched(device) else Packing(counts.tolist())
        lengths = lengths.to(device, non_blocking=True)  # of pinned memory, see `Worker`; the counts are not
        counts = count_frames(lengths, reference.strides)
        waves = reference.input.prepare(waves, lengths)  # [B, S]
        states = self._network(dtype, device).states(waves, lengths, packing)
        for layer, x in zip(range(layers[-1] + 1), states, strict=False):  # x [N, D]
            if layer in layers:
                yield layer, packing.unpack(x), counts  # [B, T, D]

    def batched(self, device: torch.device) -> bool:
        """Tell whether a device computes all clips at once."""
        return device.type != "cpu"

    def _network(self, dtype: torch.dtype, device: torch.device) -> "Network":
        """Return the network for a type of numbers, and build it at its first use."""
        with BUILDING:
            if dtype not in self.networks:
                join = pick_join(device, self.dim, dtype)
                self.networks[dtype] = Network(self.reference.model, dtype, self.batched(device), join)
                if device.type == "cuda":  # other streams do not wait for the one that builds it
                    torch.cuda.synchronize(device)
        return self.networks[dtype]

    @property
    def kernels(self) -> dict[str, str]:
        """Return kind of layer -> implementation, for the layers that have run; empty on a GPU."""
        return {kind: name for each in list(self.networks.values()) for kind, name in each.kernels.used.copy().items()}

    @property
    def replaced(self) -> dict[str, str]:
        """Return kind of layer -> "A instead of B", for layers with an implementation B that failed its check."""
        networks = list(self.networks.values())
        return {kind: text for each in networks for kind, text in each.kernels.replaced.copy().items()}

    def to(self, device: str) -> Self:
        """Move to a device and return self."""
        self.reference.to(device)
        self.networks.clear()
        return self

    def share_memory(self) -> Self:
        """Move the weights to shared memory, so that other processes can use them without a copy, and return self."""
        self.reference.model.share_memory()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"networks": {}}


class Network:
    """The encoder for one type of numbers. Base models normalise after each half of a block, large ones before it."""

    def __init__(self, model: Any, dtype: torch.dtype, all_at_once: bool, join: Join) -> None:
        transformer = transformer_of(model)
        bundle, blocks = transformer is not model.encoder, transformer.layers
        self.norm_first = blocks[0].layer_norm_first if bundle else model.config.do_stable_layer_norm
        layers, position = model.feature_extractor.conv_layers, transformer.pos_conv_embed
        self.kernels = Kernels()
        self.convolutions: Any
        self.position: Any
        if all_at_once:
            self.convolutions, self.position = gpu.Convolutions(layers, dtype), gpu.Position(position, dtype)
        else:
            self.convolutions = Convolutions(layers, dtype, self.kernels)
            self.position = Position(position, dtype, self.kernels)
        self.projection = Projection((model.encoder if bundle else model).feature_projection, dtype, self.kernels)
        self.dtype, self.join = dtype, join
        last = transformer.layer_norm
        if self.norm_first:
            self.norm = blocks[0].layer_norm
            after = [Norm(block.layer_norm, keep_sum=True) for block in blocks[1:]] + [Norm(last, keep_sum=False)]
            pairs = [
                (Norm(block.final_layer_norm, keep_sum=True), norm) for block, norm in zip(blocks, after, strict=True)
            ]
        else:
            self.norm = last
            pairs = [
                (Norm(block.layer_norm, keep_sum=False), Norm(block.final_layer_norm, keep_sum=False))
                for block in blocks
            ]
        self.blocks = [
            Block(block, dtype, norms, join, self.kernels) for block, norms in zip(blocks, pairs, strict=True)
        ]

    def states(self, waves: Tensor, lengths: Tensor, packing: Packing) -> Iterator[Tensor]:
        """Yield the hidden states [N, D] from layer 0 on, for waves [B, S] that are zero after their lengths [B]."""
        x = self.projection(self.convolutions(waves, lengths, packing))  # [N, C] -> [N, D]
        x, narrow = self.join(x, self.position(x, packing), self.norm, self.dtype, self.norm_first)
        yield x
        for block in self.blocks:
            x, narrow = block(x, narrow, packing)
            yield x


class Projection:
    """Features [N, C] -> [N, D]: a norm, if the model has one, and a linear layer."""

    def __init__(self, projection: Any, dtype: torch.dtype, kernels: Kernels) -> None:
        self.norm = getattr(projection, "layer_norm", nn.Identity())
        self.linear = dense(projection.projection, dtype=dtype, kernels=kernels)
        self.dtype = dtype

    def __call__(self, x: Tensor) -> Tensor:
        """Project features to the dimension of the transformer."""
        return self.linear(self.norm(x.float()).to(self.dtype)).float()


class Position:
    """Positional embedding [N, D] -> [N, D]: a grouped convolution over 128 frames, with zeros around each clip."""

    def __init__(self, position: Any, dtype: torch.dtype, kernels: Kernels) -> None:
        conv = position.conv
        self.kernel = conv.kernel_size[0]
        self.norm = getattr(position, "batch_norm", None) or nn.Identity()
        self.convolution = convolution(conv.weight.to(dtype), conv.bias.to(dtype), conv.groups, STRETCH, kernels)
        self.dtype = dtype

    def __call__(self, x: Tensor, packing: Packing) -> Tensor:
        """Return the positional embedding, computed clip by clip and `STRETCH` frames at a time."""
        before, out = self.kernel // 2, []
        for clip in torch.split(self.norm(x).to(self.dtype), packing.counts):  # [T, D]
            parts = -(-len(clip) // STRETCH)
            padded = F.pad(clip, (0, 0, before, parts * STRETCH + self.kernel - 1 - before - len(clip)))
            seen = padded.unfold(0, STRETCH + self.kernel - 1, STRETCH).transpose(1, 2)  # [parts, STRETCH + K - 1, D]
            out.append(self.convolution(seen.contiguous()).flatten(0, 1)[: len(clip)])  # [T, D]
        return torch.cat(out)


class Norm(NamedTuple):
    """A layer norm of the residual sum; the residual goes on as the sum (large models) or as its norm (base models)."""

    module: nn.LayerNorm
    keep_sum: bool


class Block:
    """A block of the transformer [N, D] -> [N, D]: attention within each clip, and a feed-forward network per frame.

    `norms` are those of the sums after the attention and after the network. In large models, which normalise before
    each half of a block, the second one is the first norm of the next block: sum and norm are one pass over memory.
    """

    def __init__(self, block: Any, dtype: torch.dtype, norms: tuple[Norm, Norm], join: Join, kernels: Kernels) -> None:
        attention, network = block.attention, block.feed_forward
        self.heads = attention.num_heads
        make = partial(dense, dtype=dtype, kernels=kernels)
        self.query_key_value = make(attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = make(attention.out_proj)
        self.widen = make(network.intermediate_dense, gelu=True)
        self.narrow = make(network.output_dense)
        self.norms, self.dtype, self.join = norms, dtype, join

    def __call__(self, x: Tensor, narrow: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
        """Return the hidden states of the next layer.

        Args:
            x: the residual in float32.
            narrow: the input of the attention, in the type of its product. Both are also returned for the next block.
            packing: which frames belong to which clip.
        """
        middle, end = self.norms
        x, narrow = self.join(x, self.attend(narrow, packing), middle.module, self.dtype, middle.keep_sum)
        return self.join(x, self.feed_forward(narrow), end.module, self.dtype, end.keep_sum)

    def attend(self, x: Tensor, packing: Packing) -> Tensor:
        """Compute attention within each clip, [N, D] -> [N, D]."""
        return self.out(packing.attend(self.query_key_value(x), self.heads))

    def feed_forward(self, x: Tensor) -> Tensor:
        """Compute the feed-forward network, [N, D] -> [N, 4 D] -> [N, D]."""
        return self.narrow(self.widen(x))


def transformer_of(model: Any) -> Any:
    """Return the module with the positional convolution and the blocks; in torchaudio it is one level deeper."""
    return getattr(model.encoder, "transformer", model.encoder)


def resolve_weight_norm(conv: Any) -> nn.Conv1d:
    """Return a plain convolution with the effective weights of a weight-normed one, which cannot be pickled."""
    plain = nn.Conv1d(conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding, groups=conv.groups)
    plain.load_state_dict({"weight": conv.weight, "bias": conv.bias})
    return plain.requires_grad_(False)


def dense(*modules: nn.Linear, dtype: torch.dtype, kernels: Kernels, gelu: bool = False) -> Layer:
    """Return one or more linear layers as one layer, with their outputs side by side."""
    if len(modules) == 1:
        return linear(modules[0].weight.to(dtype), modules[0].bias.to(dtype), gelu=gelu, kernels=kernels)
    weight, bias = torch.cat([each.weight for each in modules]), torch.cat([each.bias for each in modules])
    return linear(weight.to(dtype), bias.to(dtype), gelu=gelu, kernels=kernels)
