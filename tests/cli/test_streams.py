"""Standard streams that are closed, full or broken do not end the work."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import embedx
from tests.helpers.commands import COMMAND

ROOT = Path(embedx.__file__).parents[1]
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
FAST = ["2>&-", ">/dev/full 2>/dev/full", "2>&1 | head -c 1"]
LONG = [">&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "2>&1 | true", "2> >(true)"]
CASES = [*FAST, *(pytest.param(redirection, marks=pytest.mark.long) for redirection in LONG)]


def shell(arguments: str, redirection: str) -> int:
    """Run a command with redirected streams and return its exit code."""
    code = f"{' '.join(COMMAND)} {arguments} {redirection}; exit ${{PIPESTATUS[0]}}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-c", code], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    ).returncode


@needs_full
@pytest.mark.parametrize("redirection", [">/dev/full 2>&-", *CASES[3:]])
def test_run_without_usable_streams_embeds_everything(manifest: Path, tmp_path: Path, redirection: str) -> None:
    assert shell(f"extract {manifest} -o {tmp_path / 'c'} --json --progress json", redirection) == 0
    with embedx.open(tmp_path / "c") as collection:
        assert len(collection) == 40
        assert not collection.verify().found


@needs_full
@pytest.mark.parametrize("redirection", CASES)
def test_exit_code_is_that_of_the_work(made: Path, redirection: str) -> None:
    is_disk_error = ">/dev/full" in redirection.replace("2>/dev/full", "")
    assert shell(f"search {made} --id 1 --format json", redirection) == (6 if is_disk_error else 0)
    assert shell(f"verify {made} --json", redirection) == 0
    assert shell(f"search {made} --id 99999 --json", redirection) == 2


def test_closed_streams_are_not_taken_over_by_files(tmp_path: Path) -> None:
    code = (
        "from embedx.cli.streams import protect_standard_streams; protect_standard_streams()\n"
        "import os, sys; handle = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); print('x' * 100_000, flush=True)\n"
        "print('y', file=sys.stderr); os.write(handle, str(handle).encode())"
    )
    subprocess.run(
        ["bash", "-c", '"$0" -c "$1" "$2" <&- >&- 2>&-', sys.executable, code, str(tmp_path / "f")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert int((tmp_path / "f").read_text()) > 2


def test_signal_during_a_write_stops_cleanly(capfd: pytest.CaptureFixture[str]) -> None:
    from embedx.cli.progress import Signals

    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received() == signal.SIGTERM
    assert "Stopping after the current batch" in capfd.readouterr().err
