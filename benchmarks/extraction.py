"""Compare extraction with common alternatives, and write the part of BENCHMARKS.md. `make bench` runs it; 15 minutes.

The model has the shape of HuBERT-base and random weights; the clips are noise from a fixed seed. The methods are
measured in alternating turns. Speed is seconds of audio per second of processor time on one thread, which depends
little on other load, and per second of wall time on all cores. From files to vectors, wall time is measured.
"""

import argparse
import importlib.util
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
import torchaudio
import transformers
from numpy.typing import NDArray
from page import ROOT, commit, write_part

import embedx
from embedx import extractors
from embedx.audio.windows import Window
from embedx.bench.speed.roofline import name_device
from embedx.embedding.embedder import Embedder
from embedx.extractors.base import Extractor
from embedx.extractors.fast import onednn
from embedx.recipe import Recipe

Floats = NDArray[np.float32]
Way = Callable[[Sequence[Floats]], list[Floats]]  # clips at 16 kHz -> one vector per clip
SHARED = Path(os.environ.get("EMBEDX_SHARED") or ROOT.parent / "shared")
RATE = 16_000
BATCH = 8  # a common choice in tutorials
BASE = transformers.HubertConfig()


def operations(samples: int, shape: Any = BASE) -> float:
    """Return the floating-point operations of a model on a clip: two per multiplication in weights and attention."""
    dim, products, rows, channels = shape.hidden_size, 0, samples, 1
    for kernel, stride, made in zip(shape.conv_kernel, shape.conv_stride, shape.conv_dim, strict=True):
        rows = (rows - kernel) // stride + 1
        products += rows * kernel * channels * made
        channels = made
    position = shape.num_conv_pos_embeddings * dim // shape.num_conv_pos_embedding_groups  # per output number
    block = 4 * dim * dim + 2 * dim * shape.intermediate_size
    linears = channels * dim + position * dim + shape.num_hidden_layers * block
    return float(2 * (products + rows * linears + shape.num_hidden_layers * 2 * rows * rows * dim))


def peak(dtype: torch.dtype) -> float:
    """Return the peak operations per second of a linear layer on one thread, with oneDNN or with torch's default."""
    x, weight = torch.randn(2048, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
    ways = [lambda: torch.nn.functional.linear(x, weight)]
    if onednn.is_fused(dtype):
        fused = onednn.fused_linear(weight, None, gelu=False)
        ways.append(lambda: fused(x))
    return 2 * 2048 * 1024 * 1024 / min(timed(way) for way in ways for _ in range(20))


def timed(work: Callable[[], Any]) -> float:
    """Return the processor time of this thread for the work, in seconds."""
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def plain_loop(model: Any, batch: int = BATCH) -> Way:
    """Return the loop of common tutorials: batches in order, padded to the longest clip, mean over all frames."""
    front_end = transformers.Wav2Vec2FeatureExtractor()

    def embed(clips: Sequence[Floats]) -> list[Floats]:
        vectors: list[Floats] = []
        for start in range(0, len(clips), batch):
            some = list(clips[start : start + batch])
            inputs = front_end(some, sampling_rate=RATE, padding=True, return_tensors="pt")
            with torch.no_grad():
                states = model(inputs.input_values.to(model.device, model.dtype)).last_hidden_state
            vectors += list(states.mean(dim=1).float().cpu().numpy())
        return vectors

    return embed


def pipeline(model: Any) -> Way:
    """Return the feature extraction pipeline of transformers, with the audio front end in place of a tokenizer."""
    front_end: Any = transformers.Wav2Vec2FeatureExtractor()
    run: Any = transformers.FeatureExtractionPipeline(model=model, tokenizer=front_end, framework="pt")
    return lambda clips: [run(clip, return_tensors=True)[0].mean(dim=0).numpy() for clip in clips]


def bundle_loop(model: Any) -> Way:
    """Return a loop over the torchaudio model, one clip at a time."""
    from torchaudio.models.wav2vec2.utils import import_huggingface_model

    bundle = import_huggingface_model(model).eval().to(model.device)

    def embed(clips: Sequence[Floats]) -> list[Floats]:
        vectors = []
        for clip in clips:
            wave = torch.from_numpy(clip)[None].to(model.device)
            with torch.inference_mode():
                wave = torch.nn.functional.layer_norm(wave, wave.shape)
                vectors.append(bundle.extract_features(wave)[0][-1][0].mean(dim=0).cpu().numpy())
        return vectors

    return embed


def onnx_runtime(model: Any, folder: str) -> Way:
    """Return the model in ONNX Runtime, one clip at a time."""
    import onnxruntime

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, wave: torch.Tensor) -> Any:
            return self.model(wave).last_hidden_state

    file, prepare = f"{folder}/hubert.onnx", transformers.Wav2Vec2FeatureExtractor()
    example, axes = torch.randn(1, RATE), {"wave": {1: "samples"}, "frames": {1: "time"}}
    names: dict[str, Any] = {"input_names": ["wave"], "output_names": ["frames"], "dynamic_axes": axes}
    torch.onnx.export(LastHiddenState().eval(), (example,), file, dynamo=False, **names)

    @cache
    def session(threads: int) -> Any:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(file, settings)

    def embed(clips: Sequence[Floats]) -> list[Floats]:
        run = session(torch.get_num_threads()).run
        waves = (prepare(clip, sampling_rate=RATE, return_tensors="np").input_values for clip in clips)
        return [run(None, {"wave": wave})[0][0].mean(axis=0) for wave in waves]

    return embed


def ours(folder: str, backend: str, precision: str = "float32") -> Way:
    """Return embedx on a CPU."""
    return way_of(embedder_of(extractors.load(folder, backend=backend), precision=precision, device="cpu"))


def embedder_of(extractor: Extractor, **options: Any) -> Embedder:
    """Return an embedder for the mean of the last layer."""
    return Embedder(
        extractor, Recipe("huggingface", "", extractor.weights, RATE, extractor.layers[-1:], ("mean",)), **options
    )


def way_of(embedder: Embedder) -> Way:
    """Return an embedder as a method."""
    view = embedder.recipe.default_view

    def embed(clips: Sequence[Floats]) -> list[Floats]:
        windows = ((i, Window(0.0, len(clip) / RATE, clip)) for i, clip in enumerate(clips))
        heard = embedder.embed(windows, threads=torch.get_num_threads())
        found = {key: vectors[view] for key, vectors, _ in heard}
        return [found[i] for i in range(len(clips))]

    return embed


def compare(title: str, ways: dict[str, Way], clips: Sequence[Floats], peaks: dict[str, float]) -> Iterator[str]:
    """Yield a table of all methods on some clips; the others are compared with the first."""
    seconds, work = sum(map(len, clips)) / RATE, sum(operations(len(clip)) for clip in clips)
    cores = torch.get_num_threads()
    by_clock, _ = take_turns(ways, clips, time.perf_counter)
    torch.set_num_threads(1)
    on_one, found = take_turns(ways, clips, time.thread_time)
    alone = ways["embedx, reference, float32"]
    truth = [alone([clip])[0] for clip in clips]
    torch.set_num_threads(cores)
    yield f"### {title}\n"
    yield (
        f"| | x real time, {cores} cores, wall time | x the plain loop | x real time, one core | x the plain loop | "
        "share of the matmul peak | median 1 - cos to the clip alone |"
    )
    yield "|---|---|---|---|---|---|---|"
    loop = next(iter(ways))
    for name in ways:
        share = work / on_one[name] / peaks["bfloat16" if "bfloat16" in name else "float32"]
        wrong = np.median([1 - cosine(a, b) for a, b in zip(found[name], truth, strict=True)])
        yield (
            f"| {name} | {seconds / by_clock[name]:.1f} | {by_clock[loop] / by_clock[name]:.2f} | "
            f"{seconds / on_one[name]:.1f} | {on_one[loop] / on_one[name]:.2f} | {share:.0%} | {max(wrong, 0):.0e} |"
        )


def take_turns(
    ways: dict[str, Way], clips: Sequence[Floats], clock: Callable[[], float]
) -> tuple[dict[str, float], dict[str, list[Floats]]]:
    """Return the shorter of two times of each method on the clips, and its vectors."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, list[Floats]] = {}
    for turn in range(2):
        for name in list(ways)[:: -1 if turn else 1]:
            begun = clock()
            found[name] = ways[name](clips)
            taken[name].append(clock() - begun)
    return {name: min(times) for name, times in taken.items()}, found


def vggish(peak: float) -> str:
    """Return a sentence with the speed of VGGish on one core, with its front end, and its share of the peak."""
    from torch.utils.flop_counter import FlopCounterMode

    from embedx.extractors.vggish import Network, VGGish

    extractor, seconds = VGGish(Network().state_dict()), 30
    waves, lengths = torch.randn(6, seconds // 6 * RATE) / 10, torch.full((6,), seconds // 6 * RATE)
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            list(extractor.frames(waves, lengths, (0,)))
        least = min(timed(lambda: list(extractor.frames(waves, lengths, (0,)))) for _ in range(5))
    share = counter.get_total_flops() / least / peak
    return f"VGGish with its front end, float32, one core: {seconds / least:.0f} x real time, {share:.0%} of the peak."


def cosine(a: Floats, b: Floats) -> float:
    """Return the cosine of two vectors, in float64."""
    one, two = a.astype(np.float64), b.astype(np.float64)
    return float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))


def from_files(folder: str, loop: Way, count: int) -> Iterator[str]:
    """Yield a table of spoken digits, from files to vectors in wall time, with all threads."""
    paths = sorted((SHARED / "data/fsdd/recordings").glob("*.wav"))[:: 2000 // count][:count]

    def plain() -> None:
        clips = []
        for path in paths:
            samples, rate = soundfile.read(path, dtype="float32")
            clips.append(soxr.resample(samples, rate, RATE).astype(np.float32))
        loop(clips)

    def extract(**options: str) -> None:
        with tempfile.TemporaryDirectory() as out:
            embedx.extract([str(path) for path in paths], model=folder, out=Path(out) / "c", **options).close()  # type: ignore[arg-type]

    ways: dict[str, Callable[[], None]] = {
        "plain loop (without loading the model)": plain,
        "embedx.extract, reference": lambda: extract(backend="reference"),
        "embedx.extract, fast, float32": extract,
        "embedx.extract, fast, bfloat16": lambda: extract(precision="bfloat16"),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(2):
        for name in list(ways)[:: -1 if turn else 1]:
            begun = time.perf_counter()
            ways[name]()
            taken[name].append(time.perf_counter() - begun)
    base = min(next(iter(taken.values())))
    yield f"### {count} spoken digits (FSDD, 0.14 to 2.3 s), from files to a collection, wall time\n"
    yield "| | s | x the plain loop |"
    yield "|---|---|---|"
    for name, times in taken.items():
        yield f"| {name} | {min(times):.1f} | {base / min(times):.2f} |"


def main() -> None:
    """Measure everything, and write the part of BENCHMARKS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=16, help="clips of the mixed corpus")
    parser.add_argument("--files", type=int, default=1000, help="spoken digits")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    threads = torch.get_num_threads()
    load = os.getloadavg()[0]
    random = np.random.default_rng(options.seed)
    torch.manual_seed(options.seed)
    mixed = [int(RATE * np.exp(random.uniform(np.log(0.3), np.log(30)))) for _ in range(options.clips)]
    batches = [mixed[start : start + BATCH] for start in range(0, len(mixed), BATCH)]
    padding = sum(max(batch) * len(batch) for batch in batches) / sum(mixed)
    torch.set_num_threads(1)
    peaks = {"float32": peak(torch.float32), "bfloat16": peak(torch.bfloat16)}
    patches = vggish(peaks["float32"])
    torch.set_num_threads(threads)
    parts = [
        f"Made by `python benchmarks/extraction.py` on {time.strftime('%Y-%m-%d')} at commit {commit()}: "
        f"{os.cpu_count()} cores of {name_device('cpu')}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, torchaudio {torchaudio.__version__}, "
        f"Python {platform.python_version()}; load {load:.1f} at the start. Shape of HuBERT-base, random weights. "
        f"One thread reaches {peaks['float32'] / 1e9:.0f} GFLOP/s of matrix products in float32 and "
        f"{peaks['bfloat16'] / 1e9:.0f} in bfloat16 (the faster of oneDNN and MKL); 5 s of audio are "
        f"{operations(5 * RATE) / 1e9:.0f} GFLOP.\n",
    ]
    has_onnx = all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        model = transformers.HubertModel(transformers.HubertConfig()).eval()
        model.set_attn_implementation("eager")
        model.save_pretrained(folder)
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
        ways = {
            "plain loop, batches of 8, float32": plain_loop(model),
            'transformers, pipeline("feature-extraction")': pipeline(model),
            "torchaudio, clip by clip": bundle_loop(model),
            **({"ONNX Runtime, clip by clip": onnx_runtime(model, other)} if has_onnx else {}),
            "embedx, reference, float32": ours(folder, "reference"),
            "embedx, fast, float32": ours(folder, "fast"),
            "embedx, fast, bfloat16": ours(folder, "fast", "bfloat16"),
        }
        titles = {
            f"{options.clips} clips of 0.3 to 30 s (log-uniform); padding of the loop: {padding:.1f}": mixed,
            "16 clips of 5 s": [5 * RATE] * 16,
        }
        for title, lengths in titles.items():
            clips = [random.standard_normal(n, dtype=np.float32) * np.float32(0.1) for n in lengths]
            parts += [*compare(title, ways, clips, peaks), ""]
            print("\n".join(parts[-9:]), flush=True)
        parts += [patches, ""]
        if (SHARED / "data/fsdd").is_dir():
            parts += from_files(folder, ways["plain loop, batches of 8, float32"], options.files)
    print("\n".join(parts))
    write_part("Extraction", "\n".join(parts))


if __name__ == "__main__":
    main()
