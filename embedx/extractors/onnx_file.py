"""An ONNX file: its inputs and outputs, the files that belong to it, and the session that runs it."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedx.errors import ModelError
from embedx.extractors.weights import brief, refuse_pointers

log = logging.getLogger(__name__)

Array = NDArray[Any]
NEEDED = "ONNX models need the packages onnx and onnxruntime: pip install 'embedx[onnx]'."
TYPES: dict[str, Any] = {  # the number formats of waveforms and vectors, by the names of ONNX Runtime
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int16)": np.int16,
}
GPU = "CUDAExecutionProvider"  # the part of ONNX Runtime that uses NVIDIA GPUs
FATAL = 4  # of the levels of ONNX Runtime's log; errors are raised, and need no second message on stderr
BLOCK = 1 << 20  # bytes of a file that are hashed together
NO_MEMORY = ("allocate memory", "bad_alloc", "bad allocation")  # how the runtime says that memory is full


@dataclass(frozen=True)
class Value:
    """An input or output: its name, its shape (an axis of any length has a name or None), and its type."""

    name: str
    shape: tuple[int | str | None, ...]
    type: str

    def __str__(self) -> str:
        """Return its name, type and shape in words.

        >>> print(Value("waveform", ("batch", 160000), "tensor(float)"))
        waveform float32 [batch, 160000]
        """
        kind = np.dtype(TYPES[self.type]).name if self.type in TYPES else self.type
        return f"{self.name} {kind} [{', '.join('?' if axis is None else str(axis) for axis in self.shape)}]"

    @property
    def dtype(self) -> Any:
        """Its type in numpy."""
        return TYPES[self.type]

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers."""
        return self.type in TYPES and bool(np.issubdtype(TYPES[self.type], np.floating))


class OnnxFile:
    """An ONNX model, open on the CPU or a GPU.

    Attributes:
        path: the file.
        files: the file, and those that hold its weights outside of it.
        inputs, outputs: what the model takes and gives.
        metadata: texts that the file holds for its users.
    """

    def __init__(self, location: str) -> None:
        """Open a file.

        Raises:
            ModelError: it is missing, not an ONNX model, or the runtime does not support it; or a package is missing.
        """
        self.path = Path(location).expanduser()
        self.files = list_files(self.path)
        self.device = "cpu"
        self.session = self._open("cpu")
        self.inputs, self.outputs = (
            {value.name: Value(value.name, tuple(value.shape), value.type) for value in values}
            for values in (self.session.get_inputs(), self.session.get_outputs())
        )
        self.metadata: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map

    def __str__(self) -> str:
        """Return the path with all inputs and outputs, for error messages."""
        inputs, outputs = ("; ".join(map(str, values.values())) for values in (self.inputs, self.outputs))
        return f"{self.path} (inputs: {inputs}. Outputs: {outputs})"

    def hash(self, settings: Mapping[str, Any]) -> str:
        """Return the SHA-256 of the content of all files and the settings."""
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for file in self.files:
            with file.open("rb") as handle:
                while block := handle.read(BLOCK):
                    digest.update(block)
        return digest.hexdigest()

    def run(self, names: Sequence[str], waves: Mapping[str, Array]) -> list[Array]:
        """Return the outputs with these names.

        Raises:
            ModelError: the runtime refuses the input.
            torch.OutOfMemoryError: there is not enough memory; the caller may try a smaller batch.
        """
        try:
            outputs: list[Array] = self.session.run(list(names), dict(waves))
        except Exception as error:  # the runtime has no public class for its errors
            if isinstance(error, MemoryError) or any(text in str(error) for text in NO_MEMORY):
                raise torch.OutOfMemoryError(brief(error)) from error
            raise ModelError(f"{self.path} cannot be run: {brief(error)}") from error
        return outputs

    def to(self, device: str) -> None:
        """Move the model to a device, "cpu" or a GPU such as "cuda:0".

        Raises:
            ModelError: the installed runtime has no provider for the GPU.
        """
        if device == self.device:
            return
        session = self._open(device) if device == "cpu" or has_gpu() else None
        if session is None or (device != "cpu" and GPU not in session.get_providers()):  # it takes the CPU by itself
            raise ModelError(
                f"The installed onnxruntime cannot run {self.path} on {device}: it has no CUDA provider, or the "
                "provider cannot be started. Use --device cpu, or install onnxruntime-gpu in the place of onnxruntime."
            )
        self.session, self.device = session, device

    def _open(self, device: str) -> Any:
        """Return a session on a device."""
        onnxruntime = import_package("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL
        options.intra_op_num_threads = torch.get_num_threads()
        providers: list[Any] = ["CPUExecutionProvider"]
        if device != "cpu":  # TF32 rounds to 10 bits, so vectors would not equal those of the CPU
            gpu = {"device_id": int(device.partition(":")[2] or 0), "use_tf32": 0}
            providers.insert(0, (GPU, gpu))
        try:
            return onnxruntime.InferenceSession(str(self.path), options, providers=providers)
        except Exception as error:  # see `run`
            raise ModelError(f"{self.path} cannot be loaded by ONNX Runtime: {brief(error)}") from error


def has_gpu() -> bool:
    """Tell whether the installed ONNX Runtime can use an NVIDIA GPU."""
    return GPU in import_package("onnxruntime").get_available_providers()


def import_package(name: str) -> Any:
    """Import onnx or onnxruntime; raise ModelError if it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(NEEDED) from error


def list_files(path: Path) -> tuple[Path, ...]:
    """Return an ONNX file and the files with its external weights, which must lie in its folder.

    Raises:
        ModelError: a file is missing, not an ONNX model, or leads out of the folder; or a package is missing.
    """
    if not path.is_file():
        raise ModelError(f"There is no ONNX file {path}. Give --model 'onnx:FILE?rate=HZ'.")
    refuse_pointers([path])
    onnx = import_package("onnx")
    try:
        model = onnx.load(path, load_external_data=False)
        locations = {entry.value for tensor in tensors_of(model.graph) for entry in tensor.external_data
                     if entry.key == "location"}  # fmt: skip
        if not model.graph.node:
            raise ValueError("it has no operations")
    except Exception as error:  # protobuf raises errors of its own for damaged files
        raise ModelError(f"{path} is not an ONNX model, or it is damaged: {brief(error)}") from error
    folder = path.resolve().parent
    files = [path]
    for location in sorted(locations):
        file = folder / location
        if not file.resolve().is_relative_to(folder):
            raise ModelError(f"{path} names a file outside of its folder: {location[:99]!r}.")
        if not file.is_file():
            raise ModelError(f"{path} keeps weights in {location!r}, which is not in its folder. Copy that file too.")
        files.append(file)
    refuse_pointers(files)
    return tuple(files)


def tensors_of(graph: Any) -> Iterator[Any]:
    """Yield all constant tensors of a graph, also those in its nodes and in the graphs in them."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from tensors_of(inner)
