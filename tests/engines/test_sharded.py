"""Extraction in shards: the collection equals that of one run, and a plan is continued or refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import embedx
from embedx.engines import extract_shards
from embedx.errors import LockedError, NothingToDo, StoreError, UsageError
from embedx.ingest.shards import plan_folder, read_plan
from embedx.store.lock import Lock
from tests.helpers.commands import outcome
from tests.helpers.paths import ROOT
from tests.helpers.processes import linux, wait_until
from tests.helpers.sharded import KILLER, assert_same_collection

WriteWav = Callable[..., Path]


@pytest.fixture
def source(manifest: Path, tmp_path: Path) -> Path:
    """A manifest in an order of its own, with stretches, metadata, an odd name, and recordings that cannot be used."""
    table = pd.read_csv(manifest).iloc[::-1].head(12)
    table["path"] = [str(manifest.parent / path) for path in table["path"]]
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    parts = pd.DataFrame({"path": [table["path"].iloc[3]] * 2, "start_s": [0.0, 0.2], "end_s": [0.1, None]})
    lost = pd.DataFrame({"path": [str(tmp_path / "broken.wav"), str(tmp_path / "not there é.wav")]})
    whole = table.drop(index=table.index[3])
    pd.concat([whole.head(5), lost, parts, whole.iloc[5:]]).to_csv(tmp_path / "in.csv", index=False)
    return tmp_path / "in.csv"


@pytest.mark.parametrize("shards", [1, 3, 40])
def test_shards_give_the_collection_of_one_run(source: Path, tmp_path: Path, shards: int) -> None:
    embedx.extract(source, out=tmp_path / "one", window=0.5).close()
    merged = extract_shards(source, out=tmp_path / "many", shards=shards, window=0.5)
    assert merged is not None and len(merged)
    merged.close()
    assert_same_collection(tmp_path / "one", tmp_path / "many")
    assert not plan_folder(tmp_path / "many").exists()


def test_shards_add_what_a_collection_lacks(source: Path, tmp_path: Path) -> None:
    """The edited recording and the new labels are those of one run too."""
    table = pd.read_csv(source)
    table.head(4).to_csv(source, index=False)
    for name in ("one", "many"):
        embedx.extract(source, out=tmp_path / name).close()
    table.assign(label="new").to_csv(source, index=False)
    embedx.extract(source, out=tmp_path / "one").close()
    merged = extract_shards(source, out=tmp_path / "many", shards=2)
    assert merged is not None
    merged.close()
    assert_same_collection(tmp_path / "one", tmp_path / "many")


def test_machines_do_shards_of_a_plan(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "many"
    assert extract_shards(source, out=out, shards=3, plan_only=True, window=0.5) is None
    for number in (3, 1):
        with embedx.extract(source, out=out, window=0.5, shard=f"{number}/3") as part:
            assert part.folder.parent.parent == plan_folder(out)
    before = (plan_folder(out) / "00003" / "done").stat().st_mtime_ns
    embedx.extract(source, out=out, window=0.5, shard="3/3", device="cpu").close()
    assert (plan_folder(out) / "00003" / "done").stat().st_mtime_ns == before  # what is done is left as it is
    extract_shards(source, out=out, shards=3, window=0.5)
    embedx.extract(source, out=tmp_path / "one", window=0.5).close()
    assert_same_collection(tmp_path / "one", out)


def test_command_says_that_a_shard_is_done(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "many"
    extract_shards(source, out=out, shards=2, plan_only=True, window=0.5)
    for number, code in ((1, 3), (2, 0)):  # the first one has the recordings that cannot be used
        command = ["extract", source, "-o", out, "--window", 0.5, "--shard", f"{number}/2", "--json"]
        first, again = (outcome(capsys, *command) for _ in range(2))
        assert (first[0], again[0]) == (code, code), again[2]
        mine, other = json.loads(first[1]), json.loads(again[1])
        assert (other["recordings"], other["already_there"]) == (mine["recordings"], mine["embedded"])
        assert (other["embedded"], other["rows"]) == (0, mine["rows"])


def test_shards_are_searched_as_the_merged_collection(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "many"
    extract_shards(source, out=out, shards=2, plan_only=True, window=0.5)
    for number in (1, 2):
        embedx.extract(source, out=out, window=0.5, shard=f"{number}/2").close()
    plan = read_plan(out)
    assert plan is not None
    folders = [plan.collection(number) for number in (1, 2)]
    with embedx.open(folders) as parts:
        query = parts.collections[1].rows()["path"].iloc[0]
        found = parts.search(query, k=30, where="duration_s > 0.2")
    merged = extract_shards(source, out=out, shards=2, window=0.5)
    assert merged is not None
    expected = merged.search(query, k=30, where="duration_s > 0.2")
    merged.close()
    assert [(hit.path, hit.start_s, hit.score) for hit in found] == [
        (hit.path, hit.start_s, hit.score) for hit in expected
    ]
    assert {hit.collection for hit in found} == set(map(str, folders))


@pytest.mark.parametrize(
    "call, said",
    [
        ({"shards": 4}, "shards: 3, not 4"),
        ({"shards": 3, "window": 1.0}, "window: 0.5, not 1.0"),
        ({"shards": 3, "window": 0.5, "pooling": "max"}, "pooling: 'not given', not 'max'"),
        ({"shards": 0}, "from 1 to 100000"),
        ({"shards": 3, "engine": "spark"}, "Engines: local, ray"),
        ({"shards": 3, "shard": "1/3"}, "not both"),
        ({"shard": "1/4", "window": 0.5}, "shards: 3, not 4"),
        ({"shard": "4/3", "window": 0.5}, "such as 1/4"),
        ({"shard": "1/3", "window": 0.5, "dry_run": True}, "--dry-run and --shard of a plan"),
    ],
)
def test_another_plan_or_an_impossible_one_is_refused(
    source: Path, tmp_path: Path, call: dict[str, Any], said: str
) -> None:
    extract_shards(source, out=tmp_path / "many", shards=3, plan_only=True, window=0.5)
    do = extract_shards if "shards" in call else embedx.extract
    with pytest.raises(UsageError, match=said):
        do(source, out=tmp_path / "many", **call)
    with pytest.raises(UsageError, match="source: "):
        extract_shards(tmp_path, out=tmp_path / "many", shards=3, window=0.5)


def test_empty_shard_damaged_plan_and_busy_shard_are_explained(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "many"
    extract_shards(source, out=out, shards=50, plan_only=True)
    with pytest.raises(NothingToDo, match="Shard 1 of 50 is empty: the plan has 14 recordings"):
        embedx.extract(source, out=out, shard="1/50")
    busy = Lock(plan_folder(out) / "00050")
    with pytest.raises(LockedError, match="00050 is being written"):
        extract_shards(source, out=out, shards=50)
    assert read_plan(out).report(49) is not None  # type: ignore[union-attr]  # the others are done
    busy.release()
    (plan_folder(out) / "plan.json").write_text("{}")
    with pytest.raises(StoreError, match=r"Delete .* to start again"):
        extract_shards(source, out=out, shards=50)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def exchange(first: Path, second: Path) -> None:
    kept = first.with_name("kept")
    first.rename(kept)
    second.rename(first)
    kept.rename(second)


def test_damaged_or_exchanged_shard_is_refused_by_name(source: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "many", plan_folder(tmp_path / "many")
    extract_shards(source, out=out, shards=2, plan_only=True)
    for number in (1, 2):
        embedx.extract(source, out=out, shard=f"{number}/2").close()
    shutil.copytree(folder, tmp_path / "copy")
    changes: list[tuple[Callable[[], Any], str]] = [
        (lambda: exchange(folder / "00001/part", folder / "00002/part"), "not the finished collection of shard 1"),
        (lambda: exchange(folder / "00001/items", folder / "00002/items"), "00001/items is damaged, missing"),
        (lambda: (folder / "00001/items").unlink(), "00001/items is damaged, missing"),
        (lambda: cut(folder / "00001/items"), "00001/items is damaged, missing"),
        (lambda: cut(folder / "00001/done"), "00001/done is damaged"),
        (lambda: (folder / "00001/done").write_text("[]"), "00001/done is damaged"),
    ]
    for change, message in changes:
        change()
        with pytest.raises(StoreError, match=f"{message}.* Delete "):
            extract_shards(source, out=out, shards=2)
        assert not out.exists()
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "copy", folder)
    extract_shards(source, out=out, shards=2).close()  # type: ignore[union-attr]  # as it was


def extract_by_command(folder: Path, out: str, *arguments: str, slow: float = 0.0) -> "subprocess.Popen[str]":
    """Start `embedx extract in` with a model that dies of loud recordings."""
    command = [sys.executable, "-m", "embedx", "extract", "in", "-o", out, "--model", "killer:make", *arguments]
    env = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "SLOW": str(slow)}
    return subprocess.Popen(
        [*command, "--batch-seconds", "1", "--json"],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> None:
    _, log = process.communicate(timeout=120)
    assert process.returncode == 0, log


@linux
@pytest.mark.long
def test_recording_that_kills_its_process_twice_is_a_failure(write_wav: WriteWav, tmp_path: Path) -> None:
    (tmp_path / "killer.py").write_text(KILLER)
    for i in range(6):
        write_wav(f"in/{i}.wav", samples=np.full(16_000, 1.0 if i == 3 else 0.1 * (i + 1), np.float32))
    codes: list[int] = []
    while not codes or codes[-1] == -signal.SIGKILL:
        process = extract_by_command(tmp_path, "many", "--shards", "2")
        out, log = process.communicate(timeout=120)
        codes.append(process.returncode)
        assert len(codes) <= 4, log
    summary = json.loads(out)
    assert (codes[-1], summary["rows"], summary["failures"]) == (3, 5, {"killed": 1})
    with embedx.open(tmp_path / "many") as merged:
        assert [Path(path).name for path in merged.rows()["path"]] == ["0.wav", "1.wav", "2.wav", "4.wav", "5.wav"]


@linux
@pytest.mark.long
def test_workers_and_the_merging_process_are_killed_again_and_again(write_wav: WriteWav, tmp_path: Path) -> None:
    """Two processes do shards of a plan while a third one merges; all are killed at any moment, three times."""
    (tmp_path / "killer.py").write_text(KILLER)
    for i in range(12):
        write_wav(f"in/{i:02d}.wav", seconds=1 + i % 3)
    finish(extract_by_command(tmp_path, "many", "--shards", "4", "--plan-only"))
    random = np.random.default_rng(5)
    for _ in range(3):
        tries = [("--shard", "2/4"), ("--shard", "4/4"), ("--shards", "4")]
        processes = [extract_by_command(tmp_path, "many", *more, slow=0.3) for more in tries]
        wait_until(lambda: any(tmp_path.glob("many.shards/*/part")), 120)
        time.sleep(random.uniform(0, 2))
        for process in processes:
            process.kill()
            process.communicate()
    finish(extract_by_command(tmp_path, "many", "--shards", "4"))
    finish(extract_by_command(tmp_path, "one"))
    assert_same_collection(tmp_path / "one", tmp_path / "many")
