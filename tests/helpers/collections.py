"""Build small collections from arrays, and compare collections."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

import embedx
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row
from embedx.store.store import Store

DIM = 20
Make = Callable[..., embedx.Collection]


def build_collection(
    folder: Path, x: np.ndarray, labels: list[str | None], paths: list[str] | None = None, **columns: list[object]
) -> embedx.Collection:
    """Store vectors with labels and metadata in a new folder; one recording per path (default: per row)."""
    recipe = Recipe("logmel", "", "00", 16_000, (0,), ("mean",))
    groups = columns.pop("group", [None] * len(x))
    with Store.create(folder / f"c{len(list(folder.iterdir()))}", recipe, DIM) as store:
        rows = [
            Row(
                i + 1, (paths or [f"/{i}.wav" for i in range(len(x))])[i], 0.0, 1.0, labels[i],
                groups[i], None, (), {name: values[i] for name, values in columns.items()},  # type: ignore[arg-type]
            )
            for i in range(len(x))
        ]  # fmt: skip
        batch = [
            (Recording(path, 1, 1, "[]"), [(row, {"L0.mean": x[row.id - 1]}) for row in rows if row.path == path])
            for path in dict.fromkeys(row.path for row in rows)
        ]
        store.add(batch, store.start_run({}))
        return embedx.open(store.folder)


def clusters(n: int, classes: int, spread: float, seed: int = 0) -> tuple[np.ndarray, list[str | None]]:
    random = np.random.default_rng(seed)
    centres = random.standard_normal((classes, DIM))
    y = np.arange(n) % classes
    return (centres[y] + spread * random.standard_normal((n, DIM))).astype(np.float32), [f"c{i}" for i in y]


def content(folder: Path) -> dict[tuple[str, float], np.ndarray]:
    """Return (path, start) -> vector of every row, without the ids."""
    with embedx.open(folder) as opened:
        rows = opened.rows()
        keys = zip(rows["path"], rows["start_s"], strict=True)
        return dict(zip(keys, opened.vectors(), strict=True))


def assert_same(a: Path, b: Path) -> None:
    one, other = content(a), content(b)
    assert one.keys() == other.keys()
    for key, vector in one.items():
        np.testing.assert_allclose(vector, other[key], rtol=1e-6, atol=1e-6)


def embedded(folder: Path) -> int:
    """Return the number of recordings in a collection."""
    with embedx.open(folder) as collection:
        return len(collection.store.recordings())
