"""Waiting for a page in a browser, and a sound for it."""

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PATIENCE_MS = 60_000  # of every wait: machines differ, and no test measures time
STEP_MS = 50


def until(page: Any, condition: str, value: Any = None) -> None:
    """Wait until a function in JavaScript is true. Playwright's own wait needs eval, which the page forbids."""
    for _ in range(PATIENCE_MS // STEP_MS):
        if page.evaluate(condition, value):
            return
        page.wait_for_timeout(STEP_MS)
    pytest.fail(f"never true: {condition} of {value!r}")


def until_here(page: Any, condition: Callable[[], object]) -> None:
    """Wait until a condition of the test itself is true, while the browser goes on."""
    for _ in range(PATIENCE_MS // STEP_MS):
        if condition():
            return
        page.wait_for_timeout(STEP_MS)
    pytest.fail("never true in the test")


def write_tone(path: Path, seconds: float = 2.0, hz: float = 880.0, rate: int = 16_000) -> Path:
    samples = np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate) * 12_000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path
