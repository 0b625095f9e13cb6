"""Fixtures: a server of the synthetic corpus, and a query of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import embedx
from tests.helpers.service import Client, serving


@pytest.fixture(scope="session")
def client(made: Path) -> Iterator[Client]:
    """A server of the collection `made`; tests must not change it."""
    with serving(made) as running:
        yield running


@pytest.fixture(scope="session")
def clip(made: Path) -> bytes:
    """The bytes of the recording of row 5."""
    with embedx.open(made) as collection:
        return Path(collection.rows()["path"].loc[5]).read_bytes()
