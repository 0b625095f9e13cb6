"""Searches that are answered in batches have the hits of other searches, and follow every change."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import embedx
from embedx.collection.labelling import label_rows
from embedx.server import hit_texts
from tests.helpers.service import Client, serving

SEARCH = "/v1/collections/made/search"
BODIES: list[dict[str, Any]] = [{}, {"with_vector": True}, {"metric": "l2", "limit": 3}, {"exclude_self": False}]
VALUES = (None, 'a "score":0.0, \n\ud800 ü', 1e300, -0.5)


def assert_same(client: Client, row: int) -> list[Any]:
    """Compare searches that are answered in a batch with the same ones as a list of queries, and return the labels."""
    labels = []
    for body in BODIES:
        alone = client.post(SEARCH, {"id": row, **body}).json
        listed = client.post(SEARCH, {"id": [row], **body}).json
        assert alone["hits"] == listed["results"][0]["hits"] != []
        assert list(alone["hits"][0]) == list(listed["results"][0]["hits"][0])
        assert (alone["generation"], alone["revision"]) == (listed["generation"], listed["revision"])
        labels.append(alone["hits"][0]["label"])
    return labels


@pytest.mark.parametrize("max_bytes", [hit_texts.MAX_BYTES, 0])
def test_hits_are_those_of_other_searches_after_every_change(
    made: Path, tmp_path: Path, max_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hit_texts, "MAX_BYTES", max_bytes)
    folder = shutil.copytree(made, tmp_path / "made")
    with embedx.open(folder) as collection:
        numbers = collection.rows().index.tolist()
    with serving(folder) as client:
        for number, value in enumerate(VALUES):
            label_rows(folder, {row: {"note": value, "label": f"label{number}"} for row in numbers})
            assert set(assert_same(client, 5)) == {f"label{number}"}
        label_rows(folder, {numbers[0]: {"label": "other"}})
        assert_same(client, numbers[0])


def test_score_that_is_no_number_is_null() -> None:
    texts = {4: ('{"id":4,"score":', ',"label":null}')}
    assert hit_texts.hits_text(texts, [4, 4], [float("-inf"), 0.5], {}) == (
        '[{"id":4,"score":null,"label":null},{"id":4,"score":0.5,"label":null}]'
    )
