"""The speed benchmark: plausible figures, errors, signals, the command."""

import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from embedx.bench.speed.measure import measure_speed
from embedx.bench.speed.result import DECODER_STAGES, MODEL_STAGES
from embedx.bench.speed.text import Speed
from embedx.cli.app import load_command, run
from embedx.cli.speed import speed as command
from embedx.embedding.options import EmbeddingKwargs
from embedx.errors import ModelError, NothingToDo, UsageError
from tests.helpers.speed_results import Checkpoint, WriteWav


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Check that a measurement leaves nothing in the temporary folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.glob("embedx-*")) == []


def assert_sound(found: Speed) -> None:
    """Check that the figures of a measurement are possible."""
    figures = found.figures
    assert figures.wall_s > 0
    assert min(figures.seconds.values()) >= 0
    assert set(figures.seconds) <= {*MODEL_STAGES, *DECODER_STAGES, "write"}
    slack = 1.02
    assert found.share_of(*MODEL_STAGES) <= slack
    assert found.share_of(*DECODER_STAGES) <= slack
    assert found.share_of("write") <= slack
    assert figures.processor_s <= slack * figures.wall_s * (os.cpu_count() or 1) + 0.05
    assert figures.padding >= 1
    assert json.loads(json.dumps(found.to_dict()))["audio_s"] == figures.audio_s


@pytest.fixture(scope="module")
def hubert_speed(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Speed:
    """Measure a tiny HuBERT on synthetic noise."""
    steps: list[str] = []
    model = str(checkpoint("hubert-wide"))
    found = measure_speed(model=model, seconds=120.0, layers="all", on_step=steps.append)
    assert [step.split()[0] for step in steps] == ["loading", "warming", "measuring", "measuring"]
    return found


@pytest.mark.long
def test_speed_of_transformer_is_plausible(hubert_speed: Speed) -> None:
    found = hubert_speed
    assert_sound(found)
    assert found.figures.audio_s == pytest.approx(120.0, abs=0.5)
    assert found.figures.times_real_time == pytest.approx(found.figures.audio_s / found.figures.wall_s)
    assert found.backend == "fast"
    assert found.load_s > 0
    assert found.share_of("model") > found.share_of("pooling") > 0
    assert found.share_of(*MODEL_STAGES) > 0
    assert found.share_of("resample") == 0  # it is at the rate of the model already
    assert found.share_of("decode") > 0
    assert found.share_of_limit is not None
    assert found.share_of_limit > 0
    assert {trial.option for trial in found.trials} == {"--precision bfloat16"}
    assert all(0 < trial.distance < 1e-2 and trial.gain > 0 for trial in found.trials)
    assert {kind.split()[-1] for kind in found.kernels} == {"float32", "bfloat16"}
    assert "kernels:" in str(found)


@pytest.mark.long
def test_stage_times_explain_processor_time(hubert_speed: Speed) -> None:
    """Computing threads use a processor unless other programs do, and little time is spent outside the stages."""
    figures = hubert_speed.figures
    busy = sum(seconds for stage, seconds in figures.seconds.items() if stage != "wait")
    assert figures.processor_s < 1.5 * busy + 0.5


def test_speed_of_high_rate_files_is_dominated_by_decoding(tmp_path: Path) -> None:
    """Stereo FLAC of 96 kHz for statistics of a mel spectrogram."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (96_000 * 10, 2))
    for i in range(12):
        soundfile.write(tmp_path / f"{i}.flac", noise, 96_000, subtype="PCM_24")
    found = measure_speed([str(path) for path in sorted(tmp_path.glob("*.flac"))], seconds=120.0)
    assert_sound(found)
    seconds = found.figures.seconds
    assert max(seconds, key=lambda stage: 0 if stage == "wait" else seconds[stage]) in DECODER_STAGES
    assert seconds["resample"] > 0
    assert seconds["decode"] + seconds["resample"] > seconds["model"]
    assert found.share_of_limit is None
    assert "is not known" in str(found) or "waits for audio" in str(found)


@pytest.mark.long
def test_speed_of_reference_backend_tries_the_fast_one(checkpoint: Checkpoint) -> None:
    found = measure_speed(model=str(checkpoint("hubert")), seconds=5.0, backend="reference", batch_seconds=5.0)
    assert found.backend == "reference"
    assert {trial.option for trial in found.trials} == {
        "--precision bfloat16",
        "--backend fast",
        "--batch-seconds 15",
    }
    distances = {trial.option: trial.distance for trial in found.trials}
    assert distances["--backend fast"] < 1e-8  # the same numbers
    assert distances["--batch-seconds 15"] < 1e-8


def test_speed_of_unusable_input_is_refused(tmp_path: Path, write_wav: WriteWav) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingToDo, match="There is no audio"):
        measure_speed(tmp_path / "empty")
    with pytest.raises(ModelError, match="Unknown model"):
        measure_speed(model="hubrt")
    with pytest.raises(UsageError, match="seconds=0 is out of range"):
        measure_speed(seconds=0)
    with pytest.raises(UsageError, match="workers"):
        measure_speed(workers="many")
    (tmp_path / "text.wav").write_text("this is text")
    with pytest.raises(NothingToDo, match=r"None of the 1 recordings in the sample can be used: .*text\.wav"):
        measure_speed(tmp_path / "text.wav", seconds=1)
    write_wav("good.wav")
    found = measure_speed([str(tmp_path / "good.wav"), str(tmp_path / "text.wav")], seconds=20)
    assert found.figures.failures == {"not-audio": 1}
    assert "1 not-audio" in str(found)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_speed_interrupted_by_signal_leaves_no_files(own_temporary_folder: Path, number: signal.Signals) -> None:
    words = [sys.executable, "-m", "embedx", "bench", "speed", "--seconds", "100000"]
    environment = os.environ | {"TMPDIR": str(own_temporary_folder)}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    while "warming" not in process.stderr.readline():
        pass
    assert list(own_temporary_folder.glob("embedx-speed-*"))
    process.send_signal(number)
    printed, log = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "No files are left behind" in log
    assert "Traceback" not in log
    assert printed == ""


def test_speed_command_prints_json_and_returns_exit_code(
    capsys: pytest.CaptureFixture[str], write_wav: WriteWav, tmp_path: Path
) -> None:
    write_wav("in/a.wav", seconds=3.0, rate=44_100)
    arguments = ["bench", "speed", str(tmp_path / "in"), "--seconds", "3", "--format"]
    assert run([*arguments, "json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["audio_s"] == pytest.approx(3.0)
    assert {stage["stage"] for stage in found["stages"]} == {"decode", "resample", "copy", "model", "pooling", "wait",
                                                             "write"}  # fmt: skip
    assert found["advice"]
    assert "measuring on up to 3 s" in printed.err
    (tmp_path / "in/b.wav").write_text("text")
    assert run([*arguments[:3], "--seconds", "30", "--format", "markdown"]) == 3
    assert "| decode |" in capsys.readouterr().out
    (tmp_path / "none").mkdir()
    assert run(["bench", "speed", str(tmp_path / "none")]) == 8
    assert run(["bench", "speed", "--model", "hubrt"]) == 7


def test_options_are_the_keywords() -> None:
    keywords = set(inspect.signature(measure_speed).parameters) | EmbeddingKwargs.__optional_keys__
    assert {parameter.name for parameter in command.params} - {"form"} <= keywords
    assert "speed" in load_command("bench").commands  # type: ignore[attr-defined]
