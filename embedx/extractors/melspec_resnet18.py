"""melspec-resnet18: torchvision's ResNet-18 on the log-mel spectrogram as an image, 512 dimensions every 0.48 s.

The network was trained on photographs (ImageNet) only. It is a baseline between statistics and networks that were
trained on sound. embedx does not install torchvision.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from embedx.errors import ModelError
from embedx.extractors.base import hash_weights
from embedx.extractors.checkpoints import explain_download
from embedx.extractors.melspec import FRAME_RATE, PATCH_SAMPLES, SAMPLE_RATE, LogMel, count_patches, patches, run_valid
from embedx.extractors.weight_files import torch_cache
from embedx.extractors.weights import read_weights

HOP = 48  # frames between patches
OFFSET = 0.01
QUIET, LOUD = math.log(OFFSET), 5.0  # log-mel of silence, and just above that of a full-scale tone: black and white
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels, as in the training of the weights


class MelSpecResNet18:
    """The last hidden layer of ResNet-18, after the global mean: [B, P, 512]. It is layer 0, the only layer."""

    sample_rate = SAMPLE_RATE
    layers: tuple[int, ...] = (0,)
    dim = 512
    frame_rate = FRAME_RATE / HOP
    min_samples = PATCH_SAMPLES
    max_samples: int | None = None

    def __init__(self, network: Any) -> None:
        """Use torchvision's resnet18 without its classifier."""
        network.fc = nn.Identity()
        self.front_end = LogMel(OFFSET)
        self.network: nn.Module = network.eval().requires_grad_(False)
        self.weights = hash_weights(self.network.state_dict(), {"extractor": "melspec-resnet18", "version": 1})

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the hidden layer; see `run_valid` for the patches after its end, and `Extractor.frames`."""
        patch, counts = patches(self.front_end(waves), HOP), count_patches(lengths, HOP)
        yield 0, run_valid(lambda valid: self.network(make_images(valid)), patch, counts), counts

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.front_end.to(device)
        self.network.to(device)
        return self


def make_images(patch: Tensor) -> Tensor:
    """Convert log-mel patches [P, 96, 64] to grey images [P, 3, 96, 64], with time down and frequency to the right.

    Silence becomes 0 and a full-scale tone about 1. Each channel is then normalised as for ImageNet.

    >>> make_images(torch.full((2, 96, 64), QUIET))[0, :, 0, 0]
    tensor([-2.1179, -2.0357, -1.8044])
    """
    grey = (patch - QUIET) / (LOUD - QUIET)
    return torch.stack([(grey - mean) / std for mean, std in zip(MEAN, STD, strict=True)], dim=1)


def load(source: str, *, allow_pickle: bool = False, download: bool = True) -> MelSpecResNet18:
    """Load a state dict of resnet18 from a file, or torchvision's ImageNet weights from torch's hub cache.

    Raises:
        ModelError: torchvision is not installed, or the weights are not available or not those of resnet18.
    """
    require_torchvision("melspec-resnet18")
    from torchvision.models import resnet18

    if not source and not download and not has_cached_weights():
        raise ModelError(explain_download("melspec-resnet18"))
    network = resnet18()
    try:
        network.load_state_dict(read_resnet18(source, allow_pickle))
    except RuntimeError as error:
        raise ModelError(f"{source or 'The download'} does not contain the weights of resnet18: {error}") from error
    return MelSpecResNet18(network)


def require_torchvision(model: str) -> None:
    """Raise ModelError if torchvision is not installed, or not in a version for this torch."""
    try:
        import torchvision.models  # noqa: F401
    except (ImportError, RuntimeError) as error:  # RuntimeError: it was built for another torch
        raise ModelError(
            f"{model} needs torchvision in a version for torch {torch.__version__} ({error}). Install it: "
            "pip install torchvision"
        ) from error


def has_cached_weights() -> bool:
    """Tell whether torchvision's ImageNet weights are in torch's hub cache."""
    from torchvision.models import ResNet18_Weights

    return os.path.isfile(torch_cache() / os.path.basename(ResNet18_Weights.DEFAULT.url))


def read_resnet18(source: str, allow_pickle: bool = False) -> dict[str, Tensor]:
    """Read a state dict of resnet18 from a file; without a file, torchvision's ImageNet weights.

    Raises:
        ModelError: there is no such file, or the weights are neither on this machine nor can be downloaded.
    """
    from torchvision.models import ResNet18_Weights

    if source:
        file = Path(source).expanduser()
        if not file.is_file():
            raise ModelError(f"There is no file {source}. Give a .safetensors file with the state dict of resnet18.")
        return read_weights(file, allow_pickle)
    try:
        tensors: dict[str, Tensor] = ResNet18_Weights.DEFAULT.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except Exception as error:  # no network, or any error of the reader for an incomplete download
        raise ModelError(
            f"The weights of resnet18 cannot be loaded ({error}). Without a network, download "
            f"{ResNet18_Weights.DEFAULT.url} on another machine, and give --model melspec-resnet18:PATH "
            "--allow-pickle."
        ) from error
    return tensors
