"""Measure fine-tuning, and write its parts of BENCHMARKS.md: a training step, and fine-tuned against probe on FSDD.

The step is compared with the loop of the tutorials: batches of 8 and 16 in random order, padded to the longest clip,
without a mask. The model has the shape of wav2vec2-base and random weights. FSDD needs the recordings and the weights
of Whisper tiny.en in shared/ beside the repository. `--small` takes a smaller model and less data, and prints only.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from numpy.typing import NDArray
from page import ROOT, commit, write_part
from torch import Tensor

import embedx
from embedx.bench.speed.roofline import name_device
from embedx.finetune.batches import cut_batches
from embedx.finetune.encoders import CheckpointEncoder, load_encoder
from embedx.finetune.options import FinetuneOptions
from embedx.finetune.run import finetune
from embedx.metrics.intervals import score_interval

SHARED = Path(os.environ.get("EMBEDX_SHARED", ROOT.parent / "shared"))
RECORDINGS, WHISPER = SHARED / "data" / "fsdd" / "recordings", SHARED / "weights" / "whisper-tiny.en"
RATE = 16_000
CLASSES = 4
TUTORIAL_BATCHES = (8, 16)  # the guide of transformers takes 32, for which 24 GB of memory are not enough here
BATCH_SECONDS = 15.0  # as the default on a CPU
CLIPS = 32
CONTEXT_S = 2.0  # a head is as good with 3 s, and 0.006 worse with 1 s (takes 0 to 14, as in the choice below)
RECIPE: dict[str, Any] = {
    "pooling": "mean",
    "start": "probe",
    "average": 0.25,
    "learning_rate": 1e-4,
    "augment": "pitch,stretch,noise,gain,shift,specaugment",
    "freeze": "features",
    "precision": "bfloat16",
}
SMALL: dict[str, Any] = {
    "hidden_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 768,
    "conv_dim": (128,) * 7,
}


def make_model(folder: Path, small: bool) -> Any:
    """Write a model with random weights, and return its class for classification; dropout is 0 to compare gradients."""
    torch.manual_seed(0)
    without: dict[str, Any] = dict.fromkeys(
        ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop"), 0.0
    )
    options: dict[str, Any] = {"num_labels": CLASSES, "apply_spec_augment": False}
    config = transformers.Wav2Vec2Config(**(SMALL if small else {}), **without, **options)
    model = transformers.Wav2Vec2ForSequenceClassification(config)
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return model.train()


def make_clips(count: int) -> list[Tensor]:
    """Return clips of 0.3 to 10 s, evenly on a logarithmic scale, in random order."""
    random = np.random.default_rng(0)
    seconds = random.permutation(np.geomspace(0.3, 10, count))
    return [torch.from_numpy(random.normal(0, 0.1, round(s * RATE)).astype(np.float32)) for s in seconds]


def padded_batch(model: Any, clips: Sequence[Tensor], labels: Tensor, size: int, start: int) -> None:
    """Compute the gradients of a batch of a step as tutorials do."""
    batch = [clip.numpy() for clip in clips[start : start + size]]
    inputs = transformers.Wav2Vec2FeatureExtractor()(batch, sampling_rate=RATE, padding=True, return_tensors="pt")
    loss = model(inputs.input_values, labels=labels[start : start + size]).loss
    (loss * len(batch) / len(clips)).backward()


def clip_by_clip(model: Any, clips: Sequence[Tensor], labels: Tensor) -> None:
    """Compute the gradients of a step with transformers alone, one clip at a time, so that nothing is padded."""
    front_end = transformers.Wav2Vec2FeatureExtractor()
    for clip, label in zip(clips, labels, strict=True):
        inputs = front_end(clip.numpy(), sampling_rate=RATE, return_tensors="pt")
        (model(inputs.input_values, labels=label[None]).loss / len(clips)).backward()


def masked_batch(
    encoder: CheckpointEncoder, head: Any, clips: Sequence[Tensor], labels: Tensor, batch: list[int]
) -> None:
    """Compute the gradients of a batch of a step with masks, as embedx does."""
    lengths = torch.tensor([len(clips[i]) for i in batch])
    waves = torch.nn.utils.rnn.pad_sequence([clips[i] for i in batch], batch_first=True)
    ((_, frames, counts),) = encoder.frames(waves, lengths, encoder.layers[-1:])
    valid = torch.arange(frames.shape[1]) < counts[:, None]
    pooled = frames.masked_fill(~valid[..., None], 0.0).sum(1) / counts[:, None]
    logits = head.classifier(head.projector(pooled))
    loss = torch.nn.functional.cross_entropy(logits, labels[batch], reduction="sum") / len(clips)
    loss.backward()  # type: ignore[no-untyped-call]


def take_turns(loops: Sequence[Sequence[Callable[[], None]]]) -> NDArray[np.float64]:
    """Return the processor time of each loop of batches; the loop goes on that has done the smallest share of its own.

    So both loops see the same load of the machine.
    """
    done, times = [0] * len(loops), np.zeros(len(loops))
    while any(count < len(loop) for count, loop in zip(done, loops, strict=True)):
        number = min(range(len(loops)), key=lambda i: done[i] / len(loops[i]))
        start = time.process_time()
        loops[number][done[number]]()
        times[number] += time.process_time() - start
        done[number] += 1
    return times


def measure_step(small: bool) -> str:
    """Return a table of the processor time of a step of both loops, and the error of the gradients."""
    clips, labels = make_clips(CLIPS), torch.arange(CLIPS) % CLASSES
    with tempfile.TemporaryDirectory() as name:
        model = make_model(Path(name), small)
        encoder = load_encoder(name)
    encoder.train()
    cut = cut_batches([len(clip) for clip in clips], round(BATCH_SECONDS * RATE), lambda length: length)
    random = np.random.default_rng(1)
    ours = [partial(masked_batch, encoder, model, clips, labels, cut[i]) for i in random.permutation(len(cut))]
    theirs = [
        [partial(padded_batch, model, clips, labels, size, start) for start in range(0, CLIPS, size)]
        for size in TUTORIAL_BATCHES
    ]
    error = compare_gradients(encoder, model, lambda: clip_by_clip(model, clips, labels), ours)
    print(f"error of the gradients: {error:.0e}", flush=True)
    seconds = take_turns([*theirs, ours])
    audio_s = sum(map(len, clips)) / RATE
    rows = [
        f"| tutorials: {len(loop)} batches of {size} in random order, padded to {padded_seconds(clips, size):.0f} s, "
        f"no mask | {used:.1f} | {used / seconds[-1]:.2f} |"
        for size, loop, used in zip(TUTORIAL_BATCHES, theirs, seconds, strict=False)
    ]
    lines = [
        f"A step of {CLIPS} clips of 0.3 to 10 s, evenly on a logarithmic scale ({audio_s:.0f} s of audio), forward "
        f"and backward in float32; {'a small model' if small else 'the shape of wav2vec2-base'} with random weights. "
        "Processor seconds of one "
        "step; the batches of the loops take turns.",
        "",
        "| loop | s | of embedx |",
        "|---|---|---|",
        *rows,
        f"| embedx: {len(ours)} batches by length, masked | {seconds[-1]:.1f} | 1 |",
        "",
        f"Largest difference of a gradient of embedx to that of transformers clip by clip: {error:.0e} (of gradients "
        "up to 1). The gradients of the tutorials' loop differ, because their means have the padding.",
    ]
    return "\n".join(lines)


def padded_seconds(clips: Sequence[Tensor], size: int) -> float:
    """Return the seconds of audio in batches of the tutorials, with the padding."""
    lengths = [len(clip) for clip in clips]
    batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    return sum(len(batch) * max(batch) for batch in batches) / RATE


def compare_gradients(
    encoder: CheckpointEncoder, model: Any, theirs: Callable[[], None], ours: Sequence[Callable[[], None]]
) -> float:
    """Return the largest difference of a gradient, where the largest of its tensor counts as at least 1."""
    theirs()
    expected = [parameter.grad for parameter in model.wav2vec2.parameters()]
    model.zero_grad()
    for batch in ours:
        batch()
    pairs = [(one.grad, true) for one, true in zip(encoder.model.parameters(), expected, strict=True)]
    return max(
        float((one - true).abs().max() / true.abs().max().clamp(min=1))
        for one, true in pairs
        if one is not None and true is not None
    )


def make_manifest(takes: range) -> pd.DataFrame:
    """Return some takes of each digit and speaker."""
    rows = []
    for path in sorted(RECORDINGS.glob("*.wav")):
        digit, speaker, take = path.stem.split("_")
        if int(take) in takes:
            rows.append({"path": str(path), "label": digit, "speaker": speaker})
    return pd.DataFrame(rows)


def show(line: str) -> str:
    """Print a line at once, and return it."""
    print(line, flush=True)
    return line


def compare_fsdd(takes: range, epochs: int) -> str:
    """Return a table of probe and fine-tuning on unseen speakers, with intervals and processor time."""
    frame = make_manifest(takes)
    speakers = sorted(set(frame.speaker))
    common: dict[str, Any] = {"folds": "speaker", "max_seconds": CONTEXT_S, "device": "cpu", "hold_out": False}
    changed = FinetuneOptions(str(WHISPER), **common, **RECIPE)
    with tempfile.TemporaryDirectory() as name:
        rows = [
            probe_speakers(frame, Path(name) / "c"),
            *(
                finetune_speakers(frame, speakers, Path(name) / kind, kind, options)
                for kind, options in {
                    f"head alone, as fine-tuning starts (context of {CONTEXT_S:.0f} s)": changed.replace(
                        freeze="encoder", average=0.0, epochs=1, augment=None
                    ),
                    f"fine-tuned, {epochs} epochs (context of {CONTEXT_S:.0f} s)": changed.replace(epochs=epochs),
                }.items()
            ),
        ]
    recipe = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in RECIPE.items())
    lines = [
        f"FSDD, ten digits, {len(frame)} recordings of {len(speakers)} speakers (takes {takes[0]} to {takes[-1]}). The "
        "speaker that is tested is never in the training rows; these are all rows of the other speakers, for the probe "
        "and for fine-tuning. Whisper tiny.en, accuracy with 95 % intervals over recordings. Fine-tuning: "
        f"`{recipe} --max-seconds {CONTEXT_S:.0f} --no-hold-out`. This was chosen on takes 0 to 7, trained on two "
        "speakers and judged on the others (docs/finetune.md); for the test on one speaker, trainings and figures with "
        "this speaker did not count, and gave the same choice or one that was at most 0.01 better.",
        "",
        f"| | {' | '.join(speakers)} | all | interval | processor s |",
        "|---" * (len(speakers) + 4) + "|",
        *rows,
    ]
    return "\n".join(lines)


def probe_speakers(frame: pd.DataFrame, folder: Path) -> str:
    """Return the row of a logistic regression on the vectors of the last layer, chosen and trained as by default."""
    start = time.process_time()
    with embedx.extract(frame, model=str(WHISPER), out=folder) as collection:
        report = collection.probe("label", folds="speaker", permutations=0)
    used = time.process_time() - start
    figure = report.metrics.figures["accuracy"]
    assert figure is not None
    parts = [f"{part.figures['accuracy']:.3f}" for part in sorted(report.metrics.by_part, key=lambda part: part.name)]
    return show(
        f"| probe (`embedx probe`: logistic, last layer, context of 30 s) | {' | '.join(parts)} | {figure.value:.3f} | "
        f"{figure.low:.3f} to {figure.high:.3f} | {used:.0f} |"
    )


def finetune_speakers(
    frame: pd.DataFrame, speakers: Sequence[str], folder: Path, kind: str, options: FinetuneOptions
) -> str:
    """Return the row of one training for each speaker, tested on that speaker."""
    start, parts, hits = time.process_time(), [], 0.0
    for speaker in speakers:
        result = finetune(frame, folder / speaker, options.replace(fold=speaker))
        figure = result.metrics["label"].figures["accuracy"]
        assert figure is not None
        parts.append(show(f"{figure.value:.3f}"))
        hits += figure.value * result.facts["test_rows"]
    low, high = score_interval(np.array([hits / len(frame)]), np.array([len(frame)]))
    used = time.process_time() - start
    return show(
        f"| {kind} | {' | '.join(parts)} | {hits / len(frame):.3f} | {low[0]:.3f} to {high[0]:.3f} | {used:.0f} |"
    )


def main() -> None:
    """Measure everything, and write the parts of BENCHMARKS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a smaller model and less data; print only")
    parser.add_argument("--only", choices=["step", "fsdd"], help="measure and write only one part")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[], str]] = {}
    if arguments.only != "fsdd":
        parts["Fine-tuning: a step"] = lambda: measure_step(arguments.small)
    if arguments.only != "step" and RECORDINGS.is_dir() and WHISPER.is_dir():
        size = (range(8, 10), 1) if arguments.small else (range(8, 23), 3)
        parts["Fine-tuning: FSDD by speaker"] = lambda: compare_fsdd(*size)
    for heading, measure in parts.items():
        machine = f"{name_device('cpu')}, commit {commit()}, threads: {torch.get_num_threads()}"
        text = f"{machine}, {os.getloadavg()[0]:.0f} processes wanted its {os.cpu_count()} cores.\n\n{measure()}"
        print(text)
        if not arguments.small:
            write_part(heading, text)


if __name__ == "__main__":
    main()
