"""Keywords: calls of public functions are checked before they run.

An unknown keyword is refused with the name that was probably meant, and a value of a wrong type with what is allowed.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from reprlib import repr as short
from typing import Any, ParamSpec, TypeVar, get_args, is_typeddict

from embedx.arguments.types import describe, fits
from embedx.errors import UsageError

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

SAME = (  # what other libraries call a keyword; the first one that a function has is meant
    ("top_k", "topk", "n_results", "n_neighbors", "limit", "n", "k"),
    ("filter", "condition", "query", "where"),
    ("sr", "rate", "sampling_rate", "fs", "samplerate", "sample_rate"),
    ("show_progress_bar", "show_progress", "verbose", "progress"),
    ("normalize_embeddings", "normalise", "normalize"),
    ("batch_size", "batch_seconds"),
    ("layer", "output_layer", "layers"),
    ("agg", "aggregation", "pool", "pooling"),
    ("window_s", "window_size", "chunk_length_s", "segment_length", "window"),
    ("hop_length", "hop_s", "stride", "overlap", "hop"),
    ("random_state", "seed"),
    ("cv", "n_folds", "folds"),
    ("labels", "y", "target", "label"),
    ("groups", "group"),
    ("num_workers", "n_jobs", "workers"),
    ("dtype", "torch_dtype", "precision"),
    ("output", "folder", "path", "out"),
    ("distance", "similarity_fn_name", "metric"),
    ("model_name", "model_name_or_path", "checkpoint", "model"),
    ("fields", "cols", "columns"),
    ("threshold", "min_score", "score_threshold", "radius"),
)
MIN_LIKENESS = 0.7  # of two names by `difflib`: "poling" and "pooling" have 0.92, "merge" and "where" 0.6


class InvalidCall(UsageError, TypeError):
    """A call with arguments that a function does not take."""


class UnknownKeyword(InvalidCall):
    """A keyword that a function does not have."""


class WrongType(InvalidCall):
    """A value of a type that a parameter does not take."""


def suggest(name: str, known: Sequence[str]) -> str:
    """Return the known name that was probably meant; an empty text if there is none.

    >>> suggest("top_k", ["k", "where"]), suggest("wehre", ["k", "where"]), suggest("zzz", ["k", "where"])
    ('k', 'where', '')
    """
    for names in SAME:
        if name.lower() in names and (same := [other for other in names if other in known]):
            return same[-1]
    return next(iter(difflib.get_close_matches(name.lower(), known, 1, MIN_LIKENESS)), "")


def check_keywords(function: str, given: Mapping[str, object], known: Sequence[str]) -> None:
    """Refuse keywords that a function does not have.

    Raises:
        UnknownKeyword: the message names the keyword that was probably meant, or all there are.
    """
    for name in given:
        if name not in known:
            meant = suggest(name, known)
            advice = f"Did you mean {meant}?" if meant else f"Its keywords: {', '.join(known)}."
            raise UnknownKeyword(f"{function}() has no keyword {name!r}. {advice}")


def check_types(function: str, given: Mapping[str, object], types: Mapping[str, Any]) -> None:
    """Refuse values that do not have the type of their parameter.

    Args:
        function: the name of the function.
        given: the values by parameter.
        types: the annotations by parameter; a parameter without one takes every value.

    Raises:
        WrongType: the message names the parameter, what it takes and what was given.
    """
    for name, value in given.items():
        if name in types and not fits(value, types[name]):
            raise WrongType(f"{function}() takes {name} as {describe(types[name])}, not {short(value)}.")


def check_places(function: str, given: int, names: Sequence[str], keywords: Sequence[str]) -> None:
    """Refuse more arguments without a name than a function has places for.

    Raises:
        InvalidCall: the message names the places, and the keywords for the other arguments.
    """
    if given > len(names):
        places = f"only {', '.join(names)}" if names else "no arguments"
        advice = f" Name the others: {', '.join(f'{name}=' for name in keywords)}." if keywords else ""
        raise InvalidCall(f"{function}() takes {places} without a name, not {given} values.{advice}")


def with_known_keywords(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Let a function check its calls by `check_keywords`, `check_places` and `check_types`.

    One that takes any keyword checks their names itself.
    """
    parameters = list(inspect.signature(function).parameters.values())
    skip = bool(parameters) and parameters[0].name in ("self", "cls")
    takes_any = [parameter.name for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD]
    named = [one for one in parameters[skip:] if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    places = [one.name for one in named if one.kind is one.POSITIONAL_OR_KEYWORD]
    required = [one.name for one in named if one.default is one.empty]
    is_open = any(one.kind is one.VAR_POSITIONAL for one in parameters)

    options_of = [argument for name in takes_any for argument in get_args(function.__annotations__[name])]
    is_closed = len(options_of) == len(takes_any) and all(map(is_typeddict, options_of))
    types = {one.name: one.annotation for one in named if one.annotation is not one.empty}
    for options_type in filter(is_typeddict, options_of):
        types |= options_type.__annotations__
    known = [*types, *(one.name for one in named if one.name not in types)]

    @wraps(function)
    def call(*args: Arguments.args, **options: Arguments.kwargs) -> Answer:
        if is_closed:
            check_keywords(function.__name__, options, known)
        if not is_open:
            check_places(function.__name__, len(args) - skip, places, [name for name in known if name not in places])
        given = {**dict(zip(places, args[skip:], strict=False)), **options}
        check_types(function.__name__, given, types)
        missing = [name for name in required if name not in given]
        if missing:
            raise InvalidCall(f"{function.__name__}() needs {missing[0]}, as {describe(types.get(missing[0], Any))}.")
        return function(*args, **options)

    return call


class KnownKeywords:
    """A class whose public methods check their calls; see `with_known_keywords`."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, method in list(vars(cls).items()):
            if name.startswith("_"):
                continue
            if inspect.isfunction(method):
                setattr(cls, name, with_known_keywords(method))
            elif isinstance(method, classmethod):
                setattr(cls, name, classmethod(with_known_keywords(method.__func__)))
