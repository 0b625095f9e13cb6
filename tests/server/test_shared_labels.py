"""Labels of several people, jobs and events over HTTP, and exports."""

import contextlib
import csv
import io
import json
import shutil
import socket
import threading
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import embedx
from embedx.server.settings import Limits
from embedx.store.running import RunNote
from tests.helpers.processes import wait_until
from tests.helpers.service import Client, serving

BASE = "/v1/collections/made"


@pytest.fixture
def client(made: Path, tmp_path: Path) -> Iterator[Client]:
    shutil.copytree(made, tmp_path / "made")
    with serving(tmp_path / "made", allow_labels=True, limits=Limits(request_s=20.0)) as running:
        yield running


def edit(number: int, value: object, **more: object) -> dict[str, object]:
    return {"id": number, "column": "label", "value": value, **more}


def label_of(client: Client, number: int) -> Any:
    return client.get(f"{BASE}/rows/{number}").json["row"]["label"]


def test_repeated_request_is_answered_again_and_not_made_again(client: Client) -> None:
    body = {"key": "k1", "by": "ann", "edits": [edit(3, "owl"), edit(4, "owl")]}
    first = client.post(f"{BASE}/labels", body).json
    assert (first["changed"], first["conflicts"]) == (2, [])
    client.post(f"{BASE}/labels", {"edits": [edit(3, "rain")]})
    assert client.post(f"{BASE}/labels", body).json == first
    assert label_of(client, 3) == "rain"
    undo = {"revision": first["revision"] + 1, "key": "k2"}
    again = [client.post(f"{BASE}/labels/undo", undo).json for _ in range(2)]
    assert again[0] == again[1]
    assert (again[0]["restored"], label_of(client, 3)) == (1, "owl")


def test_value_that_another_one_has_set_is_kept_and_told(client: Client) -> None:
    before = label_of(client, 3)
    client.post(f"{BASE}/labels", {"by": "ann", "edits": [edit(3, "owl", was=before)]})
    reply = client.post(f"{BASE}/labels", {"by": "bob", "edits": [edit(3, "rain", was=before), edit(4, "rain")]}).json
    assert reply["conflicts"] == [{"id": 3, "column": "label", "value": "owl", "by": "ann"}]
    assert (reply["changed"], label_of(client, 3), label_of(client, 4)) == (1, "owl", "rain")
    only = client.post(f"{BASE}/labels", {"edits": [edit(3, "rain", was=before)]}).json
    assert (only["changed"], len(only["conflicts"])) == (0, 1)
    repeated = client.post(f"{BASE}/labels", {"edits": [edit(3, "owl", was=before)]}).json
    assert (repeated["changed"], repeated["conflicts"]) == (0, [])  # as after a restart: it holds what is set


def test_undo_of_a_value_that_was_changed_since_is_refused_with_what_it_holds(client: Client) -> None:
    before = label_of(client, 3)
    mine = client.post(f"{BASE}/labels", {"by": "ann", "edits": [edit(3, "owl"), edit(4, "owl")]}).json["revision"]
    theirs = client.post(f"{BASE}/labels", {"by": "bob", "edits": [edit(3, "rain")]}).json["revision"]
    reply = client.post(f"{BASE}/labels/undo", {"revision": mine})
    assert (reply.status, reply.code) == (409, "conflict")
    assert reply.json["error"]["cells"] == [{"id": 3, "column": "label", "value": "rain", "by": "bob"}]
    assert label_of(client, 4) == "owl"
    assert client.post(f"{BASE}/labels/undo", {"revision": theirs}).json["restored"] == 1
    done = client.post(f"{BASE}/labels/undo", {"revision": mine}).json
    assert (done["restored"], label_of(client, 3)) == (2, before)
    client.post(f"{BASE}/labels/undo", {"revision": done["revision"]})  # undo of the undo
    assert label_of(client, 3) == "owl"


def test_two_that_label_at_once_lose_nothing(client: Client) -> None:
    replies: list[int] = []

    def work(name: str, ids: range) -> None:
        for number in ids:
            body = {"key": f"{name}{number}", "by": name, "edits": [edit(number, name)]}
            replies.append(client.post(f"{BASE}/labels", body).status)

    threads = [threading.Thread(target=work, args=(f"n{i}", range(1 + 8 * i, 7 + 8 * i))) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(replies) == {200}
    for i in range(3):
        assert {label_of(client, number) for number in range(1 + 8 * i, 7 + 8 * i)} == {f"n{i}"}


@contextlib.contextmanager
def events_of(client: Client, last: str, after: str = "") -> Iterator[Iterator[tuple[str, str, Any]]]:
    """Open the stream of events; it yields id, name and facts of each."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=60) as connection:
        head = f"GET {BASE}/events?after={after} HTTP/1.0\r\nHost: localhost\r\nLast-Event-ID: {last}\r\n\r\n"
        connection.sendall(head.encode())
        with connection.makefile("r", encoding="utf-8") as lines:
            assert "200" in next(lines)
            yield parsed(lines)


def parsed(lines: Iterable[str]) -> Iterator[tuple[str, str, Any]]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.rstrip("\r\n").partition(": ")
        if name in ("id", "event", "data"):
            fields[name] = value
        elif not line.strip() and "data" in fields:
            yield fields["id"], fields["event"], json.loads(fields["data"])
            fields = {}


def test_events_tell_labels_rows_and_jobs_and_go_on_where_they_ended(client: Client, tmp_path: Path) -> None:
    client.post(f"{BASE}/labels", {"by": "ann", "edits": [edit(3, "owl")]})
    state = client.get(BASE).json
    with events_of(client, f"{state['generation']}.{state['revision'] - 1}.0") as events:
        number, name, facts = next(events)
        assert (name, facts) == ("labels", {"revision": state["revision"], "by": "ann", "ids": [3]})
        with embedx.open(tmp_path / "made") as collection:
            collection.remove("id = 9")
        _, name, facts = next(events)
        assert (name, facts["rows"]) == ("rows", client.get(BASE).json["rows"])
        body = {"label": "label", "name": "live", "kind": "prototype", "wait": False, "permutations": 0}
        reply = client.post(f"{BASE}/heads", body)
        assert reply.status == 202
        _, name, facts = next(events)
        assert (name, facts["job"], facts["state"]) == ("job", reply.json["job"], "done"), facts
    for last, after in ((number, ""), ("", number.rpartition(".")[0])):
        with events_of(client, last, after) as events:
            assert next(events)[1] == "rows"


def test_events_tell_how_far_an_extraction_is_and_that_it_ends(client: Client, tmp_path: Path) -> None:
    with events_of(client, "") as events:
        with RunNote(tmp_path / "made") as note:
            note.write({"done": 1, "planned": 9, "failed": 0, "speed": 310})
            assert next(events)[1:] == ("extract", {"done": 1, "planned": 9, "failed": 0, "speed": 310})
            assert client.get(f"{BASE}/about").json["extract"]["planned"] == 9
        assert next(events)[1:] == ("extract", {"done": None})
    assert client.get(f"{BASE}/about").json["extract"] is None


def test_streams_of_events_leave_places_for_other_requests(made: Path) -> None:
    with serving(made, limits=Limits(in_flight=4)) as client:
        with events_of(client, ""), events_of(client, ""):
            wait_until(lambda: client.service.streams == 2)
            assert client.get(f"{BASE}/events").code == "busy"
            assert client.get(BASE).status == 200
        wait_until(lambda: client.service.streams == 0)


def test_streams_of_events_take_no_places_of_their_client(made: Path) -> None:
    with serving(made, limits=Limits(per_client=2)) as client, events_of(client, ""), events_of(client, ""):
        wait_until(lambda: client.service.streams == 2)
        assert client.get(f"{BASE}/events").status == 429
        assert client.get(BASE).status == 200


def test_training_job_tells_what_has_changed(client: Client) -> None:
    def train() -> Any:
        body = {"label": "label", "name": "live", "kind": "prototype", "wait": False, "permutations": 0}
        job = client.post(f"{BASE}/heads", body).json["job"]
        wait_until(lambda: client.get(f"/v1/jobs/{job}").json["state"] not in ("waiting", "running"))
        return client.get(f"/v1/jobs/{job}").json

    first = train()
    assert (first["state"], first["flipped"], first["head"]) == ("done", [], "live"), first
    low, value, high = first["balanced_accuracy"]
    assert 0 <= low <= value <= high <= 1
    assert sum(map(sum, first["confusion"])) > 0
    assert len(first["labels"]) == len(first["confusion"]) == 4
    bells = [row["id"] for row in client.get(f"{BASE}/rows?limit=100").json["rows"] if row["label"] == "bell"]
    client.post(f"{BASE}/labels", {"edits": [edit(number, "clock") for number in bells]})
    second = train()
    assert {one["from"] for one in second["flipped"]} >= {"bell"}
    assert second["flipped_rows"] == len(second["flipped"])
    failed = client.post(f"{BASE}/heads", {"label": "nosuch", "wait": False}).json["job"]
    wait_until(lambda: client.get(f"/v1/jobs/{failed}").json["state"] == "failed")
    assert client.get(f"/v1/jobs/{failed}").json["error"]["message"]
    assert client.get("/v1/jobs/nosuch").status == 404


def test_exports_hold_the_rows_in_order_once_and_compute_nothing(client: Client) -> None:
    client.post(f"{BASE}/labels", {"edits": [edit(3, "=cmd()"), edit(4, '<b>"x"')]})

    def export(form: str, ids: list[int]) -> Any:
        reply = client.post(f"{BASE}/exports", {"ids": ids, "format": form})
        assert reply.status == 200, reply.body
        file = client.get(f"/v1/{reply.json['url']}")
        assert file.headers["content-disposition"].startswith('attachment; filename="made-')
        assert (file.headers["x-content-type-options"], len(file.body)) == ("nosniff", reply.json["bytes"])
        assert client.get(f"/v1/{reply.json['url']}").code == "export_gone"
        return file.body

    table = list(csv.DictReader(io.StringIO(export("csv", [4, 3, 7]).decode())))
    assert [(row["id"], row["label"]) for row in table][:2] == [("4", '<b>"x"'), ("3", "'=cmd()")]
    raven = list(csv.DictReader(io.StringIO(export("raven", [3]).decode()), delimiter="\t"))
    assert (raven[0]["Selection"], raven[0]["Annotation"], raven[0]["Channel"]) == ("1", "'=cmd()", "1")
    assert export("audacity", [7]).decode().count("\t") == 2
    archive = zipfile.ZipFile(io.BytesIO(export("clips", [3, 4])))
    assert archive.namelist() == ["row3.wav", "row4.wav", "rows.csv"]
    assert archive.read("row3.wav") == client.get(f"{BASE}/rows/3/audio").body
    assert client.post(f"{BASE}/exports", {"ids": [9999]}).status == 404
    assert client.post(f"{BASE}/exports", {"ids": [3], "format": "exe"}).status == 400
    assert client.get("/v1/exports/e_0").status == 410
