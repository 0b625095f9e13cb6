"""Every limit of a request: what is at the limit is answered, and what is one more is refused with its code."""

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import embedx
from embedx.server.settings import Limits
from tests.helpers.service import JSON_TYPE, Client, Reply, serving

BASE = "/v1/collections/made"
SMALL = Limits(body=600_000, audio_s=2.0, rate=48_000, channels=2, depth=8)


@pytest.fixture(scope="module")
def small(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service with small limits, whose clients may label."""
    folder = tmp_path_factory.mktemp("limits") / "made"
    shutil.copytree(made, folder)
    with embedx.open(folder) as collection:
        collection.fit_head(kind="prototype", name="kinds", permutations=0)
    with serving(folder, limits=SMALL, allow_labels=True) as client:
        yield client


def wav(seconds: float, rate: int = 16_000, channels: int = 1) -> str:
    file = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * rate), channels))
    soundfile.write(file, noise, rate, format="WAV", subtype="PCM_16")
    return base64.b64encode(file.getvalue()).decode()


def deep(levels: int) -> Any:
    value: Any = 1.0
    for _ in range(levels):
        value = [value]
    return value


BODIES: list[tuple[str, Any, int, str]] = [  # route, body as a function of the size, limit, code of one more
    ("search", lambda n: {"id": 5, "limit": n}, 1000, "limit_too_large"),
    ("search", lambda n: {"id": [1] * n, "limit": 1}, 256, "too_many_queries"),
    ("search", lambda n: {"vector": np.ones((n, 256)).tolist(), "limit": 1}, 256, "too_many_queries"),
    ("search", lambda n: {"vector": np.ones((n, 256)).tolist(), "join": True}, 256, "too_many_queries"),
    ("search", lambda n: {"like": [5] * n}, 256, "too_many_queries"),
    ("search", lambda n: {"id": [1] * n, "limit": 1000}, 50, "too_many_queries"),
    ("search", lambda n: {"audio": [wav(0.1)] * n}, 16, "too_many_files"),
    ("search", lambda n: {"audio": wav(n / 10)}, 20, "audio_too_large"),
    ("search", lambda n: {"audio": wav(0.1, rate=n)}, 48_000, "audio_too_large"),
    ("search", lambda n: {"audio": wav(0.1, channels=n)}, 2, "audio_too_large"),
    ("predict", lambda n: {"ids": [1] * n}, 1000, "limit_too_large"),
    ("predict", lambda n: {"ids": [1], "k": n}, 1000, "bad_request"),
    ("predict", lambda n: {"audio": [wav(0.1)] * n}, 16, "too_many_files"),
    ("labels", lambda n: {"edits": [{"id": 1, "column": "x", "value": 1}] * n}, 10_000, "bad_request"),
    ("labels", lambda n: {"edits": [{"id": 1, "column": "x", "value": "v" * n}]}, 10_000, "bad_request"),
    ("labels", lambda n: {"edits": [{"id": 1, "column": "c" * n, "value": 1}]}, 200, "bad_request"),
    ("labels", lambda n: {"table": {"columns": ["id", "x"], "rows": [{"id": 1, "x": 1}] * n}}, 10_000, "bad_request"),
]


@pytest.mark.parametrize(("route", "body", "limit", "code"), BODIES)
def test_request_at_the_limit_is_answered_and_one_more_is_refused(
    small: Client, route: str, body: Any, limit: int, code: str
) -> None:
    reply = small.post(f"{BASE}/{route}", body(limit))
    assert reply.status == 200, reply.body
    reply = small.post(f"{BASE}/{route}", body(limit + 1))
    assert (reply.status // 100, reply.code) == (4, code), reply.body


def test_embeddings_have_the_same_limits(small: Client) -> None:
    for good, bad in (
        (wav(2.0), wav(2.1)),
        (wav(0.1, rate=48_000), wav(0.1, rate=48_001)),
        (wav(0.1, channels=2), wav(0.1, channels=3)),
        ([wav(1.0)] * 2, [wav(1.0)] * 3),
    ):
        assert small.post("/v1/embeddings", {"model": "made", "input": good}).status == 200
        assert small.post("/v1/embeddings", {"model": "made", "input": bad}).code == "audio_too_large"


def test_overlapping_windows_count_once(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(base64.b64decode(wav(2.0)))
    embedx.extract(tmp_path / "a.wav", out=tmp_path / "field", window=1.0, hop=0.25).close()
    with serving(tmp_path / "field", limits=SMALL) as client:
        reply = client.post("/v1/embeddings", {"model": "field", "input": [wav(0.75), wav(1.25)]})
        assert reply.json["usage"]["audio_seconds"] == 2.0
        assert client.post("/v1/embeddings", {"model": "field", "input": wav(2.0)}).status == 200
        assert client.post("/v1/embeddings", {"model": "field", "input": wav(2.1)}).status == 413


def test_body_and_its_depth_have_limits(small: Client) -> None:
    def send(body: bytes) -> Reply:
        return small.send("POST", f"{BASE}/search", body, JSON_TYPE)

    body = json.dumps({"id": 5}).encode()
    assert send(body.ljust(SMALL.body)).status == 200
    assert send(body.ljust(SMALL.body + 1)).code == "body_too_large"
    assert small.post(f"{BASE}/search", {"vector": deep(SMALL.depth - 1)}).code == "bad_vector"
    assert small.post(f"{BASE}/search", {"vector": deep(SMALL.depth)}).code == "bad_json"


def test_texts_and_pages_have_limits(small: Client) -> None:
    assert small.post(f"{BASE}/search", {"text": "x" * 2000}).code == "no_text"
    assert small.post(f"{BASE}/search", {"text": "x" * 2001}).code == "bad_request"
    for route in ("rows", "vectors"):
        assert len(small.get(f"{BASE}/{route}?limit=1000").json["id" if route == "vectors" else "rows"]) == 40
        assert small.get(f"{BASE}/{route}?limit=1001").code == "limit_too_large"
    assert small.get(f"{BASE}/rows/5/audio?context=60").status == 200
    assert small.get(f"{BASE}/rows/5/audio?context=60.5").code == "bad_request"
    assert small.get(f"{BASE}/rows/5/audio?start_s=0&end_s=600").status == 200
    assert small.get(f"{BASE}/rows/5/audio?start_s=0&end_s=600.5").code == "audio_too_large"
    assert small.get(f"{BASE}/rows/5/audio?start_s=1&end_s=1").code == "bad_request"
