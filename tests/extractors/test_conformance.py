"""Every extractor passes the conformance tests."""

import pytest
import torch

from embedx import extractors
from embedx.extractors.base import Extractor
from embedx.extractors.devices import DTYPES
from tests.helpers.conformance import Checkpoint, ConformanceTests, clips_for, run
from tests.helpers.encoder_checkpoints import ENCODERS
from tests.helpers.paths import SHARED
from tests.helpers.random_models import NAMES, TRANSFORMERS, random_resnet18, random_yamnet

# VGGish has 288 MB of weights; in the fast suite, test_vggish.py compares it with numpy.
PARAMETERS = [pytest.param(name, marks=pytest.mark.long) if name == "vggish" else name for name in NAMES]
# They share one way to run a batch, which the fast suite tests with two of them.
PARAMETERS += [
    name if name in ("moonshine", "dac") else pytest.param(name, marks=pytest.mark.long) for name in ENCODERS
]


@pytest.fixture(scope="module", params=PARAMETERS)
def extractor(
    request: pytest.FixtureRequest, checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Extractor:
    name: str = request.param
    if name in TRANSFORMERS or name in ENCODERS:
        return extractors.load(str(checkpoint(name)), backend="reference")
    if name == "yamnet":  # real weights where they are, random ones elsewhere
        path = SHARED / "weights/yamnet/yamnet.safetensors"
        return extractors.load(f"yamnet:{path if path.exists() else random_yamnet(tmp_path_factory.mktemp('yamnet'))}")
    if name == "vggish":
        return extractors.load(f"vggish:{request.getfixturevalue('vggish_weights')}")
    if name == "melspec-resnet18":
        return extractors.load(f"{name}:{random_resnet18(tmp_path_factory.mktemp(name))}")
    return extractors.load(name)


class TestEveryFamily(ConformanceTests):
    pass


@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.long)])
def test_half_precision_runs_with_exact_front_end(extractor: Extractor, dtype: torch.dtype) -> None:
    if str(dtype).removeprefix("torch.") not in getattr(extractor, "precisions", DTYPES):
        pytest.skip("the model does not run in this precision")
    clips = clips_for(extractor)[:3]
    exact = run(extractor, clips)
    with torch.autocast("cpu", dtype):
        half = run(extractor, clips)
    for layer in extractor.layers:
        for a, b in zip(half[layer], exact[layer], strict=True):
            assert a.shape == b.shape
            assert torch.isfinite(a).all()
            cosine = torch.nn.functional.cosine_similarity(a.float().mean(dim=0), b.mean(dim=0), dim=0)
            # tiny random models say nothing of bfloat16; `make bench` measures true shapes, where the lowest is 0.9996
            assert dtype == torch.bfloat16 or cosine > 0.99
