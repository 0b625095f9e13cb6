"""Speed results with known numbers."""

from collections.abc import Callable
from pathlib import Path

Checkpoint = Callable[[str], Path]
WriteWav = Callable[..., Path]
