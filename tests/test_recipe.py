from dataclasses import fields, replace
from typing import Any

import pytest

from embedx.errors import RecipeMismatch, StoreError
from embedx.recipe import Recipe

RECIPE = Recipe("huggingface", "some/folder", "ab" * 32, 16_000, (0, 12), ("mean", "max"), 5.0, 2.5)


def test_recipe_json_round_trips() -> None:
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE


@pytest.mark.parametrize("name", [field.name for field in fields(Recipe) if field.name != "source"])
def test_recipe_mismatch_names_the_field(name: str) -> None:
    old = getattr(RECIPE, name)
    new: Any = (1,) if isinstance(old, tuple) else 7 if isinstance(old, (int, float)) else "other"
    other = replace(RECIPE, **{name: new})
    assert other.fingerprint != RECIPE.fingerprint
    with pytest.raises(RecipeMismatch, match=name):
        other.require_same(RECIPE, "indexes/x")


def test_moved_model_has_same_recipe() -> None:
    moved = replace(RECIPE, source="another/folder")
    moved.require_same(RECIPE, "indexes/x")
    assert moved.fingerprint == RECIPE.fingerprint


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"layers": 3}', RECIPE.to_json().replace('"tail"', '"unheard_of"')])
def test_invalid_recipe_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match="recipe"):
        Recipe.from_json(text)


def test_recipes_of_two_collections_are_compared_by_name() -> None:
    other = replace(RECIPE, window_s=7.0)
    with pytest.raises(RecipeMismatch, match=r"window_s: in indexes/x .*, in indexes/y 7\.0"):
        other.require_same(RECIPE, "indexes/x", "indexes/y")
