"""Folders that tests read."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("EMBEDX_SHARED") or ROOT.parent / "shared")  # real audio and real weights
