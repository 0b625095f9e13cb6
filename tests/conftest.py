"""Fixtures: a synthetic corpus, tiny checkpoints with random weights, and the real audio of ../shared if present."""

import gc
import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

# One thread for each process, set before numpy and torch are imported: several processes of tests on two cores lose
# nine tenths of their time where each of them starts a thread per core.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
gc.disable()  # until the end of the collection of tests: imports make many objects, and none of them are garbage

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

import embedx
from embedx.datasets.synthetic import synthesise
from tests.helpers.checkpoints import CHECKPOINTS, SMALL
from tests.helpers.collections import Make, build_collection
from tests.helpers.encoder_checkpoints import ENCODERS, save_tiny
from tests.helpers.paths import SHARED

SLOW_FILES = (  # they start first, so that two processes of pytest-xdist end at the same time
    "test_docs.py", "test_kills.py", "test_faults.py", "test_harness_detects_faults.py", "test_run.py", "test_demo.py",
    "test_gpu_process.py", "test_real_audio.py", "test_statistics.py", "test_gpu.py", "test_pipeline.py",
    "test_durability.py", "test_everyone.py", "test_sharded.py", "test_label.py", "test_scratch.py", "test_find.py",
    "test_fit_head.py", "test_conformance.py", "test_runner.py", "test_build.py", "test_hub.py", "test_verify.py",
    "test_state_machine.py", "test_malformed_audio.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: SLOW_FILES.index(item.path.name) if item.path.name in SLOW_FILES else len(SLOW_FILES))


def pytest_runtest_setup() -> None:
    """Let embedx log as at the start of a process: libraries that an earlier test imported can switch loggers off."""
    logging.disable(logging.NOTSET)
    for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "embedx"]:
        logger = logging.getLogger(name)
        logger.disabled, logger.propagate = False, True
        logger.setLevel(logging.NOTSET)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over all that is imported by now: it would walk through it again and again."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_report_header() -> str:
    found = "found" if SHARED.is_dir() else "not there: tests on real audio and real weights are skipped"
    return f"shared data ({SHARED}): {found}"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("needs the real audio and weights of ../shared (or EMBEDX_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic corpus of 4 classes x 5 sources x 2 takes; return its manifest."""
    return synthesise(tmp_path_factory.mktemp("corpus"), takes=2, classes=4)


@pytest.fixture(scope="session")
def made(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of the synthetic corpus with logmel; tests must not change it."""
    out = tmp_path_factory.mktemp("indexes") / "made"
    embedx.extract(manifest, out=out, group="source", pooling=("mean", "max")).close()
    return out


@pytest.fixture
def collection(made: Path) -> Iterator[embedx.Collection]:
    with embedx.open(made) as opened:
        yield opened


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a tiny checkpoint with random weights, as save_pretrained writes it."""
    import transformers

    root = tmp_path_factory.mktemp("checkpoints")

    def make(name: str) -> Path:
        folder = root / name
        if not folder.exists() and name in ENCODERS:
            save_tiny(name, folder)
        elif not folder.exists():
            kind, options, front_end, front_end_options = CHECKPOINTS[name]
            torch.manual_seed(len(name))
            shape = {} if kind in ("Whisper", "Clap") else SMALL
            model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**(shape | options)))
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm1d):  # fresh ones map zero to zero, trained ones do not
                    module.bias.data.normal_()
                    module.running_mean.normal_()  # type: ignore[union-attr]
            model.save_pretrained(folder)
            getattr(transformers, front_end)(**front_end_options).save_pretrained(folder)
        return folder

    return make


VGGISH = {  # layer of torchvggish -> (scope in TensorFlow, shape of the weights in TensorFlow)
    "features.0": ("vggish/conv1", (3, 3, 1, 64)),
    "features.3": ("vggish/conv2", (3, 3, 64, 128)),
    "features.6": ("vggish/conv3/conv3_1", (3, 3, 128, 256)),
    "features.8": ("vggish/conv3/conv3_2", (3, 3, 256, 256)),
    "features.11": ("vggish/conv4/conv4_1", (3, 3, 256, 512)),
    "features.13": ("vggish/conv4/conv4_2", (3, 3, 512, 512)),
    "embeddings.0": ("vggish/fc1/fc1_1", (12_288, 4096)),
    "embeddings.2": ("vggish/fc1/fc1_2", (4096, 4096)),
    "embeddings.4": ("vggish/fc2", (4096, 128)),
}


@pytest.fixture(scope="session")
def vggish_variables() -> dict[str, NDArray[np.float32]]:
    """Random weights of VGGish at full size under TensorFlow's names, scaled so that the signal survives (He 2015)."""
    random = np.random.default_rng(0)
    variables: dict[str, NDArray[np.float32]] = {}
    for scope, shape in VGGISH.values():
        scale = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        variables[f"{scope}/weights"] = random.standard_normal(shape, dtype=np.float32) * scale
        variables[f"{scope}/biases"] = random.standard_normal(shape[-1], dtype=np.float32) * np.float32(0.1)
    return variables


@pytest.fixture(scope="session")
def vggish_tensors(vggish_variables: dict[str, NDArray[np.float32]]) -> dict[str, torch.Tensor]:
    """The same weights in the layout of torchvggish."""
    tensors = {}
    for layer, (scope, shape) in VGGISH.items():
        axes = (3, 2, 0, 1) if len(shape) == 4 else (1, 0)
        tensors[f"{layer}.weight"] = torch.from_numpy(vggish_variables[f"{scope}/weights"].transpose(axes).copy())
        tensors[f"{layer}.bias"] = torch.from_numpy(vggish_variables[f"{scope}/biases"])
    return tensors


@pytest.fixture(scope="session")
def vggish_weights(vggish_tensors: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with these weights, 288 MB."""
    path = tmp_path_factory.mktemp("vggish") / "vggish.safetensors"
    save_file(vggish_tensors, path)
    return path


@pytest.fixture
def write_wav(tmp_path: Path) -> Callable[..., Path]:
    """Write a WAV of noise (or of given samples) and return its path."""

    def write(
        name: str = "a.wav", seconds: float = 1.0, rate: int = 16_000, samples: NDArray[Any] | None = None
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(len(name))
        if samples is None:
            samples = random.uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)
        soundfile.write(os.fsencode(path), samples, rate, subtype="FLOAT", format="WAV")
        return path

    return write


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a collection out of vectors, labels and metadata; one recording per `path` (default: per row)."""
    return partial(build_collection, tmp_path)


@pytest.fixture(scope="session")
def made_of_layers(
    manifest: Path, checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> embedx.Collection:
    out = tmp_path_factory.mktemp("layers") / "c"
    options: dict[str, object] = {"layers": "all", "pooling": ("mean", "max"), "group": "source"}
    return embedx.extract(manifest, model=str(checkpoint("hubert")), out=out, **options)  # type: ignore[arg-type]
