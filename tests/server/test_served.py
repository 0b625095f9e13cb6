"""What a served collection keeps is made once, however many threads ask for it at the same time."""

import threading
import time
from pathlib import Path

import pytest

from embedx.server.metrics import Metrics
from embedx.server.service import Service
from embedx.server.settings import Settings


def test_what_is_kept_is_made_once_for_each_key(made: Path) -> None:
    service = Service(Settings((made,)), Metrics())
    served, calls, answers = service.get("made"), list[int](), list[int]()

    def make() -> int:
        calls.append(1)
        time.sleep(0.05)
        return len(calls)

    def ask(key: int) -> None:
        answers.append(served.keep("it", (key,), make))

    for key in (1, 2):
        threads = [threading.Thread(target=ask, args=(key,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [1] * 8 + [2] * 8
    with pytest.raises(ZeroDivisionError):
        served.keep("it", (3,), lambda: 1 // 0)
    assert served.keep("it", (3,), lambda: 7) == 7
    service.close()
