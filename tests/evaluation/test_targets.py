from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from embedx.errors import UsageError
from embedx.evaluation.cross_validation import match_views
from embedx.evaluation.targets import LabelKwargs, LabelOptions, read_targets
from embedx.store.records import Row


def rows(labels: list[str | None], **columns: list[object]) -> list[Row]:
    return [
        Row(i + 1, f"/{i}.wav", 0.0, 1.0, label, None, None, (), {name: values[i] for name, values in columns.items()})
        for i, label in enumerate(labels)
    ]


def test_classes_are_in_natural_order_and_unlabelled_rows_left_out() -> None:
    targets = read_targets(rows(["10", "9", None, "dog", "9"]), LabelOptions())
    assert targets.classes == ("9", "10", "dog")
    assert targets.y.tolist() == [1, 0, 2, 0]
    assert targets.kept.tolist() == [0, 1, 3, 4]
    assert (targets.unlabelled, targets.weak, targets.multilabel) == (1, 0, False)


def test_label_separator_gives_several_labels() -> None:
    targets = read_targets(rows(["dog; rain", "rain", ";", None, "cat;dog;"]), LabelOptions(separator=";"))
    assert targets.classes == ("cat", "dog", "rain")
    assert targets.y.tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 1, 0]]
    assert targets.kept.tolist() == [0, 1, 2, 4]
    assert targets.multilabel


def test_yes_no_columns_give_several_labels() -> None:
    cells: dict[str, list[object]] = {"owl": ["1", "no", None, True], "fox": [0, "Yes", None, None]}
    targets = read_targets(rows([None] * 4, **cells), LabelOptions(["owl", "fox"]))
    assert targets.classes == ("owl", "fox")
    assert targets.y.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert targets.kept.tolist() == [0, 1, 3]


def test_unlabelled_rows_are_weak_negatives_with_less_weight() -> None:
    targets = read_targets(rows(["owl", None, "owl", None]), LabelOptions(weak_negatives=0.25))
    assert targets.y.tolist() == [[1], [0], [1], [0]]
    assert targets.weights.tolist() == [1, 0.25, 1, 0.25]
    assert (targets.weak, targets.unlabelled) == (2, 0)


def test_rarest_label_decides_the_fold_of_a_row() -> None:
    targets = read_targets(rows(["a;b", "a", "a", ";", "a;b;c"]), LabelOptions(separator=";"))
    assert targets.strata().tolist() == [1, 0, 0, 3, 2]
    assert np.array_equal(read_targets(rows(["x", "y"]), LabelOptions()).strata(), [0, 1])


@pytest.mark.parametrize(
    "labels, options, message",
    [
        (["a", "a"], {}, "At least two classes"),
        ([None, None], {}, "No row has a value in the column 'label'"),
        (["a", "b"], {"weak_negatives": 2.0}, "from 0"),
        (["a;b", "a;b"], {"separator": ";"}, "same labels"),
        (["a", "b"], {"separator": ""}, "separator"),
    ],
)
def test_targets_that_cannot_be_learned_are_refused(
    labels: list[str | None], options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_targets(rows(labels), LabelOptions(**options))  # type: ignore[arg-type]


def test_cell_that_is_neither_yes_nor_no_is_named_with_its_row() -> None:
    with pytest.raises(UsageError, match=r"'owl' holds 'maybe' in row 2"):
        read_targets(rows([None, None], owl=["1", "maybe"], fox=["0", "1"]), LabelOptions(["owl", "fox"]))


def test_keywords_are_the_fields_of_the_options_without_label() -> None:
    assert set(LabelKwargs.__annotations__) | {"label"} == {field.name for field in fields(LabelOptions)}


@pytest.mark.parametrize("label", [[], (), {}, [[]], [1], ["a", None]])
def test_label_that_is_no_name_is_refused(label: Any) -> None:
    with pytest.raises(UsageError, match="label is the name of a column, or a list of names"):
        LabelOptions(label)


@pytest.mark.parametrize("view", [[], (), [[]], [None]])
def test_view_that_is_no_name_is_refused(view: Any) -> None:
    with pytest.raises(UsageError, match="view is the name of a view, a pattern or a list of these"):
        match_views({"L0.mean": 4}, view)
