"""A checkpoint gives the vectors of its encoder, whichever class of transformers saved it."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from embedx import extractors
from embedx.errors import ModelError
from embedx.finetune.encoders import load_encoder
from tests.helpers.checkpoints import CHECKPOINTS
from tests.helpers.conformance import Checkpoint, clips_for, run

PARTS = {  # families of which the library has classes for a part
    "whisper": ("WhisperEncoder", "WhisperForCausalLM"),
    "clap": ("ClapAudioModelWithProjection", "ClapAudioModel"),
}
FAST = ("WhisperForAudioClassification", "ClapAudioModelWithProjection", "WavLMForXVector")


def classes_of(name: str) -> list[str]:
    """Return the classes of transformers that hold the encoder of a family of `CHECKPOINTS`."""
    kind = CHECKPOINTS[name][0]
    with_head = [one for one in dir(transformers) if re.fullmatch(rf"{kind}For[A-Z]\w+", one)]
    return [one for one in with_head if one != "WhisperForCausalLM"] + list(PARTS.get(name, ())[:1])


CASES = [
    pytest.param(
        name, kind, id=f"{name}-{kind}", marks=[] if kind in FAST and name != "wavlm-large" else pytest.mark.long
    )
    for name in CHECKPOINTS
    for kind in classes_of(name)
]


def find_class(kind: str) -> Any:
    from transformers.models.whisper import modeling_whisper

    return getattr(transformers, kind, None) or getattr(modeling_whisper, kind)


def save_as(kind: str, name: str, base: Path, folder: Path) -> Path:
    """Save the encoder of a checkpoint with new other parts, as a class of transformers saves them."""
    parent = getattr(transformers, f"{CHECKPOINTS[name][0]}Model").from_pretrained(base)
    if kind == "WhisperEncoder":
        model = parent.get_encoder()
    elif name == "clap":
        model = find_class(kind)(parent.config.audio_config)
        state = {key: value for key, value in parent.state_dict().items() if key.startswith(("audio_", "logit_"))}
        whole = kind == "ClapAudioModelWithProjection"
        model.load_state_dict(state if whole else {}, strict=False)
    else:
        extra = {"vocab_size": 32} if kind.endswith("CTC") else {}  # conformers have none of their own
        model = find_class(kind).from_pretrained(base, **extra)
    model.save_pretrained(folder)
    front_end = getattr(transformers, CHECKPOINTS[name][2]).from_pretrained(base)
    front_end.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_vectors_equal_those_of_the_base_checkpoint(
    checkpoint: Checkpoint, tmp_path: Path, name: str, kind: str
) -> None:
    base = checkpoint(name)
    folder = save_as(kind, name, base, tmp_path / "saved")
    expected, found = (extractors.load(str(one), backend="reference") for one in (base, folder))
    clips = clips_for(expected)[1:2]
    assert found.layers == expected.layers
    for layer, frames in run(expected, clips).items():
        torch.testing.assert_close(run(found, clips)[layer][0], frames[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("name", "what"), [("whisper", "decoder without the encoder"), ("clap", "its projection")])
def test_part_without_an_encoder_is_refused_by_name(
    checkpoint: Checkpoint, tmp_path: Path, name: str, what: str
) -> None:
    folder = save_as(PARTS[name][1], name, checkpoint(name), tmp_path / "saved")
    with pytest.raises(ModelError, match=f"only a part of a model: .*{what}"):
        extractors.load(str(folder))


def test_classifier_is_a_model_to_fine_tune(checkpoint: Checkpoint, tmp_path: Path) -> None:
    base = checkpoint("whisper")
    folder = save_as("WhisperForAudioClassification", "whisper", base, tmp_path / "saved")
    parameters = [dict(load_encoder(str(one)).model.named_parameters()) for one in (base, folder)]
    assert all(value.equal(parameters[1][key]) for key, value in parameters[0].items())
    assert parameters[0].keys() == parameters[1].keys()
