"""Weight files: where the weights of a family are looked for."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
from embedx.extractors.names import VARIABLES


def find_weights(family: str, source: str = "") -> Path | None:
    """Return the weights file at a path, in the folder there (`family.safetensors`), or in the family's variable.

    None where there is no such file, or nothing names one.
    """
    named = source or os.environ.get(VARIABLES[family])
    if not named:
        return None
    path = Path(named).expanduser()
    file = path / f"{family}.safetensors" if path.is_dir() else path
    return file if file.is_file() else None


def missing_weights(family: str, source: str = "") -> str:
    """Say what was asked for where `find_weights` found nothing, and what can be done."""
    variable = VARIABLES[family]
    asked = source or os.environ.get(variable)
    given = f"There are no weights at {asked}." if asked else "No weights were named."
    return f"{given} {family} needs its weights: set {variable} to the file, or give --model {family}:PATH."


def torch_cache() -> Path:
    """Return the folder that torch.hub downloads weights into, without loading torch; see `torch.hub.get_dir`."""
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    return Path(home, "hub", "checkpoints").expanduser()
