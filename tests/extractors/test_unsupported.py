"""Every model type of transformers with sound is supported, or refused with a reason."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers.models.auto import configuration_auto, feature_extraction_auto

from embedx import extractors
from embedx.errors import ModelError
from embedx.extractors.families import FAMILIES
from embedx.extractors.huggingface import WAVEFORM_TYPES
from embedx.extractors.unsupported import REFUSED

CONFIGURATIONS: Any = configuration_auto.CONFIG_MAPPING_NAMES  # type: ignore[attr-defined]
FRONT_ENDS: Any = feature_extraction_auto.FEATURE_EXTRACTOR_MAPPING_NAMES  # type: ignore[attr-defined]
SUPPORTED = {*WAVEFORM_TYPES, *FAMILIES}
SOUND = re.compile(
    r"audio|speech|asr(_|$)|codec|acoustic|tts|diariz|music|sound|voice|vocal|voxtral|mimi|moshi|whisper"
)


def test_every_type_with_sound_is_supported_or_refused_with_a_reason() -> None:
    kinds = {kind for kind in CONFIGURATIONS if kind in FRONT_ENDS or SOUND.search(kind)}
    assert len(kinds) > 60
    assert kinds - SUPPORTED - set(REFUSED) == set()
    assert SUPPORTED & set(REFUSED) == set()


@pytest.mark.long
def test_every_configuration_with_a_part_for_sound_is_supported_or_refused() -> None:
    """The configurations are imported, which takes some seconds."""
    from transformers import CONFIG_MAPPING

    kinds = {
        kind
        for kind in CONFIGURATIONS
        if any(SOUND.search(name) for name in getattr(CONFIG_MAPPING[kind], "sub_configs", {}))
    }
    assert kinds - SUPPORTED - set(REFUSED) == set()


@pytest.mark.parametrize("kind", ["voxtral", "vits", "xcodec2"])
def test_refused_type_is_named_with_its_reason(kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ModelError, match=f"type '{kind}', which embedx does not support: it .*[a-z]\\.$") as caught:
        extractors.load(str(tmp_path))
    assert REFUSED[kind] in str(caught.value)
