"""Waiting for a page in a browser."""

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
