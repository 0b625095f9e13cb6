"""Frames: rows as a pandas data frame."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from embedx.store.records import Row

if TYPE_CHECKING:
    import pandas as pd


def frame_of(rows: Sequence[Row]) -> "pd.DataFrame":
    """Return rows as a data frame with their ids as index; see `Collection.rows` for its columns."""
    import pandas as pd

    names = list(dict.fromkeys(name for row in rows for name in row.meta))
    columns: dict[str, Any] = {
        "path": pd.Series([row.path for row in rows], dtype=object),  # a path may be invalid UTF-8
        "start_s": np.array([row.start_s for row in rows], float),
        "end_s": np.array([row.end_s for row in rows], float),
        "duration_s": np.array([row.end_s - row.start_s for row in rows], float),
        **{name: [getattr(row, name) for row in rows] for name in ("label", "group", "split")},
        "flags": [",".join(row.flags) for row in rows],
        **{name: [row.meta.get(name) for row in rows] for name in names},
    }
    return pd.DataFrame(columns).set_index(pd.Index([row.id for row in rows], dtype="int64", name="id"))
