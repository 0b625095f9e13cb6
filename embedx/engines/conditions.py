"""Conditions for search engines: the text of a filter -> comparisons that an engine can translate exactly.

This is a part of what a local collection takes: comparisons of a column with a value, IN, BETWEEN, LIKE with a text
that ends in %, IS NULL, AND, OR and NOT. Everything else is refused by name. NULL means what it means in SQL: a
comparison with it is neither true nor false. NOT is carried to the comparisons, so that engines without the third
value give the same rows.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from embedx.filesystem.paths import valid_text
from embedx.store.conditions import InvalidCondition, Names, check_structure, invalid, tokens_of, unquoted

Value = float | str
OPPOSITE = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
SAME = {"==": "=", "!=": "<>"}
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MAX_DEPTH = 50  # parentheses and NOT inside each other
MAX_EXACT = (1 << 53) - 1  # the largest whole number that no other one equals when engines hold it as float64
LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")  # LIKE ignores the case of these


@dataclass(frozen=True)
class Comparison:
    """A column and a value, with = <> < <= > or >=."""

    column: str
    is_number: bool
    operator: str
    value: Value


@dataclass(frozen=True)
class OneOf:
    """A column is one of some values, or with `negated` none of them."""

    column: str
    is_number: bool
    values: tuple[Value, ...]
    negated: bool


@dataclass(frozen=True)
class Prefix:
    """A text begins with another, in which the case of ASCII letters does not count; or with `negated` does not."""

    column: str
    prefix: str  # in lower case
    negated: bool


@dataclass(frozen=True)
class IsNull:
    """A column has no value, or with `negated` has one."""

    column: str
    negated: bool


@dataclass(frozen=True)
class Junction:
    """All of some conditions are true, or with `is_any` at least one."""

    parts: "tuple[Node, ...]"
    is_any: bool


Node = Comparison | OneOf | Prefix | IsNull | Junction


def parse(where: str, columns: Mapping[str, str]) -> Node:
    """Return a condition for an engine.

    Args:
        where: the condition of the user.
        columns: column -> "number" or "text".

    Raises:
        UsageError: it is invalid, names an unknown column, or is more than an engine can translate.
    """
    names = list(columns)
    try:
        if not isinstance(where, str) or not where.strip():
            raise InvalidCondition("it is empty; leave it out to search all rows")
        return Parser(where, columns).parse()
    except InvalidCondition as problem:
        raise invalid(where, str(problem), names) from None


def complement(node: Node) -> Node:
    """Return the condition that is true for all rows for which another is false or NULL."""
    if isinstance(node, Junction):
        return Junction(tuple(map(complement, node.parts)), not node.is_any)
    if isinstance(node, IsNull):
        return replace(node, negated=not node.negated)
    if isinstance(node, Comparison):
        opposite: Node = replace(node, operator=OPPOSITE[node.operator])
    else:
        opposite = replace(node, negated=not node.negated)
    return Junction((opposite, IsNull(node.column, negated=False)), is_any=True)


class Parser:
    """Reads one condition; `parse` describes the arguments."""

    def __init__(self, where: str, columns: Mapping[str, str]) -> None:
        self.tokens = [*tokens_of(where), ("end", "")]
        check_structure(self.tokens)
        self.columns = columns
        self.names = Names(list(columns))
        self.position = 0
        self.depth = 0

    def parse(self) -> Node:
        """Return the condition."""
        node = self._junction("or", negated=False)
        if self.tokens[self.position][0] != "end":
            raise self._refused()
        return node

    def _accept(self, *words: str) -> str:
        """Take the next token if it is one of these words or signs; return it in lower case, else an empty text."""
        kind, text = self.tokens[self.position]
        if kind in ("word", "operator") and text.lower() in words:
            self.position += 1
            return text.lower()
        return ""

    def _refused(self) -> InvalidCondition:
        text = self.tokens[self.position][1]
        what = f"{text[:40]!r} is not understood here" if text else "it ends too early"
        return InvalidCondition(
            f"{what}. A search engine takes comparisons of a column with a value, IN, BETWEEN, LIKE 'text%', IS NULL, "
            "AND, OR and NOT"
        )

    def _junction(self, word: str, *, negated: bool) -> Node:
        """Read parts that are joined by OR or AND; NOT makes an AND of an OR, and an OR of an AND."""
        parts = [self._part(word, negated)]
        while self._accept(word):
            parts.append(self._part(word, negated))
        return parts[0] if len(parts) == 1 else Junction(tuple(parts), is_any=(word == "or") != negated)

    def _part(self, word: str, negated: bool) -> Node:
        if word == "or":
            return self._junction("and", negated=negated)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise InvalidCondition(f"it has more than {MAX_DEPTH} parentheses and NOT inside each other")
        if self._accept("not"):
            node = self._part("and", not negated)
        elif self.tokens[self.position][1].lower() == "coalesce":
            node = self._coalesce(negated)
        elif self._accept("("):
            node = self._junction("or", negated=negated)
            self._expect(")")
        else:
            node = self._predicate(negated)
        self.depth -= 1
        return node

    def _expect(self, sign: str) -> None:
        """Take a sign.

        Raises:
            InvalidCondition: another token is there.
        """
        if not self._accept(sign):
            raise self._refused()

    def _coalesce(self, negated: bool) -> Node:
        """Read coalesce(CONDITION, 0), which the JSON filters of the service use for must_not: NULL is false."""
        self.position += 1
        self._expect("(")
        node = self._junction("or", negated=False)
        self._expect(",")
        if self.tokens[self.position][1] != "0":
            raise self._refused()
        self.position += 1
        self._expect(")")
        return complement(node) if negated else node

    def _predicate(self, negated: bool) -> Node:
        column = self._column()
        is_number = self.columns[column] == "number"
        if sign := self._accept(*COMPARE, *SAME):
            sign = SAME.get(sign, sign)
            return Comparison(column, is_number, OPPOSITE[sign] if negated else sign, self._value(column, is_number))
        if self._accept("is"):
            negated ^= bool(self._accept("not"))
            if not self._accept("null"):
                raise self._refused()
            return IsNull(column, negated)
        if word := self._accept("isnull", "notnull"):
            return IsNull(column, negated != (word == "notnull"))
        negated ^= bool(self._accept("not"))
        if self._accept("in"):
            return OneOf(column, is_number, self._list(column, is_number), negated)
        if self._accept("between"):
            low = self._value(column, is_number)
            if not self._accept("and"):
                raise self._refused()
            high = self._value(column, is_number)
            signs = ("<", ">") if negated else (">=", "<=")
            parts = (Comparison(column, is_number, signs[0], low), Comparison(column, is_number, signs[1], high))
            return Junction(parts, is_any=negated)
        if self._accept("like"):
            return Prefix(column, self._prefix(column, is_number), negated)
        raise self._refused()

    def _column(self) -> str:
        kind, text = self.tokens[self.position]
        if kind not in ("word", "name") or (kind == "word" and self.tokens[self.position + 1][1] == "("):
            raise self._refused()
        self.position += 1
        return self.names.find(text if kind == "word" else unquoted(text), is_quoted=kind == "name")

    def _list(self, column: str, is_number: bool) -> tuple[Value, ...]:
        self._expect("(")
        values = [self._value(column, is_number)]
        while self._accept(","):
            values.append(self._value(column, is_number))
        self._expect(")")
        return tuple(values)

    def _value(self, column: str, is_number: bool) -> Value:
        """Read a number for a column of numbers, or a text for one of texts."""
        sign = -1 if self._accept("-") else 1
        kind, text = self.tokens[self.position]
        if kind not in ("number", "text"):
            raise self._refused()
        if (kind == "number") != is_number:
            held, given = ("numbers", "without quotes") if is_number else ("texts", "in single quotes")
            raise InvalidCondition(f"the column {column} holds {held}: give the value {text[:40]} {given}")
        self.position += 1
        if not is_number:
            if sign < 0:
                raise InvalidCondition("a text has no sign")
            return valid_text(text[1:-1].replace("''", "'"))
        number = float(int(text, 16) if text[:2].lower() == "0x" else text) * sign
        if abs(number) > MAX_EXACT:
            raise InvalidCondition(f"the number {text[:40]} is larger than engines compare exactly ({MAX_EXACT})")
        return number

    def _prefix(self, column: str, is_number: bool) -> str:
        pattern = str(self._value(column, is_number)) if not is_number else ""
        start = pattern[:-1]
        if not pattern.endswith("%") or "%" in start or "_" in start:
            raise InvalidCondition(
                "a search engine compares LIKE only with the beginning of a text, as in label LIKE 'dog%'; other "
                "places of % and _, and columns of numbers, need a local collection"
            )
        return start.translate(LOWER)
