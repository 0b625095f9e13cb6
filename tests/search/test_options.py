"""Search options that are invalid or do not go together are refused."""

import itertools
from typing import Any, get_type_hints

import pytest

import embedx
from embedx.errors import UsageError
from embedx.search.options import SearchKwargs, SearchOptions


def test_search_options_and_their_keywords_have_the_same_fields() -> None:
    assert get_type_hints(SearchKwargs) == get_type_hints(SearchOptions)


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
        ({"id": 1, "text": "dog"}, "exactly one query"),
        ({"id": 1, "like": [3]}, "exactly one query"),
        ({"unlike": [3]}, "unlike requires like"),
        ({"like": [2.5]}, r"not \[2\.5\]"),
        ({"like": [99_999]}, "no row 99999"),
        ({"id": "x"}, "the number of a row"),
        ({"id": True}, "the number of a row"),
        ({"id": 1, "metric": "cosinus"}, "cosine, ip, l2"),
        ({"id": 1, "radius": float("nan")}, "finite"),
        ({"id": 1, "radius": -1, "metric": "l2"}, "at least 0"),
        ({"id": 1, "score_band": (0.9, 0.1)}, "lowest and the highest"),
        ({"id": 1, "diverse": 2}, "from 0 .* to 1"),
        ({"id": 1, "group_by": "nope"}, "Columns: recording, .*, site, source"),
        ({"id": 1, "align": True}, "audio file, or a part"),
    ],
)
def test_invalid_search_options_are_refused(windowed: embedx.Collection, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        windowed.search(**options)
