"""Regular expressions of a user end in bounded time."""

import threading
import time
from pathlib import Path

import pytest

from embedx.datasets.sources import read_corpus
from embedx.errors import UsageError
from embedx.processes import patterns
from embedx.processes.patterns import first_groups
from tests.helpers.commands import Capture, WriteWav, outcome

CATASTROPHES = [r"(a+)+b", r"((a|a)*)*b", r"((a|b|ab)*)*c", r"(.*.*.*.*.*.*.*.*.*.*.*)=x"]


@pytest.mark.parametrize("pattern", CATASTROPHES)
@pytest.mark.parametrize("option", ["--label", pytest.param("--group", marks=pytest.mark.long)])
def test_catastrophic_expression_ends_with_exit_code_2(
    write_wav: WriteWav, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, pattern: str, option: str
) -> None:
    monkeypatch.setattr(patterns, "TIMEOUT_S", 0.3)
    write_wav(f"in/{'a' * 200}.wav")
    code, _, log = outcome(capsys, "extract", tmp_path / "in", "-o", tmp_path / "c", option, pattern)
    assert code == 2
    assert "takes longer than" in log
    assert pattern in log
    assert not (tmp_path / "c").exists()


def test_time_limit_works_in_a_thread() -> None:
    raised: list[Exception] = []

    def search() -> None:
        try:
            first_groups(CATASTROPHES[0], ["a" * 100], 0.3)
        except UsageError as error:
            raised.append(error)

    thread = threading.Thread(target=search, daemon=True)
    started = time.monotonic()
    thread.start()
    thread.join(60)
    assert len(raised) == 1
    assert time.monotonic() - started < 60


def test_groups_of_many_texts_arrive_in_order() -> None:
    texts = ["\udcff" * 500 + f"/{number}_x.wav" for number in range(1000)]
    assert first_groups(r"/(\d+)_", texts) == [str(number) for number in range(1000)]
    assert first_groups(r"(\udcff)", texts[:1]) == ["\udcff"]
    assert first_groups(r"(a)", []) == []


@pytest.mark.parametrize(
    "pattern", ["(", "(a)(", "(?:a)", "(a){99999999999}", "(" * 3000 + ")" * 3000, "(?P<x>a)(?P<x>b)"]
)
def test_expression_that_is_invalid_is_refused(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(UsageError, match="regular expression"):
        read_corpus(tmp_path, label=pattern)
