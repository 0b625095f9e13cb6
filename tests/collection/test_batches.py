"""Searches that are answered together: each has the hits that it has alone, and an invalid one spoils no other."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedx
from embedx.collection.batches import rank_each
from embedx.errors import UsageError
from embedx.search.options import SearchOptions


@pytest.mark.parametrize(
    "options",
    [{}, {"k": 3}, {"exclude_self": False}, {"metric": "l2", "view": "L0.max"}, {"where": "id > 9"}, {"exact": True}],
)
def test_hits_of_a_batch_are_those_of_each_search(made: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    with embedx.open(shutil.copytree(made, tmp_path / "c")) as collection:  # it gets an index of another view
        vectors = collection.vectors(options.get("view"))[::7]
        queries: list[Any] = [5, *vectors, 17, 5]
        results = rank_each(collection, queries, SearchOptions(**options))
        for query, hits in zip(queries, results, strict=True):
            alone = collection.search(**{"id" if isinstance(query, int) else "vector": query}, **options)
            assert not isinstance(hits, UsageError)
            assert [hits[0].tolist(), hits[1].tolist()] == [[hit.id for hit in alone], [hit.score for hit in alone]]


def test_invalid_query_of_a_batch_has_its_own_error(made: Path) -> None:
    with embedx.open(made) as collection:
        good = collection.vectors()[0]
        wrong: list[Any] = [10**9, good[:-1], np.full_like(good, np.nan)]
        results = rank_each(collection, [3, *wrong, good], SearchOptions())
        assert [isinstance(result, UsageError) for result in results] == [False, True, True, True, False]
        assert "no row 1000000000" in str(results[1])
        assert rank_each(collection, wrong[:1], SearchOptions())[0] is not None
        assert rank_each(collection, [], SearchOptions()) == []
