"""Text: natural order, NAME=VALUE pairs, numbers with nouns, and JSON, each written once for all packages."""

import json
from typing import Any

from embedx.errors import UsageError


def natural_key(name: str) -> tuple[bool, float, str]:
    """Return a sort key that puts numbers first, in the order of their values, and then text.

    >>> sorted(["10", "dog", "9", "2.5", "cat"], key=natural_key)
    ['2.5', '9', '10', 'cat', 'dog']
    """
    is_number = name.replace(".", "", 1).isdecimal()
    return not is_number, float(name) if is_number else 0.0, name


def parse_pair(pair: str, what: str, empty: bool = False) -> tuple[str, str]:
    """Split NAME=VALUE into the name and the value; spaces around the name are dropped.

    Args:
        pair: the text.
        what: the option that takes the pair, for the error.
        empty: allow an empty value.

    Raises:
        UsageError: there is no name, no "=" or no value.

    >>> parse_pair("C=0.1", "--setting")
    ('C', '0.1')
    """
    name, equals, value = pair.partition("=")
    if not (name.strip() and equals and (value or empty)):
        raise UsageError(f"{what} takes NAME=VALUE, not {pair!r}.")
    return name.strip(), value


def parse_number(text: str) -> int | float | str:
    """Return the number that a text is, or the text if it is not a number.

    >>> parse_number("3"), parse_number("1e-2"), parse_number("balanced")
    (3, 0.01, 'balanced')
    """
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            pass
    return text


def plural(number: int, word: str) -> str:
    """Return a number with its noun.

    >>> plural(1, "fold"), plural(2, "fold"), plural(2, "entry"), plural(2, "class")
    ('1 fold', '2 folds', '2 entries', '2 classes')
    """
    if number == 1:
        return f"1 {word}"
    if word.endswith("ry"):
        return f"{number} {word[:-1]}ies"
    return f"{number} {word}{'es' if word.endswith('s') else 's'}"


def dump_json(value: Any) -> str:
    """Return a value as indented JSON in ASCII, so that file names that are not UTF-8 stay valid."""
    return json.dumps(value, indent=1)
