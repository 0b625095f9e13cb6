"""Conditions for engines: what is read, what is refused, and where NOT goes."""

import pytest

from embedx.engines.conditions import Comparison, IsNull, Junction, OneOf, Prefix, parse
from embedx.errors import UsageError
from embedx.server.json_filter import to_sql

COLUMNS = {"id": "number", "label": "text", "Site name": "text", "fold": "number"}


def test_not_is_carried_to_the_comparisons() -> None:
    assert parse("NOT (label = 'a' AND NOT fold < 2 OR fold IS NULL)", COLUMNS) == Junction(
        (
            Junction((Comparison("label", False, "<>", "a"), Comparison("fold", True, "<", 2.0)), is_any=True),
            IsNull("fold", negated=True),
        ),
        is_any=False,
    )
    both = Junction((Comparison("label", False, "=", "b"), Comparison("fold", True, "=", 1.0)), is_any=False)
    assert parse("label = 'a' OR label = 'b' AND fold = 1", COLUMNS) == Junction(
        (Comparison("label", False, "=", "a"), both), is_any=True
    )


def test_each_kind_is_read() -> None:
    assert parse("\"Site name\" NOT IN ('a', 'it''s')", COLUMNS) == OneOf("Site name", False, ("a", "it's"), True)
    assert parse("LABEL like 'Dog%'", COLUMNS) == Prefix("label", "dog", False)
    assert parse("fold NOT BETWEEN -1 AND 2e1", COLUMNS) == Junction(
        (Comparison("fold", True, "<", -1.0), Comparison("fold", True, ">", 20.0)), is_any=True
    )
    assert parse("label NOTNULL", COLUMNS) == parse("NOT label ISNULL", COLUMNS) == IsNull("label", True)


def test_json_filter_of_the_service_is_read() -> None:
    where = to_sql({"must_not": [{"key": "label", "match": {"any": ["a", "b"]}}, {"key": "fold", "range": {"gte": 2}}]})
    assert where is not None
    assert parse(where, COLUMNS) == Junction(
        (
            Junction((OneOf("label", False, ("a", "b"), True), IsNull("label", False)), is_any=True),
            Junction((Comparison("fold", True, "<", 2.0), IsNull("fold", False)), is_any=True),
        ),
        is_any=False,
    )


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("lower(label) = 'a'", "'lower'"),
        ('label = "Site name"', "'\"Site name\"'"),
        ("label LIKE '%dog%'", "LIKE"),
        ("label LIKE 'd_g%'", "LIKE"),
        ("fold LIKE '1%'", "LIKE"),
        ("label GLOB 'a*'", "'GLOB'"),
        ("fold = '1'", "fold holds numbers"),
        ("label = 1", "label holds texts"),
        ("fold + 1 = 2", "'+'"),
        ("label = NULL", "'NULL'"),
        ("label COLLATE NOCASE = 'a'", "'COLLATE'"),
        ("1", "'1'"),
        ("label = 'a' label", "'label'"),
        ("lable = 'a'", "is label meant"),
        ("fold = 9007199254740992", "larger than"),
        ("label = 'a' AND", "too early"),
        ("", "empty"),
        ("(" * 60 + "fold = 1" + ")" * 60, "50 parentheses"),
    ],
)
def test_everything_else_is_refused_by_name(where: str, named: str) -> None:
    with pytest.raises(UsageError, match="is invalid") as error:
        parse(where, COLUMNS)
    assert named in str(error.value)
