"""Datasets: folders, manifests, frames and known data sets -> items to embed.

`sources` reads any source, `manifests` tables, `layouts` known data sets. `tasks` adds the official evaluation protocol
of known data sets, and `synthetic` writes a small corpus for demos and tests.
"""

from embedx.datasets.items import Item
from embedx.datasets.sources import LAYOUTS, read_corpus

__all__ = ["LAYOUTS", "Item", "read_corpus"]
