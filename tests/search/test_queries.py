"""Every way to ask and to choose equals its definition, written out here in loops, with and without a filter."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pandas as pd
import pytest
import soundfile
from numpy.typing import NDArray

import embedx
from embedx.errors import ModelError, UsageError
from embedx.search import alignment
from embedx.search.options import SearchKwargs, SearchOptions

WHERE = "label <> 'bell' and start_s >= 0.25"
WriteWav = Callable[..., Path]


@pytest.fixture(scope="module")
def windowed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedx.Collection]:
    """The made corpus in windows of 0.5 s, each second one overlapping; a third of the sources has a site."""
    frame = pd.read_csv(manifest)
    frame["path"] = [str(manifest.parent / path) for path in frame["path"]]
    frame["site"] = [["A", "B", None][number % 3] for number in range(len(frame))]
    with embedx.extract(frame, window=0.5, hop=0.25, out=tmp_path_factory.mktemp("windowed") / "c") as collection:
        yield collection


def unit(vectors: NDArray[Any]) -> NDArray[Any]:
    scaled: NDArray[Any] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled


def scored(
    collection: embedx.Collection, queries: NDArray[Any], where: str | None = None, metric: str = "cosine"
) -> pd.Series:
    """Return id -> score of every row, best first."""
    rows, vectors = collection.rows(where), collection.vectors(where=where).astype(np.float64)
    queries = np.atleast_2d(queries).astype(np.float64)
    if metric == "cosine":
        queries, vectors = unit(queries), unit(vectors)
    apart = np.linalg.norm(queries[:, None] - vectors[None], axis=2)
    scores = -apart if metric == "l2" else queries @ vectors.T
    return pd.Series(scores.max(axis=0), index=rows.index).sort_values(ascending=False, kind="stable")


def agree(hits: embedx.Hits, expected: pd.Series) -> None:
    """The same rows with the same scores in the same order; scores that differ by rounding alone may change places."""
    assert {hit.id for hit in hits} == set(expected.index)
    assert len(hits) == len(expected)
    scores = [hit.score for hit in hits]
    np.testing.assert_allclose(scores, expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(scores, expected[[hit.id for hit in hits]], atol=1e-5, rtol=1e-5)


def file_of(collection: embedx.Collection, label: str) -> str:
    return str(collection.rows(f"label = '{label}'")["path"].iloc[0])


def windows_of(collection: embedx.Collection, path: str) -> NDArray[Any]:
    return collection.vectors()[(collection.rows()["path"] == path).to_numpy()]


# -- asking --------------------------------------------------------------------------------------------------------


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
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    shutil.copytree(checkpoint("clap"), tmp_path / "clap")
    corpus = sorted(manifest.parent.glob("*/*-0.wav"))[::5]
    with embedx.extract(corpus, model=str(tmp_path / "clap"), out=tmp_path / "c") as collection:
        with pytest.raises(ModelError, match="no tokenizer"):
            collection.search(text="dog")
        words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "dog": 2, "rain": 3}, unk_token="<unk>"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>").save_pretrained(tmp_path / "clap")
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
    with pytest.raises(ModelError, match="sound only"):
        windowed.search(text="dog")


# -- choosing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [None, WHERE])
def test_radius_returns_all_rows_within(windowed: embedx.Collection, where: str | None) -> None:
    file = file_of(windowed, "bell")
    expected = scored(windowed, windows_of(windowed, file), where)
    radius = float(expected.iloc[17:19].mean())
    agree(windowed.search(file, radius=radius, where=where), expected[:18])
    agree(windowed.search(file, radius=radius, where=where, k=12), expected[:12])
    assert len(windowed.search(file, radius=-1, where=where)) == len(expected) > 100
    assert len(windowed.search(file, radius=1.1, where=where)) == 0
    apart = scored(windowed, windows_of(windowed, file), where, "l2")
    agree(windowed.search(file, radius=-float(apart.iloc[17:19].mean()), where=where, metric="l2"), apart[:18])


@pytest.mark.parametrize("where", [None, WHERE])
@pytest.mark.parametrize("k", [3, 1000])
def test_band_returns_rows_nearest_to_its_middle(windowed: embedx.Collection, where: str | None, k: int) -> None:
    vector = windowed.vectors()[4]
    every = scored(windowed, vector, where)
    low, high = float(every.iloc[60:62].mean()), float(every.iloc[20:22].mean())
    inside = every[(every >= low) & (every <= high)]
    nearest = (inside - (low + high) / 2).abs().sort_values(kind="stable").index[:k]
    assert len(inside) == 40
    agree(windowed.search(vector=vector, score_band=(low, high), where=where, k=k), inside[inside.index.isin(nearest)])


@pytest.mark.parametrize("where", [None, WHERE])
@pytest.mark.parametrize("column", ["recording", "label", "site", "start_s"])
def test_grouping_returns_best_hit_per_group(windowed: embedx.Collection, where: str | None, column: str) -> None:
    vector = windowed.vectors()[9]
    every = scored(windowed, vector, where)
    values = windowed.rows()[column if column != "recording" else "path"].astype(object)
    seen, expected = set(), []
    for number in every.index:
        value = values[number] if pd.notna(values[number]) else None
        if value not in seen:
            seen.add(value)
            expected.append(number)
    assert column != "site" or len(expected) == 3
    for k in (2, 100):
        agree(windowed.search(vector=vector, group_by=column, where=where, k=k), every[expected][:k])
    radius = float(every.iloc[14:16].mean())
    inside = every[expected]
    agree(windowed.search(vector=vector, group_by=column, where=where, radius=radius, k=100), inside[inside >= radius])


def merged(rows: pd.DataFrame, order: list[int], k: int) -> list[tuple[int, float, float]]:
    """Take rows in order until k + 1 stretches would be there, found anew for every number of rows."""
    best: list[tuple[int, float, float]] = []
    for count in range(len(order) + 1):
        stretches: list[tuple[int, float, float]] = []
        some = rows.loc[order[:count]]
        for _, mine in some.sort_values("start_s").groupby("path", sort=False):
            begins = mine["start_s"] > mine["end_s"].cummax().shift(fill_value=-1.0)
            for _, members in mine.groupby(begins.cumsum()):
                first = min(members.index.tolist(), key=order.index)
                stretches.append((first, members["start_s"].min(), members["end_s"].max()))
        if len(stretches) > k:
            break
        best = sorted(stretches, key=lambda one: order.index(one[0]))
    return best


@pytest.mark.parametrize("where", [None, WHERE, "start_s in (0, 0.5, 1.0)"])
@pytest.mark.parametrize("k", [1, 4, 9])
def test_adjacent_hits_are_merged(windowed: embedx.Collection, where: str | None, k: int) -> None:
    rows = windowed.rows()
    for number in (3, 40):
        every = scored(windowed, windowed.vectors(where=f"id = {number}"), where)
        expected = merged(rows, every.index.tolist(), k)
        hits = windowed.search(id=number, merge=True, where=where, k=k, exclude_self=False)
        assert [(hit.id, hit.start_s, hit.end_s) for hit in hits] == expected
        np.testing.assert_allclose([hit.score for hit in hits], every[[one[0] for one in expected]], atol=1e-5)
        radius = float(every.iloc[29:31].mean())
        hits = windowed.search(id=number, merge=True, where=where, radius=radius, exclude_self=False)
        assert [(hit.id, hit.start_s, hit.end_s) for hit in hits] == merged(rows, every.index[:30].tolist(), 10**6)


def test_hits_of_different_channels_are_not_merged(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (16_000, 2))
    soundfile.write(tmp_path / "a.wav", noise, 16_000)
    with embedx.extract(tmp_path / "a.wav", window=0.5, channels="each", out=tmp_path / "c") as collection:
        hits = collection.search(id=1, merge=True, exclude_self=False)
        assert [(hit.start_s, hit.end_s, hit.meta["channel"]) for hit in hits] == [(0, 1, 0), (0, 1, 1)]


@pytest.mark.parametrize("where", [None, WHERE])
@pytest.mark.parametrize("weight, metric", [(0.0, "cosine"), (0.5, "cosine"), (0.3, "l2"), (1.0, "cosine")])
def test_diverse_hits_equal_greedy_mmr(
    windowed: embedx.Collection, where: str | None, weight: float, metric: str
) -> None:
    vector = windowed.vectors()[20]
    every = scored(windowed, vector, where, metric)[:100]
    found: dict[int, dict[Any, float]] = {}  # id -> id -> score
    chosen = [every.index[0]]
    while len(chosen) < 8:
        last = windowed.vectors(where=f"id = {chosen[-1]}")
        found[chosen[-1]] = scored(windowed, last, where, metric).to_dict()
        rest = [number for number in every.index if number not in chosen]
        worth = {n: weight * every[n] - (1 - weight) * max(found[c][n] for c in chosen) for n in rest}
        chosen.append(max(rest, key=lambda number: worth[number]))
    hits = windowed.search(vector=vector, diverse=weight, where=where, metric=metric, k=8)
    agree(hits, every[chosen])
    assert [hit.id for hit in hits] == chosen
    assert weight < 1 or [hit.id for hit in hits] == every.index[:8].tolist()


def diagonals(collection: embedx.Collection, queries: NDArray[Any], where: str | None) -> dict[str, tuple[Any, ...]]:
    """Return path -> (score, first id, start, end, first window of the query) by three loops."""
    rows, vectors = collection.rows(where), unit(collection.vectors(where=where).astype(np.float64))
    queries, best = unit(queries.astype(np.float64)), {}
    for path in rows["path"].unique():
        mine = rows[rows["path"] == path]
        scores = queries @ vectors[(rows["path"] == path).to_numpy()].T
        short, long = min(scores.shape), max(scores.shape)
        found = []
        for offset in range(long - short + 1):
            pairs = [(i, i + offset) if len(queries) <= len(mine) else (i + offset, i) for i in range(short)]
            found.append((float(np.mean([scores[pair] for pair in pairs])), pairs))
        score, pairs = max(found, key=lambda one: one[0])
        first, last = mine.iloc[pairs[0][1]], mine.iloc[pairs[-1][1]]
        best[path] = (score, first.name, first["start_s"], last["end_s"], pairs[0][0])
    return best


@pytest.mark.parametrize("where", [None, WHERE])
@pytest.mark.parametrize("most", [1 << 23, 40])
def test_alignment_equals_best_diagonal(
    windowed: embedx.Collection, where: str | None, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "MAX_SCORES", most)  # one recording at a time
    file = file_of(windowed, "engine")
    for query, vectors in ((file, windows_of(windowed, file)), (f"{file}#0.25-1", windows_of(windowed, file)[1:3])):
        expected = diagonals(windowed, vectors, where)
        begin = 0.25 if "#" in query else 0.0
        hits = windowed.search(query, align=True, where=where, k=1000)
        assert {hit.path for hit in hits} == set(expected)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        for hit in hits:
            score, number, start_s, end_s, window = expected[hit.path]
            assert hit.score == pytest.approx(score, abs=1e-5)
            assert (hit.id, hit.start_s, hit.end_s) == (number, start_s, end_s)
            assert hit.query_start_s == begin + 0.25 * window
    rest = windowed.search(file, align=True, where=where, k=1000, exclude_self=True)
    assert {hit.path for hit in rest} == set(expected) - {file}
    some = windowed.search(file, align=True, where=where, radius=rest[2].score, exclude_self=True)
    assert [hit.id for hit in some] == [hit.id for hit in rest[:3]]
    assert "query_start_s" in rest.to_pandas().columns


def test_alignment_of_longer_query_finds_the_moment(tmp_path: Path, write_wav: WriteWav) -> None:
    noise = [np.random.default_rng(i).uniform(-1, 1, 16_000) * level for i, level in enumerate((0.9, 0.1, 0.5, 0.02))]
    tone = np.sin(np.arange(16_000) / 3)
    long = np.concatenate([noise[0], tone, noise[1], tone / 9, noise[2], noise[3]]).astype(np.float32)
    short = write_wav("in/short.wav", samples=long[32_000:80_000])
    write_wav("in/long.wav", samples=long)
    with embedx.extract(tmp_path / "in", window=1, out=tmp_path / "c") as collection:
        hit = collection.search(short, align=True, where="path like '%long%'")[0]
        assert (hit.start_s, hit.end_s, hit.query_start_s) == (2, 5, 0)
        hit = collection.search(tmp_path / "in/long.wav", align=True, where="path like '%short%'")[0]
        assert (hit.start_s, hit.end_s, hit.query_start_s) == (0, 3, 2)
        assert hit.score == pytest.approx(1, abs=1e-5)


# -- many at once --------------------------------------------------------------------------------------------------


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


# -- options -------------------------------------------------------------------------------------------------------


def test_search_options_and_their_keywords_have_the_same_fields() -> None:
    assert get_type_hints(SearchKwargs) == get_type_hints(SearchOptions)


# -- what does not go together -------------------------------------------------------------------------------------

WAYS: dict[str, Any] = {"score_band": (0.1, 0.2), "group_by": "label", "merge": True, "diverse": 0.5, "align": True}


@pytest.mark.parametrize(
    "one, other", [*itertools.combinations(WAYS, 2), ("radius", "score_band"), ("radius", "diverse")]
)
def test_incompatible_search_options_are_refused(windowed: embedx.Collection, one: str, other: str) -> None:
    chosen = {name: ({"radius": 0.5} | WAYS)[name] for name in (one, other)}
    with pytest.raises(UsageError, match=f"{one} and {other} cannot be combined"):
        windowed.search(id=1, **chosen)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"id": 1, "text": "dog"}, "one of"),
        ({"id": 1, "like": [3]}, "one of"),
        ({"unlike": [3]}, "unlike needs like"),
        ({"like": [2.5]}, "not 2.5"),
        ({"like": [99_999]}, "no row 99999"),
        ({"id": 1, "metric": "cosinus"}, "cosine, ip, l2"),
        ({"id": 1, "radius": float("nan")}, "finite"),
        ({"id": 1, "radius": -1, "metric": "l2"}, "at least 0"),
        ({"id": 1, "score_band": (0.9, 0.1)}, "lowest and the highest"),
        ({"id": 1, "diverse": 2}, "outside 0"),
        ({"id": 1, "group_by": "nope"}, "Columns: recording, .*, site, source"),
        ({"id": 1, "align": True}, "audio file, or a part"),
    ],
)
def test_invalid_search_options_are_refused(windowed: embedx.Collection, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        windowed.search(**options)


# -- clips ---------------------------------------------------------------------------------------------------------


def test_saved_clips_keep_channels_and_rate(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    name = os.fsdecode(
        b"=a/b\n\xe9"
    )  # a folder of one letter, and a name with a line break and a byte that is no UTF-8
    (tmp_path / "in" / os.path.dirname(name)).mkdir()
    sound = random.uniform(-0.9, 0.9, (44_100 * 3, 2)).astype(np.float32)
    for ending, options in ((".wav", {"subtype": "FLOAT", "format": "WAV"}), (".ogg", {"format": "OGG"})):
        soundfile.write(os.fsencode(tmp_path / "in" / (name + ending)), sound, 44_100, **options)
    with embedx.extract(tmp_path / "in", window=1.5, out=tmp_path / "c") as collection:
        hits = collection.search(id=2, exclude_self=False)
        assert hits.save_clips(tmp_path / "clips") == []
        files = sorted(os.listdir(tmp_path / "clips"))
        assert len(files) == len(hits) == 4
        assert all(file.isprintable() and "/" not in file for file in files)
        for rank, (file, hit) in enumerate(zip(files, hits, strict=True), start=1):
            assert file == f"{rank:04d}_{hit.score:.4f}_b_n_xe9_{hit.start_s:.2f}-{hit.end_s:.2f}.wav"
            clip, rate = soundfile.read(tmp_path / "clips" / file, dtype="float32")
            decoded, _ = soundfile.read(os.fsencode(hit.path), dtype="float32")
            assert rate == 44_100
            np.testing.assert_array_equal(clip, decoded[round(hit.start_s * rate) : round(hit.end_s * rate)])
        os.remove(os.fsencode(tmp_path / "in" / (name + ".ogg")))
        (tmp_path / "in").joinpath(name + ".wav").write_bytes(b"RIFF")
        shutil.rmtree(tmp_path / "clips")
        assert {error.reason for error in hits.save_clips(tmp_path / "clips")} == {"missing", "not-audio"}
        assert os.listdir(tmp_path / "clips") == []


def test_saved_clips_come_from_formats_of_ffmpeg(tmp_path: Path) -> None:
    import av

    tone = np.sin(2 * np.pi * 440 * np.arange(48_000) / 16_000).astype(np.float32)
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    with embedx.extract(path, window=1, out=tmp_path / "c") as collection:
        hits = collection.search(id=2, k=1, exclude_self=False)
        assert hits.save_clips(tmp_path / "clips") == []
        (file,) = os.listdir(tmp_path / "clips")
        clip, rate = soundfile.read(tmp_path / "clips" / file)
        assert (rate, len(clip)) == (16_000, 16_000)
        assert np.sqrt(np.mean(clip**2)) == pytest.approx(np.sqrt(0.5), rel=0.1)
