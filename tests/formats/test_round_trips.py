"""What is exported and imported again is the same."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import embedx
from embedx.formats.columns import escape_path, from_cell, to_cell, unescape_path
from embedx.formats.registry import FORMATS
from tests.helpers.exports import facts, fill


@pytest.mark.parametrize("form", FORMATS)
def test_export_and_import_round_trip_rows_and_vectors(form: str, odd: Path, tmp_path: Path) -> None:
    with embedx.open(odd) as collection:
        collection.export(tmp_path / "x", format=form)
        with embedx.import_vectors(tmp_path / "x", out=tmp_path / "again", format=form) as again:
            expected = facts(collection)
            taken = {"parquet": "L0.mean", "hf": "L0.mean", "csv": "v0", "jsonl": "vector"}
            assert [fact[:7] for fact in facts(again)] == [fact[:7] for fact in expected]
            for mine, theirs in zip(facts(again), expected, strict=True):
                if form in taken:  # a column of vectors has that name, so the metadata gets an underscore
                    theirs = (
                        *theirs[:7],
                        {k + "_" * (k == taken[form] and form in ("csv", "jsonl")): v for k, v in theirs[7].items()},
                    )
                assert mine[7] == theirs[7]
            assert again.rows().index.tolist() == collection.rows().index.tolist()
            vectors = collection.vectors()
            if form == "faiss":
                vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
                np.testing.assert_allclose(again.vectors(), vectors, atol=1e-6)
            else:
                np.testing.assert_array_equal(again.vectors(), vectors)


@pytest.mark.parametrize("form", ["parquet", "npy", "hf"])
def test_imported_collection_can_be_searched_by_file(form: str, made: Path, tmp_path: Path) -> None:
    with embedx.open(made) as collection:
        for view in ("all", "L0.max"):
            collection.export(tmp_path / f"x{view}", format=form, view=view)
            with embedx.import_vectors(tmp_path / f"x{view}", out=tmp_path / f"c{view}") as again:
                names = list(collection.views) if view == "all" else [view]
                assert list(again.views) == names
                for name in names:
                    np.testing.assert_array_equal(again.vectors(name), collection.vectors(name))
                pd.testing.assert_frame_equal(again.rows(), collection.rows())
                assert (again.recipe == collection.recipe) == (view == "all")
                query = collection.rows()["path"].iloc[4]
                assert again.search(query, k=5, view=names[-1])[0].id == collection.search(query, k=1)[0].id


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("aé="), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip


@given(VALUES, st.booleans())
def test_metadata_cell_round_trips(value: Any, text: bool) -> None:
    if not text or isinstance(value, str):
        cell = to_cell(value, text)
        assert from_cell(cell, text) == value
        assert not cell.startswith(("=", "+", "@"))


@given(st.binary(max_size=20).map(os.fsdecode) | st.text("\\x89af", max_size=8))
def test_escaped_path_round_trips(path: str) -> None:
    assert unescape_path(escape_path(path)) == path
    escape_path(path).encode()


NAMES = st.sampled_from(["site", "Site", "n", "vector", "v0", "L0.mean", "flags_", "été"])


LABELS = st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)


@pytest.mark.parametrize("form", ["parquet", "npy", "csv", "jsonl"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(metas=st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=4), label=LABELS)
def test_any_metadata_round_trips(
    form: str, metas: list[dict[str, Any]], label: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("any")
    fill(place / "c", [f"/{i}.wav" for i in range(len(metas))], metas, labels=label)
    with embedx.open(place / "c") as collection:
        collection.export(place / "x", format=form)
        with embedx.import_vectors(place / "x", out=place / "again", format=form) as again:
            taken = {"csv": ("v0",), "jsonl": ("vector",)}.get(form, ())
            expected = [{k + "_" * (k in taken): v for k, v in fact[7].items()} for fact in facts(collection)]
            assert [fact[7] for fact in facts(again)] == expected
            assert [fact[:7] for fact in facts(again)] == [fact[:7] for fact in facts(collection)]
            np.testing.assert_array_equal(again.vectors(), collection.vectors())
