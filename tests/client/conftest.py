"""A collection, opened and served."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import embedx
from embedx.client.remote import RemoteCollection
from tests.helpers.service import serving


@pytest.fixture(scope="module")
def folder(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the collection `made` with two heads; tests must not change it."""
    folder = tmp_path_factory.mktemp("client") / "made"
    shutil.copytree(made, folder)
    with embedx.open(folder) as collection:
        collection.fit_head(kind="prototype", name="kinds", permutations=0)
        collection.fit_head(kind="logistic", name="straight", C=1.0, permutations=0)
    return folder


@pytest.fixture
def collection(folder: Path) -> Iterator[embedx.Collection]:
    with embedx.open(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(folder) as client:
        yield f"http://127.0.0.1:{client.port}/made"


@pytest.fixture(params=["local", "remote"])
def either(
    request: pytest.FixtureRequest, collection: embedx.Collection, url: str
) -> embedx.Collection | RemoteCollection:
    return collection if request.param == "local" else embedx.connect(url)


@pytest.fixture
def query(collection: embedx.Collection) -> str:
    return str(collection.rows()["path"].loc[5])
