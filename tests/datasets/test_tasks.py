"""Known data sets: how their folders are read, and that a collection keeps the official split."""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import embedx
from embedx.bench.protocols import PROTOCOLS
from embedx.datasets.items import Item
from embedx.datasets.sources import LAYOUTS, read_corpus
from embedx.datasets.tasks import MANIFEST, TASKS, detect_task, read_task
from embedx.errors import NothingToDo, UsageError

ANN, BOB, EVE = "00f0204f", "0a7c2a8d", "ffffffff"  # speakers are the first 8 hex digits of a name


def write(root: Path, *names: str) -> None:
    """Write a tenth of a second of noise for every name, in the format that the name says."""
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).uniform(-0.5, 0.5, 1600)
        kind = {".au": "AU", ".flac": "FLAC"}.get(path.suffix, "WAV")
        soundfile.write(os.fsencode(path), noise, 16_000, format=kind, subtype="PCM_16")


def name(items: list[Item], root: Path) -> dict[str, Item]:
    return {os.path.relpath(item.path, root): item for item in items}


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    root = tmp_path / "speech commands"
    write(
        root,
        f"bed/{ANN}_nohash_0.wav",
        f"bed/{BOB}_nohash_0.wav",
        f"bed/{EVE}_nohash_0.flac",  # the list says .wav
        f"cat/{ANN}_nohash_0.wav",  # the same speaker and the same name in another word
        f"cat/{ANN}_nohash_1.wav",
        f"cat/{BOB}_nohash_1.wav",
        "cat/#odd name.wav",
        "caf\N{LATIN SMALL LETTER E WITH ACUTE}/x.wav",
        "_background_noise_/white_noise.wav",
        "loose.wav",
    )
    decomposed = unicodedata.normalize("NFD", "café/x.wav")
    lost = "cat/12345678_nohash_0.wav"
    (root / "testing_list.txt").write_bytes(
        f"bed/{BOB}_nohash_0.wav\r\ncat/{BOB}_nohash_1.wav\r\n{lost}\r\n\r\n{decomposed}".encode()
    )
    (root / "validation_list.txt").write_text(f"./bed/{EVE}_nohash_0.wav \n../outside.wav\n")
    return root


@pytest.fixture
def genres(tmp_path: Path) -> Path:
    """Some tracks of GTZAN with lists beside them: blues as .au, rock as .wav."""
    root = tmp_path / "gtzan"
    write(root / "genres", *(f"blues/blues.{i:05}.au" for i in range(6)), *(f"rock/rock.{i:05}.wav" for i in range(6)))
    (root / "train_filtered.txt").write_text("blues/blues.00000.wav\nblues.00001\nrock/rock.00000.au\nrock.00001.wav")
    (root / "valid_filtered.txt").write_text("blues.00002\nrock.00002\n")
    (root / "test_filtered.txt").write_text("blues.00003\nrock.00003\nrock.00099\n")
    (root / "genres/blues/blues.00001.au").write_bytes(b"no audio")
    return root


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    root = tmp_path / "free digits"
    takes = [(digit, who, i) for digit in range(3) for who in ("ann", "de_la #2") for i in (0, 10)]
    write(root / "recordings", *(f"{digit}_{who}_{i}.wav" for digit, who, i in takes))
    return root


def esc(root: Path, *categories: str, folds: int = 2) -> Path:
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for target, category in enumerate(categories):
        for fold in range(1, folds + 1):
            clip = f"{fold}-{fold}{target}-A-{target}.wav"
            write(root / "audio", clip)
            lines.append(f"{clip},{fold},{target},{category},?,{fold}{target},A")
    (root / "meta").mkdir()
    (root / "meta/esc50.csv").write_text("\n".join(lines))
    return root


def urban(root: Path) -> Path:
    clips = [(fold, kind) for fold in range(1, 11) for kind in range(2)]
    write(root / "audio", *(f"fold{fold}/{fold}{kind}-{kind}-0-0.wav" for fold, kind in clips))
    lines = [f"{fold}{kind}-{kind}-0-0.wav,{fold}{kind},9,12,1,{fold},{kind},class {kind}" for fold, kind in clips]
    (root / "metadata").mkdir()
    (root / "metadata/UrbanSound8K.csv").write_text(
        "\n".join(["slice_file_name,fsID,start,end,salience,fold,classID,class", *lines])
    )
    return root


def test_speech_commands_is_split_by_its_lists(commands: Path) -> None:
    items = name(read_task("speech-commands", commands), commands)
    expected = {
        f"bed/{ANN}_nohash_0.wav": ("bed", ANN, "train"),
        f"bed/{BOB}_nohash_0.wav": ("bed", BOB, "test"),
        f"bed/{EVE}_nohash_0.flac": ("bed", EVE, "validation"),
        f"cat/{ANN}_nohash_0.wav": ("cat", ANN, "train"),
        f"cat/{ANN}_nohash_1.wav": ("cat", ANN, "train"),
        f"cat/{BOB}_nohash_1.wav": ("cat", BOB, "test"),
        "cat/#odd name.wav": ("cat", None, "train"),
        "caf\N{LATIN SMALL LETTER E WITH ACUTE}/x.wav": ("café", None, "test"),
        "loose.wav": (None, None, "train"),
        "cat/12345678_nohash_0.wav": ("cat", "12345678", "test"),
        "../outside.wav": ("..", None, "validation"),
    }
    assert {path: (item.label, item.group, item.split) for path, item in items.items()} == expected


def test_clip_in_two_formats_stays_in_one_part(commands: Path) -> None:
    write(commands, f"bed/{BOB}_nohash_0.flac")
    items = name(read_task("speech-commands", commands), commands)
    assert items[f"bed/{BOB}_nohash_0.flac"].split == items[f"bed/{BOB}_nohash_0.wav"].split == "test"


def test_entry_in_two_lists_is_refused(commands: Path) -> None:
    with (commands / "validation_list.txt").open("a") as file:
        file.write(f"bed/{BOB}_nohash_0.wav\n")
    with pytest.raises(UsageError, match=rf"bed/{BOB}_nohash_0\.wav is in two lists .*validation and test"):
        read_task("speech-commands", commands)


def test_gtzan_is_split_by_the_lists_beside_it(genres: Path) -> None:
    items = name(read_task("gtzan", genres), genres / "genres")
    parts = {path: (item.label, item.split) for path, item in items.items()}
    assert parts == {
        "blues/blues.00000.au": ("blues", "train"),
        "blues/blues.00001.au": ("blues", "train"),
        "blues/blues.00002.au": ("blues", "validation"),
        "blues/blues.00003.au": ("blues", "test"),
        "rock/rock.00000.wav": ("rock", "train"),
        "rock/rock.00001.wav": ("rock", "train"),
        "rock/rock.00002.wav": ("rock", "validation"),
        "rock/rock.00003.wav": ("rock", "test"),
        "rock/rock.00099.au": ("rock", "test"),
    }
    every = read_corpus(genres, layout="gtzan")
    assert len(every) == 13
    assert Counter(item.split for item in every)[None] == 4  # faulty ones are embedded, and are of no part


@pytest.mark.parametrize("folder", ["genres", "genres_original", "."])
def test_gtzan_is_split_by_the_fault_filtered_lists_of_torchaudio(tmp_path: Path, folder: str) -> None:
    from torchaudio.datasets import gtzan

    for genre in gtzan.gtzan_genres:
        for i in range(100):
            path = tmp_path / folder / genre / f"{genre}.{i:05}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    items = read_task("gtzan", tmp_path)
    assert all(os.path.exists(item.path) for item in items)
    parts = {part: [i for i in items if i.split == part] for part in ("train", "validation", "test")}
    found = {part: {Path(item.path).stem for item in some} for part, some in parts.items()}
    assert found["train"] == set(gtzan.filtered_train)
    assert found["validation"] == set(gtzan.filtered_valid)
    assert found["test"] == set(gtzan.filtered_test)
    assert [len(one) for one in parts.values()] == [443, 197, 290]
    assert all(item.label == os.path.basename(os.path.dirname(item.path)) for item in items)
    os.remove(items[0].path)
    again = read_task("gtzan", tmp_path)
    assert {item.path for item in again} == {item.path for item in items}


def test_fsdd_is_split_by_speaker(digits: Path) -> None:
    (digits / "recordings/notes.wav").touch()
    for root in (digits, digits / "recordings"):
        items = name(read_task("fsdd", root), digits / "recordings")
        assert len(items) == 12
        odd = items["2_de_la #2_10.wav"]
        assert (odd.label, odd.group) == ("2", "de_la #2")
        assert odd.meta == {"fold": "de_la #2", "speaker": "de_la #2", "take": 10}


def test_esc10_is_ten_classes_of_esc50(tmp_path: Path) -> None:
    root = esc(tmp_path / "both", "dog", "rain", "cat")
    assert {item.label for item in read_task("esc50", root)} == {"dog", "rain", "cat"}
    assert {item.label for item in read_task("esc10", root)} == {"dog", "rain"}
    assert len(TASKS["esc10"].classes) == len(set(TASKS["esc10"].classes)) == 10


MADE: dict[str, Callable[[Path], Path]] = {
    "esc50": lambda root: esc(root / "esc", "dog", "cat"),
    "esc10": lambda root: esc(root / "esc", "dog", "rain"),
    "urbansound8k": lambda root: urban(root / "urban"),
}


@pytest.mark.parametrize("task", MADE)
def test_data_sets_with_a_table_are_detected_and_probed_by_their_folds(task: str, tmp_path: Path) -> None:
    root = MADE[task](tmp_path)
    assert detect_task(root) == detect_task(f"{root}/") == task
    with embedx.extract(**TASKS[task].reads(root), out=tmp_path / "c") as collection:
        report = collection.probe(folds=TASKS[task].folds)
        rows = collection.rows(where=TASKS[task].where) if TASKS[task].where else collection.rows()
    assert sorted(rows["path"]) == sorted(item.path for item in read_task(task, root))
    assert len(report.folds) == {"esc50": 2, "esc10": 2, "urbansound8k": 10}[task]
    assert {fold.rows for fold in report.folds} == {2}


def test_one_collection_serves_esc50_and_esc10(tmp_path: Path) -> None:
    root = esc(tmp_path / "esc", "dog", "rain", "cat")
    assert detect_task(root) == "esc50"
    with embedx.extract(**TASKS["esc50"].reads(root), out=tmp_path / "c") as collection:
        assert set(collection.rows(where=TASKS["esc10"].where)["label"]) == {"dog", "rain"}


def test_speech_commands_missing_file_is_a_failure_and_others_keep_part(commands: Path, tmp_path: Path) -> None:
    task = TASKS["speech-commands"]
    assert detect_task(commands) == task.name
    with embedx.extract(**task.reads(commands), out=tmp_path / "c") as collection:
        failed = {os.path.basename(one.path): one.reason for one in collection.failures()}
        rows = collection.rows(where=task.where)
    assert failed == {"12345678_nohash_0.wav": "missing", "outside.wav": "missing"}
    read = {item.path: (item.label, item.group, item.split) for item in read_task(task.name, commands)}
    rows = rows.astype(object).where(rows.notna(), None)
    stored = {row["path"]: (row["label"], row["group"], row["split"]) for _, row in rows.iterrows()}
    assert stored == {path: one for path, one in read.items() if os.path.basename(path) not in failed}
    assert Counter(rows["split"]) == {"train": 5, "test": 3, "validation": 1}


def test_gtzan_missing_or_broken_file_is_a_failure(genres: Path, tmp_path: Path) -> None:
    task = TASKS["gtzan"]
    assert detect_task(genres) == task.name
    with embedx.extract(**task.reads(genres), out=tmp_path / "c") as collection:
        failed = {os.path.basename(one.path): one.reason for one in collection.failures()}
        assert failed == {"rock.00099.au": "missing", "blues.00001.au": "not-audio"}
        assert Counter(collection.rows(where=task.where)["split"]) == {"train": 3, "validation": 2, "test": 2}
        assert len(collection.rows()) == 11


def test_fsdd_collection_is_probed_by_speaker(digits: Path, tmp_path: Path) -> None:
    assert detect_task(digits) == detect_task(digits / "recordings") == "fsdd"
    with embedx.extract(digits, out=tmp_path / "c") as collection:
        assert [(fold.name, fold.rows) for fold in collection.probe().folds] == [("ann", 6), ("de_la #2", 6)]


def test_similar_folder_is_not_taken_for_known_data_set(tmp_path: Path) -> None:
    write(tmp_path / "own", "dog/dog.00001.wav", "cat/cat.00001.wav")  # genres are none of these
    assert detect_task(tmp_path / "own") == "folder"
    write(tmp_path / "some", "recordings/0_ann_0.wav", "recordings/walk.wav")
    assert detect_task(tmp_path / "some") is None
    assert len(read_corpus(tmp_path / "some")) == 2
    write(tmp_path / "takes", "0_ann_0.wav", "1_ann_0.wav")
    assert detect_task(tmp_path / "takes") is None
    write(tmp_path / "mix", "genres/rock/rock.00001.wav", "genres/rock/live.wav")
    assert {item.split for item in read_corpus(tmp_path / "mix")} == {None}
    assert detect_task(tmp_path / "mix/genres/rock/live.wav") is None
    (tmp_path / "empty").mkdir()
    assert detect_task(tmp_path / "empty") is None
    with pytest.raises(UsageError, match="no file or folder"):
        detect_task(tmp_path / "nowhere")


@pytest.mark.parametrize("task", [one.name for one in TASKS.values() if one.layout not in ("folders", MANIFEST)])
def test_task_with_wrong_root_says_what_was_expected(task: str, tmp_path: Path) -> None:
    write(tmp_path, "a/1.wav", "b/2.wav")
    expected = {
        "esc50": r"meta/esc50\.csv",
        "urbansound8k": r"metadata/UrbanSound8K\.csv",
        "speech-commands": r"validation_list\.txt and testing_list\.txt",
        "gtzan": "genres/<genre>",
        "fsdd": r"recordings/\{digit\}",
    }[TASKS[task].layout]
    with pytest.raises(UsageError, match=rf"not in the layout {TASKS[task].layout}.*{expected}"):
        read_task(task, tmp_path)
    for wrong in (tmp_path / "a/1.wav", tmp_path / "nowhere"):
        with pytest.raises(UsageError, match=f"task {task} is read from a folder"):
            read_task(task, wrong)


def test_task_of_folder_per_class_is_read(tmp_path: Path) -> None:
    write(tmp_path, "dog/1.wav", "cat #1/deep/2.wav")
    assert [item.label for item in read_task("folder", tmp_path)] == ["cat #1", "dog"]
    with pytest.raises(UsageError, match=r"at least two classes; .* has 1"):
        read_task("folder", tmp_path / "cat #1")
    with pytest.raises(UsageError, match=r"at least two classes; .* has 0"):
        read_task("folder", tmp_path / "dog")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingToDo):
        read_task("folder", tmp_path / "empty")


def test_task_of_manifest_is_read(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("path,label,fold\na.wav,x,1\nb.wav,y,2\n")
    for root in (tmp_path, tmp_path / "clips.csv"):
        assert [item.label for item in read_task("manifest", root)] == ["x", "y"]
    assert detect_task(tmp_path / "clips.csv") == "manifest"
    with pytest.raises(UsageError, match=r"'intent_class' gives no label.*columns: fold"):
        read_task("minds14", tmp_path)
    (tmp_path / "more.jsonl").write_text(
        '{"path": "a.wav", "language": "French", "split": "train"}\n{"path": "b.wav", "language": "Thai"}\n'
        '{"path": "c.wav", "language": "Thai", "split": "test", "id": 3}\n'
    )
    items = read_task("fleurs", tmp_path / "more.jsonl")
    assert [(item.label, item.split) for item in items] == [("French", "train"), ("Thai", "test")]
    with pytest.raises(UsageError, match=r"several manifests: clips\.csv, more\.jsonl"):
        read_task("manifest", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no manifest.*\.parquet"):
        read_task("manifest", tmp_path / "empty")


def test_tasks_table_lists_every_task() -> None:
    known = "esc50 esc10 urbansound8k gtzan speech-commands fsdd minds14 fleurs folder manifest"
    assert list(TASKS) == known.split()
    for task in TASKS.values():
        assert task.layout in (*LAYOUTS, MANIFEST)
        assert task.protocol.endswith(".")
        assert not (task.folds and task.split)
    with pytest.raises(UsageError, match=r"'esc-50'.*esc50, esc10, urbansound8k"):
        read_task("esc-50", ".")


def test_protocols_are_defined() -> None:
    assert (PROTOCOLS["full"].shots, PROTOCOLS["full"].seeds) == (("all",), 1)
    assert (PROTOCOLS["few-shot"].shots, PROTOCOLS["few-shot"].seeds) == ((1, 2, 4, 8, 16, 32, "all"), 5)
    assert (PROTOCOLS["mteb"].shots, PROTOCOLS["mteb"].seeds) == ((8,), 10)


def test_real_fsdd_and_esc10_are_read(shared: Path) -> None:
    items = read_task("fsdd", shared / "data/fsdd")
    assert detect_task(shared / "data/fsdd") == "fsdd"
    assert Counter(item.label for item in items) == {str(digit): 200 for digit in range(10)}
    assert len({item.meta["fold"] for item in items}) == 4
    items = read_task("esc10", shared / "data/esc10")
    assert detect_task(shared / "data/esc10") == "esc10"
    assert Counter(item.meta["fold"] for item in items) == dict.fromkeys(range(1, 6), 80)
    assert Counter(item.label for item in items) == dict.fromkeys(TASKS["esc10"].classes, 40)
    folds: dict[str | None, set[int]] = {}
    for item in items:
        folds.setdefault(item.group, set()).add(item.meta["fold"])
    assert all(len(one) == 1 for one in folds.values())
