"""Options of an extraction into an existing collection: what is not given is taken from it, what differs is refused."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from embedx.errors import RecipeMismatch
from embedx.extractors.names import resolve
from embedx.filesystem.paths import is_inside
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
SOURCE_OPTIONS = ("label", "group", "layout", "segments", "meta", "time_from")  # how a source is read


def complete_options(
    folder: str | os.PathLike[str], sources: Sequence[str], given: Mapping[str, Any]
) -> ExtractOptions:
    """Return the options of an extraction, completed from the collection.

    A collection without rows has no say: a run in which every file failed fixes nothing.

    Args:
        folder: the folder of the collection; it may be missing.
        sources: the absolute paths of the sources. What an earlier run of the same sources was told about label, group
            and layout, annotations and columns from names holds for this one; annotations also hold for a part of the
            sources.
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
        runs = [run for run in store.runs() if sources_of(run)]
    stored = {option: getattr(recipe, name) for option, name in RECIPE_FIELDS.items()}
    stored |= {"pooling": recipe.poolings, "store_dtype": dtype}
    require_stored(folder, stored, {**given, **split_poolings(given)})
    if "model" in given:
        require_family(folder, recipe, str(given["model"]))
    else:
        stored |= {"model": recipe.model, "trust_model": False}
    return ExtractOptions(**{"layers": recipe.layers, **remembered(runs, sources), **given, **stored})


def remembered(runs: Sequence[Mapping[str, Any]], sources: Sequence[str]) -> dict[str, Any]:
    """Return what earlier runs were told about sources: how to read them."""
    same = [run for run in runs if set(sources_of(run)) == set(sources)]
    around = [run for run in runs if all(any(is_inside(one, other) for other in sources_of(run)) for one in sources)]
    last = same[-1] if same else {"segments": around[-1].get("segments")} if around else {}
    return {name: last[name] for name in SOURCE_OPTIONS if is_setting(last.get(name))}


def is_setting(value: Any) -> bool:
    """Tell whether a stored value is a text or a list of texts, not empty; a stranger may have stored other things."""
    return bool(value) and all(isinstance(part, str) for part in (value if isinstance(value, list) else [value]))


def source_settings(options: ExtractOptions) -> dict[str, Any]:
    """Return how a run reads its sources, as values that JSON can hold; None where nothing is set."""
    values = {name: getattr(options, name) for name in SOURCE_OPTIONS}
    return {name: (list(value) if isinstance(value, tuple) else value) or None for name, value in values.items()}


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
