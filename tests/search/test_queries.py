"""Queries by example, text, file and vector equal their definition in numpy, with and without a filter."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import embedx
from embedx.errors import ModelError, UsageError
from tests.helpers.checkpoints import add_tokenizer
from tests.helpers.windowed_search import WHERE, WriteWav, agree, file_of, scored, unit, windows_of


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("where", [None, WHERE])
def test_metric_equals_its_definition(windowed: embedx.Collection, metric: str, where: str | None) -> None:
    vector = windowed.vectors()[11] + np.float32(0.1)
    for exact in (False, True):
        hits = windowed.search(vector=vector, k=20, metric=metric, where=where, exact=exact)
        agree(hits, scored(windowed, vector, where, metric)[:20])


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("where", [None, WHERE])
def test_examples_are_combined_as_documented(windowed: embedx.Collection, metric: str, where: str | None) -> None:
    file, other = file_of(windowed, "bell"), file_of(windowed, "clock")
    prepare = unit if metric == "cosine" else np.asarray
    parts = [prepare(windows_of(windowed, one)).mean(axis=0) for one in (file, other)]
    row = prepare(windowed.vectors(where="id = 30"))[0]
    liked = (parts[0] + row) / 2
    options: dict[str, Any] = {"metric": metric, "where": where, "k": 25}
    rest = scored(windowed, liked, where, metric).drop(30, errors="ignore")
    agree(windowed.search(like=[file, 30], **options), rest[:25])
    against = scored(windowed, 2 * liked - parts[1], where, metric)
    agree(windowed.search(like=[file, "30"], unlike=[other], exclude_self=False, **options), against[:25])
    gone = windowed.rows()["path"].isin([file, other])
    rest = against.drop([30, *gone[gone].index], errors="ignore")
    agree(windowed.search(like=[file, 30], unlike=[other], exclude_self=True, **options), rest[:25])


def test_example_may_be_excerpt_or_numeric_file_name(
    windowed: embedx.Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_of(windowed, "bell")
    first = windowed.vectors(where=f"path = '{file}'")[:1]
    agree(windowed.search(like=[f"{file}#0-0.5"]), scored(windowed, first)[:10])
    monkeypatch.chdir(tmp_path)
    shutil.copy(file, "30")
    assert windowed.search(like=["30"], k=1, exclude_self=True)[0].path != file
    assert 30 in {hit.id for hit in windowed.search(like=["30"], k=len(windowed))}


def test_text_query_is_embedded_by_clap(checkpoint: Callable[[str], Path], manifest: Path, tmp_path: Path) -> None:
    import torch

    shutil.copytree(checkpoint("clap"), tmp_path / "clap")
    corpus = sorted(manifest.parent.glob("*/*-0.wav"))[::5]
    with embedx.extract(corpus, model=str(tmp_path / "clap"), out=tmp_path / "c") as collection:
        with pytest.raises(ModelError, match="no tokenizer"):
            collection.search(text="dog")
        add_tokenizer(tmp_path / "clap")
        with torch.inference_mode():
            extractor: Any = collection._load_embedder().extractor
            texts = extractor.embed_text(["dog", "rain"]).numpy()
        for word, vector in zip(("dog", "rain"), texts, strict=True):
            agree(collection.search(text=word), scored(collection, vector))
        agree(collection.search(text="dog", where="id > 2"), scored(collection, texts[0], "id > 2"))
        with pytest.raises(UsageError, match="empty"):
            collection.search(text=" ")
        with pytest.raises(UsageError, match="600 tokens"):
            collection.search(text="dog " * 600)


def test_text_query_without_text_model_is_refused(windowed: embedx.Collection) -> None:
    with pytest.raises(ModelError, match="cannot embed text"):
        windowed.search(text="dog")


@pytest.mark.parametrize("ways", [{}, {"exclude_self": True}, {"where": WHERE, "exclude_self": True}, {"radius": 0.99},
                                  {"group_by": "label"}, {"align": True, "k": 2}, {"metric": "l2"}])  # fmt: skip
def test_many_queries_equal_single_queries(windowed: embedx.Collection, ways: dict[str, Any]) -> None:
    rows = windowed.rows()
    frame = pd.DataFrame({"path": rows["path"].unique()[::9]})
    frame["start_s"], frame["end_s"] = [0.0, *[0.25] * (len(frame) - 1)], [np.nan, *[1.0] * (len(frame) - 1)]
    answers = windowed.search_many(frame, **ways)
    assert not answers.failures
    paths = frame["path"].tolist()
    assert list(answers) == [paths[0], *(f"{path}#0.25-1" for path in paths[1:])]
    for name, hits in answers.items():
        alone = windowed.search(name, **ways)
        agree(hits, pd.Series([hit.score for hit in alone], index=[hit.id for hit in alone], dtype=float))


def test_bad_query_is_named_and_others_are_answered(
    windowed: embedx.Collection, tmp_path: Path, write_wav: WriteWav
) -> None:
    good = write_wav("in/good.wav")
    (tmp_path / "in/text.wav").write_text("text")
    answers = windowed.search_many(tmp_path / "in", k=3)
    assert {name: len(hits) for name, hits in answers.items()} == {str(good): 3}
    assert {os.path.basename(name): one.reason for name, one in answers.failures.items()} == {"text.wav": "not-audio"}
    (tmp_path / "in/good.wav").unlink()
    assert not windowed.search_many(tmp_path / "in")


def test_vector_matrix_is_many_queries(windowed: embedx.Collection) -> None:
    vectors = windowed.vectors()[5:30:6]
    answers = windowed.search_many(vectors, k=4, where=WHERE)
    scores, ids = windowed.nearest(vectors, 4, where=WHERE)
    assert scores.shape == ids.shape == (len(vectors), 4)
    for number, vector in enumerate(vectors):
        expected = scored(windowed, vector, WHERE)[:4]
        agree(answers[str(number)], expected)
        assert ids[number].tolist() == expected.index.tolist()
        np.testing.assert_allclose(scores[number], expected, atol=1e-5)
    assert windowed.nearest(vectors[0], 10_000, metric="l2")[1].shape == (1, len(windowed))
