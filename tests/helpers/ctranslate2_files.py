"""Whisper encoders as files of CTranslate2, written from the description of the format."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

Array = NDArray[Any]
DTYPES = ("float32", "int8", "int16", "int32", "float16")
PARTS = {
    "conv1": "conv1", "conv2": "conv2", "layer_norm": "layer_norm", "self_attn_layer_norm": "self_attention/layer_norm",
    "self_attn.out_proj": "self_attention/linear_1", "final_layer_norm": "ffn/layer_norm", "fc1": "ffn/linear_0",
    "fc2": "ffn/linear_1",
}  # fmt: skip


def arrays_of(encoder: Any) -> dict[str, Array]:
    """Return the arrays of an encoder of transformers under the names of CTranslate2."""
    states = {name: values.numpy() for name, values in encoder.state_dict().items()}
    arrays: dict[str, Array] = {"position_encodings/encodings": states.pop("embed_positions.weight")}
    arrays["num_heads"] = np.array(encoder.config.encoder_attention_heads, np.int16)
    for i in range(encoder.config.encoder_layers):
        q, k, v = (f"layers.{i}.self_attn.{kind}_proj" for kind in "qkv")
        fused = f"layer_{i}/self_attention/linear_0"
        arrays[f"{fused}/weight"] = np.concatenate([states.pop(f"{one}.weight") for one in (q, k, v)])
        bias = [states.pop(f"{q}.bias"), states.pop(f"{v}.bias")]
        arrays[f"{fused}/bias"] = np.concatenate([bias[0], np.zeros_like(bias[0]), bias[1]])
    for name, values in states.items():
        module, _, end = name.rpartition(".")
        layer = ""
        if module.startswith("layers."):
            _, number, module = module.split(".", 2)
            layer = f"layer_{number}/"
        part = PARTS[module]
        arrays[f"{layer}{part}/{({'weight': 'gamma', 'bias': 'beta'} if 'norm' in part else {}).get(end, end)}"] = (
            values
        )
    return {f"encoder/{name}": values for name, values in arrays.items()}


def quantised(arrays: Mapping[str, Array], kind: str) -> dict[str, Array]:
    """Return arrays as CTranslate2 stores them in "float16", "int8" (a scale for each row) or "int16" (one scale)."""
    result: dict[str, Array] = {}
    for name, values in arrays.items():
        is_matrix = name.endswith("/weight")
        if kind.startswith("int") and is_matrix and kind == "int8":
            scale = 127 / np.abs(values.reshape(len(values), -1)).max(axis=1)
            result[f"{name}_scale"] = scale.astype(np.float32)
            result[name] = np.rint(values * scale.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        elif kind == "int16" and is_matrix:
            result[f"{name}_scale"] = np.array(1024 / np.abs(values).max(), np.float32)
            result[name] = np.rint(values * result[f"{name}_scale"]).astype(np.int16)
        else:
            result[name] = values.astype(np.float16) if kind == "float16" and values.ndim else values
    return result


def write(
    folder: Path, arrays: Mapping[str, Array], aliases: Mapping[str, str], version: int = 6, name: str = "WhisperSpec"
) -> Path:
    """Write model.bin and config.json."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value.encode()) + 1) + value.encode() + b"\0"

    parts = [struct.pack("<I", version), text(name), struct.pack("<II", 3, len(arrays))]
    for key, values in arrays.items():
        shape = struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
        kind = struct.pack("<BI", DTYPES.index(values.dtype.name), values.nbytes)
        parts += [text(key), shape, kind, np.ascontiguousarray(values).tobytes()]
    parts.append(struct.pack("<I", len(aliases)))
    parts += [text(alias) + text(key) for alias, key in aliases.items()]
    folder.mkdir(exist_ok=True)
    (folder / "model.bin").write_bytes(b"".join(parts))
    (folder / "config.json").write_text(json.dumps({"suppress_ids": [1], "alignment_heads": [[0, 1]], "lang_ids": []}))
    return folder


def make_whisper(folder: Path) -> Path:
    """Save a tiny Whisper model of transformers with random weights; its heads have 64 dimensions."""
    torch.manual_seed(4)
    config = transformers.WhisperConfig(
        d_model=128, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=96, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=32, vocab_size=100, pad_token_id=1, bos_token_id=1, eos_token_id=1,
        decoder_start_token_id=1,
    )  # fmt: skip
    model = transformers.WhisperModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return folder
