"""embedx rm, compact, backup, verify and merge: maintenance of a collection."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from embedx.cli.options import ALLOW_PICKLE, COLLECTION, JSON, MODEL_PLACE, READ_COLLECTION, TIMEOUT, WAIT, refuse_urls
from embedx.cli.output import print_json, print_rows, say, size
from embedx.errors import StoreError, UsageError
from embedx.filesystem.paths import display_path
from embedx.filesystem.urls import is_engine
from embedx.text import plural

if TYPE_CHECKING:
    from embedx.collection.verify import VerifyReport

KINDS = {
    "missing": "rows that the engine lacks",
    "extra": "rows that only the engine has",
    "vectors": "rows with other vectors",
    "metadata": "rows with other metadata",
}


@click.command(
    epilog="""\b
    Examples:
      embedx rm indexes/field --where "label = 'noise'"
      embedx rm indexes/field --where "path GLOB '*/site-A/*'" --dry-run
    """
)
@COLLECTION
@click.option("--where", required=True, metavar="SQL", help="Delete the rows that match this SQL condition.")
@TIMEOUT
@click.option("--dry-run", is_flag=True, help="Show how many rows would be deleted, and delete nothing.")
@WAIT
@JSON
def rm(collection: str, where: str, timeout: float, dry_run: bool, wait: bool, as_json: bool) -> None:
    """Delete rows of a COLLECTION permanently.

    A recording is deleted when it has no rows left. `embedx extract` embeds it again if its file is still in the
    source.
    """
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        count = (
            len(opened.store.filter(where, timeout)) if dry_run else opened.remove(where, timeout=timeout, wait=wait)
        )
        left = len(opened)
    if as_json:
        removed = 0 if dry_run else count
        print_json({"exit_code": 0, "collection": collection, "removed": removed, "met": count, "rows": left})
    elif dry_run:
        say(f"to delete: {count} of {plural(left, 'row')}")
    else:
        say(f"{plural(count, 'row')} deleted, {plural(left, 'row')} left")


@click.command(
    epilog="""\b
    Example:
      embedx compact indexes/field
    """
)
@COLLECTION
@WAIT
@JSON
def compact(collection: str, wait: bool, as_json: bool) -> None:
    """Free the disk space that deleted rows of a COLLECTION still use."""
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        before, after = opened.compact(wait=wait)
    if as_json:
        print_json({"exit_code": 0, "collection": collection, "bytes_before": before, "bytes_after": after})
    else:
        say(f"{display_path(collection)}: {size(before)} before, {size(after)} now")


@click.command(
    epilog="""\b
    Examples:
      embedx backup indexes/field /backup/field
      embedx backup indexes/field s3://bucket/field-2026-11-28
      embedx backup s3://bucket/field indexes/field
    """
)
@READ_COLLECTION
@click.argument("out", metavar="FOLDER", type=click.Path())
@JSON
def backup(collection: str, out: str, as_json: bool) -> None:
    """Copy a COLLECTION with its heads and indexes into a new FOLDER, which can be a place in a bucket.

    Other processes can read and write the collection meanwhile. The copy holds one committed state, and is checked.
    """
    from embedx.collection.collection import Collection
    from embedx.collection.pushing import local_folder

    with Collection(local_folder(collection)) as opened:
        copied = opened.backup(out)
    if as_json:
        print_json({"exit_code": 0, "collection": collection, "out": out, "bytes": copied})
    else:
        say(f"{display_path(out)}: {size(copied)}")


@click.command(
    epilog="""\b
    Examples:
      embedx verify indexes/field
      embedx verify indexes/field --repair
      embedx verify indexes/field --against qdrant://127.0.0.1:6333/field
    """
)
@COLLECTION
@click.option(
    "--repair", is_flag=True, help="Recompute damaged vectors from the recordings, and rebuild damaged indexes."
)
@click.option("--against", metavar="URL", help="Instead, compare every row with what was pushed to a search engine.")
@MODEL_PLACE
@ALLOW_PICKLE
@WAIT
@JSON
def verify(
    collection: str,
    repair: bool,
    against: str | None,
    model: str | None,
    allow_pickle: bool,
    wait: bool,
    as_json: bool,
) -> int:
    """Compare every byte of a COLLECTION with its checksums.

    The exit code is 0 if nothing is damaged or everything was repaired, and 5 if damage remains. Files that an
    interrupted run left behind are not damage. With --against it is 5 if a row differs.
    """
    if against is not None:
        if repair:
            raise UsageError("--repair is for a collection. `embedx push --compare-all` mends what is in an engine.")
        return verify_against(collection, against, as_json)
    from embedx.collection.verify import verify_collection

    report = verify_collection(collection, repair=repair, model=model, allow_pickle=allow_pickle, wait=wait)
    code = StoreError.exit_code if report.left else 0
    issues = [{"kind": issue.kind, "place": issue.place, "detail": issue.detail} for issue in report.found]
    if not as_json:
        print_report(collection, report, issues, repair)
        return code
    print_json(
        {
            "exit_code": code,
            "collection": collection,
            "found": issues,
            "left": [issue.place for issue in report.left],
            "remade": report.remade,
            "removed": report.removed,
            "unused": report.unused,
        }
    )
    return code


def verify_against(collection: str, url: str, as_json: bool) -> int:
    """Compare a collection with a search engine; return 0, or 5 if something differs."""
    if not is_engine(url):
        raise UsageError("--against takes the URL of a search engine, such as qdrant://HOST:6333/NAME.")
    from embedx.engines.comparison import compare

    result = compare(collection, url)
    code = 0 if result.is_same else StoreError.exit_code
    if as_json:
        print_json({"exit_code": code, "collection": collection, **asdict(result)})
        return code
    say(f"{result.url}: {plural(result.rows_there, 'row')}, {plural(result.rows, 'row')} in {display_path(collection)}")
    for kind, count in result.counts.items():
        if count:
            ids = ", ".join(map(str, result.ids[kind])) + (", ..." if count > len(result.ids[kind]) else "")
            say(f"{KINDS[kind]}: {count} (ids {ids})")
    for view, recall in result.recall.items():
        say(f"{view}: recall {recall:.3f} of the 10 nearest rows")
    if code:
        say("`embedx push` sends what differs; with --compare-all also what was changed in the engine.", err=True)
    return code


def print_report(collection: str, report: "VerifyReport", issues: list[dict[str, str]], repair: bool) -> None:
    """Print what is damaged, what was repaired, and what to do next."""
    if issues:
        print_rows(issues, ["kind", "place", "detail"], "table")
    for path in report.removed:
        say(f"removed, because its stored data is lost (extract it again): {display_path(path)}")
    for path in report.unused:
        say(f"left by an interrupted run, not damage: {display_path(path)}")
    left = len(report.left)
    if not issues:
        say(f"{display_path(collection)}: no damage found")
    elif not left:
        say(f"{display_path(collection)}: repaired, {plural(len(report.remade), 'row')} recomputed")
    elif repair:
        say(f"Issues that cannot be repaired: {left}. Restore a backup, or extract into a new folder.", err=True)
    else:
        say(f"Issues: {left}. `embedx verify {display_path(collection)} --repair` repairs what it can.", err=True)


@click.command(
    epilog="""\b
    Example:
      embedx merge indexes/part1 indexes/part2 -o indexes/whole
    """
)
@click.argument("collections", metavar="COLLECTION...", nargs=-1, required=True, callback=refuse_urls)
@click.option("-o", "--out", required=True, metavar="FOLDER", help="The collection to create or extend.")
@WAIT
@JSON
def merge(collections: tuple[str, ...], out: str, wait: bool, as_json: bool) -> None:
    """Merge the rows of several COLLECTIONs that have the same recipe, such as the parts of `embedx extract --shard`.

    A recording that is in several collections is added once: a successful extraction is preferred to a failed one,
    then a newer one to an older one. Rows get new ids.
    """
    from embedx.collection.collection import Collection
    from embedx.collection.merge import merge

    added = merge(collections, out, wait=wait)
    with Collection(out) as opened:
        rows = len(opened)
        if rows:
            opened.index()
    if as_json:
        print_json({"exit_code": 0, "collection": out, "recordings_added": added, "rows": rows})
    else:
        say(f"{display_path(out)}: {plural(added, 'recording')} added, {plural(rows, 'row')}")
