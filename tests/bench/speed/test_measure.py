"""Speed: figures that can be checked against the clock, the processor and a formula; advice that follows from them."""

import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from embedx import extractors, timing
from embedx.bench.speed.advice import advise
from embedx.bench.speed.measure import measure_speed
from embedx.bench.speed.result import DECODER_STAGES, MODEL_STAGES, Figures
from embedx.bench.speed.roofline import count_operations, measure_peak
from embedx.bench.speed.sample import Sample
from embedx.bench.speed.text import Speed, as_text
from embedx.bench.speed.trials import Trial
from embedx.cli.app import load_command, run
from embedx.cli.speed import speed as command
from embedx.datasets.synthetic import synthesise_lengths
from embedx.embedding.embedder import Embedder
from embedx.embedding.options import EmbeddingKwargs
from embedx.embedding.workers import make_workers
from embedx.errors import ModelError, NothingToDo, UsageError
from tests.helpers.embedding import recipe_of, windows
from tests.helpers.paths import ROOT

Checkpoint = Callable[[str], Path]
WriteWav = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nothing is left in the temporary folder, however a measurement ends."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.glob("embedx-*")) == []


# -- stopwatch -----------------------------------------------------------------------------------------------------


def test_timing_while_off_records_nothing() -> None:
    def never() -> None:
        raise AssertionError("nobody is to wait for a device that is not measured")

    assert timing.timed("a", never) is timing.timed("b")
    with timing.timed("a", never):
        timing.add("a", 1.0)
    with timing.measure() as seconds:
        pass
    timing.add("a", 1.0)
    assert seconds == {}
    assert timing.running is None


def test_timing_of_several_threads_adds_up() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def work(_: int) -> None:
        with timing.timed("sleep"):
            time.sleep(0.02)

    finished: list[int] = []
    with timing.measure() as seconds:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(8)))
        assert list(timing.timed_each("each", (time.sleep(0.01) or i for i in range(3)))) == [0, 1, 2]  # type: ignore[func-returns-value]
        with timing.timed("device", lambda: finished.append(1)):
            pass
    assert seconds["sleep"] >= 8 * 0.02
    assert seconds["each"] >= 0.03
    assert finished == [1]


def test_timing_of_embedder_stages_is_separate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that sleeps is the model, a pooling that sleeps is the pooling, however many lanes there are."""
    from embedx.embedding import forward as module
    from embedx.embedding.pooling import POOLINGS

    extractor = extractors.load("logmel")
    frames = extractor.frames

    def slow_frames(*given: Any) -> Iterator[Any]:
        for one in frames(*given):
            time.sleep(0.05)
            yield one

    def slow_mean(*given: Any) -> torch.Tensor:
        time.sleep(0.02)
        return POOLINGS["mean"](*given)

    monkeypatch.setattr(extractor, "frames", slow_frames)
    monkeypatch.setattr(module, "POOLINGS", {**POOLINGS, "mean": slow_mean})
    embedder = Embedder(extractor, recipe_of(extractor, "logmel", ("mean",)), batch_seconds=2.0)
    for threads in (1, 2):
        with timing.measure() as seconds:
            list(embedder.embed(windows(), threads))
        assert seconds["model"] > 2 * seconds["pooling"] > 0
        assert seconds["pooling"] >= 5 * 0.02


# -- the limit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_operation_count_equals_formula_at_any_length(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The formula is that of benchmarks/extraction.py: two for each product of weights or in attention."""
    import transformers

    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    operations = importlib.import_module("extraction").operations
    transformers.HubertModel(transformers.HubertConfig()).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    extractor = extractors.load(str(tmp_path), backend=backend)
    lengths = np.array([0.3, 2.5, 12.0, 30.0])
    expected = [operations(round(one * 16_000)) for one in lengths]
    found = count_operations(extractor, lengths.tolist(), "cpu")
    assert found == pytest.approx(sum(expected), rel=0.005)
    assert count_operations(extractor, [0.3], "cpu") == pytest.approx(expected[0], rel=0.02)


def test_operation_count_of_padded_model_does_not_depend_on_length(checkpoint: Checkpoint) -> None:
    extractor = extractors.load(str(checkpoint("whisper")))
    one = count_operations(extractor, [1.0], "cpu")
    assert one > 0
    assert count_operations(extractor, [30.0, 0.5], "cpu") == pytest.approx(2 * one, rel=1e-6)


def test_peak_is_near_a_plain_matrix_product() -> None:
    extractor = extractors.load("logmel")
    x, weight = torch.randn(2048, 1024), torch.randn(1024, 1024)
    threads = torch.get_num_threads()

    def plain() -> float:
        begun = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        return time.perf_counter() - begun

    peak = measure_peak(make_workers(extractor, "cpu", threads), torch.float32)
    reached = 2 * 2048 * 1024 * 1024 / min(plain() for _ in range(10))
    assert torch.get_num_threads() == threads
    assert 0.01 * reached < peak < 100 * reached  # other work on the machine may take most of either


# -- the sample ----------------------------------------------------------------------------------------------------


def test_sample_is_even_has_requested_seconds_and_grows(write_wav: WriteWav, tmp_path: Path) -> None:
    for i in range(60):
        write_wav(f"in/{i:02}.wav", seconds=0.5)
    sample = Sample(str(tmp_path / "in"), str(tmp_path))
    small, large = sample.take(6.0), sample.take(12.0)
    assert len(small) == 12
    assert len(large) == 24
    assert set(small) < set(large)
    places = sorted(int(Path(path).stem) for path in small)
    gaps = np.diff([0, *places, 60])
    assert gaps.max() <= 3 * 60 / 12
    assert list(large) == sorted(large)
    assert len(sample.take(1e6)) == 60


def test_sample_of_long_recording_is_a_part(write_wav: WriteWav, tmp_path: Path) -> None:
    path = write_wav("in/long.wav", seconds=300.0, rate=8_000)
    found = measure_speed(path, seconds=400.0)
    assert found.figures.audio_s == pytest.approx(120.0)
    assert set(found.figures.lengths) == {10.0}  # cut as the whole of it would be


def test_synthetic_noise_is_deterministic_and_of_requested_length(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    short, long = synthesise_lengths(tmp_path / "a", 40.0), synthesise_lengths(tmp_path / "b", 200.0)
    lengths = [soundfile.info(path).duration for path in long]
    assert sum(lengths) == pytest.approx(200.0, abs=0.31)
    assert 0.3 <= min(lengths) < 1.5
    assert 8 < max(lengths) <= 30
    assert [one.read_bytes() for one in short[:-1]] == [one.read_bytes() for one in long[: len(short) - 1]]


# -- a measurement -------------------------------------------------------------------------------------------------


def assert_sound(found: Speed) -> None:
    """Hold the figures of a measurement to what can be true."""
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
    """A tiny HuBERT on made noise."""
    steps: list[str] = []
    model = str(checkpoint("hubert-wide"))
    found = measure_speed(model=model, seconds=120.0, layers="all", on_step=steps.append)
    assert [step.split()[0] for step in steps] == ["loading", "warming", "measuring", "measuring"]
    return found


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


def test_stage_times_explain_processor_time(hubert_speed: Speed) -> None:
    """Threads that compute have a processor, unless other programs have it; and there is little besides the stages."""
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


# -- what goes wrong -----------------------------------------------------------------------------------------------


def test_speed_of_unusable_input_is_refused(tmp_path: Path, write_wav: WriteWav) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingToDo, match="No audio was found"):
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


# -- advice --------------------------------------------------------------------------------------------------------

WELL = Figures(
    recordings=10,
    failures={},
    lengths=[10.0] * 10,
    wall_s=10.0,
    processor_s=20.0,
    padding=1.02,
    seconds={"decode": 1.0, "resample": 0.0, "copy": 0.1, "model": 18.0, "pooling": 0.1, "wait": 0.5, "write": 0.1},
)
FINE = Speed(
    machine={"device": "a processor", "cores": 2, "load": 0.1, "versions": {"torch": "2"}},
    model="m",
    corpus="c",
    backend="fast",
    device="cpu",
    precision="float32",
    batch_seconds=30.0,
    sample_rate=16_000,
    load_s=1.0,
    workers=2,
    decoders=2,
    figures=WELL,
    operations=1.5e12,
    peak=2e11,
    trials=[Trial("--precision bfloat16", 1.04, 1e-5, 60.0)],
)


def changed(seconds: dict[str, float] | None = None, **fields: Any) -> Speed:
    """Return the same with other figures."""
    of_run = {name: fields.pop(name) for name in list(fields) if name in vars(WELL)}
    return replace(FINE, figures=replace(WELL, seconds=WELL.seconds | (seconds or {}), **of_run), **fields)


WAITS = {"wait": 8.0, "model": 10.0}
RULES: list[tuple[Speed, str]] = [
    (changed(trials=[Trial("--precision bfloat16", 1.84, 2e-5, 60.0)]), r"--precision bfloat16: 1\.8 times .* 2e-05"),
    (changed(WAITS | {"decode": 14.0, "resample": 4.0}), r"waits for audio 40%.*WAV at 16000 Hz"),
    (changed(WAITS | {"decode": 4.0, "resample": 14.0}), r"waits for audio 40%.*stored at 16000 Hz"),
    (changed(WAITS | {"decode": 8.0}, decoders=1), r"Only 1 of 2 cores decode audio: use --workers 2"),
    (changed(WAITS), r"busy only 5% of their time"),
    (changed(backend="reference", padding=1.3), r"padded by a factor of 1\.30"),
    (changed({"write": 6.0}), r"Writing takes 60\.0%"),
    (changed(processor_s=9.0), r"for 18\.2 s but got only 9\.0 s"),
    (changed(wall_s=1.0, seconds={"wait": 0.1, "model": 1.7, "write": 0.01}), r"took only 1\.0 s"),
]


@pytest.mark.parametrize(("speed", "said"), RULES, ids=[said for _, said in RULES])
def test_advice_rules_fire_one_at_a_time(speed: Speed, said: str) -> None:
    import re

    (sentence,) = advise(speed)
    assert re.search(said, sentence)
    assert sentence in speed.to_dict()["advice"]


def test_advice_for_a_good_run_is_empty() -> None:
    assert advise(FINE) == ["No faster option was found. The run reaches 75% of the limit."]
    assert advise(changed(operations=None, peak=None)) == ["No faster option was found. The limit for m is not known."]
    assert advise(changed(padding=1.3)) == advise(FINE)  # the fast backend computes no padding


def test_advice_names_the_best_trial_first() -> None:
    trials = [Trial("--precision bfloat16", 1.5, 1e-5, 60.0), Trial("--backend fast", 2.5, 1e-9, 60.0)]
    assert [one.split(":")[0] for one in advise(changed(trials=trials))] == ["--backend fast", "--precision bfloat16"]


# -- the command ---------------------------------------------------------------------------------------------------


def test_speed_text_is_narrow_and_explains_shares() -> None:
    text = as_text(changed(WAITS, failures={"not-audio": 2}))
    assert max(map(len, text.splitlines())) <= 100
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert lines["model"][1:5] == ["2", "workers", "360.00", "50.0%"]
    assert lines["waiting"][4] == "40.0%"
    assert lines["write"][1:5] == ["1", "writer", "3.60", "1.0%"]
    assert "75% of it over the run, 150% while the model computes" in text
    assert "failed:   2 not-audio" in text
    table = as_text(FINE, "markdown")
    assert "| model | 2 workers | 648.00 | 90.0% | samples to frames |" in table


def test_replaced_kernels_are_in_text_and_json() -> None:
    assert "kernels:" not in as_text(FINE)
    found = changed(kernels={"product [9, 4]": "torch", "product [2, 4]": "oneDNN"},
                    replaced={"product [9, 4]": "torch for oneDNN"})  # fmt: skip
    text = as_text(found)
    assert "kernels:  torch: product [9, 4]; oneDNN: product [2, 4]\n" in text
    assert "replaced: kernels that gave wrong results on this processor: torch for oneDNN: product [9, 4]\n" in text
    assert found.to_dict()["replaced"] == found.replaced
    assert found.to_dict()["kernels"] == found.kernels


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
