import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embedx.datasets.synthetic import CLASSES, synthesise_clip


def test_synthetic_corpus_is_deterministic_and_varied(manifest: Path) -> None:
    for name in CLASSES:
        (a, rate), (b, _) = synthesise_clip(name, 1, 2), synthesise_clip(name, 1, 2)
        np.testing.assert_array_equal(a, b)
        assert 1.0 <= len(a) / rate <= 3.5
        assert 0.1 < np.abs(a).max() <= 1
    clips = [synthesise_clip(name, 0, take) for name in CLASSES for take in range(4)]
    assert len({rate for _, rate in clips}) == 5
    assert len({len(samples) / rate for samples, rate in clips}) > 30
    assert len(list(manifest.parent.glob("*/*.wav"))) == 40
    assert len(manifest.read_text().splitlines()) == 41


DEMO = [sys.executable, "-m", "embedx.cli.demo"]
Demo = tuple[Path, "subprocess.CompletedProcess[str]"]


def run_demo(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*DEMO, *arguments], cwd=folder, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A folder in which the demo ran, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, run_demo(folder)


@pytest.mark.long
def test_demo_shows_every_command_and_its_output(demo: Demo) -> None:
    _, done = demo
    for shown in (
        "$ embedx extract build/demo/corpus/manifest.csv -o indexes/demo --group source",
        "recordings: 200 (200 embedded now",
        "$ embedx search indexes/demo build/demo/query.wav",
        "$ embedx probe indexes/demo",
        "$ embedx train indexes/demo",
        "$ embedx predict indexes/demo",
        "better than chance",
    ):
        assert shown in done.stdout
    assert len((done.stdout + done.stderr).splitlines()) <= 70
    first_hit = done.stdout.split("--columns source\n")[1].splitlines()[1]
    assert "birdsong2" in first_hit


@pytest.mark.long
def test_demo_again_embeds_nothing(demo: Demo) -> None:
    folder, _ = demo
    assert "0 embedded now" in run_demo(folder).stdout


@pytest.mark.long
def test_demo_of_own_corpus_shows_extract_and_probe(demo: Demo) -> None:
    folder, _ = demo
    own = run_demo(folder, "build/demo/corpus")
    assert "$ embedx extract build/demo/corpus -o indexes/demo-corpus" in own.stdout
    assert "balanced_accuracy" in own.stdout
