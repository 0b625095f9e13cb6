"""Planted duplicates are found, and groups equal a comparison of all pairs."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

import embedx
from embedx.cli import run
from embedx.errors import UsageError
from embedx.search import duplicates, pairs
from embedx.search.duplicates import Duplicates, Group, Member
from tests.helpers.collections import DIM, build_collection


@pytest.fixture(scope="module")
def planted(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten synthetic recordings, six variants of one of them, and three silent ones; in windows of 0.5 s."""
    folder = tmp_path_factory.mktemp("planted")
    for path in sorted(manifest.parent.glob("*/*-0.wav"))[::2]:
        shutil.copy(path, folder / path.name)
    samples, rate = soundfile.read(folder / "bell0-0.wav", dtype="float32")
    shutil.copy(folder / "bell0-0.wav", folder / "copy.wav")
    soundfile.write(folder / "again.flac", samples, rate)
    soundfile.write(folder / "lossy.ogg", samples, rate)
    soundfile.write(folder / "louder.wav", 1.5 * samples, rate, subtype="FLOAT")
    soundfile.write(folder / "trimmed.wav", samples[: rate // 2 * 2], rate)
    for name, seconds in (("silent1", 1), ("silent2", 1), ("silent3", 2)):
        soundfile.write(folder / f"{name}.wav", np.zeros(seconds * rate), rate)
    out = tmp_path_factory.mktemp("indexes") / "planted"
    embedx.extract(folder, window=0.5, out=out).close()
    return out


def names(group: duplicates.Group) -> set[str]:
    return {Path(one.path).name for one in group.members}


def test_planted_duplicates_are_found_and_named(planted: Path) -> None:
    with embedx.open(planted) as collection:
        found = collection.duplicates(threshold=0.995)
        rows = collection.rows()
    silent = rows["flags"].str.contains("silent")
    assert found.silent == silent.sum() >= 8
    assert found.compared == (~silent).sum()
    assert found.complete
    copies = [names(group) for group in found if group.why == "same file"]
    assert copies == [{"bell0-0.wav", "copy.wav"}, {"silent1.wav", "silent2.wav"}]
    equal = [group for group in found if group.why == "same vector"]
    first = next(group for group in equal if any(one.start_s == 0 for one in group.members))
    assert {"bell0-0.wav", "again.flac", "trimmed.wav"} <= names(first)
    assert {one.start_s for one in first.members} == {0.0}
    for group in found:
        if group.kind == "near":
            assert 0.995 - 1e-6 <= group.highest <= 1 + 1e-6
            assert group.lowest <= group.highest
    loud = next(group for group in found if group.kind == "near" and "louder.wav" in names(group))
    assert {"bell0-0.wav", "lossy.ogg", "louder.wav"} <= names(loud)
    silence = {"silent1.wav", "silent2.wav", "silent3.wav"}
    for group in found:
        assert not names(group) & silence or (group.why, names(group)) == ("same file", {"silent1.wav", "silent2.wav"})


def brute_force(
    collection: embedx.Collection, threshold: float, where: str | None, within: bool
) -> set[frozenset[int]]:
    """Return the connected groups of rows by comparing every pair."""
    rows, vectors = collection.rows(where), collection.vectors(where=where).astype(np.float64)
    audible = (~rows["flags"].str.contains("silent")).to_numpy()
    rows, vectors = rows[audible], vectors[audible]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    group = {number: {number} for number in rows.index}
    for i, j in itertools.combinations(range(len(rows)), 2):
        one, other = rows.iloc[i], rows.iloc[j]
        same = one["path"] == other["path"]
        overlap = one["start_s"] < other["end_s"] and other["start_s"] < one["end_s"]
        if vectors[i] @ vectors[j] >= threshold and not (same and (overlap or not within)):
            joined = group[rows.index[i]] | group[rows.index[j]]
            for number in joined:
                group[number] = joined
    return {frozenset(one) for one in group.values() if len(one) > 1}


@pytest.mark.parametrize("where", [None, "start_s >= 0.5"])
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("threshold", [0.9, 0.97, 0.999])
def test_near_groups_equal_comparison_of_all_pairs(
    planted: Path, where: str | None, within: bool, threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "BLOCK", 7)
    with embedx.open(planted) as collection:
        expected = brute_force(collection, threshold, where, within)
        found = collection.duplicates(threshold=threshold, where=where, within=within)
        near = {frozenset(one.id for one in group.members) for group in found if group.kind == "near"}
        exact = [group for group in found if group.kind == "exact"]
        rows = collection.rows()
        copies = rows[
            rows["path"].isin([one.path for group in exact if group.why == "same file" for one in group.members])
        ]
        known = [set(copies.index), *({one.id for one in group.members} for group in exact)]
        assert near <= expected
        assert all(any(group <= one for one in known) for group in expected - near), "only copies are not told again"
        monkeypatch.setattr(duplicates, "MAX_ROWS", 10)
        few = collection.duplicates(threshold=threshold, where=where, within=within)
        assert not few.complete
        assert {frozenset(one.id for one in group.members) for group in few if group.kind == "near"} == near


def test_duplicate_scores_equal_scores_of_members(planted: Path) -> None:
    with embedx.open(planted) as collection:
        ids = collection.rows().index.tolist()
        vectors = collection.vectors()
        for group in collection.duplicates(threshold=0.95):
            if group.kind == "near":
                mine = vectors[[ids.index(one.id) for one in group.members]].astype(np.float64)
                mine /= np.linalg.norm(mine, axis=1, keepdims=True)
                scores = [
                    mine[i] @ mine[j]
                    for i, j in itertools.combinations(range(len(mine)), 2)
                    if group.members[i].path != group.members[j].path
                ]
                assert group.lowest == pytest.approx(min(scores), abs=1e-6)
                assert group.highest == pytest.approx(max(scores), abs=1e-6)


def test_windows_of_one_recording_are_not_duplicates(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    tone = np.sin(np.arange(4 * 16_000) / 5).astype(np.float32)
    write_wav("in/tone.wav", samples=tone)
    with embedx.extract(tmp_path / "in", window=1, hop=0.5, out=tmp_path / "c") as collection:
        assert len(collection.duplicates(threshold=0.9)) == 0
        groups = collection.duplicates(threshold=0.9, within=True)
        assert [len(group.members) for group in groups if group.kind == "near"] <= [7]
        assert {one.id for group in groups for one in group.members} == set(range(1, 8))


def rewrite(folder: Path, vectors: dict[int, float]) -> None:
    """Return rows with vectors of dimension 1."""
    with embedx.store.Store(folder, write=True) as store:
        dims = store.views
        store.rewrite((row, {view: np.full(dim, value, np.float32) for view, dim in dims.items()})
                      for row, value in vectors.items())  # fmt: skip


def test_zero_vector_has_no_duplicates(planted: Path, tmp_path: Path) -> None:
    shutil.copytree(planted, tmp_path / "c")
    with embedx.open(planted) as collection:
        rows = collection.rows("flags not like '%silent%'")
    chosen = set(rows.index[~rows["path"].duplicated()][:4])
    assert len(chosen) == 4
    rewrite(tmp_path / "c", dict.fromkeys(chosen, 0.0))
    with embedx.open(tmp_path / "c") as collection:
        for group in collection.duplicates(threshold=0.01):
            assert group.why == "same file" or not {one.id for one in group.members} & chosen


def test_equal_vectors_of_unequal_duration_are_not_exact(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    for name, seconds in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        samples = np.random.default_rng(ord(name)).uniform(-0.5, 0.5, round(seconds * 16_000)).astype(np.float32)
        write_wav(f"in/{name}.wav", samples=samples)
    embedx.extract(tmp_path / "in", out=tmp_path / "c").close()
    rewrite(tmp_path / "c", dict.fromkeys((1, 2, 3), 1.0))
    with embedx.open(tmp_path / "c") as collection:
        found = {group.why: {one.id for one in group.members} for group in collection.duplicates(where="id <> 2")}
        assert found == {"near vector": {1, 3}}
        found = {group.why: {one.id for one in group.members} for group in collection.duplicates()}
        assert found["same vector"] == {1, 2}
        assert found["near vector"] == {1, 2, 3}


def test_exact_only_option_and_frames_work(planted: Path) -> None:
    with embedx.open(planted) as collection:
        found = collection.duplicates(exact_only=True)
        assert {group.kind for group in found} == {"exact"}
        frame = found.to_pandas()
        assert list(frame.columns) == [
            *("group", "kind", "why", "lowest", "highest", "id", "path", "start_s", "end_s", "label")
        ]
        assert len(frame) == sum(len(group.members) for group in found)
        assert len(collection.duplicates(where="path like '%bell0-0%'")) == 0
        for threshold in (0, -1, 1.5, float("nan")):
            with pytest.raises(UsageError, match="above 0"):
                collection.duplicates(threshold=threshold)


def test_duplicates_command_prints_groups(planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def outcome(*options: str) -> Any:
        assert run(["duplicates", str(planted), *options]) == 0
        return capsys.readouterr()

    with embedx.open(planted) as collection:
        frame = collection.duplicates(threshold=0.97).to_pandas()
    table, log = outcome("--threshold", "0.97", "--all")
    assert table.splitlines()[0].split()[:6] == ["group", "kind", "why", "lowest", "highest", "id"]
    assert len(table.splitlines()) == 1 + len(frame)
    assert "rows compared" in log
    outcome("--threshold", "0.97", "--format", "csv", "--output", str(tmp_path / "found.csv"))
    assert pd.read_csv(tmp_path / "found.csv")["id"].tolist() == frame["id"].tolist()
    assert '"complete": true' in outcome("--format", "json", "--exact-only")[0]


def arc(rows: int, cosine: float) -> np.ndarray:
    """Return unit vectors on a circle with a given cosine between neighbours."""
    angles = np.arange(rows) * np.arccos(cosine)
    vectors = np.zeros((rows, DIM), np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
    return vectors


@pytest.mark.parametrize("max_rows", [200_000, 10])  # all pairs, or the nearest neighbors only
def test_long_chain_gets_the_lowest_higher_threshold_that_splits_it(
    max_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "MAX_ROWS", max_rows)
    chain, apart = arc(40, 0.9935), 1e3 * np.eye(DIM, dtype=np.float32)[2:].repeat(2, axis=0)
    vectors = np.concatenate([chain, apart[:34]])
    with build_collection(tmp_path, vectors, [None] * len(vectors)) as collection:
        found = collection.duplicates(threshold=0.99)
        assert max(len(group.members) for group in found if group.kind == "near") == 40
        assert found.suggested_threshold == 0.994
        assert "is a chain of 40 rows: a threshold of 0.994 splits it" in found.summary()
        better = collection.duplicates(threshold=found.suggested_threshold)
        assert not [group for group in better if group.kind == "near"]
        assert better.suggested_threshold is None
        assert "chain" not in better.summary()
        lower = collection.duplicates(threshold=0.9934)
        assert lower.suggested_threshold == pytest.approx(0.99406)


def test_chain_that_no_threshold_splits_gets_no_suggestion(tmp_path: Path) -> None:
    vectors = np.ones((30, DIM), np.float32) + np.arange(30, dtype=np.float32)[:, None] * 1e-6
    with build_collection(tmp_path, vectors, [None] * 30) as collection:
        found = collection.duplicates(threshold=0.99)
    assert found.suggested_threshold is None
    assert "no higher threshold splits it" in found.summary()


def test_table_shows_twenty_groups_of_ten_members_and_counts_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    centres = random.standard_normal((25, DIM)).astype(np.float32)
    sizes = [2 + (number == 3) * 11 for number in range(25)]
    vectors = np.repeat(centres, sizes, axis=0) * random.uniform(1, 2, (sum(sizes), 1)).astype(np.float32)
    build_collection(tmp_path, vectors, [None] * len(vectors)).close()
    (folder,) = tmp_path.iterdir()
    assert run(["duplicates", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    members = [line.split()[0] for line in lines if "near" in line]
    assert sorted(set(members), key=int) == [str(number) for number in range(1, 21)]
    assert max(members.count(number) for number in members) <= 10
    assert lines[-1] == "not shown: 5 more groups (--all)."
    large = [line for line in lines if line.endswith("has 3 more members (--all).")]
    assert len(large) == (max(map(members.count, members)) == 10)
    assert run(["duplicates", str(folder), "--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(vectors)


def test_summary_counts_in_words_and_says_what_near_means() -> None:
    members = tuple(Member(i, f"/{i}.wav", 0.0, 1.0, None) for i in (1, 2))
    text = Duplicates([Group("near", "near vector", 0.99, 0.99, members)], compared=40, silent=1).summary()
    assert text.startswith("0 exact groups, 1 group with near vectors; 40 rows compared, 1 silent row left out")
    assert "their audio was not compared" in text
    assert Duplicates([], compared=1).summary() == "0 exact groups, 0 groups with near vectors; 1 row compared."
