"""Options of an extraction into an existing collection: what is not given is taken from it, what differs is refused."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from embedx.errors import RecipeMismatch
from embedx.extractors.names import resolve
from embedx.ingest.options import ExtractOptions
from embedx.recipe import Recipe
from embedx.store.reading import sources_of
from embedx.store.schema import FILE_NAME
from embedx.store.store import Store

RECIPE_FIELDS = {  # option -> field of the recipe with the same meaning
    "window": "window_s",
    "hop": "hop_s",
    "tail": "tail",
    "channels": "channels",
    "trim_silence": "trim_silence",
    "max_seconds": "max_seconds",
}
SOURCE_OPTIONS = ("label", "group", "layout")  # how a source is read; a run records them


def complete_options(
    folder: str | os.PathLike[str], sources: Sequence[str], given: Mapping[str, Any]
) -> ExtractOptions:
    """Return the options of an extraction, completed from the collection.

    A collection without rows has no say: a run in which every file failed fixes nothing.

    Args:
        folder: the folder of the collection; it may be missing.
        sources: the absolute paths of the sources. What an earlier run of the same sources was told about label, group
            and layout holds for this one.
        given: the options that the user gave.

    Raises:
        RecipeMismatch: an option that is given differs from the collection.
        UsageError: an option is invalid.
    """
    if not os.path.isfile(os.path.join(folder, FILE_NAME)):
        return ExtractOptions(**given)
    with Store(folder, wait=bool(given.get("wait"))) as store:
        if not store.count():
            return ExtractOptions(**given)
        recipe, dtype = store.recipe, store.dtype
        earlier = [run for run in store.runs() if run.get("sources") and set(sources_of(run)) == set(sources)]
    stored = {option: getattr(recipe, name) for option, name in RECIPE_FIELDS.items()}
    stored |= {"pooling": recipe.poolings, "store_dtype": dtype}
    require_stored(folder, stored, {**given, **split_poolings(given)})
    if "model" in given:
        require_family(folder, recipe, str(given["model"]))
    else:
        stored |= {"model": recipe.model, "trust_model": False}
    last = earlier[-1] if earlier else {}
    read = {name: last[name] for name in SOURCE_OPTIONS if last.get(name) is not None}
    return ExtractOptions(**{"layers": recipe.layers, **read, **given, **stored})


def split_poolings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the poolings that the user gave, if any, as a recipe holds them.

    >>> split_poolings({"pooling": "mean, max"}), split_poolings({})
    ({'pooling': ('mean', 'max')}, {})
    """
    if "pooling" not in given:
        return {}
    names = given["pooling"].split(",") if isinstance(given["pooling"], str) else given["pooling"]
    return {"pooling": tuple(dict.fromkeys(name.strip() for name in names))}


def require_stored(folder: str | os.PathLike[str], stored: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse options that differ from those of a collection."""
    different = [name for name in stored if name in given and given[name] != stored[name]]
    if different:
        details = "; ".join(f"{name}: stored {stored[name]!r}, requested {given[name]!r}" for name in different)
        raise RecipeMismatch(
            f"{os.fspath(folder)} was made with other options ({details}). Leave them out to use the stored ones, or "
            "write to another collection."
        )


def require_family(folder: str | os.PathLike[str], recipe: Recipe, model: str) -> None:
    """Refuse a model of another family than that of a collection; its weights are compared when it is loaded."""
    family, _ = resolve(model)
    if family != recipe.extractor:
        require_stored(folder, {"model": recipe.model}, {"model": model})


def canonical_options(options: ExtractOptions, recipe: Recipe) -> ExtractOptions:
    """Return the options with what the recipe says about them, as `complete_options` does if only `layers` is given."""
    fields: dict[str, Any] = {option: getattr(recipe, name) for option, name in RECIPE_FIELDS.items()}
    return replace(options, **fields, model=recipe.model, pooling=recipe.poolings)
