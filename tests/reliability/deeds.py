"""Commands that change a collection, each with a store to begin from; what can strike them is for the tests."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from embedx.cli.app import COMMANDS
from tests.reliability.oracle import Contents, alike, examine
from tests.reliability.shim import Nursery

OPTIONS = ("--window", 0.5, "--layout", "files")
HALF = "path GLOB '*/a/*'"  # of the corpus


@dataclass(frozen=True)
class Deed:
    """A command, and what it needs."""

    name: str
    arguments: Callable[[Path, Path], list[object]]  # corpus, collection -> arguments
    begins: Callable[[Nursery, Path, Path], None] = lambda nursery, corpus, out: None  # makes what is there before
    adds: bool = False  # rows, which then have ids that were never given

    @property
    def exists(self) -> bool:
        """Whether this embedx has the command."""
        return self.arguments(Path(), Path())[0] in COMMANDS


def extracted(nursery: Nursery, corpus: Path, out: Path) -> None:
    assert nursery.run("extract", corpus, "-o", out, *OPTIONS).code == 0


def thinned(nursery: Nursery, corpus: Path, out: Path) -> None:
    extracted(nursery, corpus, out)
    assert nursery.run("rm", out, "--where", HALF).code == 0


def in_parts(nursery: Nursery, corpus: Path, out: Path) -> None:
    for part in "ab":
        extracted(nursery, corpus / part, out.parent / part)


DEEDS = {
    deed.name: deed
    for deed in (
        Deed("extract", lambda corpus, out: ["extract", corpus, "-o", out, *OPTIONS], adds=True),
        Deed("rm", lambda corpus, out: ["rm", out, "--where", HALF], extracted),
        Deed("label", lambda corpus, out: ["label", out, "--set", "species=owl", "--where", HALF], extracted),
        Deed("compact", lambda corpus, out: ["compact", out], thinned),
        Deed("index", lambda corpus, out: ["index", "build", out], extracted),
        Deed("merge", lambda corpus, out: ["merge", out.parent / "a", out.parent / "b", "-o", out], in_parts, True),
    )
}


@dataclass(frozen=True)
class Scene:
    """A deed with the store it begins from, and what the store holds before and after."""

    deed: Deed
    corpus: Path
    start: Path  # a folder with the collection `c` in it, or without
    before: Contents
    after: Contents
    calls: int  # that the deed takes when nothing strikes
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
        return self.deed.arguments(self.corpus, collection)


def stage(deed: Deed, nursery: Nursery, corpus: Path, folder: Path) -> Scene:
    """Make the beginning, and run the deed once undisturbed."""
    if not deed.exists:
        pytest.skip(f"there is no `embedx {deed.name}`")
    start, whole = folder / "start", folder / "whole"
    start.mkdir(parents=True)
    deed.begins(nursery, corpus, start / "c")
    shutil.copytree(start, whole)
    begun = time.monotonic()
    done = nursery.run(*deed.arguments(corpus, whole / "c"), root=whole)
    seconds = time.monotonic() - begun
    assert done.code == 0, done.err
    return Scene(deed, corpus, start, examine(start / "c"), examine(whole / "c"), done.calls, seconds)
