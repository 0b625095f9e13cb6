"""Extractors: waves [B, S] + lengths [B] -> frames [B, T, D] + lengths [B]. One file per model family.

A model is named as a user types it; see `embedx.extractors.names.resolve`.
"""

from embedx.extractors.loading import BACKENDS, load
from embedx.extractors.names import FAMILIES, NAMES, resolve

__all__ = ["BACKENDS", "FAMILIES", "NAMES", "load", "resolve"]
