"""Embeddings: the vectors of the collection, for OpenAI's client, for multipart, and for many clients at a time."""

import base64
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import embedx
from embedx.server.settings import Limits
from tests.helpers.service import Client, serving

EMBEDDINGS = "/v1/embeddings"


def wav(seconds: float, seed: int = 0, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate))
    soundfile.write(file, noise, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def text_of(audio: bytes) -> str:
    return base64.b64encode(audio).decode()


def vectors_of(reply: Any) -> np.ndarray:
    return np.array([one["embedding"] for one in reply.json["data"]], np.float32)


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of one recording of 3.5 s in windows of 1 s."""
    folder = tmp_path_factory.mktemp("windows")
    (folder / "a.wav").write_bytes(wav(3.5))
    embedx.extract(folder / "a.wav", out=folder / "field", window=1.0).close()
    return folder / "field"


def test_openai_client_gets_the_vectors_of_the_collection(
    client: Client, clip: bytes, collection: embedx.Collection
) -> None:
    import openai  # takes a second

    expected = collection.vectors(where="id = 5")[0]
    with openai.OpenAI(base_url=f"http://127.0.0.1:{client.port}/v1", api_key="x", max_retries=0) as api:
        formats: list[Any] = [openai.omit, "float", "base64"]
        for form in formats:
            answer = api.embeddings.create(model="made", input=text_of(clip), encoding_format=form)
            vector: Any = answer.data[0].embedding
            if form == "base64":
                vector = np.frombuffer(base64.b64decode(vector), "<f4")
            np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)
        assert [model.id for model in api.models.list()] == ["made"]
        with pytest.raises(openai.NotFoundError):
            api.embeddings.create(model="nosuch", input="AAAA")
        with pytest.raises(openai.BadRequestError):
            api.embeddings.create(model="made", input="../../etc/passwd")


def test_all_forms_of_input_give_the_same_vectors(client: Client, clip: bytes) -> None:
    text = text_of(clip)
    forms: list[Any] = [
        text,
        [text],
        f"data:audio/wav;base64,{text}",
        [{"type": "input_audio", "input_audio": {"data": text, "format": "wav"}}],
        [{"type": "audio_url", "audio_url": {"url": f"data:audio/x-wav;base64,{text}"}}],
    ]
    expected = vectors_of(client.post(EMBEDDINGS, {"model": "logmel", "input": text}))
    for form in forms:
        np.testing.assert_allclose(
            vectors_of(client.post(EMBEDDINGS, {"model": "made", "input": form})), expected, atol=1e-6
        )
    several = client.form(EMBEDDINGS, {"model": "made", "view": "L0.max"}, {"file": clip, "file:b": clip})
    assert [one["input"] for one in several.json["data"]] == [0, 1]
    assert not np.allclose(vectors_of(several)[0], expected[0])


def test_long_recording_gives_a_vector_for_each_window_or_their_mean(windows: Path) -> None:
    with serving(windows) as client, embedx.open(windows) as collection:
        request = {"model": "field", "input": text_of(wav(3.5))}
        reply = client.post(EMBEDDINGS, request)
        rows = collection.rows()
        assert [(one["start_s"], one["end_s"]) for one in reply.json["data"]] == list(
            zip(rows["start_s"], rows["end_s"], strict=True)
        )
        np.testing.assert_allclose(vectors_of(reply), collection.vectors(), rtol=1e-4, atol=1e-5)
        assert reply.json["usage"]["audio_seconds"] == pytest.approx(3.5)  # what windows share counts once
        pooled = client.post(EMBEDDINGS, request | {"pool": True})
        np.testing.assert_allclose(vectors_of(pooled)[0], collection.vectors().mean(axis=0), rtol=1e-4, atol=1e-5)
        assert (pooled.json["data"][0]["start_s"], pooled.json["data"][0]["end_s"]) == (0.0, 3.5)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"input": "AAAA"}, 400, "bad_request"),
        ({"model": "../../etc/passwd", "input": "AAAA"}, 404, "no_model"),
        ({"model": "made", "input": []}, 400, "bad_request"),
        ({"model": "made", "input": [1, 2, 3]}, 400, "bad_input"),
        ({"model": "made", "input": {"type": "file", "file": "/etc/passwd"}}, 400, "bad_input"),
        ({"model": "made", "input": "https://example.org/a.wav"}, 400, "remote_url"),
        ({"model": "made", "input": [{"type": "audio_url", "audio_url": {"url": "/etc/passwd/"}}]}, 400, "remote_url"),
        ({"model": "made", "input": "file:///etc/passwd"}, 400, "no_file"),
        ({"model": "made", "input": "AAAA"}, 422, "bad_audio"),
        ({"model": "made", "input": "AAAA", "view": "L99.mean"}, 400, "bad_request"),
        ({"model": "made", "input": ["AAAA"] * 17}, 413, "too_many_files"),
        ({"model": "made", "input": "a dog barks", "modality": "text"}, 400, "no_text"),
    ],
)
def test_bad_requests_are_refused(client: Client, body: dict[str, Any], status: int, code: str) -> None:
    reply = client.post(EMBEDDINGS, body)
    assert (reply.status, reply.code) == (status, code), reply.body
    assert "/tmp" not in reply.body.decode()


def test_too_much_audio_is_refused_also_behind_a_small_file(windows: Path) -> None:
    bomb = io.BytesIO()
    soundfile.write(bomb, np.zeros(16_000 * 60), 16_000, format="FLAC")  # 60 s in 5 kB
    with serving(windows, limits=Limits(audio_s=10.0)) as client:
        reply = client.post(EMBEDDINGS, {"model": "field", "input": text_of(bomb.getvalue())})
        assert (reply.status, reply.code) == (413, "audio_too_large")
        assert client.post(EMBEDDINGS, {"model": "field", "input": text_of(wav(2.0))}).status == 200


def test_many_clients_at_a_time_get_their_own_vectors_in_few_batches(windows: Path) -> None:
    """A long recording is in the queue, too; its windows take turns with those of the others."""
    audio = {n: wav(0.3 + 0.17 * n, seed=n) for n in range(8)}
    with serving(windows, limits=Limits(per_client=64)) as client:
        alone = {
            n: vectors_of(client.post(EMBEDDINGS, {"model": "field", "input": text_of(one)}))
            for n, one in audio.items()
        }
        together: dict[tuple[int, int], np.ndarray] = {}

        def ask(n: int, turn: int) -> None:
            together[n, turn] = vectors_of(client.post(EMBEDDINGS, {"model": "field", "input": text_of(audio[n])}))

        threads = [threading.Thread(target=ask, args=(n, turn)) for n in audio for turn in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        metrics = client.get("/metrics").body.decode()
    assert len(together) == 24
    for (n, _), vectors in together.items():
        np.testing.assert_allclose(vectors, alone[n], rtol=1e-5, atol=1e-5)
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    computed = float(values['embedx_stage_seconds_count{stage="embed"}'])
    assert computed < 8 + 24  # fewer rounds than requests
    assert float(values["embedx_loaded_models"]) == 1
    assert float(values["embedx_queue_length"]) == 0
    assert float(values['embedx_rows{collection="field"}']) == 4
    assert float(values['embedx_requests_total{code="200",method="POST",route="/v1/embeddings"}']) == 32
