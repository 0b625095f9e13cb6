"""Annotations of one stretch, and of touching ones, become one."""

from embedx.annotations.base import Annotation
from embedx.annotations.joining import join_same_times, merge_touching


def test_annotations_of_one_stretch_are_joined() -> None:
    first = Annotation("a", 0.0, 3.0, "owl", 100.0, 500.0, 0.5, {"by": "x", "n": 1})
    second = Annotation("a", 0.0, 3.0, "wren", 50.0, 400.0, 0.75, {"by": "y", "n": 1})
    other = Annotation("b", 0.0, 3.0, "owl")
    joined = join_same_times([first, second, other, other])
    assert joined == [Annotation("a", 0.0, 3.0, "owl;wren", 50.0, 500.0, 0.75, {"by": "x;y", "n": 1}), other]


def test_touching_stretches_of_one_class_are_merged() -> None:
    def at(start_s: float, end_s: float, label: str | None, **values: object) -> Annotation:
        return Annotation("a", start_s, end_s, label, score=start_s, values=values)

    given = [at(2, 4, "owl"), at(0, 2, "owl"), at(1, 3, "wren"), at(5, 6, "owl"), at(0, 1, None), at(1, 2, None)]
    given += [at(6, 7, "owl", channel=1), Annotation("b", 4.0, 5.0, "owl")]
    merged = [(one.path, one.start_s, one.end_s, one.label, one.score) for one in merge_touching(given)]
    assert merged == [
        ("a", 0, 1, None, 0), ("a", 0, 4, "owl", 2), ("a", 1, 2, None, 1), ("a", 1, 3, "wren", 1),
        ("a", 5, 6, "owl", 5), ("a", 6, 7, "owl", 6), ("b", 4.0, 5.0, "owl", None),
    ]  # fmt: skip


def test_long_stretch_keeps_its_end_when_a_short_one_lies_inside() -> None:
    given = [Annotation("a", 0.0, 9.0, "owl"), Annotation("a", 1.0, 2.0, "owl"), Annotation("a", 8.0, 10.0, "owl")]
    assert [(one.start_s, one.end_s) for one in merge_touching(given)] == [(0.0, 10.0)]
