"""Datasets: folders, manifests, frames and known layouts -> items; known tasks; a synthetic corpus."""

from embedx.datasets.items import Item
from embedx.datasets.sources import LAYOUTS, read_corpus

__all__ = ["LAYOUTS", "Item", "read_corpus"]
