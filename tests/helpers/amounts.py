"""How often a test repeats: a few times in the fast suite, many times in the long one."""

import os

import pytest


def fast_and_long(name: str, fast: int, long: int, variable: str = "") -> pytest.MarkDecorator:
    """Run a test twice: with a small number in the fast suite, and with a larger one under the marker `long`.

    Args:
        name: the parameter of the test that takes the number.
        fast: the number in the fast suite.
        long: the number under `long`.
        variable: an environment variable that replaces `long`; `make reliability` sets it.
    """
    full = int(os.environ.get(variable, long))
    values = [pytest.param(fast, id="fast"), pytest.param(full, id="long", marks=pytest.mark.long)]
    return pytest.mark.parametrize(name, values)
