"""About: what a collection is made of: flags, failures, heads with their reports, recipe, versions, a running run."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from embedx._version import __version__
from embedx.collection.collection import Collection
from embedx.errors import StoreError
from embedx.heads.storage import load_heads
from embedx.server.answers import public_recipe, state_of
from embedx.server.columns import read_values
from embedx.server.served import Served
from embedx.store.running import read_run

MAX_GROUPS = 200  # of duplicates, in an answer; their number is given
MAX_MEMBERS = 1000  # of a group of duplicates, in an answer; what a condition in the address of a page can hold

VERSIONS = (
    "started",
    "device",
    "precision",
    "backend",
    "embedx",
    "torch",
    "transformers",
    "numpy",
    "soxr",
    "soundfile",
)
REPORTED = ("classes", "rows", "groups", "confusion", "notes", "chance", "p_value", "better_than_chance")


def about(served: Served, collection: Collection) -> dict[str, Any]:
    """Return what a collection is made of; what needs all rows is computed once for every state."""
    key = (collection, *state_of(collection).values())
    recipe, last_run = collection.recipe, collection.store.last_run()
    return {
        **served.keep("about", key, lambda: count_states(served, collection)),
        "bytes": collection.store.size(),
        "heads": reports_of(collection),
        "fingerprint": recipe.fingerprint,
        "recipe": public_recipe(asdict(recipe)),
        "versions": {"service": __version__} | {name: last_run[name] for name in VERSIONS if name in last_run},
        "extract": read_run(served.folder),
    }


def count_states(served: Served, collection: Collection) -> dict[str, Any]:
    """Return flag -> rows, flag -> recordings, and reason -> recordings that could not be read."""
    _, values = read_values(served, collection, "flags")
    recording_flags, failures = Counter[str](), Counter[str]()
    for one in collection.store.each_recording():
        if one.reason:
            failures[one.reason] += 1
        else:
            recording_flags.update(one.flags)
    return {
        "flags": counted(flag for value in values if value for flag in str(value).split(",")),
        "recording_flags": dict(recording_flags.most_common()),
        "failures": dict(failures.most_common()),
    }


def counted(values: Iterable[str]) -> dict[str, int]:
    """Return value -> how often it is there, the most frequent first."""
    return dict(Counter(values).most_common())


def reports_of(collection: Collection) -> list[dict[str, Any]]:
    """Return the heads with what they were trained on and how good they are; none if one is damaged."""
    try:
        heads = load_heads(collection.folder)
    except StoreError:
        return []  # the log names it when the collection is described
    reports = []
    for name, head in heads.items():
        held_out, training = head.metrics.get("held_out") or {}, head.settings.get("training") or {}
        main = "macro_auc" if head.multilabel else "balanced_accuracy"
        reports.append(
            {
                "name": name,
                "kind": head.kind,
                "views": list(head.views),
                "label": training.get("label"),
                "split": training.get("split"),
                "trained_rows": sum(last - first + 1 for first, last in training.get("rows") or ()),
                "figure": main,
                "value": (held_out.get("figures") or {}).get(main),
                **{field: held_out.get(field) for field in REPORTED},
                "classes": held_out.get("classes") or list(head.classes),
            }
        )
    return reports


def find_duplicates(served: Served) -> dict[str, Any]:
    """Return groups of rows with the same or nearly the same sound; see `Collection.duplicates`."""
    with served.use() as collection:
        found = collection.duplicates()
        groups = [
            {
                "kind": one.kind,
                "why": one.why,
                "rows": len(one.members),
                "ids": [member.id for member in one.members[:MAX_MEMBERS]],
            }
            for one in found[:MAX_GROUPS]
        ]
        return {
            "groups": groups,
            "total": len(found),
            "rows": sum(len(one.members) for one in found),
            "silent": found.silent,
            "complete": found.complete,
        }
