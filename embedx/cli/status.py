"""embedx status, models and completion: what is there."""

from collections import Counter
from dataclasses import asdict

import click
from click.shell_completion import get_completion_class

from embedx.cli.index import print_indexes
from embedx.cli.output import FORMATS, print_json, print_rows, size


@click.command(
    epilog="""\b
    Examples:
      embedx status indexes/field
      embedx status indexes/field --failed --format csv
    """
)
@click.argument("collection", metavar="COLLECTION")
@click.option("--failed", is_flag=True, help="List the recordings that could not be embedded.")
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
def status(collection: str, failed: bool, form: str) -> None:
    """Say what a COLLECTION holds, how it was made, and what failed."""
    from embedx.collection.collection import Collection

    with Collection(collection) as opened:
        failures = opened.failures()
        if failed:
            rows = [{"path": one.path, "reason": one.reason, "detail": one.detail} for one in failures]
            print_rows(rows, ["path", "reason", "detail"], form)
            return
        recipe = opened.recipe
        store = opened.store
        facts: dict[str, object] = {
            "collection": str(opened.folder),
            "recordings": len(store.recordings()) - len(failures),
            "failed": dict(Counter(one.reason for one in failures)),
            "rows": len(opened),
            "hours": round(store.hours(), 4),
            "size": size(store.size()),
            "views": opened.views,
            "fingerprint": recipe.fingerprint,
            "last_run": store.last_run(),
        }
        indexes = opened.indexes.describe()
    if form == "json":
        print_json(facts | {"recipe": asdict(recipe), "indexes": indexes})
        return
    lines = [
        {"what": name, "value": ", ".join(words(value)) or "none"} for name, value in (facts | asdict(recipe)).items()
    ]
    print_rows(lines, ["what", "value"], form)
    if form == "table" and indexes:
        click.echo()
        print_indexes(indexes)


@click.command(
    epilog="""\b
    Example:
      embedx models
    """
)
@click.option("--format", "form", type=FORMATS, default="table", show_default=True)
def models(form: str) -> None:
    """List the models that --model takes, and whether their weights are on this machine."""
    from embedx.extractors.catalogue import CATALOGUE

    columns = ["name", "rate", "dim", "layers", "licence", "source", "what"]
    rows = [{column: getattr(one, column) for column in columns} | {"weights": one.weights()} for one in CATALOGUE]
    print_rows(rows, [*columns[:-1], "weights", "what"], form)


@click.command(
    epilog="""\b
    Example:
      embedx completion bash >> ~/.bashrc
    """
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete embedx commands and options."""
    maker = get_completion_class(shell)
    assert maker is not None
    click.echo(maker(context.find_root().command, {}, "embedx", "_EMBEDX_COMPLETE").source())


def words(value: object) -> list[str]:
    """Return a value of `status` as words.

    >>> words({"L0.mean": 256}), words((0, 6)), words(None)
    (['L0.mean 256'], ['0', '6'], ['none'])
    """
    if isinstance(value, dict):
        return [f"{key} {one}" for key, one in value.items()]
    if isinstance(value, tuple):
        return [str(one) for one in value]
    return ["none" if value is None else str(value)]
