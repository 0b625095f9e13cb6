"""The model types of transformers that `huggingface` loads with a class of their own.

Every other model type of transformers that takes or makes sound is in `unsupported`; a test walks all of them.
"""

from collections.abc import Callable

from embedx.extractors import qwen2_audio, spectrogram, speecht5
from embedx.extractors.base import Extractor
from embedx.extractors.checkpoints import Checkpoint, Part
from embedx.extractors.codecs import Dac, Encodec, Mimi
from embedx.extractors.embedding_gemma2 import EmbeddingGemma2
from embedx.extractors.moonshine import Moonshine
from embedx.extractors.parakeet import Parakeet
from embedx.extractors.pe_audio import PeAudio
from embedx.extractors.sew import Sew
from embedx.extractors.speech_to_text import Speech2Text

FAMILIES: dict[str, Callable[[Checkpoint], Extractor]] = {
    **spectrogram.FAMILIES,
    **dict.fromkeys(("sew", "sew-d"), Sew),
    **dict.fromkeys(("parakeet_encoder", "parakeet_ctc", "parakeet_rnnt", "parakeet_tdt", "canary"), Parakeet),
    **dict.fromkeys(("mimi", "mimi_encoder"), Mimi),
    **dict.fromkeys(("qwen2_audio", "qwen2_audio_encoder"), qwen2_audio.Qwen2Audio),
    "dac": Dac,
    "embedding_gemma2": EmbeddingGemma2,
    "encodec": Encodec,
    "moonshine": Moonshine,
    "pe_audio": PeAudio,
    "speech_to_text": Speech2Text,
    "speecht5": speecht5.SpeechT5,
}
PARTS: dict[str, Part] = {"qwen2_audio": qwen2_audio.PART, "speecht5": speecht5.PART}
