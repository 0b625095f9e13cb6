"""Waiting for a page in a browser."""

from collections.abc import Callable
from typing import Any

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
