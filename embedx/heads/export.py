"""Export: a head as a file that other programs run: ONNX, or a torch.export program."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from embedx.errors import DiskError, ModelError, UsageError
from embedx.filesystem.atomic import replace_file
from embedx.heads.fitted import FittedHead
from embedx.heads.inference import MIN_DISTANCE, MIN_PROBABILITY, NEGATIVE_VOTES, POSITIVE_VOTES, PRIOR
from embedx.heads.torch_module import HeadModule, float32_arrays

FORMATS = ("onnx", "torch")
OPSET, IR = 18, 8  # ONNX versions of 2022, which all recent runtimes read


def export_head(head: FittedHead, path: Path, format: str, calibrated: bool) -> None:
    """Write a head; see `Head.export`."""
    if format not in FORMATS:
        raise UsageError(f"Unknown export format {format!r}. Formats: {', '.join(FORMATS)}.")
    data = to_onnx(head, calibrated) if format == "onnx" else to_program(head, calibrated)
    try:
        replace_file(path, data)
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error.strerror}.") from error


def to_program(head: FittedHead, calibrated: bool) -> bytes:
    """Return the bytes of a .pt2 file: x [N, ...] with any N -> probabilities [N, C]."""
    import torch

    x = torch.zeros(2, *head.settings["input"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns about torch's own code
        program = torch.export.export(
            HeadModule(head, calibrated).eval(), (x,), dynamic_shapes=({0: torch.export.Dim("N")},)
        )
        file = io.BytesIO()
        torch.export.save(program, file, extra_files={"head.json": describe(head)})
    return file.getvalue()


def describe(head: FittedHead) -> str:
    """Return the metadata of an exported file, as JSON."""
    return json.dumps({"kind": head.kind, "classes": head.classes, "multilabel": head.multilabel, "views": head.views})


def to_onnx(head: FittedHead, calibrated: bool) -> bytes:
    """Return an ONNX file: "x" [N, ...] float32 -> "probabilities" [N, C]; its metadata holds the class names.

    Raises:
        ModelError: the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError("ONNX export needs the package onnx: pip install 'embedx[onnx]'.") from error

    graph = Graph()
    arrays = float32_arrays(head, calibrated)
    write_graph(graph, head, arrays)
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", *head.settings["input"]])
    y = onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", len(head.classes)])
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "head", [x], [y], graph.constants),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="embedx",
    )
    onnx.helper.set_model_props(model, {"head": describe(head)})
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


class Graph:
    """Builds an ONNX graph node by node; every value has a name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, name: str = "", outputs: int = 1, **attributes: Any) -> Any:
        """Add a node and return the name of its output, or the names if there are several."""
        from onnx import helper

        names = [name] if name else [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if len(names) == 1 else names

    def constant(self, value: Any, type: Any = np.float32) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, type), name))
        return name


def write_graph(graph: Graph, head: FittedHead, arrays: dict[str, Any]) -> None:
    """Add all nodes between "x" and "probabilities"."""
    value = "x"
    last = graph.constant([-1], np.int64)
    for place in range(head.settings["steps"]):
        value = write_step(graph, value, {name: arrays.get(f"step{place}.{name}") for name in STEP_ARRAYS}, last)
    if "vectors" in arrays:
        value = write_votes(graph, value, head, arrays)
    else:
        if "mixture" in arrays:
            weighted = graph.add("Mul", value, graph.constant(arrays["mixture"][:, None]))
            value = graph.add("ReduceSum", weighted, graph.constant([1], np.int64), keepdims=0)
        if "hidden.weight" in arrays:
            value = graph.add("Relu", write_linear(graph, value, arrays["hidden.weight"], arrays["hidden.bias"]))
        value = write_linear(graph, value, arrays["weight"], arrays["bias"])
    if "temperature" in arrays:
        value = graph.add("Div", value, graph.constant(arrays["temperature"]))
    if "ramps.first" in arrays:
        write_curves(graph, value, head.multilabel, arrays)
    elif head.multilabel:
        graph.add("Sigmoid", value, name="probabilities")
    else:
        graph.add("Softmax", value, name="probabilities", axis=1)


def write_curves(graph: Graph, logits: str, multilabel: bool, arrays: dict[str, Any]) -> None:
    """Add an isotonic calibration in float64 after the logits; see `embedx.heads.calibration.find_ramps`."""
    from onnx import TensorProto

    first, start, width, rise = (
        graph.constant(arrays[f"ramps.{name}"], np.float64) for name in ("first", "start", "width", "rise")
    )
    value = graph.add("Cast", logits, to=TensorProto.DOUBLE)
    value = graph.add("Sigmoid", value) if multilabel else graph.add("Softmax", value, axis=1)
    value = graph.add("Unsqueeze", value, graph.constant([2], np.int64))
    value = graph.add("Div", graph.add("Sub", value, start), width)
    value = graph.add("Clip", value, graph.constant(0, np.float64), graph.constant(1, np.float64))
    value = graph.add("ReduceSum", graph.add("Mul", value, rise), graph.constant([2], np.int64), keepdims=0)
    value = graph.add("Add", value, first)
    if not multilabel:
        value = graph.add("Div", value, graph.add("ReduceSum", value, graph.constant([1], np.int64), keepdims=1))
    graph.add("Cast", value, name="probabilities", to=TensorProto.FLOAT)


STEP_ARRAYS = ("mean", "rest", "components", "scale")


def write_step(graph: Graph, value: str, parts: dict[str, Any], last: str) -> str:
    """Add a preprocessing step and return the name of its output; see `embedx.heads.preprocessing.apply_step`."""
    if parts["mean"] is None:
        length = graph.add("ReduceL2", value, last, keepdims=1)
        zero = graph.add("Equal", length, graph.constant(0))
        return str(graph.add("Div", value, graph.add("Where", zero, graph.constant(1), length)))
    for name in ("mean", "rest"):
        value = graph.add("Sub", value, graph.constant(parts[name]))
    if parts["components"] is not None:
        value = graph.add("MatMul", value, graph.constant(parts["components"].T))
    return value if parts["scale"] is None else str(graph.add("Div", value, graph.constant(parts["scale"])))


def write_linear(graph: Graph, value: str, weight: Any, bias: Any) -> str:
    """Add a linear layer and return the name of what it makes."""
    return str(graph.add("Gemm", value, graph.constant(weight), graph.constant(bias), transB=1))


def write_votes(graph: Graph, value: str, head: FittedHead, arrays: dict[str, Any]) -> str:
    """Add the votes of the nearest rows and return the name of the logits; see `embedx.heads.inference.vote`."""
    similarity = graph.add("MatMul", value, graph.constant(arrays["vectors"].T))
    size = min(head.settings["k"], len(arrays["vectors"]))
    near, nearest = graph.add("TopK", similarity, graph.constant([size], np.int64), outputs=2, axis=1)
    if head.settings["weights"] == "distance":
        apart = graph.add("Max", graph.add("Sub", graph.constant(1), near), graph.constant(MIN_DISTANCE))
        weight = graph.add("Div", graph.constant(1), apart)
    else:
        weight = graph.add("Add", graph.add("Mul", near, graph.constant(0)), graph.constant(1))
    middle = graph.constant([1], np.int64)
    row = graph.add("Unsqueeze", weight, middle)  # [N, 1, K]
    least = graph.constant(MIN_PROBABILITY)

    def count(votes: Any) -> str:
        votes_of_nearest = graph.add("Gather", graph.constant(votes), nearest, axis=0)  # [N, K, C]
        return str(graph.add("Squeeze", graph.add("MatMul", row, votes_of_nearest), middle))

    def log_share(votes: str, total: str, prior: Any) -> str:
        share = graph.add("Div", votes, total)
        if prior is None:
            return str(graph.add("Log", graph.add("Max", share, least)))
        counted = graph.add("Add", graph.add("Mul", share, graph.constant(size)), graph.constant(prior))
        return str(graph.add("Log", graph.add("Div", counted, graph.constant(size + 1))))

    prior = arrays.get(PRIOR)
    positive = count(arrays[POSITIVE_VOTES])
    if not head.multilabel:
        return log_share(positive, graph.add("ReduceSum", positive, middle, keepdims=1), prior)
    negative = count(arrays[NEGATIVE_VOTES])
    total = graph.add("Add", positive, negative)
    against = None if prior is None else 1 - prior
    return str(graph.add("Sub", log_share(positive, total, prior), log_share(negative, total, against)))
