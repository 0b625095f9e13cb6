"""A plan of shards in a bucket: machines without a common disk embed, one of them merges; it is as one run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import embedx
from embedx.collection.bucket_plans import read_bucket_plan
from embedx.engines import extract_shards
from embedx.errors import NothingToDo, StoreError, UsageError
from embedx.filesystem.remote import list_files, read_bytes, remove, write_bytes
from embedx.ingest.shards import plan_folder
from tests.helpers.sharded import assert_same_collection

URL = "memory://plans/field"
OPTIONS: dict[str, Any] = {"window": 0.5}


@pytest.fixture
def source(manifest: Path, tmp_path: Path) -> Iterator[Path]:
    """Some recordings, one of which cannot be read; the bucket is empty before and after."""
    table = pd.read_csv(manifest).iloc[::-1].head(4)
    table["path"] = [str(manifest.parent / path) for path in table["path"]]
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    lost = pd.DataFrame({"path": [str(tmp_path / "broken.wav")]})
    pd.concat([table.head(2), lost, table.iloc[2:]]).to_csv(tmp_path / "in.csv", index=False)
    yield tmp_path / "in.csv"
    for name in names():
        remove(f"{URL}/{name}")


def names() -> list[str]:
    try:
        return sorted(file.url[len(URL) + 1 :] for file in list_files(URL))
    except FileNotFoundError:
        return []


def plan(source: Path, out: Path, shards: int) -> None:
    assert extract_shards(source, out=out, shards=shards, plan=URL, plan_only=True, **OPTIONS) is None


def merge(source: Path, out: Path, shards: int) -> None:
    merged = extract_shards(source, out=out, shards=shards, plan=URL, **OPTIONS)
    assert merged is not None
    merged.close()


def test_machines_without_common_disk_give_the_collection_of_one_run(source: Path, tmp_path: Path) -> None:
    first, second, third = (tmp_path / name / "field" for name in ("a", "b", "c"))
    plan(source, first, 3)
    for machine, number in ((second, 3), (third, 1)):
        with embedx.extract(source, out=machine, plan=URL, shard=f"{number}/3", **OPTIONS) as part:
            assert part.folder.parent.parent == plan_folder(machine)
    assert [name for name in names() if name.endswith("done")] == ["00001/done", "00003/done"]
    sent = read_bytes(f"{URL}/00003/part/embedx.json")
    embedx.extract(source, out=third, plan=URL, shard="3/3", **OPTIONS).close()  # done by another machine
    assert read_bytes(f"{URL}/00003/part/embedx.json") == sent
    write_bytes(f"{URL}/notes.txt", b"of somebody else")
    merge(source, first, 3)  # it embeds what is missing
    embedx.extract(source, out=tmp_path / "one", **OPTIONS).close()
    assert_same_collection(tmp_path / "one", first)
    assert names() == ["notes.txt"]
    assert not plan_folder(first).exists()


@pytest.mark.long
def test_stopped_steps_are_done_again(source: Path, tmp_path: Path) -> None:
    """The plan was not complete in the bucket; a part was sent without its report; the merge had begun."""
    first, second = tmp_path / "a" / "field", tmp_path / "b" / "field"
    plan(source, first, 2)
    remove(f"{URL}/plan.json")
    with pytest.raises(UsageError, match=r"There is no plan at memory://plans/field. --shards N --plan-only writes it"):
        embedx.extract(source, out=second, plan=URL, shard="1/2", **OPTIONS)
    plan(source, first, 2)
    for number in (1, 2):
        embedx.extract(source, out=second, plan=URL, shard=f"{number}/2", **OPTIONS).close()
    remove(f"{URL}/00002/done")
    embedx.extract(source, out=second, plan=URL, shard="2/2", **OPTIONS).close()
    assert "00002/done" in names()
    manifest = json.loads(read_bytes(f"{URL}/00002/part/embedx.json"))
    part = "00002/part/parts/" + next(one["digest"] for one in manifest["parts"] if one["name"] == "store.db")
    whole = read_bytes(f"{URL}/{part}")
    write_bytes(f"{URL}/{part}", whole[:-1] + b"?")
    with pytest.raises(StoreError, match=r"00002/part is damaged.* Delete memory://plans/field/00002/done"):
        merge(source, first, 2)
    with embedx.open(first) as begun:
        assert len(begun)
    write_bytes(f"{URL}/00002/done", b"{")
    with pytest.raises(StoreError, match="memory://plans/field/00002/done is damaged"):
        merge(source, first, 2)
    remove(f"{URL}/00002/done")  # what the message and docs/scale.md say
    merge(source, first, 2)
    embedx.extract(source, out=tmp_path / "one", **OPTIONS).close()
    assert_same_collection(tmp_path / "one", first)


def test_shard_of_an_earlier_plan_at_the_same_place_is_not_taken(source: Path, tmp_path: Path) -> None:
    """The deletion of the earlier plan was stopped, after its first file."""
    plan(source, tmp_path / "a", 2)
    embedx.extract(source, out=tmp_path / "a", plan=URL, shard="1/2", **OPTIONS).close()
    remove(f"{URL}/plan.json")
    table = pd.read_csv(source)
    table.iloc[::-1].to_csv(source, index=False)
    merge(source, tmp_path / "b", 2)
    embedx.extract(source, out=tmp_path / "one", **OPTIONS).close()
    assert_same_collection(tmp_path / "one", tmp_path / "b")


@pytest.mark.long
def test_empty_shards_need_no_collection(source: Path, tmp_path: Path) -> None:
    plan(source, tmp_path / "a", 10)
    with pytest.raises(NothingToDo, match="Shard 1 of 10 is empty"):
        embedx.extract(source, out=tmp_path / "b", plan=URL, shard="1/10", **OPTIONS)
    assert read_bucket_plan(URL, tmp_path / "b").report(1) is not None  # type: ignore[union-attr]
    merge(source, tmp_path / "a", 10)
    assert names() == []


def test_other_plans_and_places_are_refused(source: Path, tmp_path: Path) -> None:
    plan(source, tmp_path / "a", 2)
    calls: list[tuple[dict[str, Any], str]] = [
        ({"shard": "1/2"}, "window: 0.5, not 'not given'"),
        ({"shard": "1/3", "window": 0.5}, "shards: 2, not 3"),
        ({"window": 0.5}, "--plan needs --shards N, or --shard I/N"),
    ]
    for call, problem in calls:
        with pytest.raises(UsageError, match=problem):
            embedx.extract(source, out=tmp_path / "b", plan=URL, **call)
    assert len(embedx.extract(source, out=tmp_path / "b", plan=URL, dry_run=True)) == 0  # of all recordings
    with pytest.raises(UsageError, match=r"is not a place in a bucket"):
        embedx.extract(source, out=tmp_path / "b", plan=str(tmp_path / "plan"), shard="1/2", **OPTIONS)
    extract_shards(source, out=tmp_path / "c", shards=2, plan_only=True, **OPTIONS)
    with pytest.raises(UsageError, match=r"c\.shards is of another plan than memory://plans/field"):
        embedx.extract(source, out=tmp_path / "c", plan=URL, shard="1/2", **OPTIONS)
    for name in names():
        remove(f"{URL}/{name}")
    write_bytes(f"{URL}/letter.txt", b"Dear reader")
    with pytest.raises(UsageError, match=r"holds other files, such as letter\.txt"):
        extract_shards(source, out=tmp_path / "d", shards=2, plan=URL, **OPTIONS)
