"""Run a command in this process or in another one."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedx.cli.app import run

WriteWav = Callable[..., Path]
Capture = pytest.CaptureFixture[str]
COMMAND = [sys.executable, "-m", "embedx"]


def outcome(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    """Run a command in this process and return exit code, stdout and stderr."""
    code = run([str(one) for one in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err
