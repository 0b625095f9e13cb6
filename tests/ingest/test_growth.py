"""The cost of a commit, and of a run with nothing to do, does not grow with the collection."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

import embedx
from embedx.collection.verify import find_issues
from embedx.errors import RecipeMismatch, StoreError
from embedx.extractors.fingerprint import fingerprint_model
from embedx.ingest.pipeline import Progress
from embedx.recipe import Recipe
from embedx.store.records import Recording, Row, Vectors
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store
from tests.helpers.paths import ROOT

RECIPE = Recipe("logmel", "", "00", 16_000, (0,), ("mean",))
DIM = 8
FILES = int(os.environ.get("EMBEDX_FILES", "100000"))  # of the test on demand
WriteWav = Callable[..., Path]
Batch = list[tuple[Recording, list[tuple[Row, Vectors]]]]


def batch(first: int, size: int) -> Batch:
    """Recordings of two rows each, named and numbered from `first` on."""
    made: Batch = []
    for number in range(first, first + size):
        name = f"/{number:06d}.wav"
        recording = Recording(name, 10, 20, "[[0.0, null]]", f"{hash(number) & 0xFFFFFFFF:08x}", 2.0, 8000, 1)
        vector = np.full(DIM, number, np.float32)
        rows = [Row(2 * number + i, name, float(i), i + 1.0, "owl", None, None, (), {"n": i}) for i in (1, 2)]
        made.append((recording, [(row, {"L0.mean": vector}) for row in rows]))
    return made


def filled(folder: Path, size: int) -> Store:
    store = Store.create(folder, RECIPE, DIM)
    store.add(batch(0, size), store.start_run({}))
    return store


@contextmanager
def steps_of(store: Store) -> Iterator[list[int]]:
    """Count the instructions of SQLite's machine, in hundreds."""
    counted = [0]

    def count() -> None:
        counted[0] += 1

    store._db.set_progress_handler(count, 100)
    yield counted
    store._db.set_progress_handler(None, 0)


CHANGES: dict[str, Callable[[Store], None]] = {
    "add": lambda store: store.add(batch(9000, 20), 1),
    "replace": lambda store: store.add([(one, []) for one, _ in batch(100, 20)], 1),
    "delete": lambda store: store.delete([row.id for _, rows in batch(100, 20) for row, _ in rows]),
    "forget": lambda store: store.forget([one.path for one, _ in batch(100, 20)]),
    "relabel": lambda store: store.relabel(
        [replace(row, label="jay") for _, rows in batch(100, 20) for row, _ in rows]
    ),
    "move": lambda store: store.relink({one.path: replace(one, path=f"{one.path}.old") for one, _ in batch(100, 20)}),
    "mend": lambda store: store.rewrite((row.id, vectors) for _, rows in batch(100, 20) for row, vectors in rows),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change_takes_same_steps_in_ten_times_larger_collection(name: str, tmp_path: Path) -> None:
    steps = []
    for size in (200, 2000):
        with filled(tmp_path / str(size), size) as store, steps_of(store) as counted:
            CHANGES[name](store)
        steps.append(counted[0])
    assert 0 < steps[1] <= 1.1 * steps[0] + 2


@pytest.mark.parametrize("name", CHANGES)
def test_stored_counters_equal_contents_after_every_change(name: str, tmp_path: Path) -> None:
    with filled(tmp_path / "c", 200) as store:
        CHANGES[name](store)
        assert store.count() == len(store.ids()) == len(store.rows())
    assert find_issues(tmp_path / "c") == []


def test_failed_change_is_not_counted(tmp_path: Path) -> None:
    with filled(tmp_path / "c", 5) as store:
        good, bad = batch(10, 2)
        with pytest.raises(KeyError):
            store.add([good, (bad[0], [(bad[1][0][0], {})])], 1)
        store.add([good], 1)
        assert store.count() == len(store.rows()) == 12
    assert find_issues(tmp_path / "c") == []


def test_lost_rows_are_reported_and_refused_by_the_next_writer(tmp_path: Path) -> None:
    filled(tmp_path / "c", 20).close()
    with closing(sqlite3.connect(tmp_path / "c" / FILE_NAME)) as db:  # no damaged page is so tidy
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("DELETE FROM recordings WHERE path = ?", (b"/000007.wav",))
        db.commit()
    with Store(tmp_path / "c", write=True) as store:
        refused = pytest.raises(StoreError, match="is damaged: the table recordings should hold 20 entries")
        with refused:
            store.add(batch(50, 3), 1)
        with refused:
            store.forget(["/000003.wav"])
    found = {one.place: one.detail for one in find_issues(tmp_path / "c")}
    assert found["rows"] == "It should hold 40 entries, but it holds 38, or others."
    assert found["recordings"] == "It should hold 20 entries, but it holds 19, or others."


# -- nothing to do ---------------------------------------------------------------------------------------------------


def loaded_by(*arguments: str) -> tuple[set[str], dict[str, Any]]:
    """Return the heavy libraries that a command has loaded, and its summary."""
    code = (
        "import sys; from embedx.cli import run; assert run(sys.argv[1:]) == 0; "
        "print('loaded', *{'torch', 'transformers', 'pandas', 'faiss', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    text, _, names = done.stdout.rstrip("\n").rpartition("\n")
    return set(names.split()[1:]), json.loads(text) if "--json" in arguments else {}


@pytest.mark.long
def test_run_with_nothing_to_do_loads_no_model(
    manifest: Path, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    for model, options in (
        ("logmel", ([], ["--prune"])),
        (str(checkpoint("hubert")), (["--dry-run"], ["--checksum"])),
    ):
        out = tmp_path / Path(model).name
        embedx.extract(manifest.parent, model=model, layers="all", out=out).close()
        command = ("extract", str(manifest.parent), "-o", str(out), "--model", model, "--layers", "all", "--json")
        for more in options:
            names, summary = loaded_by(*command, *more)
            assert names == {"numpy"}
            assert (summary["already_there"], summary["recordings"], summary["new"]) == (40, 40, 0)


def test_help_loads_no_heavy_module() -> None:
    assert loaded_by("--help")[0] == set()


def test_labels_added_later_load_no_model(manifest: Path, tmp_path: Path) -> None:
    embedx.extract(manifest.parent, layout="files", out=tmp_path / "c").close()
    assert "torch" not in loaded_by("extract", str(manifest), "-o", str(tmp_path / "c"))[0]
    with embedx.open(tmp_path / "c") as collection:
        assert set(collection.rows()["label"]) == set(pd.read_csv(manifest)["label"])


def test_rows_are_read_only_if_source_has_metadata(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedx.extract(manifest, out=tmp_path / "c").close()
    read = []
    each_row = Store.each_row

    def noted(store: Store, *which: Any) -> Iterator[Row]:
        read.append(which)
        return each_row(store, *which)

    monkeypatch.setattr(Store, "each_row", noted)
    embedx.extract(manifest.parent, layout="files", out=tmp_path / "c").close()
    assert not read
    embedx.extract(manifest, out=tmp_path / "c").close()
    assert len(read) == 1


def test_changed_options_are_refused_with_nothing_to_do(manifest: Path, tmp_path: Path) -> None:
    embedx.extract(manifest, out=tmp_path / "c").close()
    changes: tuple[dict[str, Any], ...] = (
        {"pooling": "max"},
        {"window": 2.0},
        {"channels": "first"},
        {"model": "mfcc"},
        {"tail": "pad"},
    )
    for options in changes:
        with pytest.raises(RecipeMismatch):
            embedx.extract(manifest, out=tmp_path / "c", **options)


def test_replaced_model_is_refused_with_nothing_to_do(
    write_wav: WriteWav, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    wav, folder = write_wav(), tmp_path / "model"
    shutil.copytree(checkpoint("hubert"), folder)
    embedx.extract(wav, model=str(folder), out=tmp_path / "c").close()
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layers.2.final_layer_norm.weight"] += 1
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RecipeMismatch, match="weights"):
        embedx.extract(wav, model=str(folder), out=tmp_path / "c")


def test_new_files_after_run_without_model_are_embedded(write_wav: WriteWav, tmp_path: Path) -> None:
    write_wav("in/a.wav")
    seen: list[Progress] = []
    for count in (1, 1, 2):
        if count == 2:
            write_wav("in/b.wav")
        embedx.extract(tmp_path / "in", out=tmp_path / "c", on_progress=seen.append).close()
        assert (seen[-1].total, seen[-1].done) == (count, count)
    embedx.extract(tmp_path / "in", out=tmp_path / "whole").close()
    with embedx.open(tmp_path / "c") as grown, embedx.open(tmp_path / "whole") as whole:
        np.testing.assert_allclose(grown.vectors(), whole.vectors(), rtol=1e-6)


def test_dry_run_of_new_files_loads_no_model(write_wav: WriteWav, tmp_path: Path) -> None:
    write_wav("in/a.wav")
    embedx.extract(tmp_path / "in", out=tmp_path / "c").close()
    write_wav("in/b.wav", seconds=3.0)
    before = (tmp_path / "c" / FILE_NAME).read_bytes()
    names, plan = loaded_by("extract", str(tmp_path / "in"), "-o", str(tmp_path / "c"), "--dry-run", "--json")
    assert "torch" not in names
    assert (plan["new"], plan["expected_rows"], plan["expected_bytes"]) == (1, 1, 1024)
    assert (tmp_path / "c" / FILE_NAME).read_bytes() == before


def test_fingerprint_changes_with_model_files(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint("hubert"), folder)
    first = fingerprint_model(str(folder))
    assert first
    assert {Path(name).name for name, _, _ in first} >= {"config.json", "model.safetensors"}
    assert fingerprint_model(str(folder)) == first
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert fingerprint_model(str(folder)) != first
    assert fingerprint_model("yamnet:/nowhere.safetensors") is None
    assert fingerprint_model("nobody/has-this-model") is None


# -- on demand -------------------------------------------------------------------------------------------------------


@pytest.mark.reliability
def test_run_over_hundred_thousand_files_stays_cheap() -> None:
    """`pytest -m reliability tests/ingest/test_growth.py`: half an hour; EMBEDX_FILES=10000 for less."""
    command = [sys.executable, str(ROOT / "benchmarks/growth.py"), "--files", f"1000,{FILES}", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures = json.loads(done.stdout)
    before, large, after = figures["runs"]
    near = (before["cpu_s"] + after["cpu_s"]) / 2
    assert large["cpu_s"] / FILES <= 1.15 * near / 1000
    assert large["commit_s"] <= 0.02 * large["seconds"]
    assert large["memory_mb"] <= before["memory_mb"] + 2e-3 * FILES  # 2 kB of names and facts a file, and no vectors
    for name, again in figures["again"].items():
        assert again["cpu_s"] <= 10 * max(1.0, FILES / 1e5), name
