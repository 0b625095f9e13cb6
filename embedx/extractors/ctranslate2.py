"""CTranslate2: the folders of faster-whisper, read as Whisper encoders of transformers without the package ctranslate2.

`model.bin` holds named arrays after a header, all little-endian; a text is its length with a final zero byte as uint16,
its bytes, and the zero byte:

    uint32 version, text name ("WhisperSpec"), uint32 revision, uint32 count, then for each array:
        text name, uint8 rank, uint32 per axis, uint8 number format, uint32 bytes, the numbers
    uint32 count, then for each alias: text alias, text name

A weight in 8 or 16 bits is divided by its scale, one number for each row or one for all.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from embedx.errors import ModelError
from embedx.extractors.checkpoints import Checkpoint, read_json
from embedx.extractors.front_ends import read_front_end
from embedx.extractors.names import CTRANSLATE2_FILE
from embedx.extractors.spectrogram import WhisperEncoder
from embedx.extractors.weights import brief, refuse_pointers

VERSIONS = range(4, 7)  # of the file; older ones have another header for arrays, and are from before Whisper
SPEC = "WhisperSpec"
DTYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
MAX_RANK = 3  # convolutions have the most axes
HEAD_DIM = 64  # in all published Whisper models; older files do not hold the number of heads
PREFIX = "encoder/"  # of the arrays of the encoder
NAMES = {  # name in the file -> name in transformers; a layer adds its own prefix
    "conv1": "conv1",
    "conv2": "conv2",
    "layer_norm": "layer_norm",
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
ENDS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def load(source: str, *, allow_pickle: bool = False, download: bool = True) -> WhisperEncoder:
    """Load the encoder of a Whisper model from a folder that CTranslate2 wrote.

    Raises:
        ModelError: see `load_whisper`; or the settings in the folder do not fit the weights.
    """
    checkpoint = load_whisper(source)
    try:
        return WhisperEncoder(checkpoint)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:  # a setting of a wrong type
        raise ModelError(f"The settings in {source} cannot be used: {brief(error)}") from error


def load_whisper(folder: str) -> Checkpoint:
    """Load the encoder of a Whisper model that was converted for CTranslate2.

    Weights in float16, bfloat16, int8 or int16 are converted to float32.

    Args:
        folder: the folder with model.bin. Without a preprocessor_config.json in it, the settings of OpenAI's models
            with this number of mel bands are used.

    Raises:
        ModelError: the file is damaged, of another version, or not a Whisper model.
    """
    import transformers
    from transformers.models.whisper import modeling_whisper

    path = Path(folder) / CTRANSLATE2_FILE
    if not path.is_file():
        raise ModelError(f"There is no {CTRANSLATE2_FILE} in {folder}. Give a folder that CTranslate2 wrote.")
    refuse_pointers([path])
    try:
        with path.open("rb") as file:
            arrays = scaled(dict(read_arrays(file, path)))
        states, sizes = convert(arrays)
        config = transformers.WhisperConfig(**sizes)
        encoder: Any = modeling_whisper.WhisperEncoder(config)
        encoder.load_state_dict(states)
    except ModelError:
        raise
    except Exception as error:  # a damaged file gives any kind of error
        raise ModelError(f"{path} cannot be read as a Whisper model of CTranslate2: {brief(error)}") from error
    front_end = read_front_end(folder, lambda name: read_json(folder, name, {}))
    if front_end is None:
        front_end = {"feature_size": sizes["num_mel_bins"], "sampling_rate": 16_000}
    return Checkpoint(folder, encoder.eval().requires_grad_(False), front_end, {"model_type": "whisper", **sizes})


def read_arrays(file: BinaryIO, path: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the arrays of the encoder by name, also by their aliases; others are passed over.

    Raises:
        ModelError: the file is of another version, or holds another kind of model.
    """
    (version,) = read(file, "<I")
    name = read_text(file) if version in VERSIONS else ""
    if version not in VERSIONS or name != SPEC:
        what = f"holds a {name}" if name else f"has version {version}"
        raise ModelError(
            f"{path} {what}. embedx reads {SPEC} of the versions {VERSIONS[0]} to {VERSIONS[-1]} of CTranslate2, as in "
            "the folders of faster-whisper; convert the model again, or give the checkpoint of transformers."
        )
    _, count = read(file, "<II")
    arrays: dict[str, Tensor] = {}
    places: dict[str, tuple[int, list[int], int, int]] = {}
    for _ in range(count):
        name = read_text(file)
        (rank,) = read(file, "<B")
        if rank > MAX_RANK:
            raise ValueError(f"{name[:99]!r} has {rank} axes")
        shape = [read(file, "<I")[0] for _ in range(rank)]
        kind, size = read(file, "<BI")
        places[name] = (file.tell(), shape, kind, size)
        file.seek(size, 1)
    (count,) = read(file, "<I")
    aliases = {read_text(file): read_text(file) for _ in range(count)}
    for name in [*places, *aliases]:
        if name.startswith(PREFIX):
            start, shape, kind, size = places[aliases.get(name, name)]
            file.seek(start)
            tensor = torch.frombuffer(bytearray(take(file, size)), dtype=DTYPES[kind]).reshape(shape)
            arrays[name.removeprefix(PREFIX)] = tensor
    yield from arrays.items()


def take(file: BinaryIO, size: int) -> bytes:
    """Return the next bytes of a file; raise ValueError if it ends before."""
    data = file.read(size)
    if len(data) < size:
        raise ValueError("the file ends too early")
    return data


def read(file: BinaryIO, form: str) -> tuple[int, ...]:
    """Return the next numbers of a file; `form` as for `struct`."""
    return struct.unpack(form, take(file, struct.calcsize(form)))


def read_text(file: BinaryIO) -> str:
    """Return the next text of a file."""
    return take(file, read(file, "<H")[0]).rstrip(b"\0").decode()


def scaled(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return arrays in float32, those with a scale divided by it; numbers without axes stay as they are."""
    result = {}
    for name, values in arrays.items():
        scale = arrays.get(f"{name}_scale")
        result[name] = values.float()
        if scale is not None:
            result[name] /= scale.float().reshape(-1, *[1] * (values.ndim - 1)) if scale.ndim else scale.float()
    return result


def convert(arrays: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the encoder's state dict of transformers, and the sizes of its configuration."""
    count = 1 + max(int(name.split("/")[0].removeprefix("layer_")) for name in arrays if is_layer(name))
    width, bands, _ = arrays["conv1/weight"].shape
    positions = arrays["position_encodings/encodings"]
    heads = int(arrays["num_heads"]) if "num_heads" in arrays else width // HEAD_DIM
    states = {"embed_positions.weight": positions}
    for name, values in arrays.items():
        layer, _, rest = name.partition("/") if is_layer(name) else ("", "", name)
        part, _, end = rest.rpartition("/")
        prefix = f"layers.{layer.removeprefix('layer_')}." if layer else ""
        if part in NAMES and end in ENDS:
            states[f"{prefix}{NAMES[part]}.{ENDS[end]}"] = values
        elif part == "self_attention/linear_0" and end in ENDS:
            for kind, third in zip("qkv", values.chunk(3), strict=True):
                if (kind, end) != ("k", "bias"):  # Whisper's keys have no bias; the file holds zeros
                    states[f"{prefix}self_attn.{kind}_proj.{end}"] = third
    sizes = {
        "d_model": width,
        "num_mel_bins": bands,
        "max_source_positions": len(positions),
        "encoder_layers": count,
        "encoder_attention_heads": heads,
        "encoder_ffn_dim": len(arrays["layer_0/ffn/linear_0/weight"]),
    }
    return states, sizes


def is_layer(name: str) -> bool:
    """Tell whether an array belongs to a layer, as in "layer_3/ffn/linear_0/weight"."""
    return name.startswith("layer_") and not name.startswith("layer_norm")
