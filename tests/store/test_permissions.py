"""A reader without write permission sees every committed row, or is refused by name."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedx.store.schema import FILE_NAME
from embedx.store.store import Store
from tests.helpers.paths import ROOT
from tests.helpers.store_batches import DIM, RECIPE, batch

NOBODY = 65534
LOG, SHARED_MEMORY = f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"
READER = f"""
import json, os, sys
from embedx.errors import EmbedxError
from embedx.store import checksums
from embedx.store.store import Store
checksums.MIN_NEW = 1  # it tries to write the hashes of the blocks that it has compared
os.setgid({NOBODY}), os.setuid({NOBODY})
store = None
for folder in sys.stdin:
    try:
        store = store or Store(folder.strip())
        found = store.filter("id > 0").tolist()
        answer = [len(store.rows()), store.count(), found[-1], len(store.vectors("L0.mean")[0])]
    except EmbedxError as error:
        answer = [type(error).__name__, str(error)]
    print(json.dumps(answer), flush=True)
"""


class Reader:
    """A process of a user who can only read; it opens a store once, and then answers from it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def ask(self, folder: Path) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(folder, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def reader() -> Iterator[Reader]:
    if os.getuid():
        pytest.skip("only root can start a process of another user")
    one = Reader()
    yield one
    one.process.communicate(timeout=60)


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that every user can enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def writer(root: Path) -> Iterator[Store]:
    """A writer with two rows in the file and two in the log."""
    with Store.create(root / "c", RECIPE, DIM) as store:
        store.add(batch("/a.wav"), store.start_run({}))
    with Store(root / "c", write=True) as store:
        store.add(batch("/b.wav", first_id=3), 1)
        yield store


def test_reader_beside_writer_sees_every_commit(reader: Reader, writer: Store) -> None:
    assert reader.ask(writer.folder) == [4, 4, 4, 4]
    writer.add(batch("/c.wav", first_id=5), 1)
    assert reader.ask(writer.folder) == [6, 6, 6, 6]


def test_reader_that_cannot_follow_the_writer_is_refused(reader: Reader, writer: Store) -> None:
    (writer.folder / SHARED_MEMORY).chmod(0o600)
    kind, message = reader.ask(writer.folder)
    assert kind == "StoreError"
    assert "is being written, and cannot be read meanwhile without write permission" in message


@pytest.mark.parametrize("names", [(LOG, SHARED_MEMORY), (LOG,)])
def test_log_of_a_killed_writer_is_read(reader: Reader, writer: Store, root: Path, names: tuple[str, ...]) -> None:
    (root / "killed").mkdir()
    for name in (FILE_NAME, "lock", *names):
        shutil.copy(writer.folder / name, root / "killed" / name)
    assert reader.ask(root / "killed") == [4, 4, 4, 4]
    assert (root / "killed" / LOG).stat().st_size > 0
    with Store(root / "killed", write=True) as store:
        store.add(batch("/c.wav", first_id=5), 1)
        assert reader.ask(root / "killed") in ([6, 6, 6, 6], ["LockedError", ""])


@pytest.mark.parametrize("name", [LOG, "lock"])
def test_file_that_cannot_be_read_is_named(reader: Reader, writer: Store, root: Path, name: str) -> None:
    (root / "killed").mkdir()
    for copied in (FILE_NAME, "lock", LOG):
        shutil.copy(writer.folder / copied, root / "killed" / copied)
    (root / "killed" / name).chmod(0)
    kind, message = reader.ask(root / "killed")
    assert kind == "StoreError"
    assert f"{name} cannot be read" in message


def test_closed_store_is_read_and_followed_when_a_writer_comes(reader: Reader, root: Path) -> None:
    with Store.create(root / "c", RECIPE, DIM) as store:
        store.add(batch("/a.wav"), store.start_run({}))
    assert reader.ask(root / "c") == [2, 2, 2, 2]
    assert sorted(file.name for file in (root / "c").iterdir()) == ["lock", FILE_NAME]
    with Store(root / "c", write=True) as store:
        store.add(batch("/b.wav", first_id=3), 1)
        assert reader.ask(root / "c") == [4, 4, 4, 4]
    assert reader.ask(root / "c") == [4, 4, 4, 4]
