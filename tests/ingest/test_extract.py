import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

import embedx
from embedx.errors import Interrupted, ModelError, NothingToDo, RecipeMismatch, UsageError
from embedx.ingest.pipeline import Progress
from tests.helpers.collections import assert_same, content
from tests.helpers.paths import ROOT

WriteWav = Callable[..., Path]


def test_row_order_equals_source_order_for_any_batch(manifest: Path, tmp_path: Path) -> None:
    frames = []
    for batch_seconds in (1.0, 1000.0):
        with embedx.extract(manifest, out=tmp_path / str(batch_seconds), batch_seconds=batch_seconds) as collection:
            frames.append(collection.rows())
    pd.testing.assert_frame_equal(frames[0], frames[1])
    expected = [str(manifest.parent / path) for path in pd.read_csv(manifest)["path"]]
    assert frames[0]["path"].tolist() == expected
    assert frames[0].index.tolist() == list(range(1, len(expected) + 1))
    assert_same(tmp_path / "1.0", tmp_path / "1000.0")


def test_second_run_embeds_only_new_or_edited_files(write_wav: WriteWav, tmp_path: Path) -> None:
    write_wav("in/a.wav"), write_wav("in/b.wav")
    seen: list[Progress] = []

    def extract() -> embedx.Collection:
        return embedx.extract(tmp_path / "in", out=tmp_path / "out", on_progress=seen.append)

    extract().close()
    before = content(tmp_path / "out")
    extract().close()
    assert (seen[-1].present, seen[-1].embedded) == (2, 0)
    write_wav("in/c.wav")
    time.sleep(0.01)
    write_wav("in/a.wav", seconds=2.0)
    with extract() as collection:
        assert (seen[-1].present, seen[-1].embedded) == (1, 2)
        assert sorted(map(os.path.basename, collection.rows()["path"])) == ["a.wav", "b.wav", "c.wav"]
        assert collection.rows(where="path LIKE '%a.wav'")["duration_s"].tolist() == [2.0]
        assert not set(collection.rows(where="path NOT LIKE '%b.wav'").index) & {1}  # the id of the old a.wav is gone
    key = (str(tmp_path / "in/b.wav"), 0.0)
    np.testing.assert_array_equal(content(tmp_path / "out")[key], before[key])


def test_bad_file_is_named_and_does_not_stop_the_run(write_wav: WriteWav, tmp_path: Path) -> None:
    write_wav("in/good.wav")
    (tmp_path / "in/text.wav").write_text("this is text")
    (tmp_path / "in/empty.wav").touch()
    nan = np.full(1000, np.nan, np.float32)
    write_wav("in/nan.wav", samples=nan)
    os.mkfifo(tmp_path / "in/pipe.wav")
    seen: list[Progress] = []
    for _ in range(2):  # a failure is stored, so it is counted again and not tried again
        with embedx.extract(tmp_path / "in", out=tmp_path / "out", on_progress=seen.append) as collection:
            assert len(collection) == 1
            failures = {os.path.basename(one.path): one.reason for one in collection.failures()}
    assert failures == {
        "empty.wav": "empty",
        "nan.wav": "non-finite",
        "pipe.wav": "not-a-file",
        "text.wav": "not-audio",
    }
    assert sum(seen[-1].failures.values()) == 4
    time.sleep(0.01)
    write_wav("in/text.wav")  # repaired
    with embedx.extract(tmp_path / "in", out=tmp_path / "out") as collection:
        assert len(collection) == 2
        assert len(collection.failures()) == 3


def test_recording_that_fails_half_way_leaves_no_rows(write_wav: WriteWav, tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 80_000).astype(np.float32)
    samples[70_000] = np.inf
    wav = write_wav(samples=samples)
    with embedx.extract(wav, window=1.0, batch_seconds=0.1, out=tmp_path / "c") as collection:
        assert len(collection) == 0
        assert [one.reason for one in collection.failures()] == ["non-finite"]


def test_recording_longer_than_buffer_is_stored_whole(write_wav: WriteWav, tmp_path: Path) -> None:
    wav = write_wav(seconds=30.0)
    seen: list[tuple[int, int]] = []

    def look(progress: Progress) -> None:
        with embedx.open(tmp_path / "c") as reader:
            seen.append((progress.done, len(reader)))

    with embedx.extract(wav, window=1.0, batch_seconds=0.1, out=tmp_path / "c", on_progress=look) as collection:
        assert collection.rows()["start_s"].tolist() == list(range(30))
    assert seen == [(0, 0), (1, 30)]


def test_source_with_failures_only_gives_empty_collection(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("text")
    with embedx.extract(tmp_path / "a.wav", out=tmp_path / "out") as collection:
        assert len(collection) == 0
        assert collection.vectors().shape == (0, 256)
        assert len(collection.rows()) == 0
        with pytest.raises(NothingToDo, match="no rows"):
            collection.search(vector=np.ones(256))


def test_windows_and_excerpts_become_rows(write_wav: WriteWav, tmp_path: Path) -> None:
    write_wav(seconds=5.5)
    with embedx.extract(tmp_path / "a.wav", out=tmp_path / "w", window=2.0, hop=1.0) as collection:
        rows = collection.rows()
        assert rows["start_s"].tolist() == [0.0, 1.0, 2.0, 3.0, 3.5]
        assert (rows["end_s"] - rows["start_s"]).tolist() == [2.0] * 5
        assert collection.recipe.window_s == 2.0
    table = pd.DataFrame(
        {"path": [str(tmp_path / "a.wav")] * 2, "start": [0.0, 2.5], "end": [1.0, 4.0], "label": ["x", "y"]}
    )
    with embedx.extract(table, out=tmp_path / "s") as collection:
        rows = collection.rows()
        assert rows[["start_s", "end_s", "label"]].values.tolist() == [[0.0, 1.0, "x"], [2.5, 4.0, "y"]]
    more = pd.concat([table, table.assign(start=4.0, end=5.0, label="z")[:1]])
    with embedx.extract(more, out=tmp_path / "s") as collection:  # a new stretch of a known file is missing work
        assert collection.rows()["label"].tolist() == ["x", "y", "z"]


def test_labels_added_later_need_no_embedding(manifest: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    embedx.extract(manifest.parent, layout="files", out=tmp_path / "c").close()
    with embedx.extract(manifest, group="source", out=tmp_path / "c", on_progress=seen.append) as collection:
        assert seen[-1].embedded == 0
        rows = collection.rows()
        assert set(rows["label"]) == {"bell", "birdsong", "clock", "engine"}
        assert rows["group"].tolist() == rows["source"].tolist()
    with embedx.extract(manifest.parent, layout="files", out=tmp_path / "c") as collection:  # says nothing of labels
        assert set(collection.rows()["label"]) == {"bell", "birdsong", "clock", "engine"}


def test_layers_and_poolings_become_views_in_one_pass(
    manifest: Path, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = str(checkpoint("hubert"))
    with embedx.extract(manifest, model=folder, layers="all", pooling="mean,max", out=tmp_path / "all") as collection:
        assert list(collection.views) == [f"L{layer}.{pooling}" for layer in range(4) for pooling in ("mean", "max")]
        everything = {view: collection.vectors(view) for view in collection.views}
        assert collection.recipe.default_view == "L3.mean"
    with embedx.extract(manifest, model=folder, layers=[1], pooling="max", out=tmp_path / "one") as collection:
        np.testing.assert_allclose(collection.vectors("L1.max"), everything["L1.max"], atol=1e-5)


def test_channels_each_gives_row_per_channel(write_wav: WriteWav, tmp_path: Path) -> None:
    stereo = np.random.default_rng(0).uniform(-0.5, 0.5, (32_000, 2)).astype(np.float32) * [1.0, 0.1]
    wav = write_wav(samples=stereo)
    with embedx.extract(wav, channels="each", out=tmp_path / "each") as collection:
        rows = collection.rows()
        assert rows["channel"].tolist() == [0, 1]
        assert rows["flags"].tolist() == ["", ""]
        loud = write_wav("loud.wav", samples=stereo[:, 0])
        assert collection.search(loud, k=1, where="channel = 0")[0].score == pytest.approx(1, abs=1e-5)
        assert len(collection.search(wav, k=9)) == 2
    with embedx.extract(wav, channels="first", out=tmp_path / "first") as collection:
        assert collection.search(loud, k=1)[0].score == pytest.approx(1, abs=1e-5)


def test_float16_halves_space_and_finds_same_hits(manifest: Path, tmp_path: Path) -> None:
    with (
        embedx.extract(manifest, out=tmp_path / "32") as full,
        embedx.extract(manifest, store_dtype="float16", out=tmp_path / "16") as half,
    ):
        np.testing.assert_array_equal(half.vectors(), full.vectors().astype(np.float16).astype(np.float32))
        assert half.vectors().dtype == np.float32
        assert [hit.id for hit in half.search(id=5)] == [hit.id for hit in full.search(id=5)]
        sizes = [one.store._query("SELECT max(length(vector)) FROM vectors_L0_mean")[0][0] for one in (full, half)]
        assert sizes == [1024, 512]
    with pytest.raises(RecipeMismatch, match="store_dtype: stored 'float16', requested 'float32'"):
        embedx.extract(manifest, store_dtype="float32", out=tmp_path / "16")


def test_vector_outside_float16_range_is_a_failure(
    write_wav: WriteWav, tmp_path: Path, checkpoint: Callable[[str], Path]
) -> None:
    folder = tmp_path / "loud"
    shutil.copytree(checkpoint("hubert"), folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layers.2.final_layer_norm.weight"] *= 1e6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    wav = write_wav()
    with embedx.extract(wav, model=str(folder), store_dtype="float16", out=tmp_path / "c") as collection:
        (failure,) = collection.failures()
        assert failure.reason == "non-finite"
        assert "too large for float16 (at most 65504)" in failure.detail
        assert "--store-dtype float32" in failure.detail
    with embedx.extract(wav, model=str(folder), out=tmp_path / "d") as collection:
        assert np.abs(collection.vectors()).max() > 65_504


def test_model_with_30_s_input_gets_windows(
    write_wav: WriteWav, tmp_path: Path, checkpoint: Callable[[str], Path]
) -> None:
    whisper = str(checkpoint("whisper"))
    seen: list[Progress] = []
    with embedx.extract(
        [write_wav(seconds=29.0), write_wav("b.wav", seconds=34.0)],
        model=whisper, out=tmp_path / "c", on_progress=seen.append,
    ) as collection:  # fmt: skip
        assert collection.rows()["end_s"].tolist() == [29.0, 10.0, 20.0, 30.0, 34.0]
        assert seen[-1].flags["cut"] == 1
    with pytest.raises(UsageError, match="exceeds the model's maximum input of 30 s"):
        embedx.extract(write_wav(), model=whisper, window=31, out=tmp_path / "d")


def test_another_recipe_for_collection_is_refused(manifest: Path, tmp_path: Path) -> None:
    embedx.extract(manifest, out=tmp_path / "c").close()
    with pytest.raises(RecipeMismatch, match="window: stored None, requested 1"):
        embedx.extract(manifest, out=tmp_path / "c", window=1)
    with embedx.open(tmp_path / "c") as collection:
        assert len(collection) == 40


def test_invalid_argument_creates_no_folder(manifest: Path, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, object], type[Exception]]] = [
        ({"model": "nonsense"}, ModelError),
        ({"layers": "5"}, UsageError),
        ({"pooling": "median"}, UsageError),
        ({"window": 0}, UsageError),
        ({"hop": 1.0}, UsageError),
        ({"window": float("nan")}, UsageError),
        ({"label": "no_such_column"}, UsageError),
        ({"batch_seconds": -1.0}, UsageError),
        ({"device": "abacus"}, UsageError),
        ({"tail": "wag"}, UsageError),
        ({"channels": "left"}, UsageError),
        ({"store_dtype": "int8"}, UsageError),
        ({"max_seconds": 0.0}, UsageError),
        ({"workers": "many"}, UsageError),
        ({"workers": -1}, UsageError),
    ]
    for options, kind in cases:
        with pytest.raises(kind):
            embedx.extract(manifest, out=tmp_path / "c", **options)  # type: ignore[arg-type]
        assert not (tmp_path / "c").exists(), options


@pytest.mark.long
def test_signal_stops_run_after_a_commit(manifest: Path, tmp_path: Path) -> None:
    windows = iter(range(100))
    with pytest.raises(Interrupted) as caught:
        embedx.extract(
            manifest,
            out=tmp_path / "c",
            batch_seconds=2,
            interrupted=lambda: signal.SIGTERM if next(windows) == 11 else 0,
        )
    assert caught.value.exit_code == 143
    with embedx.open(tmp_path / "c") as collection:
        assert 1 <= len(collection) <= 12
    embedx.extract(manifest, out=tmp_path / "whole").close()
    embedx.extract(manifest, out=tmp_path / "c").close()
    assert_same(tmp_path / "c", tmp_path / "whole")


@pytest.mark.long
def test_extract_killed_at_any_moment_continues(
    manifest: Path, tmp_path: Path, checkpoint: Callable[[str], Path]
) -> None:
    """kill -9 of the real command at random moments: committed rows stay, the rest is embedded once."""
    model = str(checkpoint("hubert"))
    command = [
        sys.executable,
        "-m",
        "embedx",
        "extract",
        str(manifest),
        "-o",
        str(tmp_path / "killed"),
        "--model",
        model,
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    dice = random.Random(5)
    kept: dict[tuple[str, float], np.ndarray] = {}
    for attempt in range(4):
        process = subprocess.Popen([*command, "--batch-seconds", "0.5"], env=environment, stderr=subprocess.PIPE)
        assert process.stderr is not None
        process.stderr.readline()  # the first line of progress: the model is loaded, the work begins
        time.sleep(dice.uniform(0, 0.25))
        process.kill()
        process.wait()
        process.stderr.close()
        now = content(tmp_path / "killed")
        for key, vector in kept.items():
            np.testing.assert_array_equal(now[key], vector)
        kept = now
        if attempt == 0:
            shutil.rmtree(tmp_path / "killed" / "index", ignore_errors=True)
    embedx.extract(manifest, out=tmp_path / "killed", model=model).close()
    embedx.extract(manifest, out=tmp_path / "whole", model=model).close()
    assert_same(tmp_path / "killed", tmp_path / "whole")


def test_moved_model_folder_is_loaded_from_new_path(
    write_wav: WriteWav, tmp_path: Path, checkpoint: Callable[[str], Path]
) -> None:
    wav = write_wav()
    shutil.copytree(checkpoint("hubert"), tmp_path / "old")
    embedx.extract(wav, model=str(tmp_path / "old"), out=tmp_path / "c").close()
    (tmp_path / "old").rename(tmp_path / "new")
    with embedx.open(tmp_path / "c") as collection, pytest.raises(ModelError, match="old"):
        collection.search(wav)
    with embedx.extract(wav, model=str(tmp_path / "new"), out=tmp_path / "c") as collection:
        assert collection.search(wav)[0].score == pytest.approx(1, abs=1e-5)
