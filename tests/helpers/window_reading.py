"""Read the windows of a file in the test process."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from embedx.audio.windows import Window, read_channels
from embedx.recipe import Recipe

RECIPE = Recipe("logmel", "", "", 16_000, (0,), ("mean",))


def read(path: Path, start_s: float = 0.0, end_s: float | None = None, **changes: Any) -> list[Window]:
    return [window for *_, window in read_channels(str(path), replace(RECIPE, **changes), start_s, end_s)]
