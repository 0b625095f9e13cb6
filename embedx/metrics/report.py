"""Report: the result of an evaluation, as values for JSON and as text for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from embedx.metrics.bootstrap import Figure, Ints

WORST = 30  # classes in the text; all are in `per_class`
IN_PARTS = ("accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "macro_auc", "map")  # columns of the text
OF_CLASSES = ("precision", "recall", "f1", "auc", "average_precision", "d_prime")


@dataclass(frozen=True)
class ClassMetrics:
    """One class against the rest: how many rows have it, and figures, which are None where they are undefined."""

    name: str
    rows: int
    precision: Figure | None
    recall: Figure | None
    f1: Figure | None
    auc: Figure | None
    average_precision: Figure | None
    d_prime: Figure | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; the name is under "class"."""
        values = asdict(self)
        return {"class": values.pop("name"), **values}


@dataclass(frozen=True)
class PartMetrics:
    """One test part (fold): its rows, and every figure by name, None where it is undefined."""

    name: str
    rows: int
    figures: Mapping[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; the name is under "part"."""
        return {"part": self.name, "rows": self.rows, **self.figures}


@dataclass(frozen=True, eq=False)
class Metrics:
    """All figures of an evaluation.

    Attributes:
        figures: name -> Figure, None where undefined. With one label a row: accuracy, balanced_accuracy, macro_f1, ece,
            log_loss, top3, top5 (with more classes than that), macro_auc, map, d_prime. With many labels: macro_f1,
            micro_f1, ece, exact_match, lrap, log_loss, macro_auc, map, d_prime, micro_auc, micro_map.
        per_class: in the order of `classes`.
        confusion: rows by truth (down) and prediction (across) [C, C]; None with many labels.
        baselines: name ("majority", "chance"; "all-negative", "prevalence") -> the same names -> value.
        better_than_chance: whether the low end of the balanced accuracy lies above what naming one class always
            reaches; with many labels, whether that of macro_auc lies above 0.5. False without intervals.
        by_part, spread: each test part, and name -> (mean over the parts, standard deviation with ddof 1).
        samples: resamples behind the intervals.
        notes: sentences on what is missing or to be taken with care.
    """

    classes: tuple[str, ...]
    multilabel: bool
    rows: int
    groups: int
    samples: int
    figures: Mapping[str, Figure | None]
    per_class: tuple[ClassMetrics, ...]
    confusion: Ints | None
    baselines: Mapping[str, Mapping[str, float]]
    better_than_chance: bool
    by_part: tuple[PartMetrics, ...]
    spread: Mapping[str, tuple[float, float | None]]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON; what is undefined is None."""
        return {
            "classes": list(self.classes),
            "multilabel": self.multilabel,
            "rows": self.rows,
            "groups": self.groups,
            "samples": self.samples,
            "figures": {name: figure.to_dict() if figure else None for name, figure in self.figures.items()},
            "per_class": [one.to_dict() for one in self.per_class],
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "baselines": {name: dict(values) for name, values in self.baselines.items()},
            "better_than_chance": self.better_than_chance,
            "by_part": [one.to_dict() for one in self.by_part],
            "spread": {name: {"mean": mean, "deviation": spread} for name, (mean, spread) in self.spread.items()},
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        blocks = [self._head(), align(self._figures()), *([self._verdict()] if self.rows else [])]
        if self.by_part:
            blocks.append(align(self._parts()))
        worst = sorted(self.per_class, key=lambda one: (one.f1 is None, one.f1.value if one.f1 else 0.0))
        table = align([["class", "rows", *OF_CLASSES], *(map(class_cells, worst[:WORST]))])
        more = [f"and {len(worst) - WORST} classes that are no worse"] if len(worst) > WORST else []
        blocks.append("\n".join([table, *more]))
        if self.notes:
            blocks.append("\n".join(f"note: {note}" for note in self.notes))
        return "\n\n".join(blocks)

    def _head(self) -> str:
        kind = "labels" if self.multilabel else "classes"
        intervals = f"; intervals of 95 % by {self.samples} resamples of groups" if self.samples else ""
        return f"{self.rows} rows in {self.groups} groups, {len(self.classes)} {kind}{intervals}"

    def _figures(self) -> list[list[str]]:
        lines = [["figure", "value", "low", "high", *self.baselines]]
        for name, figure in self.figures.items():
            own = [figure.value, figure.low, figure.high] if figure else [None] * 3
            lines.append([name, *map(cell, [*own, *(one.get(name) for one in self.baselines.values())])])
        return lines

    def _verdict(self) -> str:
        name = "macro_auc" if self.multilabel else "balanced_accuracy"
        if self.better_than_chance:
            return f"Better than chance: {name} is {self.figures[name]}."
        known = f"NOT shown to be better than chance: {name} is {self.figures[name] or 'undefined'}"
        if accuracy := self.figures.get("accuracy"):
            same = self.baselines["majority"]["accuracy"]
            known += f"; the accuracy of {accuracy.value:.4f} stands beside {same:.4f} for the majority class"
        return f"{known}."

    def _parts(self) -> list[list[str]]:
        names = [name for name in IN_PARTS if name in self.figures]
        lines = [[show(one.name), str(one.rows), *(cell(one.figures[name]) for name in names)] for one in self.by_part]
        over = [self.spread.get(name, (None, None)) for name in names]
        ends = [[name, "", *(cell(one[i]) for one in over)] for i, name in enumerate(("mean", "spread"))]
        return [["part", "rows", *names], *lines, *ends]


def class_cells(one: ClassMetrics) -> list[str]:
    """Return the line of a class."""
    figures = (one.precision, one.recall, one.f1, one.auc, one.average_precision, one.d_prime)
    return [show(one.name), str(one.rows), *(cell(figure.value if figure else None) for figure in figures)]


def cell(value: float | None) -> str:
    """Return a number as it stands in a table.

    >>> cell(0.98765), cell(None)
    ('0.9877', '-')
    """
    return "-" if value is None else f"{value:.4f}"


def show(name: str) -> str:
    r"""Return a name that is safe to print.

    >>> show("a\nb")
    'a\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def align(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as a table: the first column to the left, the others to the right.

    >>> align([["a", "10"], ["long", "5"]]).splitlines()
    ['a     10', 'long   5']
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines]
    return "\n".join("  ".join(cells).rstrip() for cells in padded)
