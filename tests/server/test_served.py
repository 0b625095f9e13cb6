"""What a served collection keeps is made once, however many threads ask for it at the same time."""

import threading
import time
from pathlib import Path

import pytest

from embedx.errors import UsageError
from embedx.server.errors import ApiError
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


def test_collection_that_is_closed_while_it_is_used_is_closed_after_that(made: Path) -> None:
    """Pages look at a collection all the time, so one of them may be in it at the end."""
    service = Service(Settings((made,)), Metrics())
    served = service.get("made")
    with served.use() as collection, served.use() as same:
        service.close()
        assert same is collection
        assert collection.search(id=1, k=2)
        assert len(collection) > 0
    with pytest.raises(UsageError, match="closed"):
        collection.search(id=1)


def test_map_by_umap_is_not_begun_after_the_end(made: Path) -> None:
    """To read all vectors takes seconds, in which a signal may come; UMAP would then go on for minutes."""
    service = Service(Settings((made,)), Metrics())
    service.close()
    with pytest.raises(ApiError, match="ends") as refused:
        service.get("made").make_umap("L0.mean")
    assert refused.value.status == 503
    assert service.get("made")._projection is None


def test_rows_are_read_while_all_rows_are_compared(made: Path) -> None:
    """A filter compares all rows first, which takes a minute for a million; a page shows rows meanwhile."""
    service = Service(Settings((made,)), Metrics())
    served, found = service.get("made"), list[int]()

    def read() -> None:
        with served.use() as collection:
            found.extend(row.id for row in collection.store.rows([3]))

    with served.use() as collection, collection.store._compared.lock("filter"):
        reader = threading.Thread(target=read)
        reader.start()
        reader.join(60)
        assert found == [3]
    service.close()
