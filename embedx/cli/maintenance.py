"""embedx rm, label, compact, verify and merge: a collection after it was made."""

import click

from embedx.cli.output import print_json, print_rows, size
from embedx.errors import EXIT_SOME_FAILED, StoreError

WAIT = click.option("--wait", is_flag=True, help="Wait while another process writes, instead of giving up.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.command(
    epilog="""\b
    Examples:
      embedx rm indexes/field --where "label = 'noise'"
      embedx rm indexes/field --where "path GLOB '*/site-A/*'" --dry-run
    """
)
@click.argument("collection", metavar="COLLECTION")
@click.option("--where", required=True, metavar="SQL", help="A condition on the rows, as in search.")
@click.option("--dry-run", is_flag=True, help="Only say how many rows would go.")
@WAIT
@JSON
def rm(collection: str, where: str, dry_run: bool, wait: bool, as_json: bool) -> None:
    """Delete rows of a COLLECTION for good.

    A recording goes with its last row; `embedx extract` on a source that still holds its file embeds it again.
    """
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        count = len(opened.store.filter(where)) if dry_run else opened.remove(where, wait=wait)
        left = len(opened)
    if as_json:
        print_json(
            {"exit_code": 0, "collection": collection, "removed": 0 if dry_run else count, "met": count, "rows": left}
        )
    else:
        click.echo(f"{count} rows {'would go' if dry_run else 'removed'}, {left} are there")


@click.command(
    epilog="""\b
    Examples:
      embedx label indexes/field --set species=owl --where "id IN (3, 17)"
      embedx label indexes/field labels.csv
      embedx label indexes/field --set reviewed=
    """
)
@click.argument("collection", metavar="COLLECTION")
@click.argument("table", required=False)
@click.option(
    "--set", "pairs", multiple=True, metavar="COLUMN=VALUE", help="Set this column; an empty value clears it."
)
@click.option("--where", metavar="SQL", help="The rows that are meant. [default: all]")
@WAIT
@JSON
def label(
    collection: str, table: str | None, pairs: tuple[str, ...], where: str | None, wait: bool, as_json: bool
) -> int:
    """Set labels and metadata of the rows of a COLLECTION.

    TABLE (CSV, TSV, Parquet, JSON lines) has a column id or path, if need be start_s, and the columns that are to be
    set: label, group, split or any of your own. Empty cells change nothing.
    """
    from embedx.collection.collection import Collection
    from embedx.collection.maintenance import parse_set

    with Collection(collection) as opened:
        done = opened.label(table, set=parse_set(pairs) if pairs else None, where=where, wait=wait)
    code = EXIT_SOME_FAILED if done.unknown else 0
    if as_json:
        print_json({"exit_code": code, "collection": collection, "changed": done.rows, "unknown": done.unknown})
    else:
        click.echo(f"{done.rows} rows changed")
        for name in done.unknown:
            click.echo(f"No row fits the entry {name}.", err=True)
    return code


@click.command(
    epilog="""\b
    Example:
      embedx compact indexes/field
    """
)
@click.argument("collection", metavar="COLLECTION")
@WAIT
@JSON
def compact(collection: str, wait: bool, as_json: bool) -> None:
    """Give the space that deleted rows of a COLLECTION left back to the disk."""
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        before, after = opened.compact(wait=wait)
    if as_json:
        print_json({"exit_code": 0, "collection": collection, "bytes_before": before, "bytes_after": after})
    else:
        click.echo(f"{collection}: {size(before)} before, {size(after)} now")


@click.command(
    epilog="""\b
    Examples:
      embedx verify indexes/field
      embedx verify indexes/field --repair
    """
)
@click.argument("collection", metavar="COLLECTION")
@click.option(
    "--repair", is_flag=True, help="Make damaged vectors anew from their recordings, and indexes from vectors."
)
@click.option("--model", help="Where the model lies now, or code from outside that made the collection.")
@click.option("--allow-pickle", is_flag=True, help="Load the model even if its weights are a pickle.")
@WAIT
@JSON
def verify(collection: str, repair: bool, model: str | None, allow_pickle: bool, wait: bool, as_json: bool) -> int:
    """Compare every byte of a COLLECTION with what was written.

    Ends with 0 if all is well or was repaired, and with 5 if something is damaged. What a killed run left is no damage.
    """
    from embedx.collection.verify import check

    result = check(collection, repair=repair, model=model, allow_pickle=allow_pickle, wait=wait)
    code = StoreError.exit_code if result.left else 0
    rows = [{"kind": one.kind, "place": one.place, "detail": one.detail} for one in result.found]
    if as_json:
        left = [one.place for one in result.left]
        print_json(
            {
                "exit_code": code,
                "collection": collection,
                "found": rows,
                "left": left,
                "remade": result.remade,
                "removed": result.removed,
            }
        )
        return code
    if rows:
        print_rows(rows, ["kind", "place", "detail"], "table")
    for path in result.removed:
        click.echo(f"removed, because what was stored of it is lost; extract it again: {path}")
    if not rows:
        click.echo(f"{collection}: all is well")
    elif not result.left:
        click.echo(f"{collection}: repaired, {len(result.remade)} rows made anew")
    elif repair:
        click.echo(f"{len(result.left)} could not be repaired: restore a copy, or extract into a new folder.", err=True)
    else:
        click.echo(
            f"{len(result.left)} damaged: `embedx verify {collection} --repair` mends what can be mended.", err=True
        )
    return code


@click.command(
    epilog="""\b
    Example:
      embedx merge indexes/part1 indexes/part2 -o indexes/whole
    """
)
@click.argument("collections", metavar="COLLECTION...", nargs=-1, required=True)
@click.option("-o", "--out", required=True, metavar="FOLDER", help="The collection that takes them in, new or not.")
@WAIT
@JSON
def merge(collections: tuple[str, ...], out: str, wait: bool, as_json: bool) -> None:
    """Put the rows of several COLLECTIONs of one recipe into one, such as those of `extract --shard`.

    Recordings that are there already are not taken twice; of two records of one file, one that did not fail and is
    newer is taken. Rows get new ids.
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
        click.echo(f"{out}: {added} recordings added, {rows} rows")
