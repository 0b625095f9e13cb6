"""Collections with unusual paths and metadata, and what a command printed, for tests of exports and imports."""

import os
from pathlib import Path
from typing import Any

import numpy as np

import embedx
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row
from embedx.store.store import Store

RECIPE = Recipe("logmel", "", "", 16_000, (0, 1), ("mean",))
RANDOM = np.random.default_rng(0)
PATHS = ["/a/one.wav", "/a/one.wav", os.fsdecode(b"/a/caf\xe9\xff.wav"), "/a/=cmd\n.wav", "/a/back\\x41slash.wav"]
METAS: list[dict[str, Any]] = [
    {"site": "A", "fold": 1, "mixed": 1, "level": 0.5, "tags": ["a", ["b", None]], "night": True, "L0.mean": "x"},
    {"site": "'tis", "fold": 2, "mixed": "1", "level": None, "tags": [], "night": False, "v0": "=1+1"},
    {"site": "=HYPERLINK(1)", "fold": None, "mixed": [1], "level": 2, "tags": None, "night": None, "vector": "-"},
    {"site": "12", "fold": 4, "mixed": None, "level": 1e-300, "tags": [1], "night": True, "text": "a,\"b\"\r\n\tc"},
    {"site": "null", "fold": 2**60, "mixed": True, "level": -1.5, "tags": [{"k": 2}], "night": True, "none": None},
]  # fmt: skip


def fill(folder: Path, paths: list[str], metas: list[dict[str, Any]], dim: int = 4, labels: Any = "=dog") -> Path:
    """Create a collection of rows with two views and gaps in the ids, as after deletions."""
    with Store.create(folder, RECIPE, dim) as store:
        batch: dict[str, list[Any]] = {}
        for i, (path, meta) in enumerate(zip(paths, metas, strict=True)):
            row = Row(2 * i + 1, path, i / 3, i + 0.5, labels, None if i % 2 else "g", "train", ("silent",), meta)
            vectors = {view: RANDOM.standard_normal(dim).astype(np.float32) for view in RECIPE.views}
            batch.setdefault(path, []).append((row, vectors))
        store.add([(Recording(path, 1, 1, "[]"), rows) for path, rows in batch.items()], store.start_run({}))
    return folder


def facts(collection: embedx.Collection) -> list[tuple[Any, ...]]:
    """Return everything of each row except its id; missing values become None."""
    return [
        (row.path, row.start_s, row.end_s, row.label, row.group, row.split, row.flags,
         {name: value for name, value in row.meta.items() if value is not None})
        for row in collection.store.rows()
    ]  # fmt: skip
