"""vggish: the VGG-like network of the AudioSet release, 128 dimensions per 0.96 s patch (Hershey et al. 2017).

The embedding is the last layer before its activation, as in the released AudioSet embeddings. `vggish:PATH?relu` adds
the final ReLU of torchvggish; `vggish:PATH?pca` whitens and quantises to 0..255 like the released embeddings.

PATH is a file with the weights of torchvggish or the variables of the original release; their names differ. Convert the
original checkpoint once on a machine with TensorFlow:

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
BATCH = 8  # patches that go through the convolutions together on a CPU, so that results between layers stay in cache
OPTIONS = ("", "?relu", "?pca")
PCA = {"pca_eigen_vectors": (DIM, DIM), "pca_means": (DIM,)}
PCA_FILES = ("vggish_pca_params.safetensors", "vggish_pca_params.npz")  # in the folder of the weights
CLIP = 2.0  # whitened values are clipped to [-2, 2] before they are quantised to 256 steps
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
    """Six convolutions and three linear layers with 72 141 184 parameters, under the names of torchvggish."""

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
        batches = torch.split(patch[:, None], BATCH if patch.is_cpu else len(patch))
        features = torch.cat([self.features(batch) for batch in batches])  # [P, 512, 6, 4]
        embeddings: Tensor = self.embeddings(features.permute(0, 2, 3, 1).flatten(1))
        return embeddings


class VGGish:
    """Embeddings [B, P, 128] of every full patch, without overlap. Layer 0 is the only layer."""

    sample_rate = SAMPLE_RATE
    layers: tuple[int, ...] = (0,)
    dim = DIM
    frame_rate = FRAME_RATE / PATCH
    min_samples = PATCH_SAMPLES
    max_samples: int | None = None

    def __init__(
        self, weights: Mapping[str, Tensor], option: str = "", pca: Mapping[str, Tensor] | None = None
    ) -> None:
        """Build the network.

        Args:
            weights: the weights under the names of torchvggish or of the original release.
            option: one of OPTIONS.
            pca: the tensors named in PCA, for the option "?pca".
        """
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
        """Yield the embeddings; see `run_valid` for the patches after its end, and `Extractor.frames`."""
        patch, counts = patches(self.front_end(waves), PATCH), count_patches(lengths, PATCH)
        yield 0, run_valid(self._embed, patch, counts), counts

    def _embed(self, patch: Tensor) -> Tensor:
        """Map patches [N, 96, 64] to embeddings [N, 128], and apply the option."""
        embeddings: Tensor = self.network(patch).float()
        if self.option == "?relu":
            return embeddings.clamp(min=0.0)
        if self.option == "?pca":
            return quantise(embeddings, self.pca["pca_eigen_vectors"], self.pca["pca_means"])
        return embeddings

    def to(self, device: str) -> Self:
        """Move the model to a device and return self."""
        self.front_end.to(device)
        self.network.to(device)
        self.pca = {name: tensor.to(device) for name, tensor in self.pca.items()}
        return self


def quantise(embeddings: Tensor, eigen_vectors: Tensor, means: Tensor) -> Tensor:
    """Whiten embeddings [P, 128] and quantise them to 0..255 as the AudioSet release does; the result is float32.

    >>> quantise(torch.tensor([[1.0, 3.0, -9.0]]), torch.eye(3), torch.ones(3))
    tensor([[127., 255.,   0.]])
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        whitened = (embeddings - means) @ eigen_vectors.T
    return ((whitened.clamp(-CLIP, CLIP) + CLIP) * (255.0 / (2 * CLIP))).floor()


def arrange(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of torchvggish or TensorFlow with the names and shapes of a state dict.

    Args:
        tensors: the tensors of a weights file.
        like: the state dict of the network.

    Raises:
        ModelError: a tensor is missing, unexpected or of another shape; the message has its name in the file.
    """
    is_tensorflow = any(name.startswith("vggish/") for name in tensors)
    arranged: dict[str, Tensor] = {}
    rest, problems = dict(tensors), []
    for key, expected in like.items():
        name = tensorflow_name(key) if is_tensorflow else key
        if name not in rest:
            problems.append(f"{name} is missing")
            continue
        tensor = rest.pop(name)
        is_permuted = is_tensorflow and tensor.ndim in AXES
        arranged[key] = tensor.permute(AXES[tensor.ndim]).contiguous() if is_permuted else tensor
        if arranged[key].shape != expected.shape:
            problems.append(f"{name} has shape {list(tensor.shape)}")
    problems += [f"{name} is unexpected" for name in sorted(rest)]
    if problems:
        raise ModelError(f"These are not the weights of VGGish: {', '.join(problems[:5])} ({len(problems)} in total).")
    return arranged


def tensorflow_name(key: str) -> str:
    """Return the name of a torchvggish tensor in the original release.

    >>> tensorflow_name("features.6.bias")
    'vggish/conv3/conv3_1/biases'
    """
    layer, _, kind = key.rpartition(".")
    return f"{TENSORFLOW[layer]}/{'weights' if kind == 'weight' else 'biases'}"


def load(source: str, *, allow_pickle: bool = False, download: bool = True) -> VGGish:
    """Load VGGish from a file, a folder with vggish.safetensors, or the file in EMBEDX_VGGISH_WEIGHTS.

    Args:
        source: the file or folder, and an option (`?relu`, `?pca`); both may be empty.
        allow_pickle: whether weights may be read from a pickle; default False.

    Raises:
        ModelError: the weights are missing or not those of VGGish, or they are a pickle and `allow_pickle` is not set.
    """
    location, option = split_option(source)
    if option not in OPTIONS:
        raise ModelError(f"vggish has no option {option!r}. Give PATH, PATH?relu or PATH?pca.")
    file = find_weights("vggish", location)
    if file is None:
        raise ModelError(missing_weights("vggish", location))
    tensors = read_weights(file, allow_pickle)
    pca = {name: tensors.pop(name) for name in PCA if name in tensors}
    try:
        return VGGish(tensors, option, find_pca(file, pca) if option == "?pca" else None)
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from error


def find_pca(file: Path, inside: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the PCA tensors in the weights file (`inside`), or else those in a file in the same folder.

    Raises:
        ModelError: there are none, or they have another shape.
    """
    files = [file.with_name(name) for name in PCA_FILES if file.with_name(name).is_file()]
    tensors = read_weights(files[0], allow_pickle=False) if files and not inside else inside
    pca = {
        name: tensors[name].reshape(shape)
        for name, shape in PCA.items()
        if name in tensors and tensors[name].numel() == DIM ** len(shape)
    }
    if set(pca) != set(PCA):
        raise ModelError(
            f"?pca needs pca_eigen_vectors [128, 128] and pca_means [128], in the weights file or in {PCA_FILES[0]} "
            "(or .npz) in the same folder."
        )
    return pca
