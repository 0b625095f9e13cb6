"""Kernels of oneDNN equal torch; those with wrong numbers are replaced."""

import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import embedx
from embedx import extractors
from embedx.extractors.fast import onednn
from embedx.extractors.fast.checked import Checked, Kernels
from embedx.extractors.fast.encoder import FastEncoder
from tests.helpers.conformance import EXACT, Checkpoint, run
from tests.helpers.transformer_reference import clips_of


@pytest.mark.parametrize("dtype", onednn.TOLERANCE)
@pytest.mark.parametrize("gelu", [False, True])
def test_onednn_product_equals_torch(dtype: torch.dtype, gelu: bool) -> None:
    if not onednn.is_fused(dtype):
        pytest.skip("this processor has none")
    x, weight, bias = (torch.randn(shape).to(dtype) for shape in ((37, 96), (24, 96), (24,)))
    expected = F.linear(x.double(), weight.double() / 10, bias.double())
    expected = F.gelu(expected) if gelu else expected
    for layer in (
        onednn.fused_linear(weight / 10, bias, gelu),
        onednn.fused_sum(weight / 10, bias, gelu, 3),
    ):
        torch.testing.assert_close(layer(x).double(), expected, atol=4 * onednn.TOLERANCE[dtype], rtol=0.02)


@pytest.mark.parametrize("kernel", [16, 31, 64, 100])
def test_onednn_convolution_equals_torch(kernel: int) -> None:
    x, weight, bias = torch.randn(3, 8 + kernel - 1, 32), torch.randn(32, 8, kernel) / 20, torch.randn(32)
    expected = F.gelu(F.conv1d(x.transpose(1, 2), weight, bias, groups=4)).transpose(1, 2)
    for layer in (onednn.fused_convolution(weight, bias, 4, 8), onednn.convolution(weight, bias, 4, 8)):
        torch.testing.assert_close(layer(x), expected, atol=EXACT, rtol=0)


def test_onednn_operator_with_wrong_numbers_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    onednn.is_fused.cache_clear()
    monkeypatch.setattr(onednn, "fused_sum", lambda *_: lambda x: torch.zeros(len(x), 16))
    assert not onednn.is_fused(torch.float32)
    monkeypatch.undo()
    onednn.is_fused.cache_clear()


CONVOLUTIONS = [(768, 48, 128), (1024, 64, 128)]  # of base and distil, and of large: 16 groups


PRODUCTS = (
    *((512, 10), (512, 1536), (512, 1024)),
    *((768, 512), (2304, 768), (768, 768), (3072, 768), (768, 3072)),
    *((1024, 512), (3072, 1024), (1024, 1024), (4096, 1024), (1024, 4096)),
)


def made(*shape: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return weights and a bias that give outputs of about 1 for random input."""
    weight = torch.randn(shape) / math.prod(shape[1:]) ** 0.5
    return weight.to(dtype), torch.randn(shape[0]).to(dtype)


def assert_near(found: Tensor, true: Tensor) -> None:
    """Compare with float32: two steps of the type for the largest number, and float32's own sums."""
    most = 2 * torch.finfo(found.dtype).eps * float(true.abs().max()) + 5e-5
    torch.testing.assert_close(found.float(), true, atol=most, rtol=0)


@pytest.mark.parametrize("dtype", onednn.TOLERANCE)
@pytest.mark.parametrize("shape", CONVOLUTIONS)
def test_positional_convolution_of_real_shape_equals_torch(
    shape: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "is_intel", lambda: False)
    weight, bias = made(*shape, dtype=dtype)
    layer = onednn.convolution(weight, bias, 16, 32)
    for parts in (1, 3, 1, 2):
        x = torch.randn(parts, 159, shape[0]).to(dtype)
        true = F.gelu(F.conv1d(x.float().transpose(1, 2), weight.float(), bias.float(), groups=16)).transpose(1, 2)
        with torch.inference_mode():
            assert_near(layer(x), true)


@pytest.mark.parametrize("dtype", onednn.TOLERANCE)
@pytest.mark.parametrize("shape", PRODUCTS)
def test_product_of_real_shape_equals_torch(
    shape: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "is_intel", lambda: False)
    weight, bias = made(*shape, dtype=dtype)
    pieces = {1536: 3, 1024: 2}.get(shape[1], 1) if shape[0] == 512 else 1
    kernels = Kernels()
    layer = onednn.linear(weight, bias, gelu=True, pieces=pieces, kernels=kernels)
    for rows in (50, 1, 333):
        x = torch.randn(rows, shape[1]).to(dtype)
        with torch.inference_mode():
            assert_near(layer(x), F.gelu(F.linear(x.float(), weight.float(), bias.float())))
    assert list(kernels.used) == [f"product {list(shape)} in {str(dtype).split('.')[1]}"]
    assert kernels.replaced == {}


def wrong_always(y: Tensor, call: int) -> Tensor:
    return y + 0.1


def wrong_sometimes(y: Tensor, call: int) -> Tensor:
    return y + 0.1 if call % 4 == 3 else y


def wrong_for_few_numbers(y: Tensor, call: int) -> Tensor:
    y = y.clone()
    y[..., -9:-1] = 0.7
    return y


def not_a_number(y: Tensor, call: int) -> Tensor:
    return torch.full_like(y, math.nan)


def refused(y: Tensor, call: int) -> Tensor:
    raise RuntimeError("could not create a primitive")


Spoil = Callable[[Tensor, int], Tensor]


SPOILT = (wrong_always, wrong_sometimes, wrong_for_few_numbers, not_a_number, refused)


TOY = 32 * 32  # weights: what the products of `is_fused` have, at most


def spoil(monkeypatch: pytest.MonkeyPatch, spoilt: Spoil, *names: str) -> None:
    """Make kernels of oneDNN wrong for shapes that are not small."""
    if not onednn.is_fused(torch.float32):
        pytest.skip("there is no oneDNN here")
    monkeypatch.setattr(onednn, "is_intel", lambda: False)
    for name in names:
        true = getattr(onednn, name)

        def build(weight: Tensor, *rest: Any, true: Any = true) -> Any:
            layer, calls = true(weight, *rest), itertools.count()
            return layer if weight.numel() <= TOY else lambda x: spoilt(layer(x), next(calls))

        monkeypatch.setattr(onednn, name, build)


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernel_with_wrong_numbers_for_shape_is_replaced(
    spoilt: Spoil, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if not onednn.is_fused(dtype):
        pytest.skip("this processor has none")
    spoil(monkeypatch, spoilt, "fused_linear", "fused_convolution")
    kernels = Kernels()
    (weight, bias), (wave, shift) = made(96, 64, dtype=dtype), made(32, 8, 16, dtype=dtype)
    lines = [onednn.linear(weight, bias, gelu=True, kernels=kernels) for _ in range(2)]
    convolve = onednn.convolution(wave, shift, 4, 8, kernels)
    small = onednn.linear(weight[:8], bias[:8], kernels=kernels)
    with torch.inference_mode():
        for _ in range(5):
            x, seen = torch.randn(20, 64).to(dtype), torch.randn(3, 23, 32).to(dtype)
            for line in lines:
                assert_near(line(x), F.gelu(F.linear(x.float(), weight.float(), bias.float())))
            true = F.gelu(F.conv1d(seen.float().transpose(1, 2), wave.float(), shift.float(), groups=4))
            assert_near(convolve(seen), true.transpose(1, 2))
            assert_near(small(x), F.linear(x.float(), weight[:8].float(), bias[:8].float()))
    name = str(dtype).split(".")[1]
    product, convolution = f"product [96, 64] in {name}", f"convolution in 4 groups of [32, 8, 16] in {name}"
    assert kernels.used == {product: "torch", convolution: "torch", f"product [8, 64] in {name}": "oneDNN"}
    assert kernels.replaced == {
        product: "torch instead of oneDNN",
        convolution: "torch instead of oneDNN and oneDNN in wider groups",
    }
    assert [one.levelname for one in caplog.records] == ["WARNING"] * 2  # one for each kind
    assert f"oneDNN gave wrong results or an error for the layer {product} on this processor, so torch" in caplog.text


def test_torch_kernel_for_narrow_type_is_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "is_fused", lambda dtype: False)
    plain = F.linear
    monkeypatch.setattr(F, "linear", lambda x, *rest: plain(x, *rest) * (1 if x.dtype == torch.float32 else math.nan))
    kernels = Kernels()
    weight, bias = made(24, 16, dtype=torch.bfloat16)
    x = torch.randn(5, 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = onednn.linear(weight, bias, kernels=kernels)(x)
    assert found.dtype == torch.bfloat16
    assert_near(found, plain(x.float(), weight.float(), bias.float()))
    assert kernels.replaced == {"product [24, 16] in bfloat16": "torch in float32 instead of torch"}


def test_layer_is_compared_once_by_the_first_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    if not onednn.is_fused(torch.float32):
        pytest.skip("there is no oneDNN here")
    monkeypatch.setattr(onednn, "is_intel", lambda: False)
    packed: list[int] = []
    true = onednn.fused_linear

    def pack(*given: Any) -> Any:
        packed.append(1)
        return true(*given)

    monkeypatch.setattr(onednn, "fused_linear", pack)
    weight, bias = made(96, 64, dtype=torch.float32)
    layer, x = onednn.linear(weight, bias), torch.randn(50, 64)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(layer, [x] * 16):
            assert_near(found, F.linear(x, weight, bias))
    assert packed == [1]


def test_replaced_kernel_is_recorded_and_vectors_are_right(
    checkpoint: Checkpoint, write_wav: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, wavs = str(checkpoint("hubert")), [write_wav("a.wav"), write_wav("b.wav")]
    with embedx.extract(wavs, model=model, backend="reference", device="cpu", out=tmp_path / "true") as collection:
        true = collection.vectors()
        assert not {"kernels", "replaced"} & set(collection.store.last_run())
    spoil(monkeypatch, not_a_number, "fused_linear")
    with embedx.extract(wavs, model=model, device="cpu", out=tmp_path / "spoilt") as collection:
        found, run_ = collection.vectors(), collection.store.last_run()
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(true), atol=EXACT, rtol=0)
    assert run_["replaced"].startswith("torch instead of oneDNN: product [")
    assert "oneDNN: " in run_["kernels"] and "torch: product [" in run_["kernels"]


def test_folded_convolution_is_compared_once_for_all_clips(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []
    choose = Checked._choose

    def note(layer: Checked, x: Tensor) -> Any:
        compared.append(layer.kind)
        return choose(layer, x)

    monkeypatch.setattr(Checked, "_choose", note)
    extractor = extractors.load(str(checkpoint("hubert")), backend="fast")
    assert isinstance(extractor, FastEncoder)
    for _ in range(2):
        run(extractor, clips_of(8_000, 400, 5_000))
    first = [kind for kind in compared if ", 10] in float32" in kind]
    assert len(first) == 1
    assert set(extractor.kernels) == set(compared)
    assert extractor.replaced == {}
