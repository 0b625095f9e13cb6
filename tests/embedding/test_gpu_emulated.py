"""The tests for a GPU pass on an emulation of one, and nothing there waits for the GPU before the vectors are ready."""

import os
import re
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

BUSY = r"(embedx/\w+|extractors/fast)/\w+\.py:\d+"  # a line of embedx, as the emulation names it


@pytest.mark.long
def test_tests_for_a_gpu_pass_on_an_emulated_one() -> None:
    """Those that need the most time are left out; the command in docs/speed.md runs all of them."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.helpers.gpu_emulation", "tests/embedding/test_gpu.py"]
    options = ["-o", "filterwarnings=default", "-p", "no:cacheprovider"]
    options += ["-k", "test_front_end_on_gpu or test_float32_on_gpu and fast"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    waits, _, copies = done.stdout.partition("The program waits for the GPU")[2].partition("memory that is not pinned")
    assert not re.search(BUSY, waits), waits
    assert "extractors/fast/norms.py" in copies  # the self-check of the kernels, once
