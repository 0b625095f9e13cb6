"""Zero-shot classes by the service: those of the collection behind it, with limits before the work."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import embedx
from embedx.errors import UsageError
from tests.helpers.checkpoints import add_tokenizer
from tests.helpers.conformance import Checkpoint
from tests.helpers.service import Client, serving

NAMES = {"dog": ["dog", "dog dog"], "rain": ["rain"]}


@pytest.fixture(scope="module")
def field(checkpoint: Checkpoint, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zero-shot")
    shutil.copytree(checkpoint("clap"), folder / "clap")
    add_tokenizer(folder / "clap")
    sounds = sorted(manifest.parent.rglob("*.wav"))[:4]
    embedx.extract([str(path) for path in sounds], model=str(folder / "clap"), out=folder / "field").close()
    return folder / "field"


@pytest.fixture(scope="module")
def service(field: Path) -> Iterator[Client]:
    with serving(field) as client:
        yield client


def test_zero_shot_of_the_service_is_that_of_the_collection(service: Client, field: Path) -> None:
    remote = embedx.connect(f"http://127.0.0.1:{service.port}/field")
    with embedx.open(field) as collection:
        paths = [str(path) for path in collection.rows()["path"][:2]]
        for source, options in (
            (None, {"where": "id < 4", "k": 2}),
            (None, {"prompt": ["{}", "rain {}"], "per": "recording"}),
            (paths, {}),
        ):
            found, expected = (one.predict(source, zero_shot=NAMES, **options) for one in (remote, collection))
            assert (found.classes, [one.labels for one in found]) == (("dog", "rain"), [one.labels for one in expected])
            np.testing.assert_allclose(found.proba, expected.proba, atol=1e-6)


@pytest.mark.long
def test_service_calibrates_on_labelled_rows_as_the_collection_does(field: Path, tmp_path: Path) -> None:
    import soundfile
    import transformers

    model = transformers.ClapModel.from_pretrained(field.parent / "clap")
    model.logit_scale_a.data.fill_(6.0)  # too sure of most clips
    shutil.copytree(field.parent / "clap", tmp_path / "clap")
    model.save_pretrained(tmp_path / "clap")
    random, rows = np.random.default_rng(0), []
    for number in range(40):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, random.normal(0, 0.1, 4000), 16_000)
        rows.append((str(path), ("dog", "rain")[number % 2], "other"))
    table = pd.DataFrame(rows, columns=["path", "label", "kind"])
    embedx.extract(table, model=str(tmp_path / "clap"), out=tmp_path / "labelled").close()
    with serving(tmp_path / "labelled") as client, embedx.open(tmp_path / "labelled") as collection:
        remote = embedx.connect(f"http://127.0.0.1:{client.port}/labelled")
        found, expected = (one.predict(zero_shot="dog, rain") for one in (remote, collection))
        assert found.note == expected.note
        assert "(temperature) kept" in found.note
        np.testing.assert_allclose(found.proba, expected.proba, atol=1e-6)
        raw = remote.predict(zero_shot="dog, rain", label="kind")  # this column has none of the classes
    assert raw.note == ""
    assert (found.proba.argmax(axis=1) == raw.proba.argmax(axis=1)).all()
    assert raw.proba.max(axis=1).mean() > 0.8  # the labels are of either class, whatever the clip: one half is right
    assert found.proba.max(axis=1).mean() < 0.6


def test_texts_of_a_request_are_limited_and_mistakes_are_sentences(service: Client) -> None:
    for body, code, text in (
        ({"zero_shot": ", ".join(f"c{n}" for n in range(201))}, "limit_too_large", "200 zero-shot texts, not 201"),
        ({"zero_shot": "a, b", "prompt": ["{}"] * 101}, "limit_too_large", "not 202"),
        ({"zero_shot": [f"c{n}" for n in range(201)]}, "bad_request", "200"),
        ({"zero_shot": "dog"}, "bad_request", "at least two classes"),
        ({"zero_shot": "dog, rain", "prompt": "a sound"}, "bad_request", "needs {}"),
        ({"zero_shot": "dog, rain", "head": "kinds"}, "bad_request", "one of them"),
        ({"prompt": "{}"}, "bad_request", "zero-shot"),
    ):
        reply = service.post("/v1/collections/field/predict", {"ids": [1], **body})
        assert reply.status == 400, (body, reply.body)
        assert text in reply.json["error"]["message"], (body, reply.body)
        assert reply.code == code, (body, reply.body)
    remote = embedx.connect(f"http://127.0.0.1:{service.port}/field")
    for options in ({"head": "kinds", "zero_shot": NAMES}, {"label": "label"}, {"zero_shot": NAMES, "recall": 0.5}):
        with pytest.raises(UsageError):
            remote.predict(**options)
