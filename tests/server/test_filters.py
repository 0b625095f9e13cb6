"""Filters of requests against pandas, as JSON and as SQL; and filters that try to break out or to take for ever."""

import json
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest

import embedx
from embedx.server.settings import Limits
from tests.helpers.amounts import fast_and_long
from tests.helpers.collections import DIM, build_collection
from tests.helpers.service import Client, serving

TEXTS = ["owl", "Owl", "o'wl", "", 'a"b', "groß", "北", "%", "a_b", "1", "NULL", "x" * 50]
NUMBERS = [-3, 0, 1, 2, 2.5, 1e-7, 1e300, 2**40]
COLUMNS: dict[str, list[Any]] = {"site": TEXTS, 'odd "name"': TEXTS, "size": NUMBERS, "order": NUMBERS}
COMPARISONS = {"gt": (">", "gt"), "gte": (">=", "ge"), "lt": ("<", "lt"), "lte": ("<=", "le")}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> embedx.Collection:
    """A collection with texts and numbers in columns with odd names; a fifth of the values is missing."""
    chance, rows = random.Random(3), 80
    columns: dict[str, Any] = {
        name: [None if chance.random() < 0.2 else chance.choice(values) for _ in range(rows)]
        for name, values in COLUMNS.items()
    }
    labels = [chance.choice([None, "dog", "cat", "it's"]) for _ in range(rows)]
    x = np.random.default_rng(0).standard_normal((rows, DIM)).astype(np.float32)
    return build_collection(tmp_path_factory.mktemp("odd"), x, labels, None, **columns)


@pytest.fixture(scope="module")
def client(odd: embedx.Collection) -> Iterator[Client]:
    with serving(odd.folder, limits=Limits(request_s=8.0)) as running:
        yield running


def sql(value: Any) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def condition(frame: pd.DataFrame, chance: random.Random, depth: int) -> tuple[dict[str, Any], str, Any]:
    """Return a random condition as JSON, as SQL, and as what pandas says of every row."""
    if depth and chance.random() < 0.25:
        return random_filter(frame, chance, depth - 1)
    name = chance.choice([*COLUMNS, "label", "id"])
    column = frame.index.to_series() if name == "id" else frame[name]
    values = list(range(1, 80)) if name == "id" else [*COLUMNS.get(name, ["dog", "cat", "it's"])]
    known, quoted = column.notna(), '"' + name.replace('"', '""') + '"'
    kind = chance.choice(["value", "any", "except", "is_null", "range", "range"])
    if kind == "is_null":
        wanted = chance.random() < 0.5
        return {"key": name, "is_null": wanted}, f"{quoted} IS {'' if wanted else 'NOT '}NULL", known != wanted
    if kind == "value":
        value = chance.choice(values)
        return {"key": name, "match": {"value": value}}, f"{quoted} = {sql(value)}", known & (column == value)
    if kind in ("any", "except"):
        some = chance.sample(values, chance.randint(1, 3))
        listed, word = ", ".join(map(sql, some)), "" if kind == "any" else "NOT "
        mask = column.isin(some)
        return {"key": name, "match": {kind: some}}, f"{quoted} {word}IN ({listed})", known & (mask == (kind == "any"))
    limits = {word: chance.choice(values) for word in chance.sample(sorted(COMPARISONS), chance.randint(1, 2))}
    text = " AND ".join(f"{quoted} {COMPARISONS[word][0]} {sql(value)}" for word, value in limits.items())
    mask = known.copy()
    for word, value in limits.items():
        mask[known] &= getattr(column[known], COMPARISONS[word][1])(value)
    return {"key": name, "range": limits}, text, mask


def random_filter(frame: pd.DataFrame, chance: random.Random, depth: int = 2) -> tuple[dict[str, Any], str, Any]:
    """Return a random filter as JSON, as SQL, and as what pandas says of every row."""
    all_rows = pd.Series(True, frame.index)
    body: dict[str, Any] = {}
    terms, mask = [], all_rows.copy()
    for clause in chance.sample(["must", "should", "must_not"], chance.randint(1, 3)):
        parts = [condition(frame, chance, depth) for _ in range(chance.randint(1, 3))]
        body[clause] = [part[0] for part in parts]
        texts, masks = [part[1] for part in parts], [part[2].astype(bool) for part in parts]
        if clause == "must":
            terms += [f"({text})" for text in texts]
            mask &= pd.concat(masks, axis=1).all(axis=1)
        elif clause == "should":
            terms.append("(" + " OR ".join(f"({text})" for text in texts) + ")")
            mask &= pd.concat(masks, axis=1).any(axis=1)
        else:
            terms += [f"(({text}) IS NOT TRUE)" for text in texts]
            mask &= ~pd.concat(masks, axis=1).any(axis=1)
    return body, " AND ".join(terms), mask


@fast_and_long("count", 60, 300)
def test_filters_select_the_rows_that_pandas_selects(client: Client, odd: embedx.Collection, count: int) -> None:
    frame, chance = odd.rows(), random.Random(count)
    sizes = []
    for number in range(count):
        body, where, mask = random_filter(frame, chance)
        expected = frame.index[mask].tolist()
        sizes.append(len(expected))
        for given in (body, where):
            if number % 2:
                search = {"id": 1, "limit": 1000, "filter": given, "exclude_self": False}
                reply = client.post("/v1/collections/c0/search", search)
                ids = sorted(hit["id"] for hit in reply.json["hits"])
            else:
                text = given if isinstance(given, str) else json.dumps(given)
                reply = client.get(f"/v1/collections/c0/rows?limit=1000&filter={quote(text)}")
                ids = [row["id"] for row in reply.json["rows"]]
            assert ids == expected, (body, where)
    assert 0 < np.mean(sizes) < len(frame)
    assert len(set(sizes)) > 20


LONG = "%a" * 400
VALUES = ["1", "x", "'", "' OR '1'='1", "\x00", "\ud800", "../../etc/passwd", "x" * 9000, LONG, "); DROP TABLE rows --"]
WORDS = [
    "(SELECT count(*) FROM rows, rows, rows, rows)",
    "EXISTS (SELECT 1)",
    "id IN (WITH RECURSIVE x AS (SELECT 1) SELECT 1)",
    "randomblob(1000000000)",
    "zeroblob(1000000000)",
    "hex(zeroblob(100000000))",
    "printf('%1000000000d', 1)",
    "replace(path, 'a', path)",
    "load_extension('x')",
    "readfile('/etc/passwd')",
    "writefile('/tmp/x', 'x')",
    "sqlite_version()",
    "group_concat(path)",
    "count(*)",
    "id OVER (PARTITION BY id)",
    "PRAGMA table_info(rows)",
    "ATTACH 'x' AS y",
    "1; VACUUM",
    "rows.vector",
    "sqlite_master",
    "recordings.path",
    "rowid",
    "?1",
    ":x",
    "@x",
    "$x",
    "id = id = id =",
    "CASE",
    "\x00",
    "id /* */ = 1",
    "id -- x",
    "id REGEXP 'x'",
    "id MATCH 'x'",
    "label COLLATE nosuch = 'x'",
    "CAST(id AS nosuch)",
    "((((",
    "))))",
    "'" * 9999,
    '"' * 9999,
    "`x",
    "[x",
    "id" + " + id" * 1900,
    "NOT " * 2400 + "1",
    "(" * 4900 + "1" + ")" * 4900,
    "-" * 9000 + "1",
    "id IN (" + ",".join(["1"] * 4900) + ")",
    "label LIKE '" + LONG + "'",
    "label GLOB '" + "*a" * 400 + "'",
    " OR ".join(["label LIKE '%a%b%c%'"] * 400),
    "abs(-9223372036854775808)",
    "json_extract('[[[[', '$')",
    "1e999 = id",
    " || ".join(["path"] * 1000) + " = ''",
    "instr(path, path || path) = 1",
    "round(1e308 * id, 999999999)",
    "ä" * 5000,
    "id BETWEEN",
    "id IS",
    "id IN ()",
    "id IN id",
    "true AND",
    ",",
    ";",
    "\n" * 9000,
    "\ufeff",
    "％",
    "🦉" * 4000,
    "NULL NULL",
]
WIDE = {"should": [{"key": "label", "match": {"value": "x"}}] * 180}


def nested(depth: int, value: Any) -> Any:
    for _ in range(depth):
        value = {"must_not": [value, value]} if depth < 8 else {"must": [value]}
    return value


OBJECTS: list[Any] = [
    *({"must": [{"key": value, "match": {"value": 1}}]} for value in VALUES),
    *({"must": [{"key": "label", "match": {"value": value}}]} for value in VALUES),
    *({"must": [{"key": "label", "range": {"gte": value}}]} for value in VALUES),
    *(nested(depth, {"key": "label", "is_null": True}) for depth in (2, 6, 7, 9, 10, 11, 25)),
    WIDE,
    {"must": [WIDE] * 3},
    {"must": [WIDE] * 300},
    [],
    5,
    True,
    "x" * 10_001,
    {"must": {"must": {}}},
    {"must": [None]},
    {"must": [{"key": ["label"], "match": {"value": 1}}]},
    {"must": [{"key": "label", "match": {"any": ["x"] * 3000}}]},
    {"must": [{"key": "label", "match": {"value": {"$ne": 1}}}]},
    {"must": [{"key": "size", "range": {"gte": 10**400}}]},
    {"must": [{"key": "size", "match": {"value": 1 << 63}}]},
    {"$where": "1"},
    {"must": [{"key": "", "is_null": 1}]},
    {"must": [{"key": "label", "is_null": True, "match": {"value": 1}}]},
    {"must": [{"key": "label", "range": {"ne": 1}}]},
]


@pytest.mark.parametrize("filters", [WORDS, OBJECTS], ids=["sql", "json"])
def test_malicious_filters_end_in_time_and_tell_nothing(
    client: Client, odd: embedx.Collection, filters: list[Any]
) -> None:
    assert len(WORDS) + len(OBJECTS) >= 100
    before = {path.name: path.stat().st_size for path in odd.folder.iterdir()}
    for given in filters:
        reply = client.post("/v1/collections/c0/search", {"id": 1, "filter": given})
        assert reply.status in (200, 400) or reply.code == "deadline", (given, reply.body)
        if reply.status == 400:
            assert reply.code in ("bad_filter", "bad_request", "bad_json"), (given, reply.body)
        for secret in (str(odd.folder), "Traceback", "sqlite3"):
            assert secret not in reply.body.decode(), given
    assert {path.name: path.stat().st_size for path in odd.folder.iterdir()} == before
    assert client.get("/v1/collections/c0/rows?filter=id%20=%201").json["rows"][0]["id"] == 1


def test_filter_at_the_limit_is_taken_and_one_character_more_is_not(client: Client, odd: embedx.Collection) -> None:
    limit = client.service.limits.filter
    for size, status in ((limit, 200), (limit + 1, 400)):
        reply = client.post("/v1/collections/c0/search", {"id": 1, "filter": "id = 1".ljust(size)})
        assert reply.status == status, reply.body
        texts = ["x", *["y" * 100] * 60]
        condition: dict[str, Any] = {"must": [{"key": "label", "match": {"any": texts}}], "must_not": []}
        texts.append("z" * (size - len(json.dumps(condition)) - 4))
        assert len(json.dumps(condition)) == size
        assert client.post("/v1/collections/c0/search", {"id": 1, "filter": condition}).status == status
