"""Tiny audio encoders as ONNX files, with random weights: waves -> convolution -> frames -> embedding -> scores."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

KERNEL, STRIDE, DIM, CLASSES = 400, 160, 8, ("bird", "rain", "engine", "voice", "bell")
Array = NDArray[Any]
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int16": TensorProto.INT16}
SQUEEZES = {1: (0, 1), 2: (1,), 3: ()}  # rank of the input -> the axes that are added to get [B, 1, S]


def weights() -> dict[str, Array]:
    random = np.random.default_rng(3)
    return {
        "kernel": (random.normal(size=(DIM, 1, KERNEL)) / 20).astype(np.float32),
        "classes": random.normal(size=(DIM, len(CLASSES))).astype(np.float32),
    }


def frames_of(wave: Array) -> Array:
    """Return the frames [T, D] of a wave [S], computed by numpy."""
    blocks = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64), KERNEL)[::STRIDE]
    frames: Array = np.tanh(blocks @ weights()["kernel"][:, 0].T)
    return frames


def scores_of(wave: Array) -> Array:
    """Return the scores [C] of a wave [S]."""
    scores: Array = 1 / (1 + np.exp(-frames_of(wave).mean(axis=0) @ weights()["classes"]))
    return scores


def save_encoder(
    path: Path,
    shape: tuple[int | str | None, ...] = ("batch", 16_000),
    *,
    kind: str = "float32",
    opset: int = 17,
    scale: float = 1.0,
    mixes: bool = False,
    external: bool = False,
    memory: int = 0,
    **metadata: str,
) -> Path:
    """Save an encoder with the outputs frames [B, T, D], turned [B, D, T], embedding [B, D], logits, scores, sum.

    Args:
        path: the file.
        shape: the shape of the input, [S], [B, S], [B, 1, S] or [B, S, 1].
        kind: the type of the input, and of the weights if it is float16.
        opset: the version of the operators.
        scale: what the samples of the input are divided by.
        mixes: whether a clip changes the other clips of its batch.
        external: whether the weights are in a file of their own.
        memory: how often the embedding is repeated for the output large; 0: there is no such output.
        metadata: texts in the file.
    """
    number = np.float16 if kind == "float16" else np.float32
    constants = {name: values.astype(number) for name, values in weights().items()}
    constants |= {
        "scale": np.array([scale], number),
        "time": np.array([1], np.int64),
        "huge": np.array([memory, 1, 1], np.int64),
    }
    nodes = [helper.make_node("Cast", ["waveform"], ["cast"], to=TYPES["float16" if kind == "float16" else "float32"])]
    added = SQUEEZES[len(shape)]
    if added:
        constants["added"] = np.array(added, np.int64)
        nodes.append(unsqueeze("cast", "added", added, opset))
    elif shape[2] == 1:
        nodes.append(helper.make_node("Transpose", ["cast"], ["unsqueezed"], perm=[0, 2, 1]))
    else:
        nodes.append(helper.make_node("Identity", ["cast"], ["unsqueezed"]))
    nodes += [
        helper.make_node("Div", ["unsqueezed", "scale"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "kernel"], ["convolved"], strides=[STRIDE]),
        helper.make_node("Tanh", ["convolved"], ["turned"]),
        helper.make_node("Transpose", ["turned"], ["each"], perm=[0, 2, 1]),
    ]
    if mixes:
        nodes += [
            helper.make_node("ReduceMax", ["each"], ["loudest"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["each", "loudest"], ["frames"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["each"], ["frames"]))
    nodes += [
        helper.make_node("ReduceMean", ["frames"], ["embedding"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["embedding", "classes"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Log", ["embedding"], ["nan"]),
        helper.make_node("Shape", ["scaled"], ["size"]),
    ]
    batch = shape[0] if len(shape) > 1 else 1
    floats = {
        "frames": [batch, None, DIM], "turned": [batch, DIM, None], "embedding": [batch, DIM],
        "logits": [batch, len(CLASSES)], "scores": [batch, len(CLASSES)], "nan": [batch, DIM],
        "unsqueezed": [batch, 1, None],
    }  # fmt: skip
    if memory:
        nodes += [
            helper.make_node("Expand", ["embedding", "huge"], ["expanded"]),
            helper.make_node("ReduceMean", ["expanded"], ["large"], axes=[0], keepdims=0),
        ]
        floats["large"] = [batch, DIM]
    element = TYPES["float16" if kind == "float16" else "float32"]
    outputs = [helper.make_tensor_value_info(name, element, size) for name, size in floats.items()]
    outputs.append(helper.make_tensor_value_info("size", TensorProto.INT64, [3]))
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("waveform", TYPES[kind], shape)],
        outputs,
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, metadata)
    onnx.save(model, path, save_as_external_data=external, location=f"{path.name}.data", size_threshold=100)
    return path


def unsqueeze(source: str, axes_name: str, axes: tuple[int, ...], opset: int) -> Any:
    """Return the operation that adds axes; from version 13 of the operators the axes are an input."""
    if opset >= 13:
        return helper.make_node("Unsqueeze", [source, axes_name], ["unsqueezed"])
    return helper.make_node("Unsqueeze", [source], ["unsqueezed"], axes=list(axes))
