"""Measure fine-tuning, and write the part of BENCHMARKS.md: a training step, and fine-tuned against probe on FSDD.

The step is compared with the loop of the tutorials: batches of 8 in random order, padded to the longest clip, without a
mask. The model has the shape of wav2vec2-base and random weights. FSDD needs the recordings and the weights of Whisper
tiny.en in shared/ beside the repository. `--small` takes a smaller model and less data, and prints only.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
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
TUTORIAL_BATCH = 8
BATCH_SECONDS = 15.0  # as the default on a CPU
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


def padded_loop(model: Any, clips: Sequence[Tensor], labels: Tensor) -> None:
    """Compute the gradients of a step as tutorials do."""
    front_end = transformers.Wav2Vec2FeatureExtractor()
    for start in range(0, len(clips), TUTORIAL_BATCH):
        batch = [clip.numpy() for clip in clips[start : start + TUTORIAL_BATCH]]
        inputs = front_end(batch, sampling_rate=RATE, padding=True, return_tensors="pt")
        loss = model(inputs.input_values, labels=labels[start : start + TUTORIAL_BATCH]).loss
        (loss * len(batch) / len(clips)).backward()


def masked_loop(
    encoder: CheckpointEncoder, head: Any, clips: Sequence[Tensor], labels: Tensor, batches: list[list[int]]
) -> None:
    """Compute the gradients of a step in the given batches, with masks."""
    for batch in batches:
        lengths = torch.tensor([len(clips[i]) for i in batch])
        waves = torch.nn.utils.rnn.pad_sequence([clips[i] for i in batch], batch_first=True)
        ((_, frames, counts),) = encoder.frames(waves, lengths, encoder.layers[-1:])
        valid = torch.arange(frames.shape[1]) < counts[:, None]
        pooled = frames.masked_fill(~valid[..., None], 0.0).sum(1) / counts[:, None]
        logits = head.classifier(head.projector(pooled))
        loss = torch.nn.functional.cross_entropy(logits, labels[batch], reduction="sum") / len(clips)
        loss.backward()  # type: ignore[no-untyped-call]


def seconds_of(work: Callable[[], None], repeats: int) -> float:
    """Return the least processor time of a call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def measure_step(small: bool) -> str:
    """Return a table of the processor time of a step of both loops, and the error of the gradients."""
    count, repeats = 32, 1
    clips, labels = make_clips(count), torch.arange(count) % CLASSES
    with tempfile.TemporaryDirectory() as name:
        model = make_model(Path(name), small)
        encoder = load_encoder(name)
    encoder.train()
    budget = round(BATCH_SECONDS * RATE)
    batches = cut_batches([len(clip) for clip in clips], budget, lambda length: length)
    alone = [[i] for i in range(count)]
    masked_loop(encoder, model, clips, labels, alone)
    expected = {key: value.grad.clone() for key, value in encoder.named_parameters() if value.grad is not None}
    encoder.zero_grad()
    masked_loop(encoder, model, clips, labels, batches)
    error = max(
        float((value.grad - expected[key]).abs().max() / expected[key].abs().max().clamp(min=1))
        for key, value in encoder.named_parameters()
        if value.grad is not None
    )
    ours = seconds_of(lambda: masked_loop(encoder, model, clips, labels, batches), repeats)
    one_by_one = seconds_of(lambda: masked_loop(encoder, model, clips, labels, alone), repeats)
    theirs = seconds_of(lambda: padded_loop(model, clips, labels), repeats)
    audio_s = sum(map(len, clips)) / RATE
    lines = [
        f"A step of {count} clips of 0.3 to 10 s ({audio_s:.0f} s of audio), forward and backward, processor seconds; "
        f"{'a small model' if small else 'the shape of wav2vec2-base'} with random weights.",
        "",
        "| loop | s | times as fast |",
        "|---|---|---|",
        f"| tutorials: batches of {TUTORIAL_BATCH} in random order, padded, no mask | {theirs:.1f} | 1 |",
        f"| clip by clip, masked | {one_by_one:.1f} | {theirs / one_by_one:.1f} |",
        f"| embedx: {len(batches)} batches by length, masked | {ours:.1f} | {theirs / ours:.1f} |",
        "",
        f"Largest difference of a gradient of embedx to clip by clip: {error:.0e} (of gradients up to 1). The "
        "gradients of the tutorials' loop differ, because their means have the padding.",
    ]
    return "\n".join(lines)


def make_manifest(takes: int) -> pd.DataFrame:
    """Return the first takes of each digit and speaker."""
    rows = []
    for path in sorted(RECORDINGS.glob("*.wav")):
        digit, speaker, take = path.stem.split("_")
        if int(take) < takes:
            rows.append({"path": str(path), "label": digit, "speaker": speaker})
    return pd.DataFrame(rows)


def show(line: str) -> str:
    """Print a line at once, and return it."""
    print(line, flush=True)
    return line


def compare_fsdd(takes: int, epochs: int) -> str:
    """Return a table of probe and fine-tuning on unseen speakers, with intervals and processor time."""
    frame = make_manifest(takes)
    speakers = sorted(set(frame.speaker))
    lines = [
        f"FSDD, ten digits, {len(frame)} recordings of {len(speakers)} speakers; the speaker that is tested is never "
        "in the training rows. Whisper tiny.en, accuracy with 95 % intervals over recordings.",
        "",
        "| | tested on | accuracy | interval | processor s |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as name:
        start = time.process_time()
        with embedx.extract(frame, model=str(WHISPER), out=Path(name) / "c") as collection:
            report = collection.probe("label", folds="speaker", permutations=0)
        used = time.process_time() - start
        lines += [
            f"| probe (logistic, last layer) | {part.name} | {part.figures['accuracy']:.3f} | | |"
            for part in report.metrics.by_part
        ]
        figure = report.metrics.figures["accuracy"]
        assert figure is not None
        lines.append(show(f"| probe | all | {figure.value:.3f} | {figure.low:.3f} to {figure.high:.3f} | {used:.0f} |"))
        hits, total = 0.0, 0.0
        for speaker in speakers:
            start = time.process_time()
            options = FinetuneOptions(
                str(WHISPER), folds="speaker", fold=speaker, max_seconds=1.0, epochs=epochs, device="cpu",
                learning_rate=1e-4, freeze="features",
            )  # fmt: skip
            result = finetune(frame, Path(name) / speaker, options)
            figure = result.metrics["label"].figures["accuracy"]
            assert figure is not None
            used = time.process_time() - start
            total += used
            hits += figure.value * result.facts["test_rows"]
            lines.append(
                show(
                    f"| fine-tuned, {epochs} epochs | {speaker} | {figure.value:.3f} | {figure.low:.3f} to "
                    f"{figure.high:.3f} | {used:.0f} |"
                )
            )
        low, high = score_interval(np.array([hits / len(frame)]), np.array([len(frame)]))
        lines.append(f"| fine-tuned | all | {hits / len(frame):.3f} | {low[0]:.3f} to {high[0]:.3f} | {total:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure everything, and write the part of BENCHMARKS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a smaller model and less data; print only")
    parser.add_argument("--only", choices=["step", "fsdd"], help="measure only one part; print only")
    arguments = parser.parse_args()
    parts = [f"{name_device('cpu')}, commit {commit()}, threads: {torch.get_num_threads()}."]
    if arguments.only != "fsdd":
        parts.append(measure_step(arguments.small))
    if arguments.only != "step" and RECORDINGS.is_dir() and WHISPER.is_dir():
        parts.append(compare_fsdd(*((2, 4) if arguments.small else (15, 8))))
    text = "\n\n".join(parts)
    print(text)
    if not arguments.small and not arguments.only:
        write_part("Fine-tuning", text)


if __name__ == "__main__":
    main()
