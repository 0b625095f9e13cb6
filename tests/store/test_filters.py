"""Filters against pandas, on columns with odd names and values; and conditions that are refused."""

import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import embedx
from embedx.cli.options import TIMEOUT
from embedx.errors import UsageError
from embedx.store.filters import COLUMNS, TIMEOUT_S
from tests.helpers.amounts import fast_and_long
from tests.helpers.collections import build_collection
from tests.helpers.commands import Capture, outcome
from tests.reliability.report import report, seed

NUMBERS: list[Any] = [None, 0, 1, -3, 2.5, 0.1, 1e-07, 2**53 + 1, 2**60, 1e300, True, False]
TEXTS: list[Any] = [
    None,
    "",
    "NULL",
    "klein",
    "groß",
    "Owl",
    "owl",
    "o'wl",
    '"',
    "%",
    "a_b",
    "北",
    "🦉",
    "01",
    "1e5",
    "back\\",
]
NESTED: list[Any] = [None, [1, 2], ["a"], {"x": {"y": None}}, []]
MIXED: list[Any] = [None, 1, "1", "x", 2.5, True, [1]]
NAMES = [
    *"site Site SITE Größe GRÖSSE 地点 🦉 order select group_ end null and like c0 row_id rowid meta oid".split(),
    *("x.y", "x[0]", "it's", "my col", 'qu"ote', "back\\slash", "", "tab\tname", "new\nline", "`tick`", "]", "$.x"),
    *("a/b", "--", ";", "'", "ё"),
]
Mask = tuple[Any, Any]  # rows where a condition is true, and rows where it is false; it is NULL in all others


def quoted(name: str) -> str:
    """Return a name as a condition writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: Any) -> str:
    """Return a value as a condition writes it."""
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> embedx.Collection:
    """A collection with a column for every odd name, and numbers, texts, nested or mixed values in it."""
    chance, rows = random.Random(1), 60
    kinds = [NUMBERS, TEXTS, TEXTS, NUMBERS, NESTED, MIXED]
    columns: dict[str, Any] = {
        name: chance.choices(kinds[position % len(kinds)], k=rows) for position, name in enumerate(NAMES)
    }
    labels = chance.choices([None, "dog", "Dog", "cat"], k=rows)
    x = np.random.default_rng(0).standard_normal((rows, 20)).astype(np.float32)
    return build_collection(tmp_path_factory.mktemp("odd"), x, labels, None, **columns)


def compare(frame: pd.DataFrame, chance: random.Random) -> tuple[str, Mask]:
    """Return a random comparison of one column, and what pandas says of it."""
    name = chance.choice([name for name in frame.columns if name not in ("group", "split")])
    values = frame[name]
    known = values.notna()
    kinds = {type(value) for value in values[known]}
    operator = chance.choice(
        ["IS NULL", "IS NOT NULL", "=", "<>", "<", ">=", "IN", "NOT IN", "BETWEEN", "LIKE", "GLOB"]
    )
    is_number = kinds <= {int, float, bool, np.float64}
    if operator.endswith("NULL") or not (is_number or kinds <= {str}):
        true = ~known if operator != "IS NOT NULL" else known
        return f"{quoted(name)} {operator if operator.endswith('NULL') else 'IS NULL'}", (true, ~true)
    if operator in ("LIKE", "GLOB") and not is_number:
        pattern = chance.choice(["%o%", "_%", "%", "OWL", "%\\", "k%n", "a_b"]).replace(
            "%", "*" if operator == "GLOB" else "%"
        )
        any_, one = ("*", "?") if operator == "GLOB" else ("%", "_")
        parts = {any_: ".*", one: "."}
        regex = "".join(parts.get(letter, re.escape(letter)) for letter in pattern)
        flags = re.DOTALL | re.ASCII | (re.IGNORECASE if operator == "LIKE" else 0)
        hit = pd.Series([re.fullmatch(regex, str(value), flags) is not None for value in values], values.index)
        return f"{quoted(name)} {operator} {literal(pattern)}", (known & hit, known & ~hit)
    choices = [value for value in (NUMBERS if is_number else TEXTS) if value is not None]
    first, second = chance.choices(choices, k=2)
    tests: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "=": (literal(first), lambda value: bool(value == first)),
        "<>": (literal(first), lambda value: bool(value != first)),
        "<": (literal(first), lambda value: bool(value < first)),
        ">=": (literal(first), lambda value: bool(value >= first)),
        "IN": (f"({literal(first)}, {literal(second)})", lambda value: value in (first, second)),
        "NOT IN": (f"({literal(first)}, {literal(second)})", lambda value: value not in (first, second)),
    }
    between = (f"{literal(first)} AND {literal(second)}", lambda value: bool(first <= value <= second))
    operator = operator if operator in tests else "BETWEEN"
    right, test = tests.get(operator, between)
    hit = pd.Series([present and test(value) for value, present in zip(values, known, strict=True)], values.index)
    return f"{quoted(name)} {operator} {right}", (known & hit, known & ~hit)


def combine(frame: pd.DataFrame, chance: random.Random, depth: int) -> tuple[str, Mask]:
    """Return a random condition with AND, OR and NOT, and what pandas says of it."""
    kind = chance.choice(["AND", "OR", "NOT"]) if depth and chance.random() < 0.7 else ""
    if not kind:
        return compare(frame, chance)
    first, (true, false) = combine(frame, chance, depth - 1)
    if kind == "NOT":
        return f"NOT ({first})", (false, true)
    second, (true2, false2) = combine(frame, chance, depth - 1)
    masks = (true & true2, false | false2) if kind == "AND" else (true | true2, false & false2)
    return f"({first}) {kind.lower()} ({second})", masks


@fast_and_long("count", 200, 2_000, "EMBEDX_FILTERS")
def test_random_filters_agree_with_pandas(odd: embedx.Collection, count: int) -> None:
    begun, frame, chance = time.monotonic(), odd.rows(), random.Random(seed(count))
    assert set(NAMES) <= set(frame.columns)
    matched = 0
    for _ in range(count):
        where, (true, _) = combine(frame, chance, 2)
        assert odd.store.filter(where).tolist() == frame.index[true.astype(bool)].tolist(), where
        matched += bool(true.any())
    assert matched > count / 2
    report("filters like pandas", count, 0, begun, seed(count))


def test_parts_of_an_answer_are_the_whole_and_read_only_their_rows(odd: embedx.Collection) -> None:
    store, where = odd.store, "length(path) > 0 OR id < 3"
    whole = store.filter(where).tolist()
    steps: list[None] = []
    store._db.set_progress_handler(lambda: steps.append(None), 1)
    try:
        parts: list[list[int]] = [[]]
        counts = []
        while part := store.filter(where, part=(parts[-1][-1] if parts[-1] else 0, 5)).tolist():
            parts.append(part)
            counts.append(len(steps))
        assert [number for part in parts for number in part] == whole
        steps.clear()
        store.filter(where)
        assert counts[-1] < 3 * len(steps) + 200 * len(counts), "no part reads the rows of the others"
    finally:
        store._db.set_progress_handler(None, 0)


def test_distinct_values_are_those_of_the_column(odd: embedx.Collection) -> None:
    known = {name: set(odd.store.column(name)[1]) - {None} for name in ["label", "group", "split", *NAMES]}
    most = max(map(len, known.values()))
    assert {name: set(values) for name, values in odd.store.distinct(most).items()} == known
    shorter = odd.store.distinct(most - 1)
    assert {name for name, values in known.items() if values and not shorter[name]} == {
        name for name, values in known.items() if len(values) == most
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_null_only_where_it_is(odd: embedx.Collection, name: str) -> None:
    frame = odd.rows()
    assert odd.store.filter(f"{quoted(name)} IS NULL").tolist() == frame.index[frame[name].isna()].tolist()


def test_shared_table_with_odd_columns_can_be_filtered(tmp_path: Path, shared: Path) -> None:
    rows = [json.loads(line) for line in (shared / "cases/tables/odd_columns.jsonl").read_text().splitlines()]
    columns = {name: [row[name] for row in rows] for name in rows[0] if name != "path"}
    made = build_collection(tmp_path, np.ones((3, 20), np.float32), ["a"] * 3, [row["path"] for row in rows], **columns)
    for name, values in columns.items():
        for position, value in enumerate(values):
            expected = [i + 1 for i, other in enumerate(values) if other == value and type(other) is type(value)]
            if name == "mix":  # a column of numbers and texts compares as text
                expected = [i + 1 for i, other in enumerate(values) if str(other) == str(value)]
            text = json.dumps(value, separators=(",", ":")) if isinstance(value, list) else value
            condition = "IS NULL" if value is None else f"= {literal(text)}"
            assert made.store.filter(f"{quoted(name)} {condition}").tolist() == expected, (name, position)


def test_words_without_quotes_find_their_columns(odd: embedx.Collection) -> None:
    for bare, name in {
        "order": "order",
        "Größe": "Größe",
        "🦉": "🦉",
        "ORDER": "order",
        "group": "group",
        "c0": "c0",
    }.items():
        expected = odd.store.filter(f"{quoted(name)} IS NULL").tolist()
        assert odd.store.filter(f"{bare} IS NULL").tolist() == expected
    assert odd.store.filter("[x.y] IS NULL").tolist() == odd.store.filter('"x.y" IS NULL').tolist()
    assert odd.store.filter("```tick``` IS NULL").tolist() == odd.store.filter('"`tick`" IS NULL').tolist()
    assert odd.store.filter("id IN (3, 1) AND LABEL IS LABEL").tolist() == [1, 3]
    assert odd.store.filter("CAST(id AS text) || 'x' = '3x' COLLATE nocase").tolist() == [3]


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ('"speceis" = 1', "no such column: speceis"),
        ('"dog" = label', "a text stands in single quotes, as in 'dog'"),
        ("sitte = 1", "(is SITE or Site or site or split meant?)"),
        ("Group IS NULL OR lable = 'x'", "is label meant"),
        ("sITE = 1", "sITE can be SITE or Site or site"),
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("1) OR (1", "closes no ("),
        ("(1", "is not closed"),
        ("1; DROP TABLE rows", "; is not allowed"),
        ("1;", "; is not allowed"),
        ("1 -- x", "comments"),
        ("1 /* x */", "comments"),
        ("1, 2", "comma"),
        ("id IN (SELECT id FROM rows)", "subqueries"),
        ("EXISTS (VALUES (1))", "subqueries"),
        ("id IN rows", "IN needs a list"),
        ("id IN json_each('[1]')", "IN needs a list"),
        ("label = 'x", "a ' has no end"),
        ('"label = 1', 'a " has no end'),
        ("x.y = 1", "a name with a dot"),
        ("label = ?", "'?' is not understood"),
        ("label = :x", "':x' is not understood"),
        ("length(zeroblob(1000000000)) > 1", "no function zeroblob"),
        ("printf('%1000000000d', 1) = ''", "no function printf"),
        ("replace(label, 'a', 'b') = ''", "no function replace"),
        ("load_extension('x')", "no function load_extension"),
        ("randomblob(9) IS NULL", "no function randomblob"),
        ("max(label)", "aggregate"),
        ("label REGEXP 'x'", "there is no REGEXP"),
        ("trim(label, path) = ''", "the characters for trim must be a text"),
        ("||".join(["label"] * 12) + " = ''", "joins texts with || more than 10 times"),
        (f"label = '{'x' * 5000}'", "a text of 5002 characters"),
        ("label = 'a\0b'", "NUL"),
        ("label = '\udcff'", "not valid UTF-8"),
        ("\udcff = 1", "not valid UTF-8"),
        ("like = 1", 'write the column "like" in double quotes'),
        ("label = = 1", "syntax error"),
        ("label =", "it ends too early"),
        ("trim(label,", "the characters for trim must be a text"),
        ("n" * 4000, "no such column: nnn"),
        ("label LIKE '" + "%a" * 1000 + "'", "too complex"),
        ("OR".join([" id = 1 "] * 2000), "Expression tree is too large"),
        ("(" * 500 + "1" + ")" * 500, "parser stack overflow"),
        ("1" * 1_000_001, "at most 1000000"),
        ("rowid_ = 1", "no such column"),
        ("current_timestamp", "no such column"),
        ("12abc", "'12abc' is not understood"),
        ("RAISE(ABORT, 'x')", "no function RAISE"),
        ("count(*) OVER () > 0", "no function count"),
        ("label COLLATE evil = ''", "no such column: evil"),
    ],
)
def test_invalid_condition_is_refused_by_name(odd: embedx.Collection, where: str, problem: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)) as caught:
        odd.store.filter(where)
    assert "The filter " in str(caught.value)
    assert len(str(caught.value)) < 2000
    str(caught.value).encode()
    assert len(odd.store.filter("id > 0")) == 60  # the connection is as before


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("-inf"), "1", None])
def test_timeout_that_is_no_positive_number_is_refused(odd: embedx.Collection, timeout: Any) -> None:
    with pytest.raises(UsageError, match=r"timeout=.* is not allowed"):
        odd.store.filter("1", timeout)


def test_timeout_on_the_command_line_is_a_positive_number_or_inf(odd: embedx.Collection, capsys: Capture) -> None:
    command = ["rm", odd.folder, "--dry-run", "--where", "id < 5", "--timeout"]
    for refused in ("0", "-1", "nan", "-inf", "NaN", "x", ""):
        code, _, error = outcome(capsys, *command, refused)
        assert (code, "--timeout" in error) == (2, True), refused
    for allowed in ("0.5", "inf", "1e400", "1e300"):
        assert outcome(capsys, *command, allowed)[:2] == (0, "to delete: 4 of 60 rows\n"), allowed


def test_condition_that_takes_long_is_stopped_in_time(odd: embedx.Collection) -> None:
    slow = f"'{'a' * 4000}' || path LIKE '%{'a_' * 490}b'"  # 5 ms for every row
    begun = time.monotonic()
    with pytest.raises(UsageError, match=r"stopped after 0\.2 s"):
        odd.store.filter(" OR ".join([slow] * 10), timeout=0.2)
    assert time.monotonic() - begun < 60
    assert odd.store.filter("id = 7").tolist() == [7]


def test_interrupt_from_the_keyboard_stops_a_condition_at_once(odd: embedx.Collection) -> None:
    slow = f"'{'a' * 4000}' || path LIKE '%{'a_' * 490}b'"
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            odd.store.filter(" OR ".join([slow] * 10))
    finally:
        signal.signal(signal.SIGINT, before)
    assert odd.store.filter("id = 7").tolist() == [7]


def test_default_of_the_command_line_is_that_of_the_library() -> None:
    assert TIMEOUT(lambda: None).__click_params__[0].default == TIMEOUT_S  # type: ignore[attr-defined]


def test_thousands_of_columns_can_be_filtered(tmp_path: Path) -> None:
    columns: dict[str, Any] = {f"column {number}": [number, None] for number in range(5000)}
    wide = build_collection(tmp_path, np.ones((2, 20), np.float32), ["a", "b"], None, **columns)
    assert wide.store.filter('"column 4999" = 4999 AND "column 0" IS NOT NULL').tolist() == [1]
    with pytest.raises(UsageError, match=re.escape("and 4979 more")):
        wide.store.filter('"column 5000" = 1')


def test_column_without_any_value_can_be_filtered(tmp_path: Path) -> None:
    empty = build_collection(tmp_path, np.ones((2, 20), np.float32), ["a", "b"], None, nothing=[None, None])
    assert empty.store.filter("nothing IS NULL").tolist() == [1, 2]
    assert empty.store.filter("nothing = 1 OR nothing = 'x'").tolist() == []


@fast_and_long("count", 500, 10_000, "EMBEDX_CONDITIONS")
def test_random_conditions_are_answered_or_refused(odd: embedx.Collection, count: int) -> None:
    begun, chance, names = time.monotonic(), random.Random(seed(count)), [*map(quoted, NAMES), "label", "id", "path"]
    parts = """( ) , = <> < + || - * / % -> ->> AND OR NOT IN IS NULL LIKE GLOB BETWEEN ESCAPE CASE WHEN THEN ELSE END
        CAST AS TEXT COLLATE nocase DISTINCT FROM trim( instr( substr( json_extract( iif( coalesce( 'a' '$.x' 1 2.5 1e3
        . ; -- ' " [ ] ` ? SELECT EXISTS( VALUES MATCH 0x1F 9223372036854775808 '%' '' round( typeof(""".split()
    answered = 0
    for _ in range(count):
        where = " ".join(chance.choice(names if chance.random() < 0.3 else parts) for _ in range(chance.randint(1, 9)))
        try:
            odd.store.filter(where)
            answered += 1
        except UsageError as error:
            assert "The filter " in str(error)
    assert answered
    report("random conditions", count, 0, begun, seed(count))
    assert len(odd.store.filter("1")) == 60


def test_condition_with_very_many_names_is_read_quickly(tmp_path: Path) -> None:
    columns: dict[str, Any] = {f"Column{number}": [number, None] for number in range(3000)}
    wide = build_collection(tmp_path, np.ones((2, 20), np.float32), ["a", "b"], None, **columns)
    where = "id IN (" + ", ".join(["COLUMN2999"] * 12_000) + ")"
    begun = time.monotonic()
    with pytest.raises(UsageError, match=r"too large|too many|stopped"):
        wide.store.filter(where, timeout=0.01)
    assert time.monotonic() - begun < 60


def test_own_columns_win_over_metadata_with_their_names(odd: embedx.Collection) -> None:
    assert all(odd.store.filter(f"{quoted(name)} IS {quoted(name)}").tolist() for name in COLUMNS)
