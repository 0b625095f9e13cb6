"""Random conditions, and the rows of a data frame that they select by the rules of SQL."""

from collections.abc import Callable

import numpy as np
import pandas as pd

Masks = tuple[str, pd.Series, pd.Series]  # text, where it is true, where it is false; both are false for NULL
COMPARE: dict[str, Callable[[pd.Series, object], pd.Series]] = {
    "=": lambda column, value: column == value,
    "<>": lambda column, value: column != value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
}


def random_condition(frame: pd.DataFrame, random: np.random.Generator, depth: int = 3) -> Masks:
    """Return a condition on the columns of a frame, of text and numbers, with its masks."""
    kind = random.integers(4 if depth else 1)
    if kind == 0:
        return random_leaf(frame, random)
    text, true, false = random_condition(frame, random, depth - 1)
    if kind == 1:
        return f"NOT ({text})", false, true
    other, other_true, other_false = random_condition(frame, random, depth - 1)
    if kind == 2:
        return f"({text}) AND ({other})", true & other_true, false | other_false
    return f"({text}) OR ({other})", true | other_true, false & other_false


def random_leaf(frame: pd.DataFrame, random: np.random.Generator) -> Masks:
    """Return one comparison with its masks."""
    name = str(random.choice(list(frame.columns)))
    column = frame[name]
    known = column.notna()
    is_text = not pd.api.types.is_numeric_dtype(column)
    values = [column[known].iloc[i] for i in random.integers(known.sum(), size=2)]
    number = int if pd.api.types.is_integer_dtype(column) else float
    written = ["'" + value.replace("'", "''") + "'" if is_text else repr(number(value)) for value in values]
    quoted, kind = f'"{name}"', random.integers(5 if is_text else 4)
    sign, negated = str(random.choice(list(COMPARE))), bool(random.integers(2))
    word = "NOT " if negated else ""
    if kind == 0:
        text, true = f"{quoted} IS {word}NULL", ~known
        return (text, known, true) if negated else (text, true, known)
    if kind == 1:
        text, true = f"{quoted} {word}IN ({', '.join(written)})", column.isin(values)
    elif kind == 2:
        text, true = f"{quoted} {word}BETWEEN {written[0]} AND {written[1]}", column.between(*values)
    elif kind == 4:
        prefix = values[0][: int(random.integers(3))].replace("%", "").replace("_", "")
        true = column.fillna("").map(small_letters).str.startswith(small_letters(prefix))
        written_prefix = "".join(sign.upper() if sign.isascii() else sign for sign in prefix).replace("'", "''")
        text = f"{quoted} {word}LIKE '{written_prefix}%'"
    else:
        text, true, negated = f"{quoted} {sign} {written[0]}", COMPARE[sign](column, values[0]), False
    true = true.fillna(False).astype(bool) & known
    return (text, known & ~true, true) if negated else (text, true, known & ~true)


def small_letters(text: str) -> str:
    """Return a text with the letters A to Z in lower case, as LIKE compares it."""
    return "".join(sign.lower() if sign.isascii() else sign for sign in text)
