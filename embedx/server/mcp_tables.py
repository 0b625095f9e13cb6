"""Tables of results in Markdown, for people and models."""

from collections.abc import Mapping, Sequence
from typing import Any

from embedx.filesystem.paths import display_path

MAX_CELL = 80  # characters


def markdown_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    r"""Return rows as a table; what could break out of a cell is escaped.

    >>> print(markdown_table(("id", "label"), [{"id": 4, "label": "a|b\n"}, {"id": 5}]))
    | id | label |
    |---|---|
    | 4 | a\|b\n |
    | 5 |  |
    """
    lines = [columns, *([row.get(name) for name in columns] for row in rows)]
    head, *body = [f"| {' | '.join(map(cell, line))} |" for line in lines]
    return "\n".join([head, f"|{'---|' * len(columns)}", *body])


def cell(value: Any) -> str:
    """Return a value as the text of a cell."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}"
    text = display_path(str(value))
    return (text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 3]}...").replace("|", r"\|")
