"""Batched operations of the fast forward pass for GPUs, run on a CPU, equal those on single clips."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
import transformers
from torch import nn

from embedx import extractors
from embedx.extractors.base import Extractor
from embedx.extractors.fast import gpu
from embedx.extractors.fast.convolutions import fold, rescale
from embedx.extractors.fast.encoder import FastEncoder
from embedx.extractors.fast.gpu import group_similar, statistics
from embedx.extractors.fast.packing import Batched
from tests.helpers.conformance import EXACT, Checkpoint, ConformanceTests, run
from tests.helpers.transformer_reference import CLIPS, NAMES, assert_both_precisions, expected

pytestmark = pytest.mark.usefixtures("all_at_once")


@pytest.fixture(autouse=True)
def all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FastEncoder, "batched", lambda self, device: True)


@pytest.fixture(scope="module", params=["hubert-batch-norm", "wav2vec2-large"])
def extractor(request: pytest.FixtureRequest, checkpoint: Checkpoint) -> Extractor:
    return extractors.load(str(checkpoint(request.param)), backend="fast")


class TestBatchedOperations(ConformanceTests):
    pass


@pytest.mark.parametrize("tile", [7, gpu.TILE])
@pytest.mark.parametrize("name", NAMES)
def test_every_layer_equals_transformers_on_one_clip(
    name: str, tile: int, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if a clip is longer than a tile, and if there are too many windows for the positional convolution."""
    monkeypatch.setattr(gpu, "TILE", tile)
    monkeypatch.setattr(gpu, "WINDOWS", tile)
    extractor = extractors.load(str(checkpoint(name)), backend="fast")
    assert isinstance(extractor, FastEncoder)
    found = run(extractor, CLIPS, pad=1_000, rubbish=100.0)
    for i, states in enumerate(expected(checkpoint(name), extractor.reference.input.normalise)):
        for layer, true in enumerate(states):
            torch.testing.assert_close(found[layer][i], true, atol=EXACT, rtol=0, msg=f"layer {layer}, clip {i}")


@pytest.mark.long
def test_hubert_base_width_equals_transformers_in_both_precisions() -> None:
    assert_both_precisions(transformers.HubertConfig(num_hidden_layers=2))


def test_statistics_of_batch_equal_those_of_each_clip() -> None:
    """Loud clips with an offset, and garbage after their end."""
    norm, weight = nn.GroupNorm(6, 6), torch.randn(6, 10)
    waves, lengths = torch.randn(3, 20_000) + 30, torch.tensor([20_000, 400, 7_777])
    with torch.no_grad():
        found = rescale(weight, norm, *statistics(waves, lengths, (10, 5)))
        for i, (wave, length) in enumerate(zip(waves, lengths, strict=True)):
            alone = fold(weight, norm, wave[:length].unfold(0, 10, 5))
            for ours, true in zip(found, alone, strict=True):
                torch.testing.assert_close(ours[i], true, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("counts", [[1], [16], [17, 17], [40, 3, 1, 1], [1, 2, 40]])
def test_packed_frames_round_trip(counts: list[int]) -> None:
    packing = Batched(counts, torch.device("cpu"))
    x = torch.randn(sum(counts), 5)
    frames = packing.unpack(x)
    assert frames.shape == (len(counts), max(counts), 5)
    for clip, true, count in zip(frames, torch.split(x, counts), counts, strict=True):
        assert torch.equal(clip[:count], true)
    assert torch.equal(packing.pack(frames), x)
    assert torch.equal(packing.pack(frames[1:], 1), x[counts[0] :])


@pytest.mark.parametrize("counts", [[1], [16], [17, 17], [40, 3, 1, 1], [1, 2, 40]])
def test_convolution_windows_see_only_their_clip(counts: list[int]) -> None:
    packing, rest = Batched(counts, torch.device("cpu")), sum(counts)
    seen, place = packing.windows(4, 2, 1)
    numbers = torch.split(torch.arange(rest), counts)
    windows = iter(seen.tolist())
    for clip in numbers:
        around = [rest, rest, *clip.tolist(), *[rest] * 8]
        for begin in range(0, len(clip), 4):
            assert next(windows) == around[begin : begin + 7]
    assert next(windows, None) is None
    middle = seen[:, 2:6].flatten()  # what the windows are made for
    assert torch.equal(middle[place], torch.arange(rest))


KERNELS = """
import itertools, torch
from embedx.extractors.fast.triton_kernels import join
from embedx.extractors.fast import norms
for dim, dtype in itertools.product((32, 768), (torch.bfloat16, torch.float32)):
    assert norms.is_fused(torch.device("cpu"), dim, dtype)
x, norm = torch.randn(3, 48) * 9 + 100, torch.nn.LayerNorm(48)
with torch.inference_mode():
    wide, narrow = join(x, None, norm, torch.float32, True)
    torch.testing.assert_close(narrow, norm(x), atol=1e-5, rtol=0)
assert wide is x
"""


@pytest.mark.long
@pytest.mark.skipif(find_spec("triton") is None, reason="there is no Triton here")
def test_triton_kernels_equal_torch() -> None:
    """Triton's interpreter runs them without a GPU."""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", KERNELS], env=environment, check=True)


@pytest.mark.parametrize("counts", [[1], [5, 5, 5], [9, 8, 7, 1, 1], [1, 9, 1, 30, 2]])
def test_tiles_hold_every_clip_once_with_little_padding(counts: list[int]) -> None:
    tiles = list(group_similar(counts, 12))
    assert [i for tile in tiles for i in range(len(counts))[tile]] == list(range(len(counts)))
    for tile in tiles:
        group = counts[tile]
        assert len(group) == 1 or (max(group) * len(group) <= 12 and 3 * min(group) >= 2 * max(group))
