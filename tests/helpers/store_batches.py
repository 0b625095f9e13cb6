"""Batches of recordings with known vectors, for tests of the store."""

from typing import Any

import numpy as np

from embedx.recipe import Recipe
from embedx.store.records import Recording, Row, Vectors

RECIPE = Recipe("logmel", "", "00", 16_000, (0, 1), ("mean",))
DIM = 4
Batch = list[tuple[Recording, list[tuple[Row, Vectors]]]]


def batch(*names: str, first_id: int = 1, rows: int = 2, meta: dict[str, Any] | None = None) -> Batch:
    made: Batch = []
    number = first_id
    for name in names:
        recording = Recording(name, 10, 20, "[[0.0, null]]", f"hash of {name[:2]}", 3.0, 44_100, 1, ("downmixed",))
        stored: list[tuple[Row, Vectors]] = []
        for i in range(rows):
            vectors = {view: np.full(DIM, number + j / 10, np.float32) for j, view in enumerate(RECIPE.views)}
            row = Row(
                number, name, float(i), i + 1.0, "dog", "g", None, ("padded",), {"fold": number % 3, **(meta or {})}
            )
            stored.append((row, vectors))
            number += 1
        made.append((recording, stored))
    return made
