"""Fixtures for tests of formats."""

from pathlib import Path

import pytest

from tests.helpers.exports import METAS, PATHS, fill


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    return fill(tmp_path / "odd", PATHS, METAS)
