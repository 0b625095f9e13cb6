"""Sharded: a source is embedded in shards, by this process or by an engine, and merged as in one run."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Unpack

from embedx.arguments.keywords import with_known_keywords
from embedx.collection.bucket_plans import publish, read_bucket_plan
from embedx.collection.collection import Collection
from embedx.collection.create import extract
from embedx.collection.merge import merge_shard
from embedx.collection.pushing import bucket_url
from embedx.errors import LockedError, UsageError
from embedx.ingest.changes import name_sources
from embedx.ingest.options import ExtractKwargs, ExtractOptions
from embedx.ingest.pipeline import Progress
from embedx.ingest.shards import (
    Finished,
    Plan,
    Report,
    check_shards,
    embed_shard,
    holds_all,
    make_plan,
    plan_folder,
    read_plan,
)
from embedx.ingest.stored_options import complete_options
from embedx.store.lock import Lock

if TYPE_CHECKING:
    from embedx.embedding.embedder import Embedder

LOCAL, RAY = "local", "ray"


@with_known_keywords
def extract_shards(
    source: Any,
    *,
    out: str | os.PathLike[str],
    shards: int,
    engine: str = LOCAL,
    plan_only: bool = False,
    plan: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    interrupted: Callable[[], int] = lambda: 0,
    **options: Unpack[ExtractKwargs],
) -> Collection | None:
    """Embed the recordings of a source in shards, and merge them. The collection is the same as that of `extract`.

    A plan is written first, into the folder `OUT.shards`: it names the recordings of each shard, and is bound to the
    source and the options. Shards that are done are kept until all are merged; run the same call again to continue.
    Other machines can do shards of the same plan with `extract(..., shard="i/n")`.

    Args:
        source, out, on_progress, interrupted, options: see `embedx.extract`.
        shards: the number of shards, 1 to 100 000.
        engine: "local": the shards one after another in this process; "ray": Ray on this machine, or on the cluster
            that the variable RAY_ADDRESS names; "ray://HOST:PORT": that cluster (extra `embedx[ray]`).
        plan_only: write the plan, embed nothing, and return None.
        plan: for machines without a common disk: a place in a bucket for the plan and the shards, s3://bucket/plan.

    Raises:
        UsageError: an invalid argument, or the folder holds a plan for another source, other options or another number
            of shards.
        LockedError: another process merges the shards, or embeds the last one that is missing.
        ModelError, StoreError, DiskError, NothingToDo: see `embedx.extract`; what was committed stays.
    """
    check_shards(shards)
    uses_ray = check_engine(engine)
    if options.get("shard"):
        raise UsageError("Give --shards to do all shards of a plan, or --shard to do one of them, not both.")
    sources, folder = name_sources(source), plan_folder(out)
    settings, embedder = complete_options(out, sources, options), None
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.callback(Lock(folder, wait=settings.wait).release)
        made = read_plan(out) if plan is None else read_bucket_plan(plan, out)
        if made is None:
            made, embedder = prepare_plan(source, out, settings, options, shards, plan)
        made.require_same(sources, options, shards)
        if plan_only:
            return None
        run = Run(made, out, settings.wait, on_progress or (lambda progress: None))
        if uses_ray:
            from embedx.engines.ray import embed_with_ray

            finished = embed_with_ray(made, settings, engine, interrupted)
        else:
            finished = embed_here(made, settings, embedder, run.show, interrupted)
        stack.enter_context(contextlib.closing(finished))
        for number, report in finished:
            run.take(number, report)
        collection = extract(source, out=out, on_progress=run.finish, interrupted=interrupted, **options)
        made.delete()
    return collection


def check_engine(engine: str) -> bool:
    """Tell whether an engine is Ray; refuse an unknown one."""
    uses_ray = engine.partition(":")[0] == RAY
    if not uses_ray and engine != LOCAL:
        raise UsageError(f"Unknown engine {engine!r}. Engines: local, ray, ray://HOST:PORT.")
    return uses_ray


def prepare_plan(
    source: Any,
    out: str | os.PathLike[str],
    options: ExtractOptions,
    given: ExtractKwargs,
    shards: int,
    place: str | None,
) -> tuple[Plan, "Embedder | None"]:
    """Write a plan, and send it to its place in a bucket; one that was written before is only sent."""
    plan, embedder = read_plan(out), None
    if plan is None:
        plan, embedder = make_plan(source, out, options, given, shards)
    plan.require_same(name_sources(source), given, shards)
    return (plan if place is None else publish(plan, bucket_url(place))), embedder


def embed_here(
    plan: Plan,
    options: ExtractOptions,
    embedder: "Embedder | None",
    on_progress: Callable[[Progress], None],
    interrupted: Callable[[], int],
) -> Finished:
    """Embed the shards of a plan one after another; those that other processes have in work come last."""
    busy = []
    for number in range(1, plan.shards + 1):
        report = plan.report(number)
        if report is None:
            embedder = embedder or options.load()
            try:
                report = embed_shard(plan, number, options, on_progress, interrupted, embedder=embedder)
            except LockedError:
                busy.append(number)
                continue
        yield number, report
    for number in busy:
        yield number, embed_shard(plan, number, options, on_progress, interrupted, embedder=embedder)


@dataclass
class Run:
    """The shards that are done and merged so far.

    They are merged in their order, so that the rows have the order of one run; one that is done too early waits.
    """

    plan: Plan
    out: str | os.PathLike[str]
    wait: bool
    on_progress: Callable[[Progress], None]
    reports: dict[int, Report] = field(default_factory=dict)
    merged: int = 0  # shards 1 to this one are in the collection

    def take(self, number: int, report: Report) -> None:
        """Merge what can be merged now that a shard is done."""
        self.reports[number] = report
        while self.merged + 1 in self.reports:
            self.merged += 1
            paths = list(dict.fromkeys(item.path for item in self.plan.items(self.merged)))
            if not holds_all(self.out, paths):
                with self.plan.finished(self.merged) as part:
                    self.plan.check_part(self.merged, part, self.reports[self.merged])
                    merge_shard(part, self.out, paths, self.wait)
        self.on_progress(self.counts())

    def show(self, part: Progress) -> None:
        """Report the progress inside of a shard."""
        counts = self.counts()
        counts.embedded += part.present + part.embedded
        counts.windows += part.windows
        counts.seconds += part.seconds
        counts.failures += part.failures
        self.on_progress(counts)

    def finish(self, last: Progress) -> None:
        """Report the progress of the last look at the source, in which all shards count as embedded now."""
        counts = self.counts()
        present = max(0, last.present - counts.embedded)
        sums = {
            name: getattr(last, name) + getattr(counts, name) for name in ("embedded", "windows", "seconds", "flags")
        }
        self.on_progress(replace(last, present=present, **sums))

    def counts(self) -> Progress:
        """Return the sums over the shards that are done."""
        result = Progress(total=self.plan.recordings)
        for report in self.reports.values():
            result.embedded += report["embedded"]
            result.windows += report["windows"]
            result.seconds += report["seconds"]
            result.flags += Counter(report["flags"])
            result.failures["failed"] += report["recordings"] - report["embedded"]
        result.failures += Counter()  # without zeros
        return result
