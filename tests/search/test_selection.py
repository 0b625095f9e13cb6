"""Which rows become hits: radius, band, grouping, merging, diversity."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

import embedx
from tests.helpers.windowed_search import WHERE, agree, file_of, scored, windows_of


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
    """Add rows in order until there would be k + 1 merged hits; merge again for every number of rows."""
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
