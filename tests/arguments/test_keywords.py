"""Unknown keywords of public functions are refused with the name that was probably meant."""

from typing import Any

import pytest

import embedx
from embedx.arguments.keywords import UnknownKeyword
from embedx.errors import UsageError


@pytest.mark.parametrize(
    ("method", "given", "meant"),
    [
        ("search", "top_k", "k"),
        ("search", "n_results", "k"),
        ("search", "filter", "where"),
        ("search", "tetx", "text"),
        ("search", "groupby", "group_by"),
        ("search_many", "top_k", "k"),
        ("nearest", "n_neighbors", "k"),
        ("rows", "filter", "where"),
        ("rows", "wehre", "where"),
        ("vectors", "veiw", "view"),
        ("fit_head", "random_state", "seed"),
        ("fit_head", "cv", "folds"),
        ("probe", "groups", "group"),
        ("predict", "aggregation", "aggregate"),
        ("suggest", "by_", "by"),
        ("duplicates", "treshold", "threshold"),
        ("export", "fromat", "format"),
        ("build_index", "recal", "recall"),
    ],
)
def test_unknown_keyword_of_a_method_names_the_one_that_was_meant(
    collection: embedx.Collection, method: str, given: str, meant: str
) -> None:
    with pytest.raises(
        UnknownKeyword, match=rf"{method}\(\) has no keyword '{given}'. Did you mean {meant}\?"
    ) as error:
        getattr(collection, method)(**{given: 1})
    assert isinstance(error.value, UsageError) and isinstance(error.value, TypeError)


@pytest.mark.parametrize(
    ("function", "given", "meant"),
    [
        ("extract", {"layer": 3}, "layers"),
        ("extract", {"batch_size": 3}, "batch_seconds"),
        ("extract", {"modle": "logmel"}, "model"),
        ("open", {"allow_pickel": True}, "allow_pickle"),
        ("load", {"dtype": "float16"}, "precision"),
        ("connect", {"tokne": ""}, "token"),
    ],
)
def test_unknown_keyword_of_a_function_names_the_one_that_was_meant(
    function: str, given: dict[str, Any], meant: str
) -> None:
    with pytest.raises(UnknownKeyword, match=rf"Did you mean {meant}\?"):
        getattr(embedx, function)("nowhere", **given)


def test_keyword_like_no_other_lists_all(collection: embedx.Collection) -> None:
    with pytest.raises(UnknownKeyword, match="Its keywords: where, columns, ids"):
        collection.rows(zzz=1)  # type: ignore[call-arg]


def test_setting_of_another_kind_of_head_is_refused_with_advice(collection: embedx.Collection) -> None:
    with pytest.raises(UsageError, match=r"knn has no setting 'n_neighbors'|Did you mean k\?"):
        collection.fit_head(kind="knn", n_neighbors=3)  # type: ignore[call-arg]
