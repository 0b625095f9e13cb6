"""embedx status, models and completion."""

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import get_completion_class

from embedx.cli.index import print_indexes
from embedx.cli.options import ABSOLUTE_PATHS, READ_COLLECTION, TABLE_FORMAT
from embedx.cli.output import print_json, print_rows, say, size, with_relative_paths
from embedx.errors import UsageError

if TYPE_CHECKING:
    from embedx.collection.collection import Collection


@click.command(
    epilog="""\b
    Examples:
      embedx status indexes/field
      embedx status indexes/field --failed --format csv
      embedx status indexes/field --flagged
    """
)
@READ_COLLECTION
@click.option("--failed", is_flag=True, help="List the recordings that could not be embedded, with the reason.")
@click.option("--flagged", is_flag=True, help="List the recordings with flags, such as truncated or trailing-data.")
@TABLE_FORMAT
@ABSOLUTE_PATHS
def status(collection: str, failed: bool, flagged: bool, form: str, absolute_paths: bool) -> None:
    """Show what a COLLECTION holds, how it was made, and what failed."""
    from embedx.collection.collection import Collection
    from embedx.collection.pushing import local_folder

    if failed and flagged:
        raise UsageError("--failed and --flagged are two lists; give one of them.")

    with Collection(local_folder(collection)) as opened, opened.snapshot():
        if failed or flagged:
            columns, recordings = list_failed(opened) if failed else list_flagged(opened)
            if form == "table" and not recordings:
                say("No recording failed." if failed else "No recording has a flag.")
                return
            print_rows(with_relative_paths(recordings, None if absolute_paths else opened.root, form), columns, form)
            return
        facts, recipe, indexes = describe(opened), asdict(opened.recipe), opened.indexes.describe()
    if form == "json":
        print_json(facts | {"recipe": recipe, "indexes": indexes})
        return
    if form == "table":
        last_run = facts.pop("last_run")  # one line for each of its values
        facts |= {f"last_run.{name}": value for name, value in last_run.items()} or {"last_run": last_run}
    lines = [{"what": name, "value": ", ".join(words(value)) or "none"} for name, value in (facts | recipe).items()]
    print_rows(lines, ["what", "value"], form)
    if form == "table" and indexes:
        say()
        print_indexes(indexes)


def list_failed(collection: "Collection") -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and rows of the recordings that could not be embedded."""
    columns = ["path", "reason", "detail"]
    return columns, [{name: getattr(failure, name) for name in columns} for failure in collection.failures()]


def list_flagged(collection: "Collection") -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and rows of the embedded recordings that have flags."""
    recordings = [one for one in collection.store.each_recording() if one.flags and not one.reason]
    rows = [{"path": one.path, "duration_s": one.duration_s, "flags": ",".join(one.flags)} for one in recordings]
    return ["path", "duration_s", "flags"], rows


def describe(collection: "Collection") -> dict[str, Any]:
    """Return what a collection holds as plain values."""
    store = collection.store
    recordings, seconds, failed, flags = 0, 0.0, Counter[str](), Counter[str]()
    for one in store.each_recording():
        if one.reason:
            failed[one.reason] += 1
        else:
            recordings, seconds = recordings + 1, seconds + (one.duration_s or 0.0)
            flags.update(one.flags)
    return {
        "collection": str(collection.folder),
        "recordings": recordings,
        "failed": dict(failed),
        "flags": dict(flags),
        "rows": len(collection),
        "hours": round(seconds / 3600, 4),
        "size": size(store.size()),
        "views": collection.views,
        "fingerprint": collection.recipe.fingerprint,
        "last_run": store.last_run(),
    }


@click.command(
    epilog="""\b
    Example:
      embedx models
    """
)
@TABLE_FORMAT
def models(form: str) -> None:
    """List the models for --model, and whether their weights are on this machine.

    The column rate is the sample rate in Hz, dim is the length of a vector, and good_for says what sounds the model is
    good for (comparison: a simple model, to see what others add); docs/models.md has published figures.
    """
    from embedx.extractors.catalogue import CATALOGUE

    columns = ["name", "good_for", "rate", "dim", "layers", "licence", "source", "what"]
    rows = [
        {column: getattr(entry, column) for column in columns} | {"weights": entry.weights()} for entry in CATALOGUE
    ]
    print_rows(rows, [*columns[:-1], "weights", "what"], form)


@click.command(
    epilog="""\b
    Examples:
      embedx completion bash >> ~/.bashrc
      embedx completion zsh >> ~/.zshrc
      embedx completion fish >> ~/.config/fish/completions/embedx.fish
    """
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes embedx commands and options in bash, zsh or fish."""
    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(context.find_root().command, {}, "embedx", "_EMBEDX_COMPLETE").source())


def words(value: object) -> list[str]:
    """Return a value of `status` as words.

    >>> words({"L0.mean": 256}), words((0, 6)), words(None)
    (['L0.mean 256'], ['0', '6'], ['none'])
    """
    if isinstance(value, dict):
        return [f"{key} {item}" for key, item in value.items()]
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return ["none" if value is None else str(value)]
