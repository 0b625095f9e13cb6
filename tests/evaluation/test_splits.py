from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedx.errors import UsageError
from embedx.evaluation.splits import SplitKwargs, SplitOptions, Splits, group_ids, make_splits
from embedx.evaluation.targets import LabelOptions, Targets, read_targets
from embedx.store.records import Row


def row(i: int, path: str, label: str = "a", group: str | None = None, split: str | None = None, **meta: str) -> Row:
    return Row(i, path, 0.0, 1.0, label, group, split, (), dict(meta))


def split(rows: list[Row], **options: object) -> tuple[Splits, Targets]:
    targets = read_targets(rows, LabelOptions())
    return make_splits(rows, targets, SplitOptions(**options)), targets  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.sampled_from("abc")), min_size=8, max_size=60))
def test_generated_folds_test_every_row_once_and_split_no_group(spec: list[tuple[int, int, str]]) -> None:
    rows = [row(i, f"/{path}.wav", label, group=str(group)) for i, (path, group, label) in enumerate(spec)]
    try:
        splits, _ = split(rows)
    except UsageError:
        return  # too few groups or classes
    tested = np.concatenate([part.test for part in splits.parts])
    assert sorted(tested.tolist()) == list(range(len(rows)))
    for part in splits.parts:
        assert not set(part.train) & set(part.test)
        assert sorted([*part.train, *part.test]) == list(range(len(rows)))
        for name in ("path", "group"):
            assert not {getattr(rows[i], name) for i in part.train} & {getattr(rows[i], name) for i in part.test}


def test_generated_folds_spread_classes() -> None:
    rows = [row(i, f"/{i}.wav", "rare" if i % 10 == 0 else "common") for i in range(100)]
    splits, _ = split(rows)
    for part in splits.parts:
        assert Counter(rows[i].label for i in part.test) == {"common": 18, "rare": 2}


def test_fold_column_is_used_and_rows_outside_are_counted() -> None:
    rows = [row(i, f"/{i}.wav", "ab"[i % 2], fold=str(i % 12 // 2)) for i in range(48)]
    splits, _ = split(rows)
    assert [part.name for part in splits.parts] == ["0", "1", "2", "3", "4", "5"]
    assert splits.how == "the column 'fold'"
    rows.append(row(99, "/z.wav", "a"))
    splits, _ = split(rows, folds="fold")
    assert splits.left_out == 1
    assert all(48 not in [*part.train, *part.test] for part in splits.parts)
    assert split(rows)[0].how == "recording, stratified"  # not every row has a fold, so it is not the data set's


def test_split_column_gives_train_validation_and_test() -> None:
    names = ["train", "Train", "valid", "test", "TESTING", "train"]
    rows = [row(i, f"/{i}.wav", "ab"[i % 2], split=name) for i, name in enumerate(names)]
    splits, _ = split(rows)
    (part,) = splits.parts
    assert (part.train.tolist(), part.validation.tolist(), part.test.tolist()) == ([0, 1, 5], [2], [3, 4])
    assert splits.tested_in().tolist() == ["", "", "", "test", "test", ""]


def test_group_on_both_sides_is_refused() -> None:
    rows = [row(i, f"/{i // 2}.wav", "ab"[i // 2 % 2], fold=str(i % 3)) for i in range(12)]
    with pytest.raises(UsageError, match=r"split one recording or group \(0, 1\): /0.wav"):
        split(rows)
    rows = [row(i, f"/{i}.wav", "ab"[i % 2], group=str(i // 4), split=["train", "test"][i % 2]) for i in range(12)]
    with pytest.raises(UsageError, match=r"/0.wav and /1.wav"):
        split(rows, split="split")


def test_leaky_split_on_request_is_marked() -> None:
    rows = [row(i, f"/{i // 5}.wav", "ab"[i // 5 % 2]) for i in range(40)]
    assert not split(rows)[0].leaky
    splits, _ = split(rows, leaky=True)
    assert splits.leaky
    assert "leaky" in splits.how
    part = splits.parts[0]
    assert {rows[i].path for i in part.train} & {rows[i].path for i in part.test}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"folds": "fold", "leaky": True}, "one of folds"),
        ({"folds": "nothing"}, "No row has a value in the column 'nothing'"),
        ({"split": "site"}, "holds 'x'"),
        ({"split": "half"}, "must name rows to train on"),
    ],
)
def test_invalid_split_is_refused(options: dict[str, object], message: str) -> None:
    rows = [row(i, f"/{i}.wav", "ab"[i % 2], fold=str(i % 2), site="x", half="train") for i in range(8)]
    with pytest.raises(UsageError, match=message):
        split(rows, **options)


def test_test_part_without_training_rows_is_refused() -> None:
    rows = [row(i, f"/{i}.wav", "ab"[i % 2], fold=str(i % 2)) for i in range(8)]
    with pytest.raises(UsageError, match="fewer than two classes"):
        split(rows)


def test_groups_sharing_a_recording_stay_together() -> None:
    assert len(set(group_ids(["a", "a", "b", "b", "c"], ["1", "2", "2", "3", "4"]).tolist())) == 2


def test_keywords_are_the_fields_of_the_options() -> None:
    assert set(SplitKwargs.__annotations__) == {field.name for field in fields(SplitOptions)}
