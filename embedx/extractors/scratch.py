"""Models from scratch: small encoders with random weights, as baselines for pretrained ones.

Each is an encoder that can be trained: waves [B, S] -> frames [B, T, D]. Frames of a clip depend on its own samples
only, in training too: convolutions see zeros after the end of a clip, norms run over one clip, the LSTM starts every
clip with a state of zeros, and ResNet-18 has group norm, or the fixed statistics of its weights.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from embedx.errors import ModelError, UsageError
from embedx.extractors.devices import send
from embedx.extractors.melspec import (
    BANDS,
    FRAME,
    FRAME_RATE,
    HOP,
    PATCH_SAMPLES,
    SAMPLE_RATE,
    LogMel,
    count_patches,
    patches,
    run_valid,
)
from embedx.extractors.melspec_resnet18 import HOP as PATCH_HOP
from embedx.extractors.melspec_resnet18 import (
    LOUD,
    OFFSET,
    QUIET,
    has_cached_weights,
    make_images,
    read_resnet18,
    require_torchvision,
)

CHANNELS = (32, 64, 128, 256)  # of the four blocks of the CNN, each after a pooling by two in time and frequency
STACKED = 4  # log-mel frames that one step of the LSTM takes: 25 steps per second, instead of 100
HIDDEN = 128  # units of the LSTM in each direction
EPSILON = 1e-5  # added to the variance, as in torch's group norm
GROUP = 16  # channels in a group of the group norm: the best size in Wu and He (2018)
SCRATCH = "scratch:"  # prefix of these models
Masked = tuple[Tensor, Tensor]  # features [B, C, T, F], zero after the lengths [B]


class LearnedFilters(nn.Module):
    """Waves [B, S] -> [B, F, 64] by filters that are learned, with the frames of `LogMel`."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv1d(1, BANDS, FRAME, HOP, bias=False)

    def forward(self, waves: Tensor) -> Tensor:
        """Return the logarithm of the amplitudes, so that loud and quiet clips differ by a constant."""
        return torch.log(self.filters(waves[:, None]).abs() + OFFSET).transpose(1, 2)


class ScratchEncoder(nn.Module):
    """Base of the encoders: log-mel or learned filters, then `encode`. Layer 0 is the only layer.

    Attributes:
        sample_rate: of the waves in Hz.
        dim: D.
        frame_rate: frames per second.
        min_samples: the shortest clip that gives a frame.
        max_samples: None, any length.
    """

    sample_rate = SAMPLE_RATE
    layers: tuple[int, ...] = (0,)
    dim = 0
    frame_rate = FRAME_RATE
    min_samples = FRAME
    max_samples: int | None = None

    def __init__(self, learned: bool = False) -> None:
        super().__init__()
        self.front_end: nn.Module = LearnedFilters() if learned else LogMel(OFFSET)

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> list[tuple[int, Tensor, Tensor]]:
        """Return layer 0, frames [B, T, D] and frame lengths [B], with gradients."""
        return [(0, *self.encode(self.front_end(waves), 1 + (lengths - FRAME) // HOP))]

    def depths(self) -> list[list[nn.Parameter]]:
        """Return the parameters by depth: those of the front end, then all others; there are no pretrained blocks."""
        front_end = list(self.front_end.parameters())
        return [front_end, list(self.parameters())[len(front_end) :]]

    def encode(self, logmel: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames [B, T, D] and their lengths [B] for log-mel [B, F, 64], of which `counts` [B] are valid."""
        raise NotImplementedError


class CNN(ScratchEncoder):
    """Four blocks of a 3 x 3 convolution over time and frequency, then one dense layer: 256 dimensions."""

    dim = CHANNELS[-1]
    frame_rate = FRAME_RATE / 2 ** len(CHANNELS)
    min_samples = FRAME + (2 ** len(CHANNELS) - 1) * HOP  # 16 frames, which the poolings make one

    def __init__(self, learned: bool = False) -> None:
        super().__init__(learned)
        sizes = zip((1, *CHANNELS), CHANNELS, strict=False)
        self.blocks = nn.ModuleList(Block(before, after) for before, after in sizes)
        self.dense = nn.Linear(self.dim * BANDS // 2 ** len(CHANNELS), self.dim)

    def encode(self, logmel: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Run the blocks; the frames after the end of a clip are zero before each of them."""
        x = mask_time(scale(logmel)[:, None], counts)
        for block in self.blocks:
            x, counts = block(x, counts)
        return self.dense(x.transpose(1, 2).flatten(2)), counts


class Block(nn.Module):
    """Convolution, norm, ReLU, and the largest of 2 x 2 places."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, 3, padding=1)
        self.norm = ClipNorm(after)

    def forward(self, x: Tensor, counts: Tensor) -> Masked:
        """Return the features [B, C, T // 2, F // 2] and their lengths; an odd last frame is dropped."""
        x = self.norm(mask_time(self.convolution(x), counts), counts)
        x, counts = nn.functional.max_pool2d(torch.relu(x), 2), counts // 2
        return mask_time(x, counts), counts


class ClipNorm(nn.Module):
    """Zero mean and unit variance over all channels, bands and valid frames of a clip, then a scale for each channel.

    This is a group norm with one group. Unlike batch norm it needs no other clip, so training and evaluation agree.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        """Normalise features [B, C, T, F] that are zero after the valid frames [B]."""
        numbers = (counts * x.shape[1] * x.shape[3])[:, None, None, None]
        centred = mask_time(x - x.sum(dim=(1, 2, 3), keepdim=True) / numbers, counts)
        variance = centred.square().sum(dim=(1, 2, 3), keepdim=True) / numbers
        return centred * torch.rsqrt(variance + EPSILON) * self.weight + self.bias


class LSTM(ScratchEncoder):
    """Two bidirectional LSTM layers over log-mel frames, 256 dimensions 25 times a second.

    Batches are [B, T, 64] (`batch_first`). Clips are packed, so the backward direction starts at the last frame of a
    clip and not in its padding, and no state is kept between batches.
    """

    dim = 2 * HIDDEN
    frame_rate = FRAME_RATE / STACKED
    min_samples = FRAME + (STACKED - 1) * HOP
    reads_lengths = True

    def __init__(self, learned: bool = False) -> None:
        super().__init__(learned)
        self.norm = nn.LayerNorm(STACKED * BANDS)
        self.lstm = nn.LSTM(STACKED * BANDS, HIDDEN, num_layers=2, batch_first=True, dropout=0.1, bidirectional=True)

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> list[tuple[int, Tensor, Tensor]]:
        """Return layer 0; clips are packed by their lengths on the CPU."""
        ((layer, frames, counts),) = super().frames(waves, lengths.cpu(), layers)
        return [(layer, frames, send(counts, waves.device))]

    def encode(self, logmel: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Run the LSTM over steps of four frames; frames that do not fill a step are dropped."""
        counts, steps = counts // STACKED, logmel.shape[1] // STACKED
        x = scale(logmel)[:, : steps * STACKED].reshape(len(logmel), steps, STACKED * BANDS)
        packed = nn.utils.rnn.pack_padded_sequence(self.norm(x), counts, batch_first=True, enforce_sorted=False)
        states, _ = self.lstm(packed)
        return nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=steps)[0], counts


class ResNet18(ScratchEncoder):
    """torchvision's ResNet-18 on patches of 0.96 s as images, 512 dimensions every 0.48 s; see `melspec_resnet18`."""

    dim = 512
    frame_rate = FRAME_RATE / PATCH_HOP
    min_samples = PATCH_SAMPLES

    def __init__(self, learned: bool = False, weights: dict[str, Tensor] | None = None) -> None:
        """Make the network with random weights and group norm, or with weights and their fixed batch statistics."""
        require_torchvision("scratch:resnet18")
        from torchvision.models import resnet18
        from torchvision.ops import FrozenBatchNorm2d

        super().__init__(learned)
        norm: Callable[[int], nn.Module] = FrozenBatchNorm2d if weights is not None else group_norm
        self.network: Any = resnet18(norm_layer=norm)
        if weights is not None:
            load_weights(self.network, weights)
        self.network.fc = nn.Identity()

    def encode(self, logmel: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network on the patches that lie in a clip."""
        counts = count_patches(FRAME + (counts - 1) * HOP, PATCH_HOP)
        return run_valid(lambda valid: self.network(make_images(valid)), patches(logmel, PATCH_HOP), counts), counts


NETWORKS: dict[str, type[ScratchEncoder]] = {"cnn": CNN, "lstm": LSTM, "resnet18": ResNet18}


def scratch_encoder(name: str, sample_rate: int = SAMPLE_RATE, *, pretrained: bool | str = False) -> ScratchEncoder:
    """Make an encoder with random weights, drawn by torch's generator: set `torch.manual_seed` before.

    Args:
        name: "cnn", "lstm" or "resnet18"; with "?waves" after it the filters are learned instead of log-mel, with
            "?pretrained" or "?pretrained=FILE" see `pretrained`.
        sample_rate: of the waves in Hz; only 16000.
        pretrained: start resnet18 with ImageNet's weights: True for those in torch's cache, or a file. Nothing is
            downloaded.

    Returns:
        The encoder, in evaluation mode, with all parameters trainable.

    Raises:
        UsageError: there is no such network, option or sample rate.
        ModelError: the weights are not on this machine, or torchvision is not installed.
    """
    network, _, option = name.partition("?")
    key, _, file = option.partition("=")
    if network not in NETWORKS or key not in ("", "waves", "pretrained") or (key == "waves" and file):
        raise UsageError(
            f"There is no model scratch:{name}. Models: {', '.join(f'scratch:{one}' for one in NETWORKS)}; with ?waves "
            "after the name for learned filters, or scratch:resnet18?pretrained or scratch:resnet18?pretrained=FILE."
        )
    if sample_rate != SAMPLE_RATE:
        raise UsageError(f"scratch:{network} takes {SAMPLE_RATE} Hz, not {sample_rate} Hz.")
    pretrained = (file or True) if key == "pretrained" else pretrained
    if pretrained and network != "resnet18":
        raise UsageError(f"scratch:{network} has no pretrained weights; only scratch:resnet18 can start with some.")
    if pretrained:
        source = pretrained if isinstance(pretrained, str) else ""
        require_torchvision("scratch:resnet18")
        if not source and not has_cached_weights():
            raise ModelError(
                "The weights of resnet18 (ImageNet) are not in torch's cache, and a training downloads nothing. Give a "
                "file, --model scratch:resnet18?pretrained=FILE.safetensors, or use scratch:resnet18 without them."
            )
        return ResNet18(key == "waves", read_resnet18(source)).eval()
    return NETWORKS[network](key == "waves").eval()


def scratch_structure(name: str) -> ScratchEncoder:
    """Return the network of a name with any weights, to be replaced by those of a file.

    Raises:
        UsageError: there is no such network.
    """
    if not name.startswith("resnet18?pretrained"):
        return scratch_encoder(name)
    from torchvision.models import resnet18

    return ResNet18(weights=resnet18().state_dict())


def scale(logmel: Tensor) -> Tensor:
    """Map log-mel so that silence is 0 and a full-scale tone about 4: constants, not statistics of any data."""
    return 4 * (logmel - QUIET) / (LOUD - QUIET)


def mask_time(x: Tensor, counts: Tensor) -> Tensor:
    """Set features [B, C, T, F] to zero after the valid frames [B] of each clip."""
    return x.masked_fill((torch.arange(x.shape[2], device=x.device) >= counts[:, None])[:, None, :, None], 0.0)


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a norm over groups of channels of one patch, which needs no other patch."""
    return nn.GroupNorm(channels // GROUP, channels)


def load_weights(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load ImageNet's weights; raise ModelError if they are not those of resnet18."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"The file does not contain the weights of resnet18: {error}") from error
