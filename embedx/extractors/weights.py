"""Tensors from a local file: safetensors or .npz, and a pickle only where the user said so."""

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from embedx.errors import ModelError

PICKLES = (".pth", ".pt", ".bin", ".ckpt")
SUFFIXES = (".safetensors", ".npz", *PICKLES)


def read_weights(file: Path, allow_pickle: bool) -> dict[str, Tensor]:
    """Return the tensors in a weights file by name, floating point as float32.

    A pickle is read only with `allow_pickle`, by torch's reader that takes nothing but tensors.

    Raises:
        ModelError: there is no such file, it is damaged or no table of tensors, or is a pickle without `allow_pickle`.
    """
    if not file.is_file() or file.suffix not in SUFFIXES:
        raise ModelError(f"There is no weights file {file}. Give one that ends in {', '.join(SUFFIXES)}.")
    if file.suffix in PICKLES and not allow_pickle:
        raise ModelError(
            f"{file} is a pickle, and a pickle can run code. Convert it to safetensors, or pass --allow-pickle."
        )
    try:
        if file.suffix in PICKLES:
            tensors = dict(torch.load(file, map_location="cpu", weights_only=True))
        elif file.suffix == ".npz":
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
                tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        else:
            tensors = safetensors.torch.load_file(file)
        return {str(name): one.float() if one.is_floating_point() else one for name, one in tensors.items()}
    except Exception as error:  # whatever the readers raise of a damaged file, from OSError to BadZipFile
        raise ModelError(f"{file} cannot be read as weights: {type(error).__name__}: {brief(error)}") from error


def brief(error: Exception) -> str:
    r"""Return a message on one line, for an error that wraps it.

    >>> brief(ValueError("no\n  such thing"))
    'no such thing.'
    """
    return (" ".join(str(error).split())[:300] or type(error).__name__).rstrip(".") + "."
