"""Search engines: what is pushed, found, filtered and compared equals the local collection, in each engine."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import embedx
from embedx.engines.collection import EngineCollection
from embedx.engines.comparison import compare
from embedx.engines.connections import connect
from embedx.engines.engine import Engine
from embedx.engines.pushing import PushedRows, push_rows
from embedx.errors import EmbedxError, UsageError
from tests.helpers.collections import DIM, Make
from tests.helpers.commands import Capture, outcome
from tests.helpers.conditions import random_condition
from tests.helpers.search_engines import ENGINES, KILLED, PASSWORD, engine_server, process_server

ROWS = 600  # more than two pages of a push
CONDITIONS = 100
LARGEST = (1 << 53) - 1  # the largest number in a condition for an engine
ODD = [
    None, "'", "''", '"q"', "50%", "%", "_", "a_b", "\\", "back\\slash", "\\'", "line\nend", "\t", " ", "NULL", "nan",
    "0", "{x}", "%s", "$1", "\u00df", "\u0130", "\u212a", "k", "\u65e5\u672c", "\U0001f600", "\uffff", "\ue000", "a;--",
    "Z", "z", "a ", " a", "a", "\u00e1", "a\u0301", "ab" * 1500, "ab" * 1500 + "c", "{}", "[1]", "NaN", "-", "1e5",
    "true",
]  # fmt: skip
AMOUNTS = [
    None,
    0.0,
    -0.0,
    0.1,
    0.1 + 0.2,
    1 / 3,
    -1e-300,
    5e-324,
    1e15,
    float(LARGEST),
    -1e300,
    1.7976931348623157e308,
]
NUMBER = re.compile(r"(?<![\w.])\d[\d.]*(?:e[+-]?\d+)?")
pytestmark = pytest.mark.long


@pytest.fixture(scope="module", params=ENGINES)
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an engine, up to the name of a collection."""
    with engine_server(request.param) as server:
        yield server.url


def columns() -> dict[str, list[Any]]:
    random = np.random.default_rng(1)
    sites = [None, "A", "a", "north, it's 1", "Ä-bay", "B", "", "b%_"]
    folds = [None, 1, 2, 3.5, -4]
    days = [None, "2026-01-31", "2026-02-01", "2025-12-31T23:59:59"]
    large = [None, 5, LARGEST, -LARGEST, LARGEST + 1, LARGEST + 2, -LARGEST - 3]
    return {
        "odd": [ODD[i] for i in random.integers(len(ODD), size=ROWS)],
        "day": [days[i] for i in random.integers(len(days), size=ROWS)],
        "large": [large[i] for i in random.integers(len(large), size=ROWS)],
        "amount": [AMOUNTS[i] for i in random.integers(len(AMOUNTS), size=ROWS)],
        "checked": [[None, False, True][i] for i in random.integers(3, size=ROWS)],
        "site": [sites[i] for i in random.integers(len(sites), size=ROWS)],
        "Fold no.": [folds[i] for i in random.integers(len(folds), size=ROWS)],
    }


@pytest.fixture
def local(make: Make) -> Iterator[embedx.Collection]:
    """A collection with NULLs, texts that need care, a zero vector, and a gap in its ids."""
    random = np.random.default_rng(0)
    x = random.standard_normal((ROWS, DIM)).astype(np.float32)
    x[7] = 0
    labels = [None if i % 5 == 0 else f"c{i % 4}" for i in range(ROWS)]
    with make(x, labels, **columns()) as collection:
        collection.remove("id IN (50, 51)")
        yield collection


def has_exact(there: EngineCollection) -> bool:
    return there.engine.place.scheme != "milvus"


def numbers(pushed: PushedRows) -> tuple[int, int, int, int]:
    return pushed.inserted, pushed.replaced, pushed.relabelled, pushed.deleted


def test_second_push_sends_the_difference(local: embedx.Collection, place: str) -> None:
    url = place.format("difference")
    shown: list[tuple[int, int]] = []
    first = push_rows(local.folder, url, on_progress=lambda done, total: shown.append((done, total)))
    assert numbers(first) == (ROWS - 2, 0, 0, 0)
    assert shown[-1] == (ROWS - 2, ROWS - 2)
    assert numbers(push_rows(local.folder, url)) == (0, 0, 0, 0)
    local.remove("id BETWEEN 580 AND 700 OR id = 1")
    local.label(set={"label": "new"}, where="id IN (2, 300)")
    assert numbers(push_rows(local.folder, url)) == (0, 0, 2, 22)
    assert compare(local.folder, url).is_same
    with EngineCollection(url) as there:
        assert {hit.id for hit in there.search(id=2, k=ROWS, where="label = 'new'", exclude_self=False)} == {2, 300}


def test_changes_in_the_engine_are_found_and_mended(local: embedx.Collection, place: str) -> None:
    url = place.format("changes")
    push_rows(local.folder, url)
    engine = connect(url)
    spoil(engine, local)
    engine.close()
    found = compare(local.folder, url)
    assert found.counts == {"missing": 2, "extra": 1, "vectors": 1, "metadata": 1}
    assert (found.ids["missing"], found.ids["extra"]) == ([3, 4], [10_000])
    assert (found.ids["vectors"], found.ids["metadata"]) == ([5], [6])
    assert numbers(push_rows(local.folder, url, whole=True)) == (2, 1, 1, 1)
    assert compare(local.folder, url).is_same


def spoil(engine: Engine, local: embedx.Collection) -> None:
    """Change an engine as a stranger would: lose rows, add one, and change a vector and a label under old digests."""
    from embedx.engines.pushing import points_of

    text = engine.describe()
    assert text is not None
    description = embedx.engines.engine.Description.from_json(text, engine.place)
    points = {point.id: point for page in points_of(local.store, description) for point in page}
    engine.delete([3, 4])
    engine.write([replace(points[8], id=10_000)])
    engine.write([replace(points[5], vectors=points[9].vectors)])
    engine.relabel([replace(points[6], values={**points[6].values, "label": "forged"})])


def test_search_equals_that_of_the_local_collection(local: embedx.Collection, place: str) -> None:
    for metric in ("cosine", "ip", "l2"):
        url = place.format(f"search_{metric}")
        push_rows(local.folder, url, metric=metric)
        with EngineCollection(url) as there:
            query = np.random.default_rng(2).standard_normal((3, DIM)).astype(np.float32)
            for options in (
                {"id": 9},
                {"id": 9, "exclude_self": False},
                {"vector": query},
                {"like": [3], "unlike": [4]},
            ):
                expected = local.search(**options, k=12, metric=metric, exact=True)
                found = there.search(**options, k=12, metric=metric, exact=has_exact(there))
                assert [hit.score for hit in found] == pytest.approx(
                    [hit.score for hit in expected], rel=2e-3, abs=0.01
                )
                assert len({hit.id for hit in found} & {hit.id for hit in expected}) >= 11  # half precision swaps ties
                first = next(hit for hit in expected if hit.id == found[0].id)
                assert replace(found[0], score=0.0) == replace(first, score=0.0)
        found_again = compare(local.folder, url)
        assert found_again.is_same
        assert found_again.recall["L0.mean"] >= 0.95


def test_random_conditions_select_the_rows_that_pandas_selects(local: embedx.Collection, place: str) -> None:
    url = place.format("conditions")
    push_rows(local.folder, url)
    values = columns()
    frame = pd.DataFrame(
        {
            "id": np.arange(1, ROWS + 1),
            "label": pd.array([None if i % 5 == 0 else f"c{i % 4}" for i in range(ROWS)], dtype="object"),
            "site": pd.array(values["site"], dtype="object"),
            "Fold no.": pd.Series(values["Fold no."], dtype="Float64"),
            "odd": pd.array(values["odd"], dtype="object"),
            "day": pd.array(values["day"], dtype="object"),
            "large": pd.Series(values["large"], dtype="Int64"),
            "amount": pd.Series(values["amount"], dtype="Float64"),
            "checked": pd.Series(values["checked"], dtype="Float64"),
        }
    ).drop([49, 50])
    random = np.random.default_rng(3)
    sizes = set()
    with EngineCollection(url) as there:
        for _ in range(CONDITIONS):
            where, true, _ = random_condition(frame, random)
            expected = set(frame["id"][true.fillna(False).astype(bool)])
            assert set(local.store.filter(where).tolist()) == expected, where
            if any(float(number) > LARGEST for number in NUMBER.findall(re.sub("'(''|[^'])*'", "", where))):
                with pytest.raises(UsageError, match="larger than engines compare"):
                    there.search(id=9, where=where)
                continue
            found = there.search(vector=np.ones(DIM, np.float32), k=ROWS, where=where, exact=has_exact(there))
            assert {hit.id for hit in found} == expected, where
            sizes.add(len(expected))
    assert len(sizes) > 10


def test_what_an_engine_cannot_do_is_refused(local: embedx.Collection, place: str, make: Make) -> None:
    url = place.format("refused")
    with pytest.raises(UsageError, match="There is no collection"):
        EngineCollection(url)
    push_rows(local.folder, url)
    with EngineCollection(url) as there:
        for options in ({"radius": 0.5}, {"group_by": "label"}, {"metric": "l2"}, {"view": "L9.mean"}, {"k": 20_000}):
            with pytest.raises(UsageError):
                there.search(id=9, **options)
        for where in ("lower(label) = 'c1'", "site LIKE '%a'", "none = 1"):
            with pytest.raises(UsageError, match="invalid"):
                there.search(id=9, where=where)
    with make(np.eye(3, DIM, dtype=np.float32), ["a", "b", None]) as other:
        with pytest.raises(UsageError, match="holds another collection"):
            push_rows(other.folder, url)
        with pytest.raises(UsageError, match="holds another collection"):
            compare(other.folder, url)
    with pytest.raises(UsageError, match="has the views"):
        push_rows(local.folder, url, metric="l2")


def test_stopped_push_goes_on_where_it_was(local: embedx.Collection, place: str) -> None:
    url = place.format("stopped")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push_rows(local.folder, url, on_progress=stop)
    with pytest.raises(UsageError, match="not complete"):
        EngineCollection(url)
    again = push_rows(local.folder, url)
    assert 0 < again.inserted < again.rows
    assert compare(local.folder, url).is_same


def test_commands_push_search_and_verify(made: Path, tmp_path: Path, place: str, capsys: Capture) -> None:
    folder, url = tmp_path / "c", place.format("commands")
    shutil.copytree(made, folder)
    code, out, err = outcome(capsys, "push", folder, url, "--view", "L0.max", "--view", "L0.mean", "--json")
    assert code == 0, err
    assert json.loads(out)["inserted"] == json.loads(out)["rows"] > 0
    with embedx.open(folder) as opened:
        query = opened.rows()["path"].iloc[0]
    expected = outcome(capsys, "search", folder, query, "-k", 3, "--format", "json", "--where", "label IS NOT NULL")
    exact = [] if place.startswith("milvus") else ["--exact"]
    found = outcome(capsys, "search", url, query, "-k", 3, "--format", "json", "--where", "label IS NOT NULL", *exact)
    assert expected[0] == found[0] == 0, found
    assert [hit["id"] for hit in json.loads(found[1])] == [hit["id"] for hit in json.loads(expected[1])]
    code, out, err = outcome(capsys, "verify", folder, "--against", url)
    assert code == 0, out + err
    assert "L0.max: recall" in out
    with embedx.open(folder) as opened:
        opened.remove(f"id = {json.loads(found[1])[0]['id']}")
    code, out, _ = outcome(capsys, "verify", folder, "--against", url)
    assert code == 5
    assert "rows that only the engine has: 1" in out
    for command in (["open"], ["rm", "--where", "1"], ["status"]):
        assert outcome(capsys, command[0], url, *command[1:])[0] == 2


@pytest.mark.parametrize("engine", KILLED)
def test_server_that_is_killed_during_a_push_loses_nothing(
    local: embedx.Collection, capsys: Capture, engine: str
) -> None:
    with process_server(engine) as server:
        url = server.url.format("killed")

        def kill(done: int, total: int) -> None:
            server.kill()

        with pytest.raises(EmbedxError, match="run it again") as error:
            push_rows(local.folder, url, on_progress=kill)
        assert PASSWORD not in str(error.value)
        code, out, err = outcome(capsys, "push", local.folder, url)
        assert code == 6
        assert PASSWORD not in out + err
        server.start()
        again = push_rows(local.folder, url)
        assert 0 < again.inserted < again.rows
        assert compare(local.folder, url).is_same
        with EngineCollection(url) as there:
            description = there.engine.describe()
        assert description is not None
        assert PASSWORD not in description


def test_engine_that_is_gone_is_a_sentence(local: embedx.Collection) -> None:
    pytest.importorskip("qdrant_client", reason="needs qdrant-client: make test-engines")
    with pytest.raises(EmbedxError, match=r"qdrant://127.0.0.1:9/x cannot be used") as error:
        push_rows(local.folder, "qdrant://s3cret@127.0.0.1:9/x")
    assert "s3cret" not in str(error.value)
