"""VGGish equals a network in numpy; both kinds of checkpoint; options; invalid files."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import Tensor

from embedx import extractors
from embedx.errors import ModelError
from embedx.extractors.base import Extractor
from embedx.extractors.catalogue import CATALOGUE
from embedx.extractors.melspec import LogMel
from embedx.extractors.vggish import VGGish, arrange

Variables = dict[str, NDArray[np.float32]]
Tensors = dict[str, Tensor]
CLIP = torch.rand(35_000, generator=torch.Generator().manual_seed(2)) - 0.5  # two patches and a bit


@torch.inference_mode()
def embed(extractor: Extractor, clip: Tensor = CLIP) -> Tensor:
    ((_, frames, _),) = extractor.frames(clip[None], torch.tensor([len(clip)]), (0,))
    return frames[0]


@pytest.fixture(scope="module")
def embeddings(vggish_weights: Path) -> Tensor:
    return embed(extractors.load(f"vggish:{vggish_weights}"))


def by_hand(logmel: NDArray[np.float32], variables: Variables) -> NDArray[np.float32]:
    """The network on a patch [96, 64] in TensorFlow's own order of axes (height, width, channel): no transpose."""
    x = logmel[:, :, None]
    for name in ("conv1", "pool", "conv2", "pool", "conv3_1", "conv3_2", "pool", "conv4_1", "conv4_2", "pool"):
        if name == "pool":
            x = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max(axis=(1, 3))
            continue
        (scope,) = [one.removesuffix("/weights") for one in variables if one.endswith(f"/{name}/weights")]
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        shifted = [padded[i : i + x.shape[0], j : j + x.shape[1]] for i in range(3) for j in range(3)]
        kernel = variables[f"{scope}/weights"].reshape(9, x.shape[2], -1)
        x = np.maximum(sum(a @ b for a, b in zip(shifted, kernel, strict=True)) + variables[f"{scope}/biases"], 0)
    x = x.reshape(-1)
    for scope in ("vggish/fc1/fc1_1", "vggish/fc1/fc1_2", "vggish/fc2"):
        x = x @ variables[f"{scope}/weights"] + variables[f"{scope}/biases"]
        x = x if scope == "vggish/fc2" else np.maximum(x, 0)
    return x


def test_embeddings_equal_numpy_network(embeddings: Tensor, vggish_variables: Variables) -> None:
    logmel = LogMel(0.01)(CLIP[None])[0].numpy()
    assert len(embeddings) == 2
    for found, patch in zip(embeddings.numpy(), (logmel[:96], logmel[96:192]), strict=True):
        expected = by_hand(patch, vggish_variables)
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert (embeddings[0] - embeddings[1]).abs().max() > 0.01 * embeddings.abs().max()


def test_network_has_published_number_of_parameters(vggish_tensors: Tensors) -> None:
    assert sum(one.numel() for one in VGGish(vggish_tensors).network.parameters()) == 72_141_184


@pytest.mark.long
def test_tensorflow_variables_give_equal_embeddings(
    vggish_weights: Path, vggish_variables: Variables, embeddings: Tensor, tmp_path: Path
) -> None:
    np.savez(tmp_path / "tf.npz", **vggish_variables)  # type: ignore[arg-type]
    save_arrays(vggish_variables, tmp_path / "tf.safetensors")
    weights = extractors.load(f"vggish:{vggish_weights}").weights
    for name in ("tf.npz", "tf.safetensors"):
        extractor = extractors.load(f"vggish:{tmp_path / name}")
        assert torch.equal(embed(extractor), embeddings)
        assert extractor.weights == weights
        (tmp_path / name).unlink()


def test_pickle_is_read_only_if_allowed(vggish_tensors: Tensors, embeddings: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "vggish.pth"
    torch.save(vggish_tensors, path)
    with pytest.raises(ModelError, match=r"a pickle, which can run code.*safetensors.*--allow-pickle"):
        extractors.load(f"vggish:{path}")
    assert torch.equal(embed(extractors.load(f"vggish:{path}", allow_pickle=True)), embeddings)


class Rogue:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["EMBEDX_ROGUE"],)


def test_pickle_with_code_is_never_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDX_ROGUE", str(tmp_path / "ran"))
    torch.save({"features.0.weight": Rogue()}, tmp_path / "vggish.pth")
    with pytest.raises(ModelError, match="cannot be read"):
        extractors.load(f"vggish:{tmp_path / 'vggish.pth'}", allow_pickle=True)
    assert not (tmp_path / "ran").exists()


# -- options -------------------------------------------------------------------------------------------------------


def test_relu_option_clips_negative_values(vggish_weights: Path, embeddings: Tensor) -> None:
    assert (embeddings < 0).float().mean() > 0.2
    assert torch.equal(embed(extractors.load(f"vggish:{vggish_weights}?relu")), embeddings.clamp(min=0))


@pytest.mark.parametrize("place", ["inside", "npz", "safetensors"])
def test_pca_option_whitens_clips_and_quantises(
    vggish_tensors: Tensors, vggish_weights: Path, embeddings: Tensor, tmp_path: Path, place: str
) -> None:
    random = np.random.default_rng(3)
    vectors = (random.standard_normal((128, 128)) / (12 * float(embeddings.std()))).astype(np.float32)
    means = random.standard_normal(128).astype(np.float32)
    pca = {"pca_eigen_vectors": torch.from_numpy(vectors), "pca_means": torch.from_numpy(means)}
    path = tmp_path / "vggish.safetensors"
    if place == "inside":
        save_file(vggish_tensors | pca, path)
    else:
        path.symlink_to(vggish_weights)
        if place == "npz":
            np.savez(tmp_path / "vggish_pca_params.npz", pca_eigen_vectors=vectors, pca_means=means)
        else:
            save_file(pca, tmp_path / "vggish_pca_params.safetensors")
    found = embed(extractors.load(f"vggish:{path}?pca")).numpy()
    for one, embedding in zip(found, embeddings.double().numpy(), strict=True):
        steps = (np.clip(vectors.astype(float) @ (embedding - means), -2, 2) + 2) * 255 / 4
        sure = np.abs(steps - steps.round()) > 1e-2
        assert sure.mean() > 0.7  # the rest is cut, or close to a step
        np.testing.assert_array_equal(one[sure], steps.astype(np.uint8)[sure])
        np.testing.assert_allclose(one, steps, atol=1.01)
    assert found.dtype == np.float32
    assert {0.0, 255.0} <= set(found.flatten().tolist())
    assert len(set(found.flatten().tolist())) > 20
    if place == "inside":  # what the plain embedding does not use does not count
        assert extractors.load(f"vggish:{path}").weights == extractors.load(f"vggish:{vggish_weights}").weights


def test_pca_without_its_tensors_is_refused(vggish_weights: Path) -> None:
    with pytest.raises(ModelError, match=r"pca_eigen_vectors \[128, 128\] and pca_means"):
        extractors.load(f"vggish:{vggish_weights}?pca")


def test_hash_depends_on_numbers_and_option(vggish_tensors: Tensors, vggish_weights: Path) -> None:
    plain = extractors.load(f"vggish:{vggish_weights}").weights
    assert extractors.load(f"vggish:{vggish_weights}?relu").weights != plain
    changed = vggish_tensors | {"embeddings.4.bias": vggish_tensors["embeddings.4.bias"] + 1e-6}
    assert VGGish(vggish_tensors).weights == plain
    assert VGGish(changed).weights != plain


def test_unknown_option_is_refused_with_known_ones(vggish_weights: Path) -> None:
    with pytest.raises(ModelError, match=r"no option '\?whiten'.*PATH\?relu"):
        extractors.load(f"vggish:{vggish_weights}?whiten")


# -- where weights are found, and what is refused ------------------------------------------------------------------


def test_names_resolve_to_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("vggish.safetensors", "what?.safetensors"):
        Path(name).touch()
        assert extractors.resolve(f"vggish:{name}") == ("vggish", str(tmp_path / name))
        assert extractors.resolve(f"vggish:{name}?pca") == ("vggish", f"{tmp_path / name}?pca")
    assert extractors.resolve("vggish") == ("vggish", "")
    assert extractors.resolve("vggish:?pca") == ("vggish", "?pca")
    assert extractors.resolve("vggish:nowhere.npz?pca") == ("vggish", "nowhere.npz?pca")


def test_weights_are_found_by_variable_and_folder(
    vggish_weights: Path, embeddings: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry,) = [one for one in CATALOGUE if one.name == "vggish"]
    monkeypatch.delenv("EMBEDX_VGGISH_WEIGHTS", raising=False)
    assert entry.weights() == "set EMBEDX_VGGISH_WEIGHTS"
    with pytest.raises(ModelError, match=r"No weights file was given.*EMBEDX_VGGISH_WEIGHTS.*vggish:PATH"):
        extractors.load("vggish")
    monkeypatch.setenv("EMBEDX_VGGISH_WEIGHTS", str(vggish_weights))
    assert entry.weights() == "here"
    assert torch.equal(embed(extractors.load("vggish:?relu")), embeddings.clamp(min=0))
    assert torch.equal(embed(extractors.load(f"vggish:{vggish_weights.parent}")), embeddings)


def test_tensors_of_wrong_shape_are_named(vggish_tensors: Tensors, vggish_variables: Variables) -> None:
    variables = {name: torch.from_numpy(array) for name, array in vggish_variables.items()}
    for tensors, bias, weight in (
        (vggish_tensors, "features.6.bias", "embeddings.4.weight"),
        (variables, "vggish/conv3/conv3_1/biases", "vggish/fc2/weights"),
    ):
        without = {name: one for name, one in tensors.items() if name != bias}
        with pytest.raises(ModelError, match=rf"VGGish: {bias} is missing \(1 "):
            arrange(without, vggish_tensors)
        with pytest.raises(ModelError, match=rf"VGGish: {bias}_2 is unexpected \(1 "):
            arrange(tensors | {f"{bias}_2": tensors[bias]}, vggish_tensors)
        with pytest.raises(ModelError, match=rf"VGGish: {weight} has shape \[\d+, \d+\] \(1 "):
            arrange(tensors | {weight: tensors[weight].T}, vggish_tensors)


def test_file_that_is_not_vggish_is_refused(vggish_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no weights at .*nowhere"):
        extractors.load(f"vggish:{tmp_path / 'nowhere.safetensors'}?relu")
    save_file({"conv0.weight": torch.zeros(1)}, tmp_path / "yamnet.safetensors")
    with pytest.raises(ModelError, match=r"yamnet.safetensors: .*features\.0\.weight is missing"):
        extractors.load(f"vggish:{tmp_path / 'yamnet.safetensors'}")
    np.savez(tmp_path / "objects.npz", **{"vggish/conv1/weights": np.array([{}], dtype=object)})  # type: ignore[arg-type]
    with vggish_weights.open("rb") as whole:
        (tmp_path / "half.safetensors").write_bytes(whole.read(100_000))
    (tmp_path / "half.npz").write_bytes((tmp_path / "objects.npz").read_bytes()[:100])
    for name in ("objects.npz", "half.safetensors", "half.npz"):
        with pytest.raises(ModelError, match=f"{name} cannot be read as weights"):
            extractors.load(f"vggish:{tmp_path / name}")


# -- the released weights, where a user has them -------------------------------------------------------------------


@pytest.mark.skipif(
    "EMBEDX_VGGISH_WEIGHTS" not in os.environ,
    reason="needs the released weights of VGGish: set EMBEDX_VGGISH_WEIGHTS",
)
@pytest.mark.parametrize("option, mean, std", [("", 0.000657, 0.343), ("?pca", 126.0, 89.3)])
def test_sine_gives_published_values(option: str, mean: float, std: float) -> None:
    """The smoke test of the release: 3 s of 1 kHz. It calls for a relative tolerance of 0.1."""
    sine = torch.sin(2 * torch.pi * 1000 * torch.arange(48_000, dtype=torch.float64) / 16_000).float()
    try:
        extractor = extractors.load(f"vggish:{option}", allow_pickle=True)
    except ModelError as error:
        if "pca_means" not in str(error):
            raise
        pytest.skip(str(error))
    found = embed(extractor, sine)
    assert found.shape == (3, 128)
    assert float(found.mean()) == pytest.approx(mean, rel=0.1)
    assert float(found.std(correction=0)) == pytest.approx(std, rel=0.1)
