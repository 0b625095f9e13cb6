"""Conditions: the text of a filter -> one SQL expression in which every name is a column of the store.

The text is cut into tokens, and SQLite gets only what is known here: values, operators, functions without side effects,
and columns under names of our own. So a condition cannot end the expression, begin a subquery or name a table, and a
misspelled column is an error and never a text.
"""

import difflib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from embedx.errors import UsageError
from embedx.filesystem.paths import display_path

MAX_CHARACTERS = 1_000_000  # of a condition: a list of 100 000 ids
MAX_TEXT = 4096  # characters of a text in a condition: the longest path
MAX_JOINS = 10  # operators || in a condition: only they make long values, which other functions take long to compare
MAX_SHOWN = 200  # characters of a condition that an error shows
MAX_LISTED = 30  # columns that an error lists

FUNCTIONS = frozenset(  # SQL functions that a condition can call; none makes a long value from short ones
    "abs coalesce glob ifnull iif instr json_array_length json_extract length like lower ltrim max min nullif round "
    "rtrim substr substring trim typeof upper".split()
)
KEYWORDS = frozenset(
    "and as between case collate else end escape false glob in is isnull like not notnull null or then true "
    "when".split()
)
AFTER = {  # word -> the words that have a meaning of their own only behind it
    "as": frozenset("blob int integer numeric real text".split()),
    "collate": frozenset("binary nocase rtrim".split()),
    "distinct": frozenset(["from"]),
    "is": frozenset(["distinct"]),
    "is not": frozenset(["distinct"]),
}
REFUSED = {  # words that begin what a condition cannot contain
    **dict.fromkeys("exists select union values with".split(), "subqueries are not allowed"),
    **dict.fromkeys("match regexp".split(), "there is no {}; use LIKE or GLOB"),
}
TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<comment>--|/\*)
    | (?P<text>'(?:[^']|'')*')
    | (?P<name>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
    | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![0-9A-Za-z_$.]))
    | (?P<word>(?:[A-Za-z_]|[^\x00-\x7f\s])(?:[0-9A-Za-z_$]|[^\x00-\x7f\s])*)
    | (?P<operator>->>|->|<<|>>|<=|>=|<>|!=|==|\|\||[-+*/%&|~<>=(),])
    """,
    re.VERBOSE,
)


class InvalidCondition(Exception):
    """What is wrong with a condition, as the end of a sentence."""


@dataclass
class Condition:
    """A condition as SQL, and the columns that it reads: column number N is named cN in the SQL."""

    sql: str = ""
    columns: list[str] = field(default_factory=list)
    keywords: list[str] = field(default_factory=list)  # words that were read as SQL, and are also columns

    def explain(self, message: str) -> str:
        """Return a message of SQLite with the names of the columns.

        >>> Condition("c0 = =", ["site"]).explain('near "c0": syntax error')
        'near "site": syntax error'
        >>> Condition("END = 1", keywords=["end"]).explain('near "END": syntax error')
        'near "END": syntax error; end is a word of SQL, write the column "end" in double quotes'
        """
        if message.startswith('near ")"') and ")" not in self.sql:
            return "it ends too early"
        message = re.sub(r"\bc([0-9]+)\b", lambda match: self.columns[int(match[1])], message)
        if self.keywords:
            name = self.keywords[0]
            message += f'; {name} is a word of SQL, write the column "{name}" in double quotes'
        return message


def parse_condition(where: str, columns: Sequence[str]) -> Condition:
    """Return a condition as SQL.

    Args:
        where: the condition of the user.
        columns: the names of all columns; of equal ones the first counts.

    Raises:
        UsageError: it is empty, contains more than one expression, or names an unknown column or function.
    """
    try:
        return translate(where, columns)
    except InvalidCondition as problem:
        raise invalid(where, str(problem), columns) from None


def invalid(where: object, problem: str, columns: Sequence[str]) -> UsageError:
    """Return the error of an invalid condition."""
    more = f", and {len(columns) - MAX_LISTED} more" if len(columns) > MAX_LISTED else ""
    return UsageError(
        f"The filter {shortened(where)} is invalid: {problem}. A filter is an SQL condition on columns, such as "
        f"\"label = 'dog' AND duration_s > 2\". Columns: {', '.join(map(as_written, columns[:MAX_LISTED]))}{more}."
    )


def shortened(where: object) -> str:
    """Return a condition for a message."""
    text = repr(where)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def translate(where: str, columns: Sequence[str]) -> Condition:
    """Do what `parse_condition` does; raise InvalidCondition."""
    if not isinstance(where, str):
        raise InvalidCondition("it is not a text")
    if not where.strip():
        raise InvalidCondition("it is empty; leave it out, or give 1, to select all rows")
    if len(where) > MAX_CHARACTERS:
        raise InvalidCondition(f"it has {len(where)} characters, and at most {MAX_CHARACTERS} are allowed")
    condition, numbers, parts, names = Condition(), dict[str, int](), list[str](), Names(columns)
    tokens = [*tokens_of(where), ("end", "")]
    check_structure(tokens)
    for position, (kind, text) in enumerate(tokens[:-1]):
        before = " ".join(part.lower() for part in parts[-2:])
        follower = tokens[position + 1][1]
        written = text if kind in ("text", "number", "operator") else word_of(kind, text, before, follower, names)
        if written is None:
            column = names.find(text if kind == "word" else unquoted(text), is_quoted=kind == "name")
            written = f"c{numbers.setdefault(column, len(numbers))}"
        elif kind == "word" and text in names.exact:
            condition.keywords.append(text)
        parts.append(written)
    condition.sql, condition.columns = " ".join(parts), list(numbers)
    return condition


def tokens_of(where: str) -> Iterator[tuple[str, str]]:
    """Yield kind and text of the tokens of a condition."""
    position = 0
    while position < len(where):
        match = TOKEN.match(where, position)
        if match is None:
            raise InvalidCondition(describe_unknown(where, position))
        kind, text, position = str(match.lastgroup), match[0], match.end()
        if kind == "comment":
            raise InvalidCondition("comments (-- and /*) are not allowed")
        if kind != "space":
            check_text(text)
            yield kind, text


def check_structure(tokens: Sequence[tuple[str, str]]) -> None:
    """Check that tokens are one expression in itself, and that no function gets arguments that take it long."""
    opened: list[str] = []  # the word before every open parenthesis
    for position, (_, text) in enumerate(tokens):
        if text == "(":
            opened.append(tokens[position - 1][1].lower())
        elif text == ")":
            if not opened:
                raise InvalidCondition("a ) closes no (")
            opened.pop()
        elif text == ",":
            if not opened:
                raise InvalidCondition("it has a comma outside of parentheses; give one condition, with AND and OR")
            kinds, texts = zip(*tokens[position + 1 : position + 3], strict=True)
            if opened[-1].endswith("trim") and (kinds[0] != "text" or texts[-1] != ")"):
                raise InvalidCondition(f"the characters for {opened[-1]} must be a text, as in trim(label, ' .')")
    if opened:
        raise InvalidCondition("a ( is not closed")
    if sum(text == "||" for _, text in tokens) > MAX_JOINS:
        raise InvalidCondition(f"it joins texts with || more than {MAX_JOINS} times")


def check_text(text: str) -> None:
    """Refuse a text or name that SQLite cannot take, and a very long one."""
    if len(text) > MAX_TEXT:
        raise InvalidCondition(f"it has a text of {len(text)} characters, and at most {MAX_TEXT} are allowed")
    if "\0" in text:
        raise InvalidCondition("it has a NUL character, which no column holds")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidCondition("it has a character that is not valid UTF-8") from None


def describe_unknown(where: str, position: int) -> str:
    """Say why no token begins at a position."""
    character = where[position]
    if character in "'\"`[":
        return f"a {character} has no end"
    if character == ";":
        return "; is not allowed: give one condition"
    if character == ".":
        return '. is not allowed: write a name with a dot in double quotes, as in "a.b"'
    return f"{where[position : position + 20]!r} is not understood"


def word_of(kind: str, text: str, before: str, follower: str, names: "Names") -> str | None:
    """Return a word as SQL if it is a keyword or a function; None if it names a column."""
    word = text.lower()
    last = before.rpartition(" ")[2]
    if kind == "name":
        return None
    if word in KEYWORDS:
        if word == "in" and follower != "(":
            raise InvalidCondition("IN needs a list in parentheses, as in id IN (3, 17)")
        return word.upper()
    if word in AFTER.get(before, ()) or word in AFTER.get(last, ()) or (word == "cast" and follower == "("):
        return word.upper()
    if word in REFUSED and text not in names.exact:
        raise InvalidCondition(REFUSED[word].format(word.upper()))
    if follower != "(":
        return None
    if word not in FUNCTIONS:
        raise InvalidCondition(f"there is no function {text}; functions are {', '.join(sorted(FUNCTIONS))} and cast")
    return word


def as_written(name: str) -> str:
    """Return the name of a column as a condition can write it.

    >>> as_written("site"), as_written('a "b" c')
    ('site', '"a ""b"" c"')
    """
    match = TOKEN.fullmatch(name)
    is_plain = match is not None and match.lastgroup == "word" and name.lower() not in KEYWORDS
    return display_path(name if is_plain else '"' + name.replace('"', '""') + '"')


def unquoted(name: str) -> str:
    """Return a quoted name without its quotes.

    >>> unquoted('"a""b"'), unquoted("[a]"), unquoted("`a``b`")
    ('a"b', 'a', 'a`b')
    """
    return name[1:-1] if name[0] == "[" else name[1:-1].replace(name[0] * 2, name[0])


class Names:
    """The names of the columns, and how a condition can write them.

    Args:
        columns: the names.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.exact = frozenset(columns)
        self._alike: dict[str, list[str]] = {}  # name without case -> the columns
        for column in dict.fromkeys(columns):
            self._alike.setdefault(folded(column), []).append(column)

    def find(self, name: str, *, is_quoted: bool) -> str:
        """Return the column of a name: the one that is spelled like it, else the only one that differs in case.

        Different encodings of the same letters do not count either: a Mac writes ö in file names as o and two dots.
        """
        if name in self.exact:
            return name
        alike = self._alike.get(folded(name), [])
        if len(alike) == 1:
            return alike[0]
        if alike:
            raise InvalidCondition(f"{name} can be {' or '.join(map(as_written, alike))}; write it exactly")
        keys = difflib.get_close_matches(folded(name), self._alike, n=3)
        near = [column for key in keys for column in self._alike[key]]
        hint = f" (is {' or '.join(map(as_written, near))} meant?)" if near else ""
        if is_quoted and not near:
            hint = f" (a text stands in single quotes, as in '{name:.40}')"
        raise InvalidCondition(f"no such column: {name:.200}{hint}")


def folded(name: str) -> str:
    """Return a name for comparisons that ignore case and the encoding of accents."""
    return unicodedata.normalize("NFC", name).casefold()
