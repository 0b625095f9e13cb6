"""JSON filters: must, should and must_not of conditions on columns -> the SQL condition of `Collection.search`."""

import json
import math
from collections.abc import Mapping
from typing import Any

from embedx.server.errors import ApiError

CLAUSES = ("must", "should", "must_not")
COMPARISONS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
MAX_DEPTH = 10  # of filters inside filters; each level of SQL needs several


def read_filter(value: Any, max_characters: int) -> str | None:
    """Return a filter of a request as an SQL condition; None (all rows) without one.

    Args:
        value: None, an SQL condition, or a JSON filter.
        max_characters: of the filter as it was sent, and of the SQL condition.

    Raises:
        ApiError: it is neither, or too long.
    """
    if value is None:
        return None
    check_length(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), max_characters)
    where = value if isinstance(value, str) else to_sql(value)
    if where is not None:
        check_length(where, max_characters)
    return where


def check_length(text: str, max_characters: int) -> None:
    """Refuse a filter with more characters than allowed, as it was sent or as SQL."""
    if len(text) > max_characters:
        raise bad_filter(f"it has {len(text)} characters of at most {max_characters}")


def to_sql(value: Any, depth: int = 1) -> str | None:
    """Return a JSON filter as an SQL condition; None if it has no conditions.

    >>> to_sql({"must": [{"key": "site", "match": {"value": "A"}}], "must_not": [{"key": "x", "range": {"gte": 2}}]})
    '("site" = \\'A\\') AND NOT coalesce(("x" >= 2), 0)'
    """
    if not isinstance(value, Mapping) or not value.keys() <= set(CLAUSES):
        raise bad_filter(f"a filter is an SQL condition, or an object with {', '.join(CLAUSES)}")
    if depth > MAX_DEPTH:
        raise bad_filter(f"it has more than {MAX_DEPTH} levels")
    parts = {name: [condition(item, depth) for item in as_list(value.get(name))] for name in CLAUSES}
    terms = [f"({sql})" for sql in parts["must"]]
    if parts["should"]:
        terms.append("(" + " OR ".join(f"({sql})" for sql in parts["should"]) + ")")
    terms += [f"NOT coalesce(({sql}), 0)" for sql in parts["must_not"]]
    return " AND ".join(terms) or None


def condition(item: Any, depth: int) -> str:
    """Return one condition of a JSON filter as SQL."""
    if isinstance(item, Mapping) and item.keys() & set(CLAUSES):
        return to_sql(item, depth + 1) or "1 = 1"
    if not isinstance(item, Mapping) or item.keys() not in ({"key", "match"}, {"key", "range"}, {"key", "is_null"}):
        raise bad_filter('a condition is {"key": COLUMN, "match": ...}, {"key": COLUMN, "range": ...} or a filter')
    column = quote_column(item["key"])
    if "is_null" in item:
        return f"{column} IS {'' if item['is_null'] else 'NOT '}NULL"
    return match(column, item["match"]) if "match" in item else in_range(column, item["range"])


def match(column: str, value: Any) -> str:
    """Return `{"value": X}`, `{"any": [...]}` or `{"except": [...]}` as SQL."""
    if isinstance(value, Mapping) and value.keys() == {"value"}:
        literal = quote_value(value["value"])
        return f"{column} IS NULL" if literal == "NULL" else f"{column} = {literal}"
    if isinstance(value, Mapping) and value.keys() in ({"any"}, {"except"}):
        ((name, values),) = value.items()
        listed = ", ".join(quote_value(one) for one in as_list(values))
        if not listed:
            raise bad_filter(f"the list of {name} is empty")
        return f"{column} {'NOT ' if name == 'except' else ''}IN ({listed})"
    raise bad_filter('match takes {"value": X}, {"any": [X, ...]} or {"except": [X, ...]}')


def in_range(column: str, value: Any) -> str:
    """Return `{"gt": ..., "gte": ..., "lt": ..., "lte": ...}` as SQL."""
    if not isinstance(value, Mapping) or not value or not value.keys() <= COMPARISONS.keys():
        raise bad_filter(f"range takes {', '.join(COMPARISONS)}")
    return " AND ".join(f"{column} {COMPARISONS[name]} {quote_value(limit)}" for name, limit in value.items())


def quote_column(name: Any) -> str:
    """Return the name of a column in quotes."""
    if not isinstance(name, str) or not name:
        raise bad_filter("key is the name of a column")
    return '"' + name.replace('"', '""') + '"'


def quote_value(value: Any) -> str:
    """Return a value of JSON as an SQL literal.

    >>> [quote_value(value) for value in ("it's", 2.5, True, None)]
    ["'it''s'", '2.5', '1', 'NULL']
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int) and abs(value) < 1 << 63:
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    raise bad_filter("a value is a text, a finite number, true, false or null")


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, None as an empty one, and another value as a list of one."""
    return [] if value is None else value if isinstance(value, list) else [value]


def bad_filter(problem: str) -> ApiError:
    """Return the error of an invalid filter."""
    return ApiError(400, "bad_filter", f"The filter is invalid: {problem}.", "See docs/service.md, Filters.")
