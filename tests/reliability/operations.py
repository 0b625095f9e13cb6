"""Commands that change a collection, each with a store to start from."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from embedx.cli.app import COMMANDS
from tests.reliability.expected_state import Contents, alike, examine
from tests.reliability.fault_injection import ForkServer

OPTIONS = ("--window", 0.5, "--layout", "files", "--progress", "json")
HALF = "path GLOB '*/a/*'"  # of the corpus


@dataclass(frozen=True)
class Operation:
    """A command, and the collection that it needs."""

    name: str
    arguments: Callable[[Path, Path], list[object]]  # corpus, collection -> arguments
    begins: Callable[[ForkServer, Path, Path], None] = lambda server, corpus, out: None  # makes what is there before
    adds: bool = False  # rows, which then have ids that were never given

    @property
    def exists(self) -> bool:
        """Whether this embedx has the command."""
        return self.arguments(Path(), Path())[0] in COMMANDS


def extracted(server: ForkServer, corpus: Path, out: Path) -> None:
    assert server.run("extract", corpus, "-o", out, *OPTIONS).code == 0


def thinned(server: ForkServer, corpus: Path, out: Path) -> None:
    extracted(server, corpus, out)
    assert server.run("rm", out, "--where", HALF).code == 0


def in_parts(server: ForkServer, corpus: Path, out: Path) -> None:
    for part in "ab":
        extracted(server, corpus / part, out.parent / part)


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("extract", lambda corpus, out: ["extract", corpus, "-o", out, *OPTIONS], adds=True),
        Operation("rm", lambda corpus, out: ["rm", out, "--where", HALF], extracted),
        Operation("label", lambda corpus, out: ["label", out, "--set", "species=owl", "--where", HALF], extracted),
        Operation("compact", lambda corpus, out: ["compact", out], thinned),
        Operation("index", lambda corpus, out: ["index", "build", out], extracted),
        Operation(
            "merge", lambda corpus, out: ["merge", out.parent / "a", out.parent / "b", "-o", out], in_parts, True
        ),
    )
}


@dataclass(frozen=True)
class Scene:
    """An operation with its initial store, and the contents of the store before and after it."""

    operation: Operation
    corpus: Path
    start: Path  # a folder with the collection `c` in it, or without
    before: Contents
    after: Contents
    calls: int  # that the operation takes when nothing strikes
    seconds: float

    def set_up(self, folder: Path) -> Path:
        """Copy the beginning into a folder that is not there, and return the place of the collection in it."""
        shutil.copytree(self.start, folder)
        return folder / "c"

    @property
    def changed(self) -> set[str]:
        """The recordings that are there before, and are not to stay as they are."""
        return {path for path, rows in self.before.items() if not alike(rows, self.after.get(path))}

    def arguments(self, collection: Path) -> list[object]:
        return self.operation.arguments(self.corpus, collection)


def stage(operation: Operation, server: ForkServer, corpus: Path, folder: Path) -> Scene:
    """Make the beginning, and run the operation once undisturbed."""
    if not operation.exists:
        pytest.skip(f"there is no `embedx {operation.name}`")
    start, whole = folder / "start", folder / "whole"
    start.mkdir(parents=True)
    operation.begins(server, corpus, start / "c")
    shutil.copytree(start, whole)
    begun = time.monotonic()
    done = server.run(*operation.arguments(corpus, whole / "c"), root=whole)
    seconds = time.monotonic() - begun
    assert done.code == 0, done.err
    return Scene(operation, corpus, start, examine(start / "c"), examine(whole / "c"), done.calls, seconds)
