"""Shards: a source is cut into parts by a plan; each part is embedded into a collection of its own, on any machine.

The folder `OUT.shards` holds the plan and, for each shard, its items, its collection and a report once it is done.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedx.datasets.items import Item
from embedx.datasets.walk import Survey
from embedx.errors import NothingToDo, StoreError, UsageError
from embedx.filesystem.atomic import replace_file
from embedx.filesystem.paths import display_path
from embedx.filesystem.urls import require_folder
from embedx.ingest.attempts import MAX_KILLS, Attempts
from embedx.ingest.changes import name_sources, parse_shard
from embedx.ingest.extract import extract_items, load_embedder, read_items
from embedx.ingest.options import ExtractOptions
from embedx.ingest.pipeline import Progress
from embedx.recipe import Recipe
from embedx.store.lock import Lock
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

Report = Mapping[str, Any]  # the counts of a shard; see `describe_part`
Finished = Generator[tuple[int, Report]]  # the number of a shard that is done, and its report

MAX_SHARDS = 100_000
ONE_BY_ONE = 1024  # recordings that can be in work at the same time: those that are taken one by one after a kill
FORMAT = 1
PLAN_NAME, ITEMS_NAME, REPORT_NAME, ATTEMPTS_NAME, COLLECTION_NAME = "plan.json", "items", "done", "attempts", "part"
# Options that say how the work is done, not what it is: they may differ between the machines.
FREE = ("device", "precision", "backend", "batch_seconds", "workers", "allow_pickle", "wait", "shard", "dry_run")


@dataclass(frozen=True)
class Plan:
    """Which recordings each shard has, and what every shard has in common.

    Attributes:
        folder: where the plan and the shards are.
        id: a random text; no other plan has it.
        shards: how many there are.
        sources: the absolute paths of the sources.
        given: the options that the user gave, except those in FREE.
        recipe: of all shards.
        recordings: how many there are in all shards.
    """

    folder: Path
    id: str
    shards: int
    sources: list[str]
    given: dict[str, Any]
    recipe: Recipe
    recordings: int

    def place(self, number: int) -> Path:
        """Return the folder of a shard; shards are counted from 1."""
        return self.folder / f"{number:05d}"

    def collection(self, number: int) -> Path:
        """Return the folder of the collection of a shard; a shard without recordings has none."""
        return self.place(number) / COLLECTION_NAME

    def item_lines(self, number: int) -> bytes:
        """Return the content of the list of items of a shard: a digest, and a line for each item."""
        return (self.place(number) / ITEMS_NAME).read_bytes()

    def items(self, number: int) -> list[Item]:
        """Return the items of a shard, in the order of the source.

        Raises:
            StoreError: their list is missing or damaged, or belongs to another plan or shard.
        """
        digest, _, lines = b"", b"", b""
        with contextlib.suppress(FileNotFoundError):
            digest, _, lines = self.item_lines(number).partition(b"\n")
        if digest != digest_of(self.id, number, lines):
            raise StoreError(
                f"{self.place(number) / ITEMS_NAME} is damaged, missing, or of another plan. Delete {self.folder}, and "
                "the plan in the bucket if there is one, to start again."
            )
        return [Item(**json.loads(line)) for line in lines.splitlines()]

    def report(self, number: int) -> dict[str, Any] | None:
        """Return the final counts of a shard, None if it is not done.

        Raises:
            StoreError: they cannot be read.
        """
        file = self.place(number) / REPORT_NAME
        try:
            return parse_report(file.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreError(f"{file} is damaged. Delete it: what the shard lacks is then done again.") from error

    def check_part(self, number: int, part: Path, report: Report) -> None:
        """Refuse a collection that is not that of a shard that is done: it was exchanged, or is older.

        Args:
            number: the number of the shard.
            part: the folder of the collection.
            report: the counts of the shard when it was done.

        Raises:
            StoreError: it has other recordings than the shard, or fewer than the report says.
        """
        paths, found = {item.path for item in self.items(number)}, stored_paths(part)
        if found <= paths and len(found) == report["recordings"]:
            return
        own = self.place(number)
        raise StoreError(
            f"{part} is not the finished collection of shard {number}: it holds {len(found)} recordings, of which "
            f"{len(found & paths)} are of this shard; {report['recordings']} were embedded. Delete {own / REPORT_NAME} "
            f"and {own / COLLECTION_NAME}: the shard is then done again."
        )

    def write_report(self, number: int, report: Report) -> None:
        """Note that a shard is done."""
        replace_file(self.place(number) / REPORT_NAME, json.dumps(report).encode("ascii"))

    def kept(self, number: int) -> Path:
        """Return the folder of the collection of a shard that is done, on this machine."""
        return self.collection(number)

    @contextlib.contextmanager
    def finished(self, number: int) -> Iterator[Path]:
        """Lend the folder of the collection of a shard that is done, for the merge."""
        yield self.collection(number)

    def delete(self) -> None:
        """Delete the plan and all shards: everything is in the collection."""
        shutil.rmtree(self.folder)

    def require_same(self, sources: Sequence[str], given: Mapping[str, Any], shards: int) -> None:
        """Refuse another source, other options and another number of shards than those of the plan.

        Raises:
            UsageError: the message says what differs.
        """
        here = {"source": list(sources), "shards": shards, **what_counts(given)}
        there = {"source": self.sources, "shards": self.shards, **self.given}
        names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
        if names:
            texts = (f"{name}: {there.get(name, 'not given')!r}, not {here.get(name, 'not given')!r}" for name in names)
            raise UsageError(
                f"{display_path(str(self.folder))} holds a plan with {'; '.join(texts)}. Give the same command again "
                "to continue it, or delete this folder to start again."
            )


def digest_of(plan: str, number: int, lines: bytes) -> bytes:
    """Return a digest of the items of a shard, as text; another plan or shard has another one."""
    return hashlib.blake2b(b"%s %d\n%s" % (plan.encode(), number, lines), digest_size=16).hexdigest().encode()


def parse_report(data: bytes) -> dict[str, Any]:
    """Return the report of a shard; raise ValueError if it is none."""
    report = json.loads(data)
    if not isinstance(report, dict) or not isinstance(report.get("recordings"), int):
        raise ValueError("it is not a report")
    return report


def plan_folder(out: str | os.PathLike[str]) -> Path:
    """Return the folder of the plan for a collection: it lies beside it."""
    require_folder(out)
    return Path(os.path.abspath(out) + ".shards")


def what_counts(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a plan is bound to, as JSON gives them back."""
    return dict(json.loads(json.dumps({name: given[name] for name in sorted(given.keys() - FREE)}, default=os.fspath)))


def read_plan(out: str | os.PathLike[str]) -> Plan | None:
    """Return the plan for a collection; None if there is none.

    Raises:
        StoreError: it cannot be read.
    """
    folder = plan_folder(out)
    try:
        return parse_plan(folder, (folder / PLAN_NAME).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{folder / PLAN_NAME} cannot be read ({error}). Delete {folder} to start again.") from error


def parse_plan(folder: Path, data: bytes) -> Plan:
    """Return the plan of a folder from the bytes of its file.

    Raises:
        StoreError: it is no plan.
    """
    try:
        values = json.loads(data)
        if values.pop("format") != FORMAT:
            raise ValueError("a newer version of embedx may have written it")
        return Plan(folder, recipe=Recipe.from_json(values.pop("recipe")), **values)
    except (ValueError, KeyError, TypeError, AttributeError, StoreError) as error:
        raise StoreError(f"{folder / PLAN_NAME} cannot be read ({error}). Delete {folder} to start again.") from error


def make_plan(
    source: Any, out: str | os.PathLike[str], options: ExtractOptions, given: Mapping[str, Any], shards: int
) -> tuple[Plan, "Embedder"]:
    """Write the plan for a collection: the recordings that it lacks, in the order of the source, in equal shards.

    Args:
        source, out, options: see `embedx.ingest.extract.extract_into_store`.
        given: the options as the user gave them.
        shards: the number of shards.

    Returns:
        The plan, and the embedder that was loaded for its recipe.
    """
    by_path: dict[str, list[Item]] = {}
    known = stored_paths(out)
    for item in read_items(source, options, Survey(options.confine)):
        if item.path not in known:
            by_path.setdefault(item.path, []).append(item)
    embedder = load_embedder(out, options)
    groups = list(by_path.values())
    folder = plan_folder(out)
    about: dict[str, Any] = {"id": secrets.token_hex(8), "shards": shards, "sources": name_sources(source)}
    about |= {"given": what_counts(given), "recordings": len(groups)}
    plan = Plan(folder, recipe=embedder.recipe, **about)
    for number in range(1, shards + 1):
        part = groups[len(groups) * (number - 1) // shards : len(groups) * number // shards]
        plan.place(number).mkdir(exist_ok=True)
        lines = "".join(json.dumps(asdict(item)) + "\n" for items in part for item in items).encode("ascii")
        replace_file(plan.place(number) / ITEMS_NAME, digest_of(plan.id, number, lines) + b"\n" + lines)
    text = json.dumps({"format": FORMAT, "recipe": embedder.recipe.to_json(), **about}, indent=1)
    replace_file(folder / PLAN_NAME, text.encode("ascii"))  # last: it makes the plan valid
    return plan, embedder


def stored_paths(out: str | os.PathLike[str]) -> set[str]:
    """Return the paths of the recordings that a collection holds; none if there is no collection."""
    if not os.path.isfile(os.path.join(out, FILE_NAME)):
        return set()
    with Store(out) as store:
        return set(store.recordings())


def holds_all(out: str | os.PathLike[str], paths: Sequence[str]) -> bool:
    """Tell whether a collection holds all these recordings, and none of them failed."""
    if not paths or not os.path.isfile(os.path.join(out, FILE_NAME)):
        return not paths
    with Store(out) as store:
        return sum(not recording.reason for recording in store.recordings(paths).values()) == len(paths)


def embed_shard(
    plan: Plan,
    number: int,
    options: ExtractOptions,
    on_progress: Callable[[Progress], None] | None = None,
    interrupted: Callable[[], int] = lambda: 0,
    *,
    embedder: "Embedder | None" = None,
) -> dict[str, Any]:
    """Embed what a shard lacks, and write its report. A shard that is done is left as it is.

    Args:
        plan, number: the plan and the number of the shard, from 1.
        options: those of the plan; device, precision and the like may differ.
        on_progress, interrupted: see `embedx.extract`.
        embedder: for these options; None: it is loaded if it is needed.

    Returns:
        The report: the counts of the shard; see `describe_part`.

    Raises:
        LockedError: another process embeds this shard.
        RecipeMismatch: the model is not that of the plan.
        EmbedxError: see `embedx.extract`; what was committed stays.
    """
    options = replace(options, shard=None, prune=False, dry_run=False)
    plan.place(number).mkdir(parents=True, exist_ok=True)
    lock = Lock(plan.place(number), wait=options.wait)
    try:
        if (report := plan.report(number)) is not None:
            if on_progress is not None:
                failures = Counter(failed=report["recordings"] - report["embedded"])
                on_progress(Progress(report["recordings"], present=report["embedded"], failures=+failures))
            return report
        attempts = Attempts(plan.place(number) / ATTEMPTS_NAME, len(stored_paths(plan.collection(number))))
        try:
            embed_items(plan, number, options, attempts, on_progress, interrupted, embedder)
        finally:  # not reached by a process that is killed
            attempts.end()
        report = describe_part(plan.collection(number))
        plan.write_report(number, report)
        return report
    finally:
        lock.release()


def embed_items(
    plan: Plan,
    number: int,
    options: ExtractOptions,
    attempts: Attempts,
    on_progress: Callable[[Progress], None] | None,
    interrupted: Callable[[], int],
    embedder: "Embedder | None",
) -> None:
    """Embed the items of a shard; after a kill those that were in work are taken one by one."""
    out, by_path = plan.collection(number), dict[str, list[Item]]()
    for item in plan.items(number):
        by_path.setdefault(item.path, []).append(item)
    if not by_path:
        return
    embedder = embedder or load_embedder(out, options)
    embedder.recipe.require_same(plan.recipe, str(plan.folder))

    def embed(paths: Iterable[str]) -> None:
        items = [refused(item, attempts) for path in paths for item in by_path[path]]
        extract_items(items, plan.sources, out, options, on_progress, interrupted, embedder=embedder)

    if attempts.is_stuck:
        stored = stored_paths(out)
        for path in islice((path for path in by_path if path not in stored), ONE_BY_ONE):
            attempts.start(path)
            embed([path])
        attempts.start(None)
    embed(by_path)


def describe_part(folder: Path) -> dict[str, Any]:
    """Return the counts of the collection of a shard; of none if the shard has no recordings."""
    if not (folder / FILE_NAME).is_file():
        return {"recordings": 0, "embedded": 0, "windows": 0, "seconds": 0.0, "flags": {}}
    with Store(folder) as store:
        recordings = store.recordings().values()
        good = [recording for recording in recordings if not recording.reason]
        flags = Counter(flag for recording in good for flag in recording.flags)
        counts = {"recordings": len(recordings), "embedded": len(good), "windows": store.count()}
        return {**counts, "seconds": store.hours() * 3600, "flags": flags}


def refused(item: Item, attempts: Attempts) -> Item:
    """Return an item as it is, or with a problem if it has killed its process too often."""
    if not attempts.has_killed(item.path):
        return item
    problem = f"The process that embedded {display_path(item.path)} was killed {MAX_KILLS} times."
    return replace(item, problem=problem, reason="killed")


def check_shards(shards: int) -> None:
    """Refuse an impossible number of shards."""
    if isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= MAX_SHARDS:
        raise UsageError(f"shards must be a whole number from 1 to {MAX_SHARDS}, not {shards!r}.")


def embed_planned(
    plan: Plan,
    source: Any,
    given: Mapping[str, Any],
    options: ExtractOptions,
    on_progress: Callable[[Progress], None] | None,
    interrupted: Callable[[], int],
) -> str:
    """Embed the shard that the option `shard` names, and return the folder of its collection.

    Args:
        plan: the plan.
        source: what the plan must be for.
        given: the options that the user gave; the others are completed in `options`.
        options, on_progress, interrupted: see `embed_shard`.

    Raises:
        UsageError: the option is invalid, or the plan is another one.
        NothingToDo: the shard has no recordings: there are fewer recordings than shards.
        EmbedxError: see `embed_shard`.
    """
    number, shards = parse_shard(options.shard)
    plan.require_same(name_sources(source), given, shards)
    if not embed_shard(plan, number, options, on_progress, interrupted)["recordings"]:
        raise NothingToDo(f"Shard {number} of {plan.shards} is empty: the plan has {plan.recordings} recordings.")
    return str(plan.kept(number))
