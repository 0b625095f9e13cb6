"""Advice follows from the figures; the text shows them."""

from dataclasses import replace
from typing import Any

import pytest

from embedx.bench.speed.advice import advise
from embedx.bench.speed.result import Figures
from embedx.bench.speed.text import Speed, as_text
from embedx.bench.speed.trials import Trial

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
    """Return the good result with other figures."""
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
                    replaced={"product [9, 4]": "torch instead of oneDNN"})  # fmt: skip
    text = as_text(found)
    assert "kernels:  torch: product [9, 4]; oneDNN: product [2, 4]\n" in text
    assert (
        "replaced: kernels that failed their check on this processor: torch instead of oneDNN: product [9, 4]\n" in text
    )
    assert found.to_dict()["replaced"] == found.replaced
    assert found.to_dict()["kernels"] == found.kernels
