"""Several collections are searched as one: the hits are those of one collection with all rows."""

import itertools
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import embedx
from embedx.errors import NothingToDo, RecipeMismatch, StoreError, UsageError
from embedx.recipe import Recipe
from embedx.search.hits import Hits
from embedx.store.records import Recording, Row
from embedx.store.store import Store
from tests.helpers.amounts import fast_and_long

DIM = 6
LARGEST = 40  # rows of the collection that has a column of its own
RECIPE = Recipe("logmel", "", "00", 16_000, (0,), ("mean",))
Stored = tuple[Row, np.ndarray]
MODES: tuple[dict[str, Any], ...] = (
    {},
    {"k": 1},
    {"k": 10_000},
    {"exact": True, "k": 7},
    {"where": "site = 'A' AND nr > 2"},
    {"where": "nr IS NULL OR label = 'x'", "k": 50},
    {"where": "only = 3 OR mixed < '10'", "k": 50},
    {"where": "id < 0"},
    {"group_by": "recording"},
    {"group_by": "only", "k": 3},
    {"group_by": "label", "where": "nr < 4"},
    {"merge": True, "k": 4},
    {"diverse": 0.5, "k": 6},
    {"radius": 1.0},
    {"radius": 0.5, "group_by": "recording"},
    {"score_band": (-2.0, 2.0), "k": 5},
)


def store_rows(folder: Path, rows: Sequence[Stored], recipe: Recipe = RECIPE) -> Path:
    """Write rows with their ids into a new collection."""
    dim = len(rows[0][1]) if rows else DIM
    with Store.create(folder, recipe, dim) as store:
        by_path: dict[str, list[tuple[Row, dict[str, np.ndarray]]]] = {}
        for row, vector in rows:
            by_path.setdefault(row.path, []).append((row, {recipe.default_view: vector}))
        if rows:
            run = store.start_run({})
            store.add([(Recording(path, 1, 1, "[]"), its) for path, its in by_path.items()], run)
    return folder


def make_rows(random: np.random.Generator, number: int, count: int) -> list[Stored]:
    """Make rows with many equal vectors, of recordings that other collections have too, and with columns of all kinds.

    The vectors are small whole numbers, so that every inner product is exact and equal rows have equal scores.
    """
    rows = []
    for place in range(count):
        meta: dict[str, Any] = {} if random.random() < 0.2 else {"site": str(random.choice(["A", "B"]))}
        meta |= {} if random.random() < 0.3 else {"nr": int(random.integers(6))}
        meta |= {"only": int(random.integers(5)), "mixed": "4"} if count == LARGEST else {"mixed": 4}
        path, start = f"/r{random.integers(5)}.wav", float(number * 1000 + place * random.choice([1, 3]))
        label = str(random.choice(["x", "y"])) if random.random() < 0.8 else None
        row = Row(place + 1, path, start, start + 1.0, label, None, None, (), meta)
        rows.append((row, random.integers(-1, 2, DIM).astype(np.float32)))
    return rows


def make_parts(folder: Path, seed: int) -> tuple[list[Path], Path]:
    """Return the folders of some collections, one of them empty, and of one with all rows in their order."""
    random = np.random.default_rng(seed)
    counts = np.roll([0, LARGEST, 12, 1][: 3 + seed % 2], 2 * seed).tolist()  # the largest one first, or last
    folder.mkdir(exist_ok=True)
    parts = [make_rows(random, number, count) for number, count in enumerate(counts)]
    folders = [store_rows(folder / f"part{number}", rows) for number, rows in enumerate(parts)]
    every = [stored for rows in parts for stored in rows]
    whole = [(replace(row, id=place), vector) for place, (row, vector) in enumerate(every, start=1)]
    return folders, store_rows(folder / "whole", whole)


def described(hits: Hits, before: Mapping[str | None, int]) -> list[tuple[Any, ...]]:
    """Return what hits of the parts and of the whole have in common; ids are counted on from part to part."""
    return [
        (before[hit.collection] + hit.id, hit.score, hit.path, hit.start_s, hit.end_s, hit.label, dict(hit.meta))
        for hit in hits
    ]


@fast_and_long("cases", 1, 12)
def test_hits_are_those_of_one_collection_with_all_rows(cases: int, tmp_path: Path) -> None:
    for seed in range(cases):
        folders, whole_folder = make_parts(tmp_path / str(seed), seed)
        random = np.random.default_rng(seed)
        with embedx.open(folders) as parts, embedx.open(whole_folder) as whole:
            assert (len(parts), parts.views) == (len(whole), whole.views)
            counts = [0, *itertools.accumulate(map(len, parts.collections))]
            before: dict[str | None, int] = {None: 0}
            before.update(zip(map(str, folders), counts, strict=False))
            for metric, mode in itertools.product(("ip", "l2", "cosine"), MODES):
                vectors = random.integers(-1, 2, (int(random.integers(1, 3)), DIM)).astype(np.float32)
                vectors[:, 0] += 2  # none is zero
                options = {"vector": vectors, "metric": metric, **mode}
                if metric == "l2" and "radius" in mode:
                    options["radius"] = 2.5
                found, expected = (described(one.search(**options), before) for one in (parts, whole))
                if metric == "cosine" and mode.keys() & {"radius", "group_by", "merge", "score_band"}:
                    found, expected = ([score for _, score, *_ in hits] for hits in (found, expected))
                    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
                else:  # these scores do not depend on the number of rows
                    assert found == expected, (seed, options)


def test_first_query_whose_filter_selects_no_row_of_one_collection_answers(tmp_path: Path) -> None:
    rows = make_rows(np.random.default_rng(0), 0, 30)
    parts = [[stored for stored in rows if (stored[0].label == "x") is is_x] for is_x in (False, True)]
    folders = [store_rows(tmp_path / str(number), part) for number, part in enumerate(parts)]
    modes: tuple[dict[str, Any], ...]
    modes = ({}, {"diverse": 0.5}, {"group_by": "site"}, {"merge": True}, {"radius": -9.0}, {"score_band": (-9.0, 9.0)})
    for mode in modes:
        with embedx.open(folders) as several:  # the first query of each has nothing in memory
            hits = several.search(vector=np.ones(DIM), where="label = 'x'", metric="ip", **mode)
        assert hits and {(hit.collection, hit.label) for hit in hits} == {(str(folders[1]), "x")}, mode


def test_examples_and_rows_name_their_collection(tmp_path: Path) -> None:
    folders, whole_folder = make_parts(tmp_path, 2)
    with embedx.open(folders) as parts, embedx.open(whole_folder) as whole:
        counts = itertools.accumulate([0, *map(len, parts.collections)])
        before: dict[str | None, int] = {None: 0}
        before.update(zip(map(str, folders), counts, strict=False))
        full = [folder for folder in folders if len(embedx.open(folder)) > 5]
        a, b = f"{full[0]}:3", f"{full[1].name}:2"  # the last part of the name is enough
        numbers = before[str(full[0])] + 3, before[str(full[1])] + 2
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"id": a}, {"id": numbers[0]}),
            ({"id": b, "exclude_self": False}, {"id": numbers[1], "exclude_self": False}),
            ({"id": a, "group_by": "recording"}, {"id": numbers[0], "group_by": "recording"}),
            ({"id": b, "diverse": 0.6}, {"id": numbers[1], "diverse": 0.6}),
            ({"like": [a, b]}, {"like": numbers}),
            ({"like": [a], "unlike": [b]}, {"like": numbers[:1], "unlike": numbers[1:]}),
        ]
        for mine, other in pairs:
            found, expected = parts.search(**mine, metric="ip", k=9), whole.search(**other, metric="ip", k=9)
            assert described(found, before) == described(expected, before)


def test_sounds_are_embedded_once_and_found_in_all(manifest: Path, tmp_path: Path) -> None:
    """One recording is in both collections; in one collection it is there once."""
    table = pd.read_csv(manifest).head(5)
    table["path"] = [str(manifest.parent / path) for path in table["path"]]
    sources = [table.head(3), table.tail(3)]
    options: dict[str, Any] = {"window": 0.5, "hop": 0.25}
    for name, source in zip("ab", sources, strict=True):
        embedx.extract(source, out=tmp_path / name, **options).close()
        embedx.extract(source, out=tmp_path / "whole", **options).close()
    query = f"{table['path'][2]}#0.25-1.25"
    with embedx.open([tmp_path / "a", tmp_path / "b"]) as parts, embedx.open(tmp_path / "whole") as whole:
        modes: list[dict[str, Any]] = [{"align": True}, {"group_by": "recording"}, {"merge": True}]
        for mode in modes:
            found, expected = parts.search(query, **mode, k=50), whole.search(query, **mode, k=50)
            assert [(hit.path, hit.start_s, hit.end_s, hit.query_start_s) for hit in found] == [
                (hit.path, hit.start_s, hit.end_s, hit.query_start_s) for hit in expected
            ]
            np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in expected], atol=1e-5)
        own = parts.search(table["path"][2], exclude_self=True, k=100)
        assert table["path"][2] not in {hit.path for hit in own}
        answers, expected = parts.search_many(table.iloc[[2]], k=1), whole.search_many(table.iloc[[2]], k=1)
        assert list(answers) == list(expected)
        assert answers[table["path"][2]][0].collection == str(tmp_path / "a")  # of equal hits, the first collection's
        assert [one._embedder is None for one in parts.collections] == [False, True]
        assert parts.root == whole.root


@pytest.fixture(scope="module")
def two_of_a_name(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two collections of the name `same`."""
    folder, random = tmp_path_factory.mktemp("names"), np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir()
        store_rows(folder / name / "same", make_rows(random, 0, 4))
    return folder


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"id": 3}, "a row is COLLECTION:ID, such as"),
        ({"like": ["3"]}, "a row is COLLECTION:ID"),
        ({"like": [np.int64(3)]}, "a row is COLLECTION:ID"),
        ({"id": "nowhere:3"}, "There is no collection nowhere"),
        ({"id": "same:1"}, "Several collections have the name same"),
        ({"id": "a/same:77"}, "There is no row 77 in"),
        ({"vector": np.ones(DIM), "where": "nothing = 1"}, "nothing"),
        ({"vector": np.ones(DIM), "group_by": "nothing"}, "No row has a column 'nothing'"),
        ({"vector": np.ones(DIM), "view": "L9.mean"}, "There is no view 'L9.mean'"),
        ({"vector": np.ones(DIM), "id": "a/same:1"}, "exactly one query"),
    ],
)
def test_wrong_queries_are_refused(
    options: dict[str, Any], problem: str, two_of_a_name: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(two_of_a_name)
    with embedx.open(["a/same", "b/same"]) as parts, pytest.raises(UsageError, match=re.escape(problem)):
        parts.search(**options)


def test_collections_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    one = store_rows(tmp_path / "one", make_rows(random, 0, 3))
    for name, change, message in (
        ("weights", {"weights": "11"}, "weights: in .*one '00', in .*weights '11'"),
        ("pooling", {"poolings": ("max",)}, "poolings: "),
        ("model", {"extractor": "mfcc"}, "extractor: "),
        ("window", {"window_s": 2.0}, "window_s: "),
    ):
        other = store_rows(tmp_path / name, make_rows(random, 0, 3), replace(RECIPE, **change))
        with pytest.raises(RecipeMismatch, match=message):
            embedx.open([one, other])
    wide = [(row, np.ones(DIM + 1, np.float32)) for row, _ in make_rows(random, 0, 3)]
    with pytest.raises(RecipeMismatch, match="different lengths"):
        embedx.open([one, store_rows(tmp_path / "wide", wide)])
    (tmp_path / "link").symlink_to(one)
    with pytest.raises(UsageError, match="are one collection"):
        embedx.open([one, tmp_path / "link"])
    with pytest.raises(UsageError, match=r"There is no collection in .*nothing"):
        embedx.open([one, tmp_path / "nothing"])
    with pytest.raises(UsageError, match="at least one"):
        embedx.open([])


def test_damaged_collection_is_named(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    one, other = (store_rows(tmp_path / name, make_rows(random, 0, 3)) for name in ("one", "other"))
    with embedx.open([one, other]) as parts:
        parts.search(vector=np.ones(DIM))
    (other / "store.db").write_bytes(b"nothing" * 1000)
    with pytest.raises(StoreError, match="other"):
        embedx.open([one, other])


def test_collections_without_rows_have_nothing_to_search(tmp_path: Path) -> None:
    folders = [store_rows(tmp_path / name, []) for name in ("one", "other")]
    with embedx.open(folders) as parts, pytest.raises(NothingToDo, match=r"one.*other"):
        parts.search(vector=np.ones(DIM))


def test_damaged_index_of_one_is_built_again(tmp_path: Path) -> None:
    folders, _ = make_parts(tmp_path, 2)
    query: dict[str, Any] = {"vector": np.ones(DIM, np.float32), "metric": "ip"}
    with embedx.open(folders) as parts:
        expected = parts.search(**query)
    for file in (folders[1] / "index").glob("*.npy"):
        file.write_bytes(file.read_bytes()[:-3])
    with embedx.open(folders) as parts:
        assert list(parts.search(**query)) == list(expected)


def test_searches_beside_a_writer_see_whole_commits(tmp_path: Path) -> None:
    """Each commit adds a recording with two equal rows: a search never sees one of them."""
    rows = make_rows(np.random.default_rng(0), 0, 3)
    folders = [store_rows(tmp_path / name, rows) for name in ("one", "other")]
    done = threading.Event()

    def write() -> None:
        with Store(folders[1], write=True) as store:
            for number in range(6):
                ids = store.next_id(), store.next_id() + 1
                pair = [Row(row_id, f"/new{number}.wav", 0.0, 1.0, "new", None, None, (), {}) for row_id in ids]
                new = [(row, {"L0.mean": np.full(DIM, 9, np.float32)}) for row in pair]
                store.add([(Recording(pair[0].path, 1, 1, "[]"), new)], store.start_run({}))
        done.set()

    writer = threading.Thread(target=write)
    with embedx.open(folders) as parts:
        writer.start()
        counts, is_last = [], False
        while not is_last:
            is_last = done.is_set()
            counts.append(len(parts.search(vector=np.ones(DIM), where="label = 'new'", k=100, metric="ip")))
        writer.join()
    assert counts == sorted(counts)
    assert not any(count % 2 for count in counts)
    assert counts[-1] == 12


@pytest.mark.long
def test_many_collections_need_few_files(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folders = [store_rows(tmp_path / f"c{number:02}", make_rows(random, 0, 2)) for number in range(50)]
    with embedx.open(folders) as parts:
        before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
        hits = parts.search(vector=np.ones(DIM), k=1000)
        after = len(list(Path("/proc/self/fd").iterdir())) if before else 0
        assert len(hits) == 100
        assert after <= before + 2 * len(folders)


@pytest.mark.long
def test_indexes_of_other_kinds_are_used_together(tmp_path: Path) -> None:
    """Scores are exact with every kind; with `exact` all rows are found."""
    random = np.random.default_rng(1)
    vectors = random.standard_normal((4500, DIM)).astype(np.float32)
    rows = [Row(n % 1500 + 1, f"/{n}.wav", 0.0, 1.0, None, None, None, (), {}) for n in range(len(vectors))]
    folders = []
    for number, kind in enumerate(("hnsw", "ivf-flat", "flat")):
        part = slice(1500 * number, 1500 * (number + 1))
        folders.append(store_rows(tmp_path / kind, list(zip(rows[part], vectors[part], strict=True))))
        with embedx.open(folders[-1]) as collection:
            assert collection.build_index(kind=kind)["kind"] == kind
    whole = [
        (replace(row, id=number), vector) for number, (row, vector) in enumerate(zip(rows, vectors, strict=True), 1)
    ]
    queries = random.standard_normal((30, DIM)).astype(np.float32)
    with embedx.open(folders) as parts, embedx.open(store_rows(tmp_path / "whole", whole)) as one:
        shared = 0
        for query in queries:
            expected = {hit.path: hit.score for hit in one.search(vector=query, k=10)}
            exact = parts.search(vector=query, k=10, exact=True)
            assert [(hit.path, hit.score) for hit in exact] == list(expected.items())
            found = {hit.path: hit.score for hit in parts.search(vector=query, k=10)}
            same = expected.keys() & found.keys()
            assert all(found[path] == expected[path] for path in same)
            shared += len(same)
    assert shared >= 0.95 * 10 * len(queries)
