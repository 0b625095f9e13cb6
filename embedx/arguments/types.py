"""Types of arguments: tell whether a value has the type of an annotation, and name that type in words.

Only what a call can get wrong by mistake is checked. Annotations that are text (types imported for type checkers only)
and type variables take every value, and arrays take all that NumPy can read as one.
"""

import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set, Sized
from pathlib import Path
from reprlib import repr as short
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict

import numpy as np
from numpy.typing import NDArray

from embedx.errors import UsageError

WORDS: dict[Any, str] = {
    str: "a text",
    bytes: "bytes",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    NoneType: "None",
    os.PathLike: "a path",
    Path: "a path",
    np.ndarray: "an array",
    Callable: "a function",
    Mapping: "a mapping",
    dict: "a mapping",
}
MANY: dict[Any, str] = {str: "texts", int: "whole numbers", float: "numbers", os.PathLike: "paths"}
TEXTS = (str, bytes, bytearray)
ModelName = Annotated[str, os.PathLike]  # a text for type checkers; a path is taken too
RowId = Annotated[int, "a number"]  # checked where the row is read, which says more
Device = Annotated[str, "torch.device"]  # a text for type checkers; a device of torch is taken too


def fits(value: Any, annotation: Any) -> bool:
    """Tell whether a value has the type of an annotation.

    NumPy's numbers and texts are numbers and texts; a list can be any collection of a known length that is not a text.

    >>> fits(3, str | None), fits(np.int64(3), int), fits("a.wav", Sequence[str]), fits(["a", 3], Sequence[str])
    (False, True, False, False)
    """
    origin, parts = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, UnionType, Annotated):
        takes_paths = any((get_origin(part) or part) in (os.PathLike, Path) for part in parts)
        return any(fits(value, part) for part in parts) and (
            not takes_paths or not isinstance(value, str) or is_path(value)
        )
    if origin is Literal:
        return any(isinstance(value, type(part)) for part in parts)
    if annotation is None or origin is NoneType:
        return value is None
    if origin in (int, float):
        return is_number(value, operator.index if origin is int else float)
    if is_typeddict(origin) or origin is dict:
        return isinstance(value, Mapping)
    if not isinstance(origin, type) or origin in (Any, object):
        return True  # also text, a type variable
    if origin is bool:
        return isinstance(value, (bool, int, np.bool_))
    if origin is np.ndarray:
        return is_array(value)
    if origin is os.PathLike or issubclass(origin, os.PathLike):
        return isinstance(value, os.PathLike) and is_path(value)
    if origin is Mapping and parts:
        return isinstance(value, Mapping) and all(fits(item, parts[1]) for item in value.values())
    if issubclass(origin, Iterable) and parts:
        return is_many(value, origin, parts[0])
    return isinstance(value, origin)


def is_number(value: Any, read: Callable[[Any], Any]) -> bool:
    """Tell whether `read` accepts a value, and a float can hold the result. A text is not a number."""
    if isinstance(value, TEXTS):
        return False
    try:
        float(read(value))
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def is_array(value: Any) -> bool:
    """Tell whether NumPy reads a value as an array with one axis or more."""
    if isinstance(value, (*TEXTS, Mapping)):
        return False
    try:
        return np.asarray(value).ndim > 0
    except (TypeError, ValueError):
        return False


def is_path(value: str | os.PathLike[str]) -> bool:
    """Tell whether the system can have a file of this name."""
    try:
        return value != "" and b"\0" not in os.fsencode(value)
    except (TypeError, ValueError):
        return False


def is_many(value: Any, kind: type, part: Any) -> bool:
    """Tell whether a value is a collection whose items have a type; those of iterators are not read."""
    if issubclass(kind, Sequence) and (not isinstance(value, Sized) or isinstance(value, (Mapping, Set))):
        return False  # it has no order, or can be read once only
    if isinstance(value, TEXTS) or not isinstance(value, Iterable):
        return False
    if hasattr(value, "ndim"):  # an array, whose items have one type
        return value.ndim == 1 and all(fits(item, part) for item in np.asarray(value)[:1])
    return not isinstance(value, (list, tuple, set, frozenset)) or all(fits(item, part) for item in value)


def read_numbers(value: Any, name: str, dtype: Any = None) -> NDArray[Any]:
    """Return an argument as an array of numbers.

    Args:
        value: an array, a tensor on the CPU, a frame, or lists of numbers.
        name: what errors call it.
        dtype: the type of the numbers; None keeps theirs.

    Raises:
        UsageError: it is none of these.
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O":  # such as a frame with columns of several types
            array = array.astype(np.float64)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"they are {array.dtype}")
        return array if dtype is None else array.astype(dtype, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{name} must be an array of numbers, not {short(value)}: {error}.") from error


def describe(annotation: Any) -> str:
    """Return a type in words.

    >>> describe(str | Sequence[str | os.PathLike[str]] | None)
    'a text, a list of texts or paths, or None'
    """
    origin, parts = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, UnionType, Annotated):
        return join([describe(part) for part in parts])
    if origin is Literal:
        return join([repr(part) for part in parts])
    if is_typeddict(origin):
        return WORDS[Mapping]
    if origin in WORDS:
        return WORDS[origin]
    if isinstance(origin, type) and issubclass(origin, Iterable) and parts:
        kinds = get_args(parts[0]) if get_origin(parts[0]) in (Union, UnionType) else parts[:1]
        return f"a list of {' or '.join(MANY.get(get_origin(kind) or kind, 'values') for kind in kinds)}"
    return f"a {origin.__name__}" if isinstance(origin, type) and origin is not Any else "a value"


def join(words: Sequence[str]) -> str:
    """Return words as a list in a sentence.

    >>> join(["a", "b"]), join(["a", "b or c", "d"])
    ('a or b', 'a, b or c, or d')
    """
    unique = list(dict.fromkeys(words))
    if len(unique) < 3:
        return " or ".join(unique)
    return f"{', '.join(unique[:-1])}, or {unique[-1]}"
