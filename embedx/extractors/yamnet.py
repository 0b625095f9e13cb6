"""yamnet: MobileNet v1 trained on AudioSet, 1024 dimensions per patch of 0.96 s, every 0.48 s."""

from collections.abc import Iterator
from typing import Self

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embedx.errors import ModelError
from embedx.extractors.base import hash_weights
from embedx.extractors.melspec import FRAME_RATE, PATCH_SAMPLES, SAMPLE_RATE, LogMel, count_patches, patches, run_valid
from embedx.extractors.weight_files import find_weights, missing_weights
from embedx.extractors.weights import refuse_pointers

HOP = 48  # frames between patches
OFFSET = 0.001
POINTWISE = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
STRIDE_2 = (0, 3, 7, 11, 23)  # convolutions with stride 2 in time and frequency
CLASSES = 521


class Network(nn.Module):
    """27 convolutions with ReLU6 and TensorFlow's padding; the batch norms are included in weights and biases."""

    def __init__(self) -> None:
        super().__init__()
        channels = 32
        self.conv0 = nn.Conv2d(1, channels, 3, stride=2)
        for block, width in enumerate(POINTWISE):
            depthwise, pointwise = 2 * block + 1, 2 * block + 2
            stride = 2 if depthwise in STRIDE_2 else 1
            self.add_module(f"conv{depthwise}", nn.Conv2d(channels, channels, 3, stride=stride, groups=channels))
            self.add_module(f"conv{pointwise}", nn.Conv2d(channels, width, 1))
            channels = width
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, patch: Tensor) -> Tensor:
        """Map patches [P, 96, 64] to embeddings [P, 1024]."""
        x = patch[:, None]
        for convolution in list(self.children())[:-1]:
            assert isinstance(convolution, nn.Conv2d)
            x = F.relu6(convolution(pad_same(x, convolution.kernel_size[0], convolution.stride[0])), inplace=True)
        return x.mean(dim=(2, 3))


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad [P, C, H, W] like TensorFlow's SAME: an odd row or column is added at the bottom or the right.

    >>> pad_same(torch.ones(1, 1, 4, 4), kernel=3, stride=2).shape
    torch.Size([1, 1, 5, 5])
    """
    height, width = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:])
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


class YAMNet:
    """Embeddings [B, P, 1024] of every full patch. Layer 0 is the only layer: the input of the classifier."""

    sample_rate = SAMPLE_RATE
    layers: tuple[int, ...] = (0,)
    dim = POINTWISE[-1]
    frame_rate = FRAME_RATE / HOP
    min_samples = PATCH_SAMPLES
    max_samples: int | None = None

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.front_end = LogMel(OFFSET)
        self.network = Network().eval().requires_grad_(False)
        self.network.load_state_dict(weights)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth faster on a CPU
        self.weights = hash_weights(weights, {"extractor": "yamnet"})

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the embeddings; see `run_valid` for the patches after its end, and `Extractor.frames`."""
        patch, counts = patches(self.front_end(waves), HOP), count_patches(lengths, HOP)
        yield 0, run_valid(self.network, patch, counts), counts

    def scores(self, frames: Tensor) -> Tensor:
        """Map embeddings [..., 1024] to the probabilities [..., 521] of the AudioSet classes."""
        return torch.sigmoid(self.network.fc(frames))

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.front_end.to(device)
        self.network.to(device)
        return self


def load(source: str, *, allow_pickle: bool = False, download: bool = True) -> YAMNet:
    """Load YAMNet from a file, a folder with yamnet.safetensors, or the file in EMBEDX_YAMNET_WEIGHTS.

    Raises:
        ModelError: the weights are missing or not those of YAMNet.
    """
    file = find_weights("yamnet", source)
    if file is None:
        raise ModelError(missing_weights("yamnet", source))
    refuse_pointers([file])
    try:
        return YAMNet(safetensors.torch.load_file(file))
    except (safetensors.SafetensorError, RuntimeError, OSError) as error:
        raise ModelError(f"{file} does not contain the weights of YAMNet: {error}") from error
