"""Where a command cannot write, it says so before the work."""

from pathlib import Path

import pytest

from tests.helpers.commands import Capture, outcome

# The collection does not exist: whoever looks at it first, or at a model, reports that and not the output.
COMMANDS = [
    ["search", "none", "--id", "1", "--output"], ["search", "none", "--id", "1", "--format", "audacity", "--output"],
    ["predict", "none", "--output"], ["predict", "none", "--format", "audacity", "--output"],
    ["suggest", "none", "--output"], ["duplicates", "none", "--output"], ["export", "none", "-o"],
    ["heads", "export", "none", "h", "-o"], ["train", "none", "--report"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_output_that_cannot_be_written_is_refused_first(command: list[str], tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").touch()
    for folder in ("missing", "missing/deep", "file"):
        code, _, log = outcome(capsys, *command, tmp_path / folder / "x.csv")
        assert (code, f"There is no folder {tmp_path / folder}" in log) == (2, True)
    if command[0] != "export" and "audacity" not in command:
        for name in (str(tmp_path), f"{tmp_path}/new/"):
            code, _, log = outcome(capsys, *command, name)
            assert (code, "is a folder" in log) == (2, True), log
