"""Keywords: an unknown keyword of a public function is refused with the name that was probably meant."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar, get_args, is_typeddict

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


class UnknownKeyword(UsageError, TypeError):
    """A keyword that a function does not have."""


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


def with_known_keywords(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Let a function refuse unknown keywords by `check_keywords`; one that takes any keyword checks them itself."""
    parameters = inspect.signature(function).parameters.values()
    takes_any = [parameter.name for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD]
    named = [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and parameter.name != "self"
    ]

    options_of = [argument for name in takes_any for argument in get_args(function.__annotations__[name])]
    is_closed = len(options_of) == len(takes_any) and all(map(is_typeddict, options_of))
    known = [*named, *(name for options in options_of for name in options.__annotations__)]

    @wraps(function)
    def call(*args: Arguments.args, **options: Arguments.kwargs) -> Answer:
        if is_closed:
            check_keywords(function.__name__, options, known)
        return function(*args, **options)

    return call


class KnownKeywords:
    """A class whose public methods refuse unknown keywords; see `with_known_keywords`."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, method in list(vars(cls).items()):
            if inspect.isfunction(method) and not name.startswith("_"):
                setattr(cls, name, with_known_keywords(method))
