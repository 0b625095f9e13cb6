"""Alignment of a query of several windows with a recording."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import embedx
from embedx.search import alignment
from tests.helpers.windowed_search import WHERE, WriteWav, file_of, unit, windows_of


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
