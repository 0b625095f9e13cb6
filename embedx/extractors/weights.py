"""Tensors from a local file: safetensors, and a pickle only where the user said so."""

from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from embedx.errors import ModelError

PICKLES = (".pth", ".pt", ".bin")


def read_weights(file: Path, allow_pickle: bool) -> Any:
    """Return what a weights file holds; a pickle is read by torch's reader that takes nothing but tensors.

    Raises:
        ModelError: there is no such file, it cannot be read, or it is a pickle without `allow_pickle`.
    """
    if not file.is_file() or file.suffix not in (".safetensors", *PICKLES):
        raise ModelError(
            f"There is no weights file {file}. Give one that ends in .safetensors or {', '.join(PICKLES)}."
        )
    if file.suffix in PICKLES and not allow_pickle:
        raise ModelError(
            f"{file} is a pickle, and a pickle can run code. Convert it to safetensors, or pass --allow-pickle."
        )
    try:
        if file.suffix in PICKLES:
            return torch.load(file, map_location="cpu", weights_only=True)
        return safetensors.torch.load_file(file)
    except Exception as error:  # a broken pickle raises anything
        raise ModelError(f"{file} cannot be read: {brief(error)}") from error


def brief(error: Exception) -> str:
    r"""Return a message on one line, for an error that wraps it.

    >>> brief(ValueError("no\n  such thing"))
    'no such thing.'
    """
    return (" ".join(str(error).split())[:300] or type(error).__name__).rstrip(".") + "."
