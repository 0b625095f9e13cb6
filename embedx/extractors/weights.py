"""Read tensors from a local file: safetensors, .npz, or a pickle if the user allows it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from embedx.errors import ModelError

PICKLES = (".pth", ".pt", ".bin", ".ckpt")
SUFFIXES = (".safetensors", ".npz", *PICKLES)
LFS_START = b"version https://git-lfs.github.com/spec/"  # the first line of a pointer, without the version


def read_weights(file: Path, allow_pickle: bool) -> dict[str, Tensor]:
    """Return the tensors in a weights file by name; floating-point tensors are converted to float32.

    Args:
        file: the file.
        allow_pickle: whether a pickle may be read, with torch's reader that accepts only tensors.

    Raises:
        ModelError: the file does not exist, is damaged or contains no tensors, or it is a pickle and `allow_pickle` is
            not set.
    """
    if not file.is_file() or file.suffix not in SUFFIXES:
        raise ModelError(f"There is no weights file {file}. Give a file that ends in {', '.join(SUFFIXES)}.")
    refuse_pointers([file])
    if file.suffix in PICKLES and not allow_pickle:
        raise ModelError(
            f"{file} is a pickle, which can run code. Convert it to safetensors, or use --allow-pickle if you trust "
            "its source."
        )
    try:
        if file.suffix in PICKLES:
            tensors = dict(torch.load(file, map_location="cpu", weights_only=True))
        elif file.suffix == ".npz":
            with file.open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
                tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        else:
            tensors = safetensors.torch.load_file(file)
        return {str(name): tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    except Exception as error:  # the readers raise many kinds of errors for damaged files, from OSError to BadZipFile
        raise ModelError(f"{file} cannot be read as weights: {type(error).__name__}: {brief(error)}") from error


def refuse_pointers(files: Iterable[Path], cause: Exception | None = None) -> None:
    """Raise ModelError if one of the files is a pointer of Git LFS, which `git clone` leaves in place of a large file.

    Args:
        files: the files; other suffixes than those of weights, ONNX and JSON are passed over.
        cause: the error of a reader that is explained by the pointer.
    """
    for file in files:
        if file.suffix in (*SUFFIXES, ".json", ".onnx", ".data") and file.is_file():
            with file.open("rb") as handle:
                start = handle.read(len(LFS_START))
            if start == LFS_START:
                raise ModelError(
                    f"{file} is a Git-LFS pointer, not the file itself. Run `git lfs pull` in its folder, or "
                    "download the file."
                ) from cause


def brief(error: Exception) -> str:
    r"""Return the message of an error on one line, for an error that wraps it.

    >>> brief(ValueError("no\n  such thing"))
    'no such thing.'
    """
    return (" ".join(str(error).split())[:300] or type(error).__name__).rstrip(".") + "."
