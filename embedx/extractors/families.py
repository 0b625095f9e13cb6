"""The model types of transformers that `huggingface` loads, and how; the reasons why others are refused.

Every model type of transformers with an audio encoder is in `FAMILIES` or in `REFUSED`; a test walks all of them.
"""

from collections.abc import Callable

from embedx.extractors import spectrogram, speecht5
from embedx.extractors.base import Extractor
from embedx.extractors.checkpoints import Checkpoint, Part
from embedx.extractors.moonshine import Moonshine
from embedx.extractors.parakeet import Parakeet
from embedx.extractors.sew import Sew
from embedx.extractors.speech_to_text import Speech2Text

FAMILIES: dict[str, Callable[[Checkpoint], Extractor]] = {
    **spectrogram.FAMILIES,
    **dict.fromkeys(("sew", "sew-d"), Sew),
    **dict.fromkeys(("parakeet_encoder", "parakeet_ctc", "parakeet_rnnt", "parakeet_tdt"), Parakeet),
    "moonshine": Moonshine,
    "speech_to_text": Speech2Text,
    "speecht5": speecht5.SpeechT5,
}
PARTS: dict[str, Part] = {"speecht5": speecht5.PART}
