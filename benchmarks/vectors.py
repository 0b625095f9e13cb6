"""Measure how exact vectors are and what the layers of trained weights know, and write docs/vectors.md.

`python benchmarks/vectors.py`; 4 minutes on two cores. It needs the weights of Whisper tiny.en and the Free Spoken
Digit Dataset in ../shared (or EMBEDX_SHARED).
"""

import argparse
import os
import platform
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
import transformers
from numpy.typing import NDArray
from page import commit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from embedx import extractors
from embedx.extractors.checkpoints import Checkpoint
from embedx.extractors.fast.encoder import FastEncoder
from embedx.extractors.huggingface import Transformer
from embedx.extractors.spectrogram import WhisperEncoder

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("EMBEDX_SHARED") or ROOT.parent / "shared")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OFFSETS = (0, 1, 10, 100, 1_000)
BEFORE = """| before | float32 | 4e-16 | 2e-13 | 4e-13 | 1e-11 | 1e-09 |
| before | bfloat16 | 2e-05 | 2e-05 | 3e-04 | 3e-02 | 3e-01 |
| before | float16 | 3e-07 | 3e-07 | 4e-06 | 6e-04 | 4e-02 |"""  # see the text
PER_DIGIT = 8  # recordings: two of each speaker


def measure_offsets() -> str:
    """Return a table: 1 - cosine of a clip with a constant offset to the clip without one in float32."""
    torch.manual_seed(0)
    model = transformers.HubertModel(transformers.HubertConfig(num_hidden_layers=3)).eval().requires_grad_(False)
    settings = {"do_normalize": False, "sampling_rate": 16_000}
    extractor = FastEncoder(Transformer(Checkpoint("random weights", model, settings, {})))
    random = torch.Generator().manual_seed(1)
    clips = [torch.randn(length, generator=random).cumsum(0) for length in (16_000, 9_000, 4_001)]
    clips = [clip - torch.linspace(0, 1, len(clip)) * clip[-1] for clip in clips]
    clips = [(clip - clip.mean()) / clip.std() * 0.05 for clip in clips]

    def vectors(offset: float, precision: str) -> Tensor:
        waves = torch.nn.utils.rnn.pad_sequence([clip + offset * 0.05 for clip in clips], batch_first=True)
        lengths = torch.tensor([len(clip) for clip in clips])
        narrow = precision != "float32"
        with torch.inference_mode(), torch.autocast("cpu", PRECISIONS[precision], enabled=narrow):
            ((_, frames, counts),) = extractor.frames(waves, lengths, extractor.layers[-1:])
        return torch.stack([clip[:count].double().mean(0) for clip, count in zip(frames, counts, strict=True)])

    exact, lines = vectors(0, "float32"), [BEFORE]
    for precision in PRECISIONS:
        cells = [float((1 - torch.cosine_similarity(vectors(o, precision), exact)).max().clamp(min=0)) for o in OFFSETS]
        lines.append(f"| now | {precision} | {' | '.join(f'{cell:.0e}' for cell in cells)} |")
    header = f"| | precision | {' | '.join(f'{offset} x rms' for offset in OFFSETS)} |"
    return "\n".join([header, "|---|---|" + "---|" * len(OFFSETS), *lines])


def read_digits(rate: int) -> tuple[list[Tensor], NDArray[np.str_], NDArray[np.str_]]:
    """Return 80 recordings of FSDD at a rate, with their digits and speakers."""
    folder, speakers = SHARED / "data/fsdd/recordings", ("jackson", "nicolas", "theo", "yweweler")
    numbers = range(PER_DIGIT // len(speakers))
    names = [(digit, speaker, number) for digit in "0123456789" for speaker in speakers for number in numbers]
    clips = []
    for digit, speaker, number in names:
        samples, own_rate = soundfile.read(folder / f"{digit}_{speaker}_{number}.wav", dtype="float32")
        clips.append(torch.from_numpy(soxr.resample(samples, own_rate, rate)))
    return clips, np.array([name[0] for name in names]), np.array([name[1] for name in names])


def embed(extractor: WhisperEncoder, clips: list[Tensor], precision: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the means [L, N, D] over valid frames, those over all 30 s, and the largest number / rms [L]."""
    valid, whole, largest, square = [], [], torch.zeros(len(extractor.layers)), torch.zeros(len(extractor.layers))
    for clip in clips:
        narrow = precision != "float32"
        with torch.inference_mode(), torch.autocast("cpu", PRECISIONS[precision], enabled=narrow):
            layers = list(extractor.frames(clip[None], torch.tensor([len(clip)]), extractor.layers))
        frames = [states[0, : int(count[0])].double() for _, states, count in layers]
        valid.append(torch.stack([each.mean(0) for each in frames]))
        whole.append(torch.stack([states[0].double().mean(0) for _, states, _ in layers]))
        largest = torch.maximum(largest, torch.stack([each.abs().max() for each in frames]))
        square += torch.stack([each.square().mean() for each in frames]) / len(clips)
    return torch.stack(valid, 1), torch.stack(whole, 1), largest / square.sqrt()


def accuracy(vectors: Tensor, truth: NDArray[np.str_]) -> float:
    """Return the accuracy of a logistic regression in 8 folds; each fold has one recording of each digit."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2_000))
    folds = StratifiedKFold(PER_DIGIT, shuffle=True, random_state=0)
    return float((cross_val_predict(model, vectors.numpy(), truth, cv=folds) == truth).mean())


def measure_whisper() -> str:
    """Return a table of Whisper's layers: outliers, cosines in half precision, accuracy of digits and speakers."""
    extractor = extractors.load(str(SHARED / "weights/whisper-tiny.en"))
    assert isinstance(extractor, WhisperEncoder)
    clips, digits, speakers = read_digits(extractor.sample_rate)
    exact, whole, outliers = embed(extractor, clips, "float32")
    narrow = {name: embed(extractor, clips[::5], name)[0] for name in PRECISIONS if name != "float32"}
    lines = [
        "| layer | largest number / rms | bfloat16 | float16 | digit | speaker | digit, mean over all 30 s |",
        "|---|---|---|---|---|---|---|",
    ]
    for layer in extractor.layers:
        half = [1 - torch.cosine_similarity(vectors[layer], exact[layer, ::5]) for vectors in narrow.values()]
        known = accuracy(exact[layer], digits), accuracy(exact[layer], speakers), accuracy(whole[layer], digits)
        lines.append(
            f"| L{layer} | {float(outliers[layer]):.0f} | {' | '.join(f'{float(each.max()):.0e}' for each in half)} | "
            f"{' | '.join(f'{each:.2f}' for each in known)} |"
        )
    return "\n".join(lines)


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    values = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    facts = {key.strip(): value.strip() for key, value in values.items()}
    flags = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in facts.get("flags", "").split()]
    return f"{facts.get('model name')}, family {facts.get('cpu family')} model {facts.get('model')}, {' '.join(flags)}"


PAGE = """# Vectors: how exact they are, and what layers know

`benchmarks/vectors.py` writes this page. Commit {commit}; {processor}; torch {torch}, transformers {transformers}.

## A constant offset (DC)

Base models of Wav2Vec2, HuBERT and similar have a GroupNorm after the first convolution, which removes a constant
offset of the wave. So embedx removes the mean of each clip before the convolution. In exact arithmetic nothing
changes; in half precision, the bits are kept for the sound. The table shows 1 - cosine to the vector in float32
without offset, the largest of three clips of unequal length in one batch: three layers of the shape of HuBERT-base
with random weights. An offset of 100 x rms is 100 times the root mean square of the sound.
The rows "before" are of commit decfb61, with other noise of the same lengths and the same processor as in the
first version of this page (AMD EPYC, family 25 model 17).

{offsets}

## Whisper tiny.en with its trained weights

80 recordings of the Free Spoken Digit Dataset, 8 of each digit, by 4 speakers; vectors are means over the frames
with sound. Trained weights have outliers, so half precision is shown with them: the largest number of a frame
divided by the rms of the layer, and the largest 1 - cosine to float32 in 16 recordings. "Digit" and "speaker" are
accuracies of a logistic regression in 8 folds (chance: 0.10 and 0.25); 80 recordings give an error of about 0.05.
The folds hold the same speakers, so new speakers would be harder.

{whisper}

Speakers are known best in the first layers and digits in the last ones: store several layers (`--layers all`) and
compare them with `embedx probe`. A mean over all 30 s of Whisper's output, as a plain call of the library gives,
mixes the sound with its padding.
"""


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/vectors.md")
    out = parser.parse_args().out
    page = PAGE.format(
        commit=commit(),
        processor=processor(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        offsets=measure_offsets(),
        whisper=measure_whisper(),
    )
    out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
