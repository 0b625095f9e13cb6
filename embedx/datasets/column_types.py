"""Column types: whether all texts of a column are numbers, learned part by part, so that no column is in memory."""

import re
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # fits into 64 bits
DECIMALS = 7  # at most; with 8 digits before the point, every different number is a different float64
DECIMAL = re.compile(rf"-?(0|[1-9][0-9]{{0,7}})(\.[0-9]{{1,{DECIMALS}}})?")
FORMS = 16  # ways to write a number: 0 to 7 decimals, for zero also with a sign
COMPACT = 65_536  # numbers that are collected before equal ones are removed


class ColumnType:
    """The type of a column: numbers, if nothing is lost when its texts are converted; otherwise text.

    Args:
        is_text: it stays text in any case.

    >>> column = ColumnType()
    >>> column.add(["1", ""])
    >>> column.add(["2.50"])
    >>> column.kind()
    <class 'float'>
    """

    def __init__(self, is_text: bool = False) -> None:
        self.has_values = False
        self._is_integer = self._is_decimal = not is_text
        self._numbers = array("q")  # number and form of each different text of a decimal column
        self._compacted = 0  # of them are sorted and different

    def add(self, texts: Iterable[str]) -> None:
        """Take more texts of the column into account. An empty text is no value."""
        present = {text for text in texts if text}
        self.has_values |= bool(present)
        self._is_integer = self._is_integer and all(map(INTEGER.fullmatch, present))
        self._is_decimal = self._is_decimal and all(map(DECIMAL.fullmatch, present))
        if self._is_decimal:
            self._numbers.extend(map(number_and_form, present))
            if len(self._numbers) > 2 * self._compacted + COMPACT:
                self._compact()
        else:
            self._numbers = array("q")

    def _compact(self) -> None:
        """Remove equal numbers of the same form."""
        self._numbers = array("q", np.unique(np.asarray(self._numbers)).tobytes())
        self._compacted = len(self._numbers)

    def kind(self) -> type:
        """Return the type of the values that are not empty: int, float or str."""
        if not self.has_values or not (self._is_integer or self._is_decimal):
            return str
        if self._is_integer:
            return int
        self._compact()
        numbers = np.asarray(self._numbers) // FORMS
        return float if (np.diff(numbers) > 0).all() else str  # two forms of a number would become one


def number_and_form(text: str) -> int:
    """Return a decimal number times 10 ** DECIMALS * FORMS, plus the way in which it is written.

    >>> [number_and_form(text) for text in ("0.0000001", "0.0000010", "-1", "0", "-0")]
    [23, 167, -160000000, 0, 8]
    """
    whole, _, decimals = text.partition(".")
    number = int(whole + decimals.ljust(DECIMALS, "0"))
    return number * FORMS + len(decimals) + (DECIMALS + 1 if not number and text.startswith("-") else 0)


def typed(values: Sequence[str]) -> list[Any]:
    """Convert a column of text to numbers if nothing is lost, and empty cells to None.

    >>> typed(["1", "-2", ""]), typed(["1", "02"]), typed(["0.5", "2.50"]), typed(["1.1", "1.10"]), typed(["1e5"])
    ([1, -2, None], ['1', '02'], [0.5, 2.5], ['1.1', '1.10'], ['1e5'])
    """
    column = ColumnType()
    column.add(values)
    kind = column.kind()
    return [kind(text) if text else None for text in values]
