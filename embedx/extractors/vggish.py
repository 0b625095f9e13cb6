"""vggish: the VGG-like network of the AudioSet release, 128 dimensions per 0.96 s patch (Hershey et al. 2017).

The embedding is the last layer before its activation, as in the released AudioSet embeddings. `vggish:PATH?relu` adds
the final ReLU of torchvggish; `vggish:PATH?pca` whitens and quantises to 0..255, as the released embeddings are.

PATH holds the weights of torchvggish or the variables of the original release, told apart by their names. The original
checkpoint is converted once, where TensorFlow is installed:

    reader = tf.train.load_checkpoint("vggish_model.ckpt")
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("vggish/")]
    np.savez("vggish.npz", **{name: reader.get_tensor(name) for name in names})
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from embedx.errors import ModelError
from embedx.extractors.base import hash_weights
from embedx.extractors.melspec import (
    FRAME_RATE,
    PATCH,
    PATCH_SAMPLES,
    SAMPLE_RATE,
    LogMel,
    count_patches,
    patches,
    run_valid,
)
from embedx.extractors.names import split_option
from embedx.extractors.weight_files import find_weights, missing_weights
from embedx.extractors.weights import read_weights

OFFSET = 0.01
DIM = 128
AT_ONCE = 8  # patches in the convolutions: what lies between their layers stays in the cache of a CPU
OPTIONS = ("", "?relu", "?pca")
PCA = {"pca_eigen_vectors": (DIM, DIM), "pca_means": (DIM,)}
PCA_FILES = ("vggish_pca_params.safetensors", "vggish_pca_params.npz")  # looked for beside the weights
CLIP = 2.0  # whitened values are cut to [-2, 2] before they become one of 256 steps
TENSORFLOW = {  # layer of torchvggish -> scope in the original release
    "features.0": "vggish/conv1",
    "features.3": "vggish/conv2",
    "features.6": "vggish/conv3/conv3_1",
    "features.8": "vggish/conv3/conv3_2",
    "features.11": "vggish/conv4/conv4_1",
    "features.13": "vggish/conv4/conv4_2",
    "embeddings.0": "vggish/fc1/fc1_1",
    "embeddings.2": "vggish/fc1/fc1_2",
    "embeddings.4": "vggish/fc2",
}
AXES = {4: (3, 2, 0, 1), 2: (1, 0)}  # by number of axes: HWIO -> OIHW, [in, out] -> [out, in]


class Network(nn.Module):
    """Six convolutions and three full layers; 72 141 184 parameters under the names of torchvggish."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for widths in ((64,), (128,), (256, 256), (512, 512)):
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(512 * 6 * 4, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, DIM)
        )

    def forward(self, patch: Tensor) -> Tensor:
        """Map patches [P, 96, 64] to embeddings [P, 128]; TensorFlow flattens in the order height, width, channel."""
        pieces = torch.split(patch[:, None], AT_ONCE if patch.is_cpu else len(patch))
        features = torch.cat([self.features(piece) for piece in pieces])  # [P, 512, 6, 4]
        embeddings: Tensor = self.embeddings(features.permute(0, 2, 3, 1).flatten(1))
        return embeddings


class VGGish:
    """Embeddings [B, P, 128] of every whole patch, without overlap. Layer 0 is the only one."""

    sample_rate = SAMPLE_RATE
    layers: tuple[int, ...] = (0,)
    dim = DIM
    frame_rate = FRAME_RATE / PATCH
    min_samples = PATCH_SAMPLES
    max_samples: int | None = None

    def __init__(
        self, weights: Mapping[str, Tensor], option: str = "", pca: Mapping[str, Tensor] | None = None
    ) -> None:
        """Take weights under torchvggish's names, one of OPTIONS, and for `?pca` the tensors of PCA."""
        self.front_end = LogMel(OFFSET)
        with torch.device("meta"):
            self.network = Network().eval()
        self.network.load_state_dict(arrange(weights, self.network.state_dict()), assign=True)
        self.network.requires_grad_(False)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.option = option
        self.pca = dict(pca or {})
        self.weights = hash_weights(self.network.state_dict() | self.pca, {"extractor": "vggish", "option": option})

    def frames(self, waves: Tensor, lengths: Tensor, layers: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the embeddings; only valid patches go through the network. See `Extractor.frames`."""
        patch, counts = patches(self.front_end(waves), PATCH), count_patches(lengths, PATCH)
        yield 0, run_valid(self._embed, patch, counts), counts

    def _embed(self, patch: Tensor) -> Tensor:
        """Map patches [N, 96, 64] to embeddings [N, 128], finished as the option says."""
        embeddings: Tensor = self.network(patch).float()
        if self.option == "?relu":
            return embeddings.clamp(min=0.0)
        if self.option == "?pca":
            return quantise(embeddings, self.pca["pca_eigen_vectors"], self.pca["pca_means"])
        return embeddings

    def to(self, device: str) -> Self:
        """Move to a device and return self."""
        self.front_end.to(device)
        self.network.to(device)
        self.pca = {name: tensor.to(device) for name, tensor in self.pca.items()}
        return self


def quantise(embeddings: Tensor, eigen_vectors: Tensor, means: Tensor) -> Tensor:
    """Whiten embeddings [P, 128] and cut them to whole steps 0..255, as the AudioSet release does; float32.

    >>> quantise(torch.tensor([[1.0, 3.0, -9.0]]), torch.eye(3), torch.ones(3))
    tensor([[127., 255.,   0.]])
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        whitened = (embeddings - means) @ eigen_vectors.T
    return ((whitened.clamp(-CLIP, CLIP) + CLIP) * (255.0 / (2 * CLIP))).floor()


def arrange(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return torchvggish's or TensorFlow's tensors under the names and with the shapes of `like`.

    Raises:
        ModelError: a tensor is missing, unexpected or of another shape; it is named as in the file.
    """
    tensorflow = any(name.startswith("vggish/") for name in tensors)
    there: dict[str, Tensor] = {}
    rest, wrong = dict(tensors), []
    for key, expected in like.items():
        name = in_tensorflow(key) if tensorflow else key
        if name not in rest:
            wrong.append(f"{name} is missing")
            continue
        tensor = rest.pop(name)
        there[key] = tensor.permute(AXES[tensor.ndim]).contiguous() if tensorflow and tensor.ndim in AXES else tensor
        if there[key].shape != expected.shape:
            wrong.append(f"{name} has shape {list(tensor.shape)}")
    wrong += [f"{name} is unexpected" for name in sorted(rest)]
    if wrong:
        raise ModelError(f"These are not the weights of VGGish: {', '.join(wrong[:5])} ({len(wrong)} in all).")
    return there


def in_tensorflow(key: str) -> str:
    """Return the name that a tensor of torchvggish has in the original release.

    >>> in_tensorflow("features.6.bias")
    'vggish/conv3/conv3_1/biases'
    """
    layer, _, kind = key.rpartition(".")
    return f"{TENSORFLOW[layer]}/{'weights' if kind == 'weight' else 'biases'}"


def load(source: str, *, allow_pickle: bool = False) -> VGGish:
    """Load the weights from a file, a folder that holds vggish.safetensors, or EMBEDX_VGGISH_WEIGHTS, with an option.

    Raises:
        ModelError: they are not there, are not VGGish's, or are a pickle without leave.
    """
    place, option = split_option(source)
    if option not in OPTIONS:
        raise ModelError(f"{option!r} is no option of vggish: give PATH, PATH?relu or PATH?pca.")
    file = find_weights("vggish", place)
    if file is None:
        raise ModelError(missing_weights("vggish", place))
    tensors = read_weights(file, allow_pickle)
    pca = {name: tensors.pop(name) for name in PCA if name in tensors}
    try:
        return VGGish(tensors, option, find_pca(file, pca) if option == "?pca" else None)
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from error


def find_pca(file: Path, inside: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of PCA from the weights file, where it holds them, or from a file beside it.

    Raises:
        ModelError: there are none, or they are of another shape.
    """
    beside = [file.with_name(name) for name in PCA_FILES if file.with_name(name).is_file()]
    found = read_weights(beside[0], allow_pickle=False) if beside and not inside else inside
    pca = {
        name: found[name].reshape(shape)
        for name, shape in PCA.items()
        if name in found and found[name].numel() == DIM ** len(shape)
    }
    if set(pca) != set(PCA):
        raise ModelError(
            f"?pca needs pca_eigen_vectors [128, 128] and pca_means [128], in the weights file or in {PCA_FILES[0]} "
            "(or .npz) beside it."
        )
    return pca
