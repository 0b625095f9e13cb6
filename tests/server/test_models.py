"""Models of the service: one that was moved, one with a text side, and collections without a model."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import embedx
from embedx.cli.options import read_models
from embedx.errors import ModelError, UsageError
from embedx.server.metrics import Metrics
from embedx.server.service import Service
from embedx.server.settings import Settings
from tests.helpers.checkpoints import add_tokenizer
from tests.helpers.commands import Capture, outcome
from tests.helpers.service import Client, serving

SEARCH = "/v1/collections/field/search"


@pytest.fixture(scope="module")
def clap(checkpoint: Callable[[str], Path], manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a collection `field` made with CLAP, whose model has been moved to `moved`."""
    home = tmp_path_factory.mktemp("clap")
    shutil.copytree(checkpoint("clap"), home / "model")
    add_tokenizer(home / "model")
    corpus = sorted(manifest.parent.glob("*/*-0.wav"))[::5]
    embedx.extract(corpus, model=str(home / "model"), out=home / "field").close()
    (home / "model").rename(home / "moved")
    return home


@pytest.fixture(scope="module")
def client(clap: Path) -> Iterator[Client]:
    with serving(clap / "field", models={"field": str(clap / "moved")}) as running:
        yield running


def test_text_finds_what_it_finds_in_the_collection(client: Client, clap: Path) -> None:
    with embedx.open(clap / "field", model=str(clap / "moved")) as collection:
        expected = collection.search(text="dog")
    hits = client.post(SEARCH, {"text": "dog"}).json["hits"]
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
    np.testing.assert_allclose([hit["score"] for hit in hits], [hit.score for hit in expected], rtol=1e-5)
    remote = embedx.connect(f"http://127.0.0.1:{client.port}/field")
    assert [hit.id for hit in remote.search(text="dog", k=2)] == [hit.id for hit in expected[:2]]
    assert client.post(SEARCH, {"text": " "}).code == "bad_request"
    body = {"model": "field", "input": ["dog", "rain"], "modality": "text"}
    data = client.post("/v1/embeddings", body).json["data"]
    assert [one["input"] for one in data] == [0, 1]
    by_vector = client.post(SEARCH, {"vector": data[0]["embedding"]}).json["hits"]
    assert [hit["id"] for hit in by_vector] == [hit.id for hit in expected]


def test_model_that_is_gone_is_named_without_its_path(clap: Path) -> None:
    with serving(clap / "field") as client:
        reply = client.post(SEARCH, {"text": "dog"})
        assert (reply.status, reply.code) == (503, "model_unavailable")
        assert str(clap) not in reply.body.decode()
        assert client.post(SEARCH, {"id": 1}).status == 200


def test_model_without_a_tokenizer_has_no_text_side(clap: Path, checkpoint: Callable[[str], Path]) -> None:
    with serving(clap / "field", models={"": str(checkpoint("clap"))}) as client:
        reply = client.post(SEARCH, {"text": "dog"})
        assert (reply.status, reply.code) == (400, "no_text")


def test_collection_of_imported_vectors_has_no_model(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32)
    embedx.import_vectors(vectors, out=tmp_path / "field").close()
    with serving(tmp_path / "field") as client:
        for body in ({"text": "dog"}, {"audio": "UklGRg=="}):
            reply = client.post(SEARCH, body)
            assert (reply.status, reply.code) == (400, "no_model"), reply.body
        assert client.post("/v1/embeddings", {"model": "field", "input": "UklGRg=="}).code == "no_model"
        assert client.get("/v1/models").status == 200
        with pytest.raises(ModelError):
            embedx.connect(f"http://127.0.0.1:{client.port}/field").search(text="dog")


def test_wrong_models_are_refused_at_the_start(clap: Path, capsys: Capture) -> None:
    for models in (["fild=moved"], ["field="], ["="], [""], ["a", "b"], ["field=a", "field=b"]):
        with pytest.raises(UsageError, match="--model"):
            read_models(models, [str(clap / "field")])
    code, _, words = outcome(capsys, "serve", clap / "field", "--model", "fild=moved")
    assert (code, "no collection fild" in words) == (2, True), words
    service = Service(Settings((clap / "field",)), Metrics())
    with pytest.raises(ModelError, match="field cannot be loaded"):
        service.preload()
    service.close()
    for option, value in (("--allow-host", "http://x.org"), ("--allow-host", "x.org:80"), ("--cors", "x.org"),
                          ("--cors", "https://x.org/page"), ("--files", "."), ("--clips", "x")):  # fmt: skip
        code, _, words = outcome(capsys, "serve", clap / "field", option, value)
        assert (code, option in words) == (2, True), words
