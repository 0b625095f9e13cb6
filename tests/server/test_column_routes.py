"""Counts, values, columns, scores, the map in blocks, suggestions and failures, compared with the collection itself."""

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

import embedx
from embedx.server import served
from embedx.server.blocks import ROWS, to_blocks
from tests.helpers.blocks import read_blocks
from tests.helpers.processes import wait_until
from tests.helpers.service import Client, Reply, serving

BASE = "/v1/collections/made"
BLOCKS = {"Accept": "application/x-exc1"}


@pytest.fixture(scope="module")
def folder(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `made` with a head, a column of numbers, one of texts with gaps, and three rows without a label."""
    folder = tmp_path_factory.mktemp("columns") / "made"
    shutil.copytree(made, folder)
    with embedx.open(folder) as collection:
        collection.fit_head(kind="prototype", name="kinds", permutations=0)
        ids = list(collection.rows().index)
        table = pd.DataFrame({"id": ids, "loudness": [float(number % 7) for number in ids]})
        collection.label(table)
        collection.label(set={"site": "Nord"}, where="id < 10")
        collection.label(set={"site": "nord-ost"}, where="id BETWEEN 10 AND 12")
        collection.label(set={"label": ""}, where="id IN (3, 4, 9)")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with serving(folder) as running:
        yield running


@pytest.fixture
def rows(folder: Path) -> pd.DataFrame:
    with embedx.open(folder) as collection:
        return collection.rows()


def values(client: Client, query: str) -> Any:
    reply = client.get(f"{BASE}/values?{query}")
    assert reply.status == 200, reply.body
    return reply.json


def test_count_is_that_of_the_rows(client: Client, rows: pd.DataFrame) -> None:
    assert client.post(f"{BASE}/count", {}).json["rows"] == len(rows)
    assert client.post(f"{BASE}/count", {"filter": ""}).json["rows"] == len(rows)
    reply = client.post(f"{BASE}/count", {"filter": "site = 'Nord' AND loudness > 3"})
    assert reply.json["rows"] == ((rows["site"] == "Nord") & (rows["loudness"] > 3)).sum()
    assert {"generation", "revision"} <= reply.json.keys()
    condition = {"must": [{"key": "label", "match": {"value": "bell"}}]}
    assert client.post(f"{BASE}/count", {"filter": condition}).json["rows"] == (rows["label"] == "bell").sum()


@pytest.mark.parametrize(
    ("where", "position"),
    [
        ("site = ", 7), ("site = = 3", 7), ("sitte = 'A'", 0), ("id > 3 AND sitte = 'A'", 11), ("id > 3 @ 4", 7),
        ("id IN (3", 6), ("id = 3)", 6), ("site = 'A", 7), ("foo(id) = 2", 0), ("id = 3; DROP", 6),
    ],
)  # fmt: skip
def test_bad_filter_says_where_it_is_wrong_and_lists_the_columns(client: Client, where: str, position: int) -> None:
    for reply in (client.post(f"{BASE}/count", {"filter": where}), get_values(client, where)):
        assert (reply.status, reply.code) == (400, "bad_filter")
        assert reply.json["error"]["position"] == position, reply.json
        assert {"id", "label", "site", "loudness"} <= set(reply.json["error"]["columns"])
        assert reply.json["error"]["why"] in reply.json["error"]["message"]


def get_values(client: Client, where: str) -> Reply:
    from urllib.parse import quote

    return client.get(f"{BASE}/values?column=site&filter={quote(where)}")


def test_values_of_a_column_come_with_their_rows(client: Client, rows: pd.DataFrame) -> None:
    expected = Counter(rows["label"].dropna())
    found = values(client, "column=label")
    assert {one["value"]: one["rows"] for one in found["values"]} == dict(expected)
    assert found["values"] == sorted(found["values"], key=lambda one: (-one["rows"], one["value"]))
    assert (found["empty"], found["more"], found["min"]) == (3, False, None)
    assert [one["value"] for one in values(client, "column=site&prefix=NO")["values"]] == ["Nord", "nord-ost"]
    assert values(client, "column=site&limit=1")["more"] is True
    assert values(client, "column=label&filter=id%3D3")["values"] == []
    numbers = values(client, "column=loudness")
    assert (numbers["min"], numbers["max"], sum(numbers["bins"]), len(numbers["bins"])) == (0.0, 6.0, len(rows), 20)
    for query in ("column=nosuch", "column=path", "column=id", "column=label&limit=0"):
        assert client.get(f"{BASE}/values?{query}").status == 400


def test_map_and_columns_have_one_order(client: Client, folder: Path, rows: pd.DataFrame) -> None:
    reply = client.get(f"{BASE}/map", **BLOCKS)
    header, points = read_blocks(reply.body)
    plain = client.get(f"{BASE}/map").json
    assert sorted(points["id"].tolist()) == plain["id"] == list(rows.index)
    x = dict(zip(plain["id"], plain["x"], strict=True))
    np.testing.assert_allclose([x[number] for number in points["id"]], points["x"], rtol=1e-6)
    assert 0 < header["explained"][1] <= header["explained"][0] <= 1
    for name in ("label", "site"):
        facts, column = read_blocks(client.get(f"{BASE}/columns/{name}").body)
        assert facts["order"] == header["order"]
        shown = [facts["values"][code] if code >= 0 else None for code in column["value"].astype(int)]
        expected = rows[name].astype(object).where(rows[name].notna(), None).loc[points["id"]].tolist()
        assert shown == expected
    _, column = read_blocks(client.get(f"{BASE}/columns/loudness").body)
    np.testing.assert_array_equal(column["value"], rows["loudness"].loc[points["id"]])
    with embedx.open(folder) as collection:
        predictions = {one.id: one.top[0] for one in collection.predict(head="kinds")}
    facts, column = read_blocks(client.get(f"{BASE}/columns/head:kinds").body)
    assert [facts["values"][int(code)] for code in column["value"]] == [predictions[n][0] for n in points["id"]]
    _, column = read_blocks(client.get(f"{BASE}/columns/head:kinds:p").body)
    np.testing.assert_allclose(column["value"], [predictions[n][1] for n in points["id"]], rtol=1e-5)
    assert client.get(f"{BASE}/columns/nosuch").status == 400
    assert client.get(f"{BASE}/columns/head:nosuch").status == 404


def test_box_of_the_map_holds_the_points_in_it(client: Client) -> None:
    header, points = read_blocks(client.get(f"{BASE}/map", **BLOCKS).body)
    box = [float(np.quantile(points[axis], share)) for share in (0.2, 0.9) for axis in "xy"]
    x, y = points["x"], points["y"]
    inside = np.flatnonzero((x >= box[0]) & (y >= box[1]) & (x <= box[2]) & (y <= box[3]))
    query = f"{BASE}/map?box={','.join(map(repr, box))}"
    facts, part = read_blocks(client.get(query, **BLOCKS).body)
    assert part["id"].tolist() == points["id"][inside].tolist()
    assert part["place"].tolist() == inside.tolist()
    facts, part = read_blocks(client.get(f"{query}&limit=3", **BLOCKS).body)
    assert (len(part["id"]), facts["within"], facts["all"]) == (min(3, len(inside)), len(inside), header["rows"])
    for wrong in ("1,2,3", "a,b,c,d", "1,2,3,nan", "1,2,3,4,5"):
        assert client.get(f"{BASE}/map?box={wrong}", **BLOCKS).status == 400
    assert client.get(f"{BASE}/map?method=tsne", **BLOCKS).status == 400


def test_map_of_many_rows_is_a_sample_until_its_job_is_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "MAX_ROWS_OF_MAP", 10)
    monkeypatch.setattr(served, "SAMPLE", 8)
    with serving(folder) as client:
        jobs = client.service.jobs
        held = threading.Event()
        jobs.start("other", lambda: {"waited": held.wait(60)})  # the jobs wait
        header, first = read_blocks(client.get(f"{BASE}/map", **BLOCKS).body)
        assert (header["rows"], header["all"]) == (8, client.get(BASE).json["rows"])
        assert client.get(f"{BASE}/map").json == {"job": header["job"]}
        held.set()
        wait_until(lambda: client.get(f"/v1/jobs/{header['job']}").json["state"] in ("done", "failed"))
        whole, points = read_blocks(client.get(f"{BASE}/map", **BLOCKS).body)
        assert (whole["rows"], whole.get("job")) == (header["all"], None)
        for name in ("id", "x", "y"):  # the points of the sample stay where they are
            np.testing.assert_allclose(points[name][:8], first[name], rtol=1e-5)
        assert len(client.get(f"{BASE}/map").json["id"]) == header["all"]


UMAP = """
class UMAP:
    def __init__(self, **options): assert options["metric"] == "cosine"
    def fit_transform(self, vectors):
        return vectors[:, :2] * 2
"""


def test_map_by_umap_is_made_in_a_job_and_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(folder) as client:
        if "umap" not in client.get(BASE).json["maps"]:
            assert client.get(f"{BASE}/map?method=umap").code == "no_umap"
        (tmp_path / "umap.py").write_text(UMAP)  # in place of the library, which takes seconds
        monkeypatch.syspath_prepend(tmp_path)
        assert client.get(BASE).json["maps"] == ["pca", "umap"]
        first, again = (client.get(f"{BASE}/map?method=umap", **BLOCKS) for _ in range(2))
        assert first.status == 202
        if again.status == 202:
            assert again.json == first.json
        wait_until(lambda: client.get(f"/v1/jobs/{first.json['job']}").json["state"] in ("done", "failed"))
        _, points = read_blocks(client.get(f"{BASE}/map?method=umap", **BLOCKS).body)
        with embedx.open(folder) as collection:
            x = dict(zip(collection.rows().index, collection.vectors()[:, 0] * 2, strict=True))
        np.testing.assert_allclose(points["x"], [x[number] for number in points["id"]], rtol=1e-6)


def test_umap_that_is_stopped_ends_its_job_with_words(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "umap.py").write_text("import time; time.sleep(600)")
    monkeypatch.syspath_prepend(tmp_path)
    with serving(folder) as client:
        job = client.get(f"{BASE}/map?method=umap").json["job"]
        wait_until(lambda: client.service.get("made")._projection is not None)
        client.service.get("made").close()
        wait_until(lambda: client.get(f"/v1/jobs/{job}").json["state"] == "failed")
        assert client.get(f"/v1/jobs/{job}").json["error"]["code"] == "umap_stopped"
        assert client.get(f"{BASE}/map?method=pca").status == 200


def test_blocks_hold_many_rows_in_order() -> None:
    count = 2 * ROWS + 5
    ids, x = np.arange(count, dtype=np.int64), np.arange(count, dtype=np.float32) / 2
    header, columns = read_blocks(to_blocks({"id": ids, "x": x, "code": ids.astype(np.int16)}, {"ä": 1}))
    assert (header["rows"], header["ä"]) == (count, 1)
    np.testing.assert_array_equal(columns["id"], ids)
    np.testing.assert_array_equal(columns["x"], x)
    np.testing.assert_array_equal(columns["code"], ids.astype(np.int16))
    assert read_blocks(to_blocks({"id": ids[:0]}, {}))[0]["rows"] == 0


def test_scores_rank_rows_as_the_search_does(client: Client) -> None:
    _, points = read_blocks(client.get(f"{BASE}/map", **BLOCKS).body)
    _, column = read_blocks(client.post(f"{BASE}/scores", {"like": [5, 6], "unlike": [20]}).body)
    scores = dict(zip(points["id"].tolist(), column["value"].tolist(), strict=True))
    query = {"like": [5, 6], "unlike": [20], "limit": 10, "exclude_self": True, "exact": True}
    for hit in client.post(f"{BASE}/search", query).json["hits"]:
        assert scores[hit["id"]] == pytest.approx(hit["score"], abs=1e-5)
    assert client.post(f"{BASE}/scores", {"like": [9999]}).status == 404
    assert client.post(f"{BASE}/scores", {"like": []}).status == 400


def test_suggestions_have_no_label_and_say_why(client: Client) -> None:
    reply = client.post(f"{BASE}/suggest", {"by": "margin", "head": "kinds", "limit": 2})
    assert reply.status == 200, reply.body
    found = reply.json["rows"]
    assert len(found) == 2
    for row in found:
        assert row["id"] in (3, 4, 9)
        assert (row["label"], len(row["proba"])) == (None, 2)
        assert row["why"].startswith("margin ")
        assert row["recording"]
    body = {"by": "diverse", "limit": 24, "not": [found[0]["id"]]}
    rest = client.post(f"{BASE}/suggest", body).json["rows"]
    assert {row["id"] for row in rest} == {3, 4, 9} - {found[0]["id"]}
    assert client.post(f"{BASE}/suggest", {"by": "nosuch"}).status == 400
    assert client.post(f"{BASE}/suggest", {"head": "nosuch"}).status == 404
    assert client.post(f"{BASE}/suggest", {"filter": "nosuch = 1", "by": "random"}).code == "bad_filter"


def test_failures_are_listed_without_folders(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    soundfile.write(corpus / "good.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    for number in range(5):
        (corpus / f"bad{number}.wav").write_text("no sound")
    embedx.extract(corpus, out=tmp_path / "made").close()
    with serving(tmp_path / "made") as client:
        seen: list[str] = []
        after: int | None = 0
        while after is not None:
            reply = client.get(f"{BASE}/failures?limit=2&after={after}")
            assert str(tmp_path) not in reply.body.decode()
            seen += [one["path"] for one in reply.json["failures"]]
            after = reply.json["next"]
        assert sorted(seen) == [f"bad{number}.wav" for number in range(5)]
        assert reply.json["reasons"] == {"not-audio": 5}


def test_about_tells_flags_failures_heads_and_versions(client: Client, folder: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    soundfile.write(corpus / "loud.wav", np.ones(16_000), 16_000)
    soundfile.write(corpus / "silent.wav", np.zeros(16_000), 16_000)
    (corpus / "bad.wav").write_text("no sound")
    embedx.extract(corpus, out=tmp_path / "odd").close()
    with serving(tmp_path / "odd") as odd:
        facts = odd.get("/v1/collections/odd/about").json
        assert facts["failures"] == {"not-audio": 1}
        counted = {flag: odd.get(f"/v1/collections/odd/values?column=flags&filter=flags%20LIKE%20'%25{flag}%25'").json
                   for flag in facts["flags"]}  # fmt: skip
        assert {flag: sum(one["rows"] for one in found["values"]) for flag, found in counted.items()} == facts["flags"]
        assert facts["flags"]["silent"] == 1
        assert facts["recording_flags"] == {"clipped": 1}
        assert str(tmp_path) not in str(facts)
    facts = client.get(f"{BASE}/about").json
    (head,) = facts["heads"]
    with embedx.open(folder) as collection:
        held_out = collection.head("kinds").metrics["held_out"]
        assert facts["fingerprint"] == collection.recipe.fingerprint
    assert (head["name"], head["confusion"]) == ("kinds", held_out["confusion"])
    assert head["value"] == held_out["figures"]["balanced_accuracy"]
    assert head["trained_rows"] >= sum(map(sum, head["confusion"]))
    assert facts["extract"] is None
    assert "numpy" in facts["versions"]


def test_duplicates_are_looked_for_once_for_a_generation(client: Client, folder: Path) -> None:
    first, again = (client.post(f"{BASE}/duplicates", {}) for _ in range(2))
    assert (first.status, first.json) == (202, again.json)
    wait_until(lambda: client.get(f"/v1/jobs/{first.json['job']}").json["state"] == "done")
    found = client.get(f"/v1/jobs/{first.json['job']}").json
    with embedx.open(folder) as collection:
        expected = [[one.id for one in group.members] for group in collection.duplicates()]
    assert [group["ids"] for group in found["groups"]] == expected
    assert [group["rows"] for group in found["groups"]] == list(map(len, expected))
    assert (found["total"], found["rows"]) == (len(expected), sum(map(len, expected)))
