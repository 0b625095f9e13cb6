"""Weights files: where the weights of a family are found."""

import os
from pathlib import Path

from embedx.extractors.names import VARIABLES


def find_weights(family: str, source: str = "") -> Path | None:
    """Return the weights file of a family, None if there is none.

    Args:
        family: "yamnet" or "vggish".
        source: the file, or a folder with `family.safetensors`; default: the family's environment variable.
    """
    location = source or os.environ.get(VARIABLES[family])
    if not location:
        return None
    path = Path(location).expanduser()
    file = path / f"{family}.safetensors" if path.is_dir() else path
    return file if file.is_file() else None


def missing_weights(family: str, source: str = "") -> str:
    """Return an error message for weights that `find_weights` did not find."""
    variable = VARIABLES[family]
    location = source or os.environ.get(variable)
    problem = f"There are no weights at {location}." if location else "No weights file was given."
    return f"{problem} {family} needs its weights: set {variable} to the file, or give --model {family}:PATH."


def torch_cache() -> Path:
    """Return the folder of torch.hub's downloads without importing torch; see `torch.hub.get_dir`."""
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    return Path(home, "hub", "checkpoints").expanduser()
