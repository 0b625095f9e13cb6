"""BucketPlan: a plan of shards in a bucket, for machines that share no disk.

The bucket holds the plan, the items of each shard, and the collections of the shards that are done::

    s3://bucket/plan/plan.json       written last: it makes the plan valid
    s3://bucket/plan/00017/items     the recordings of shard 17
    s3://bucket/plan/00017/part/     its collection, as `push` writes it
    s3://bucket/plan/00017/done      its report, written after the collection

Each machine works in its own folder `OUT.shards`. Shards that are done are downloaded for the merge one by one.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedx.collection.pushing import bucket_errors, bucket_url, download, files_below, push
from embedx.errors import StoreError, UsageError
from embedx.filesystem.atomic import replace_file
from embedx.filesystem.paths import display_path
from embedx.filesystem.remote import read_bytes, remove, write_bytes
from embedx.ingest.options import ExtractOptions
from embedx.ingest.shards import (
    COLLECTION_NAME,
    ITEMS_NAME,
    PLAN_NAME,
    REPORT_NAME,
    Plan,
    Report,
    parse_plan,
    parse_report,
    plan_folder,
    read_plan,
)

OWN = re.compile(rf"{re.escape(PLAN_NAME)}|\d{{5,6}}/({ITEMS_NAME}|{REPORT_NAME}|{COLLECTION_NAME}/.+)")  # its files


@dataclass(frozen=True)
class BucketPlan(Plan):
    """A plan in a bucket; its folder is where this machine works.

    Attributes:
        url: where the plan is in the bucket.
    """

    url: str = ""

    def remote(self, number: int, name: str) -> str:
        """Return the URL of a file or collection of a shard."""
        return f"{self.url}/{self.place(number).name}/{name}"

    def item_lines(self, number: int) -> bytes:
        """Return the content of the list of items of a shard; it is downloaded once."""
        file = self.place(number) / ITEMS_NAME
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            with bucket_errors(self.url):
                replace_file(file, read_bytes(self.remote(number, ITEMS_NAME)))
        return super().item_lines(number)

    def report(self, number: int) -> dict[str, Any] | None:
        """Return the final counts of a shard whose collection is in the bucket, None if this plan has none there."""
        url = self.remote(number, REPORT_NAME)
        with bucket_errors(self.url):
            try:
                report = parse_report(read_bytes(url))
                return report if report.pop("plan") == self.id else None
            except FileNotFoundError:
                return None
            except (ValueError, KeyError) as error:
                raise StoreError(f"{display_path(url)} is damaged. Delete it: the shard is then done again.") from error

    def write_report(self, number: int, report: Report) -> None:
        """Send the collection of a shard, and note that it is done."""
        super().write_report(number, report)
        if report["recordings"]:
            push(self.collection(number), self.remote(number, COLLECTION_NAME))
        with bucket_errors(self.url):
            text = json.dumps({**report, "plan": self.id})
            write_bytes(self.remote(number, REPORT_NAME), text.encode("ascii"))

    def kept(self, number: int) -> Path:
        """Return the folder of the collection of a shard that is done; if another machine did it, it is downloaded."""
        folder = self.collection(number)
        report = self.report(number)
        if super().report(number) is None and report is not None:
            shutil.rmtree(folder, ignore_errors=True)  # what this machine had begun
            self.download(number, folder)
            replace_file(self.place(number) / REPORT_NAME, json.dumps(report).encode("ascii"))
        return folder

    @contextlib.contextmanager
    def finished(self, number: int) -> Iterator[Path]:
        """Lend the folder of the collection of a shard that is done: this machine's own, or a copy of the bucket's."""
        if super().report(number) is not None:
            yield self.collection(number)
            return
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            copy = Path(folder, COLLECTION_NAME)
            self.download(number, copy)
            yield copy

    def download(self, number: int, folder: Path) -> None:
        """Make a folder with the collection of a shard from the bucket.

        Raises:
            StoreError: it is damaged; the message says what to delete.
        """
        try:
            download(self.remote(number, COLLECTION_NAME), folder)
        except StoreError as error:
            report = display_path(self.remote(number, REPORT_NAME))
            problem = str(error).removesuffix(" Push it again.")
            raise StoreError(f"{problem} Delete {report}: the shard is then done again.") from error

    def delete(self) -> None:
        """Delete the plan and all shards, in the bucket and here; the plan first, so that no machine begins with it.

        Other files in the bucket stay.
        """
        with bucket_errors(self.url):
            with contextlib.suppress(FileNotFoundError):  # an earlier try has deleted it
                remove(f"{self.url}/{PLAN_NAME}")
            for file in list(files_below(self.url)):
                if OWN.fullmatch(file.url[len(self.url) + 1 :]):  # others may have been written there meanwhile
                    remove(file.url)
        super().delete()


def publish(plan: Plan, url: str) -> BucketPlan:
    """Write a plan of this machine to a bucket.

    Raises:
        UsageError: the place holds other files.
        DiskError: the bucket cannot be written.
    """
    shared = BucketPlan(**vars(plan), url=url)
    with bucket_errors(url):
        names = (file.url[len(url) + 1 :] for file in files_below(url))
        if (stranger := next((name for name in names if not OWN.fullmatch(name)), None)) is not None:
            raise UsageError(
                f"{display_path(url)} holds other files, such as {display_path(stranger)}. Give another place."
            )
        for number in range(1, plan.shards + 1):
            write_bytes(shared.remote(number, ITEMS_NAME), (plan.place(number) / ITEMS_NAME).read_bytes())
        write_bytes(f"{url}/{PLAN_NAME}", (plan.folder / PLAN_NAME).read_bytes())
    return shared


def read_bucket_plan(place: str, out: str | os.PathLike[str]) -> BucketPlan | None:
    """Return the plan in a bucket for a collection of this machine; None if there is none.

    Raises:
        UsageError: the place is no URL of a bucket, or this machine has another plan for the collection.
        StoreError: the plan cannot be read.
        DiskError: the bucket cannot be read.
    """
    url, folder = bucket_url(place), plan_folder(out)
    with bucket_errors(url):
        try:
            data = read_bytes(f"{url}/{PLAN_NAME}")
        except FileNotFoundError:
            return None
    plan, own = parse_plan(folder, data), read_plan(out)
    if own is not None and own.id != plan.id:
        raise UsageError(
            f"{display_path(str(folder))} is of another plan than {display_path(url)}. Delete this folder, or give "
            "another collection."
        )
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / PLAN_NAME, data)
    return BucketPlan(**vars(plan), url=url)


def find_plan(out: str | os.PathLike[str], options: ExtractOptions, place: str | None) -> Plan | None:
    """Return the plan of which a run embeds a shard; None if there is none, or if the run embeds no shard.

    Raises:
        UsageError: the place is given without a shard, or has no plan; a dry run of a shard; or as `read_bucket_plan`.
        StoreError, DiskError: see `read_bucket_plan`.
    """
    if not options.shard:
        if place is not None and not options.dry_run:
            raise UsageError("--plan needs --shards N, or --shard I/N of a plan that is there.")
        return None
    plan = read_plan(out) if place is None else read_bucket_plan(place, out)
    if plan is None and place is not None:
        raise UsageError(f"There is no plan at {display_path(place)}. --shards N --plan-only writes it.")
    if plan is not None and options.dry_run:
        raise UsageError(
            "--dry-run and --shard of a plan cannot be used together. Leave out --shard: then all is shown."
        )
    return plan
