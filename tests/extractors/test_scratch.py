"""Models from scratch: each clip on its own, in training and evaluation; a test for each fault of the tutorials."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from embedx.errors import ModelError, UsageError
from embedx.extractors.melspec import PATCH_SAMPLES
from embedx.extractors.scratch import NETWORKS, ScratchEncoder, scratch_encoder
from tests.helpers.conformance import ConformanceTests
from tests.helpers.random_models import random_resnet18

LONG = ("cnn?waves", "lstm?waves", "resnet18", "pretrained")
MODELS = ("cnn", "lstm", *(pytest.param(name, marks=pytest.mark.long) for name in LONG))
LENGTHS = (16_000, 20_011, 31_500)


def make(name: str, folder: Path) -> ScratchEncoder:
    torch.manual_seed(0)
    return scratch_encoder(f"resnet18?pretrained={random_resnet18(folder)}" if name == "pretrained" else name)


@pytest.fixture(scope="module", params=MODELS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ScratchEncoder:
    return make(request.param, tmp_path_factory.mktemp("weights"))


def batch() -> tuple[Tensor, Tensor]:
    """Return three clips of different lengths; the padding is not zero, so that a model that reads it is found."""
    waves = torch.randn(len(LENGTHS), max(LENGTHS), generator=torch.Generator().manual_seed(3)) * 0.1
    return waves, torch.tensor(LENGTHS)


def encode(encoder: ScratchEncoder, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    [(_, frames, counts)] = encoder.frames(waves, lengths, (0,))
    return frames, counts


@pytest.mark.parametrize("training", [True, False])
def test_gradient_of_a_clip_is_zero_for_other_clips_and_padding(encoder: ScratchEncoder, training: bool) -> None:
    """Found by it: batch_first mixed up, batch norm in training, a reverse LSTM that starts in the padding."""
    encoder.train(training)
    waves, lengths = batch()
    waves.requires_grad_()
    frames, counts = encode(encoder, waves, lengths)
    frames[1, : counts[1]].square().sum().backward()  # type: ignore[no-untyped-call]
    assert waves.grad is not None
    assert waves.grad[1, : lengths[1]].abs().max() > 0
    assert waves.grad[[0, 2]].abs().max() == 0
    assert waves.grad[1, lengths[1] :].abs().max() == 0


def test_training_pass_changes_no_stored_number(encoder: ScratchEncoder) -> None:
    """Statistics of batches (also of test batches) and states of an LSTM are not kept."""
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encode(encoder, *batch())
    after = encoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_result_does_not_depend_on_the_batch_before(encoder: ScratchEncoder) -> None:
    encoder.eval()
    waves, lengths = batch()
    with torch.no_grad():
        first = encode(encoder, waves, lengths)[0]
        encode(encoder, waves.flip(0) * 3, lengths.flip(0))
        assert torch.equal(encode(encoder, waves, lengths)[0], first)


def test_every_parameter_gets_a_gradient(encoder: ScratchEncoder) -> None:
    encoder.train()
    frames, counts = encode(encoder, *batch())
    encoder.zero_grad()
    sum(row[:count].square().mean() for row, count in zip(frames, counts, strict=True)).backward()
    assert [name for name, one in encoder.named_parameters() if one.grad is None or not one.grad.any()] == []


@pytest.fixture(scope="module")
def extractor(encoder: ScratchEncoder) -> ScratchEncoder:
    return encoder.eval()


@pytest.mark.long
class TestConformance(ConformanceTests):
    pass


def test_dropout_is_on_in_training_and_off_in_evaluation() -> None:
    encoder = scratch_encoder("lstm").train()
    waves, lengths = batch()
    with torch.no_grad():
        assert not torch.equal(encode(encoder, waves, lengths)[0], encode(encoder, waves, lengths)[0])
        encoder.eval()
        assert torch.equal(encode(encoder, waves, lengths)[0], encode(encoder, waves, lengths)[0])


@pytest.mark.long
def test_pretrained_resnet18_equals_torchvision_in_evaluation(tmp_path: Path) -> None:
    from embedx.extractors.melspec_resnet18 import load

    path = random_resnet18(tmp_path)
    waves, lengths = batch()
    frames, _ = encode(scratch_encoder("resnet18", pretrained=str(path)), waves, lengths)
    with torch.no_grad():
        [(_, expected, _)] = load(str(path)).frames(waves, lengths, (0,))
    torch.testing.assert_close(frames, expected)


def test_depths_hold_every_parameter_once(encoder: ScratchEncoder) -> None:
    numbers = [id(parameter) for depth in encoder.depths() for parameter in depth]
    assert sorted(numbers) == sorted(map(id, encoder.parameters()))


def test_same_seed_gives_same_weights() -> None:
    weights = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        weights.append(scratch_encoder("cnn").state_dict()["blocks.0.convolution.weight"])
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("name", "rate", "text"),
    [
        ("rnn", 16_000, r"no model scratch:rnn. Models: scratch:cnn, scratch:lstm, scratch:resnet18"),
        ("cnn?wave", 16_000, "no model scratch:cnn"),
        ("cnn?waves=1", 16_000, "no model scratch:cnn"),
        ("cnn", 8000, "takes 16000 Hz, not 8000 Hz"),
        ("lstm?pretrained", 16_000, "only scratch:resnet18"),
    ],
)
def test_invalid_name_is_refused(name: str, rate: int, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        scratch_encoder(name, rate)


@pytest.mark.long
def test_missing_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="not in torch's cache"):
        scratch_encoder("resnet18?pretrained")
    with pytest.raises(ModelError, match="no file"):
        scratch_encoder(f"resnet18?pretrained={tmp_path}/none.safetensors")


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_network_learns_a_tiny_set_by_heart(name: str) -> None:
    torch.manual_seed(1)
    encoder, lengths = scratch_encoder(name), torch.full((8,), PATCH_SAMPLES)
    labels = torch.arange(8)
    tones = torch.sin(torch.arange(PATCH_SAMPLES) * (0.1 + 0.1 * labels[:, None]))
    waves = 0.2 * tones + torch.randn(8, PATCH_SAMPLES) * 0.1
    encoder.train()
    head = torch.nn.Linear(encoder.dim, 8)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        frames, _ = encode(encoder, waves, lengths)
        loss = torch.nn.functional.cross_entropy(head(frames.mean(dim=1)), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if loss < 0.05:
            break
    encoder.eval()
    assert (head(encode(encoder, waves, lengths)[0].mean(dim=1)).argmax(dim=1) == labels).all()
