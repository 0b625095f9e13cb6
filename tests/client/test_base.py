"""Rows, vectors and samples, of a local collection and of the same behind a service."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import embedx
from embedx.client.remote import RemoteCollection
from tests.helpers.hits import assert_same_hits

Either = embedx.Collection | RemoteCollection


def test_samples_as_query_have_the_hits_of_their_file(
    either: Either, query: str, collection: embedx.Collection
) -> None:
    samples, rate = soundfile.read(query, dtype="float32")
    expected = collection.search(query, k=7)
    for form in (samples, samples[None], torch.from_numpy(samples), {"array": samples, "sampling_rate": rate}):
        assert_same_hits(either.search(form, sample_rate=rate, k=7), expected)
    other = str(collection.rows()["path"].loc[20])
    several = either.search([query, samples, other], sample_rate=rate, k=3, where="id > 4", group_by="label")
    for hits, one in zip(several, (query, query, other), strict=True):
        assert_same_hits(hits, collection.search(one, k=3, where="id > 4", group_by="label"))
    assert either.search([]) == []


def test_rows_of_ids_are_in_the_order_of_the_ids(either: Either, collection: embedx.Collection) -> None:
    ids = [30, 2, 17, 2]
    rows = either.rows(ids=np.array(ids), columns=["label", "source"])
    assert (list(rows), rows.index.tolist()) == (["label", "source"], ids)
    pd.testing.assert_frame_equal(rows, collection.rows().loc[ids, ["label", "source"]])
    assert list(either.rows("id = 3", columns="start_s")) == ["start_s"]
    assert len(either.rows(ids=[])) == 0
    every = dict(zip(collection.rows().index, collection.vectors(), strict=True))
    np.testing.assert_allclose(either.vectors(ids=ids), [every[number] for number in ids], rtol=1e-6)
    assert either.vectors(ids=[]).shape == (0, collection.views[collection.recipe.default_view])


def test_collection_holds_rows_by_id(either: Either, collection: embedx.Collection) -> None:
    row, rows = either[17], collection.rows()
    assert (row.id, row.label, row.start_s) == (17, rows["label"].loc[17], rows["start_s"].loc[17])
    assert [one.id for one in either] == rows.index.tolist()
    assert 17 in either and 10**30 not in either and 99_999 not in either and "17" not in either
    with pytest.raises(KeyError, match=r"^There is no row 99999 in"):
        either[99_999]
