"""Fixtures for tests of search."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import embedx


@pytest.fixture(scope="module")
def windowed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedx.Collection]:
    """The synthetic corpus in overlapping windows of 0.5 s; two thirds of the sources have a site."""
    frame = pd.read_csv(manifest)
    frame["path"] = [str(manifest.parent / path) for path in frame["path"]]
    frame["site"] = [["A", "B", None][number % 3] for number in range(len(frame))]
    with embedx.extract(frame, window=0.5, hop=0.25, out=tmp_path_factory.mktemp("windowed") / "c") as collection:
        yield collection
