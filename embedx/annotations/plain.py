"""Plain CSV: a table with start and end, and perhaps with path, label, frequencies and other columns."""

from embedx.annotations.base import (
    LABEL_COLUMNS,
    Annotation,
    AnnotationFormat,
    find_column,
    header_of,
    number,
    read_lines,
    times,
    typed,
)

STARTS = ("start_s", "start", "begin", "onset", "start_time", "begin_time", "start_seconds", "onset_s")
ENDS = ("end_s", "end", "stop", "offset", "end_time", "end_seconds", "offset_s")
PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path", "audio", "audio_path", "begin_path")
LOWS = ("low_hz", "low_freq", "freq_low", "low_f", "min_freq", "f_min", "low freq (hz)")
HIGHS = ("high_hz", "high_freq", "freq_high", "high_f", "max_freq", "f_max", "high freq (hz)")
SCORES = ("confidence",)
SEPARATORS = ",;\t|"


def separator_of(text: str) -> str:
    """Return what is between the cells: what divides the first line into most parts."""
    return max(SEPARATORS, key=lambda sign: len(header_of(text, sign)))


def matches(text: str) -> bool:
    """Tell whether a text is a table with start and end."""
    columns = header_of(text, separator_of(text))
    return find_column(columns, STARTS) is not None and find_column(columns, ENDS) is not None


def names_rows(text: str) -> bool:
    """Tell whether a table is one that `embedx label` reads line by line: with ids, or with paths and its own times."""
    columns = header_of(text, separator_of(text))
    return "id" in columns or (find_column(columns, PATHS) is not None and find_column(columns, STARTS[:2]) is not None)


def read(text: str, name: str) -> list[Annotation]:
    """Return the lines.

    Raises:
        UsageError: a number is invalid.
    """
    annotations = []
    for line, place in read_lines(text, separator_of(text), name):
        start, end, path, low, high, score, label = (
            find_column(line, names) or "" for names in (STARTS, ENDS, PATHS, LOWS, HIGHS, SCORES, LABEL_COLUMNS)
        )
        taken = {start, end, path, low, high, score, *([label] if label.lower() in ("label", "annotation") else [])}
        start_s, end_s = times(line.get(start), line.get(end), place)
        annotations.append(
            Annotation(
                line.get(path, ""),
                start_s,
                end_s,
                line.get(label) or None,
                number(line.get(low), place, low),
                number(line.get(high), place, high),
                number(line.get(score), place, score),
                {column: typed(value) for column, value in line.items() if column not in {*taken, "id"}},
                place,
            )
        )
    return annotations


PLAIN = AnnotationFormat("csv", ".csv", matches, read)
