"""Values of wrong types are refused by public functions before they run, with what is allowed."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, get_args, is_typeddict

import numpy as np
import pandas as pd
import pytest
import torch

import embedx
from embedx import heads
from embedx.arguments.keywords import InvalidCall, WrongType
from embedx.arguments.types import Device, ModelName, RowId, describe, fits, read_numbers
from embedx.client.remote import RemoteCollection
from embedx.encoder import Encoder
from embedx.errors import UsageError
from embedx.heads.head import Head
from embedx.search.hits import Hits

CLASSES = (embedx.Collection, RemoteCollection, Encoder, Head, Hits)
FUNCTIONS = [getattr(embedx, name) for name in embedx.__all__ if inspect.isfunction(getattr(embedx, name))]
METHODS = [
    method
    for kind in CLASSES
    for name, method in inspect.getmembers(kind, inspect.isfunction)
    if not name.startswith("_") and hasattr(method, "__wrapped__")
]


def typed_parameters(function: Callable[..., Any]) -> list[str]:
    """Return the parameters whose annotation says what they take, with those of keyword options."""
    names = []
    for one in inspect.signature(function).parameters.values():
        options = [part for part in get_args(one.annotation) if is_typeddict(part)]
        names += [
            name
            for name, annotation in (
                [(one.name, one.annotation)] if not options else options[0].__annotations__.items()
            )
            if (one.name != "self" and one.kind is not one.VAR_KEYWORD) or options
            if annotation not in (Any, Device, RowId | None) and not isinstance(annotation, str)
        ]
    return names


@pytest.mark.parametrize("function", [*FUNCTIONS, *METHODS, heads.fit, heads.classifier], ids=lambda f: f.__qualname__)
def test_every_typed_parameter_refuses_an_object_by_name(function: Callable[..., Any]) -> None:
    first = [None] if next(iter(inspect.signature(function).parameters), "") == "self" else []
    for name in typed_parameters(function):
        with pytest.raises(WrongType, match=rf"{function.__name__}\(\) takes {name} as .+, not <object") as error:
            function(*first, **{name: object()})
        assert isinstance(error.value, UsageError)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda c: c.rows(columns=3), "takes columns as a text, a list of texts, or None, not 3"),
        (lambda c: c.search(like=1), "takes like as a list of texts or paths or whole numbers, not 1"),
        (lambda c: c.search(like="a.wav"), "takes like as a list"),
        (
            lambda c: c.search("a.wav", 5),
            "takes only query without a name, not 2 values. Name the others: sample_rate=",
        ),
        (lambda c: c.search(id="1"), "id= is the number of a row"),
        (lambda c: c.search(id=1, k=[3]), "takes k as a whole number or None"),
        (lambda c: c.vectors(ids=["a"]), "takes ids as a list of whole numbers or None"),
        (lambda c: c.nearest("nowhere.npy"), "There is no .npy file"),
        (lambda c: c.nearest(object()), "The query must be an array of numbers"),
        (lambda c: c.backup("a\0b"), "takes out as a text or a path"),
        (lambda c: c.backup(), "needs out, as a text or a path"),
        (lambda c: c.suggest(by="random", head=3), "head"),
    ],
)
def test_wrong_value_for_a_collection_says_what_is_allowed(
    collection: embedx.Collection, call: Callable[[embedx.Collection], Any], said: str
) -> None:
    with pytest.raises(UsageError) as error:
        call(collection)
    assert said in str(error.value)


def test_similarity_and_heads_take_arrays_of_numbers_only() -> None:
    encoder, x = embedx.load("logmel"), np.eye(4)
    for wrong in ("a", ["a", "b"], object(), [[1], [1, 2]], 10**400):
        with pytest.raises(UsageError, match="must be an array of numbers"):
            encoder.similarity(wrong, x)
    head = heads.classifier("prototype").fit(x, ["a", "b", "a", "b"])
    for wrong in (["a", "b"], np.array([object()])):
        with pytest.raises(UsageError, match="x must be an array of numbers"):
            head.predict(wrong)  # type: ignore[arg-type]
    for call in (lambda: head.to_proba(np.ones(1)), lambda: head.choose(np.ones((1, 3))), lambda: head.score(x, x)):
        with pytest.raises(UsageError, match="must have the shape"):
            call()


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (np.int64(3), int, True),
        (torch.tensor(3), int, True),
        (3.5, int, False),
        (10**400, int, False),
        (np.float32(3), float, True),
        (3, float | None, True),
        ("3", float, False),
        (np.bool_(True), bool, True),
        ("yes", bool, False),
        (Path("a"), str, False),
        (Path("a"), ModelName | None, True),
        (torch.device("cpu"), Device, True),
        (Path("a"), str | PathLike[str], True),
        (np.array([1, 2]), Iterable[int], True),
        (np.array([1.5]), Iterable[int], False),
        (pd.Series(["a"]), str | Sequence[str], True),
        ((one for one in "ab"), Sequence[str], False),
        ((one for one in (1, 2)), Iterable[int], True),
        ({"a": 1}, Mapping[str, float], True),
        ({"a": "x"}, Mapping[str, float], False),
        ([0.1, 0.2], tuple[float, float], True),
    ],
)
def test_values_that_people_give_for_a_type_fit(value: Any, annotation: Any, expected: bool) -> None:
    assert fits(value, annotation) == expected


def test_types_are_named_in_words_and_numbers_of_frames_are_read() -> None:
    assert describe(Sequence[float] | None) == "a list of numbers or None"
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    assert read_numbers(frame.astype(object), "x", np.float32).tolist() == [[1, 0.5], [2, 1.5]]


def test_call_with_too_many_places_is_a_type_error_as_in_python(collection: embedx.Collection) -> None:
    with pytest.raises(TypeError):
        collection.rows("id = 1", "path")  # type: ignore[call-arg]
    assert issubclass(InvalidCall, UsageError)
