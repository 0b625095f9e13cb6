"""Report: the result of an evaluation, as values for JSON and as text for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from embedx.metrics.chance import ChanceTest
from embedx.metrics.figures import Figure, Ints
from embedx.text import plural

MAX_PRINTED_CLASSES = 30  # in the text, the worst first; all are in `per_class`
PART_COLUMNS = ("accuracy", "balanced_accuracy", "macro_f1", "micro_f1", "macro_auc", "map")
CLASS_COLUMNS = ("precision", "recall", "f1", "auc", "average_precision", "d_prime")


@dataclass(frozen=True)
class ClassMetrics:
    """One class against the rest: its number of rows, and figures, None where they are undefined."""

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
    """One test part (fold): its number of rows, and every figure by name, None where it is undefined."""

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
        classes: the names of the C classes.
        multilabel: whether a row can have any number of labels.
        rows: the number of rows.
        groups: the number of groups that the rows belong to.
        samples: the number of groups, or blocks of groups, that were left out for the intervals.
        figures: name -> Figure, None where undefined. Single-label: accuracy, balanced_accuracy, macro_f1, ece,
            log_loss, top3, top5 (if there are more classes than that), macro_auc, map, d_prime. Multi-label: macro_f1,
            micro_f1, ece, exact_match, lrap, log_loss, macro_auc, map, d_prime, micro_auc, micro_map.
        per_class: figures of each class, in the order of `classes`.
        confusion: number of rows by true (down) and predicted (across) class [C, C]; None for multi-label.
        baselines: name ("majority", "chance"; "all-negative", "prevalence") -> figure name -> value.
        by_part: figures of each test part.
        spread: figure name -> (mean over the parts, standard deviation with ddof 1).
        notes: sentences about undefined figures and unreliable intervals.
        test: the comparison with permuted labels; None if none was made.
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
    by_part: tuple[PartMetrics, ...]
    spread: Mapping[str, tuple[float, float | None]]
    notes: tuple[str, ...]
    test: ChanceTest | None = None

    @property
    def main_figure(self) -> str:
        """The name of the figure that is compared with chance."""
        return "macro_auc" if self.multilabel else "balanced_accuracy"

    @property
    def better_than_chance(self) -> bool | None:
        """Whether the labels are told better than permuted ones at 2.5 %, also by this head; None if not tested."""
        if self.test is None:
            return None
        figure = self.figures.get(self.main_figure)
        return self.test.passed and figure is not None and self.test.exceeded_by(figure.value)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON; undefined figures are None."""
        return {
            "classes": list(self.classes),
            "multilabel": self.multilabel,
            "rows": self.rows,
            "groups": self.groups,
            "samples": self.samples,
            "figures": {name: figure.to_dict() if figure else None for name, figure in self.figures.items()},
            "per_class": [one_class.to_dict() for one_class in self.per_class],
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "baselines": {name: dict(values) for name, values in self.baselines.items()},
            "better_than_chance": self.better_than_chance,
            "p_value": self.test.p_value if self.test else None,
            "chance": self.test.chance if self.test else None,
            "permutations": self.test.permutations if self.test else 0,
            "chance_test": self.test.to_dict() if self.test else None,
            "by_part": [part.to_dict() for part in self.by_part],
            "spread": {name: {"mean": mean, "deviation": spread} for name, (mean, spread) in self.spread.items()},
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return f"{self.verdict()}\n\n{self.tables()}"

    def verdict(self) -> str:
        """Return the main figure in one line, compared with chance, and the size of the data."""
        counts = {"row": self.rows, "group": self.groups, "label" if self.multilabel else "class": len(self.classes)}
        if self.by_part:
            counts["test part"] = len(self.by_part)
        sizes = ", ".join(plural(number, word) for word, number in counts.items())
        figure = self.figures.get(self.main_figure)
        if figure is None:
            return f"{self.main_figure} is undefined; {sizes}."
        interval = "" if figure.low is None else f" (95 % interval {figure.low:.3f} to {figure.high:.3f})"
        better = "better than chance" if self.better_than_chance else "NOT shown to be better than chance"
        if self.test and self.test.passed and not self.better_than_chance:
            better += f", though {self.test.tested} is in the test"
        compared = "not compared with chance" if self.test is None else f"{better} ({self.test})"
        return f"{self.main_figure} {figure.value:.3f}{interval}, {compared}; {sizes}."

    def tables(self, per_class: bool = False) -> str:
        """Return the figures, the test parts and the notes as text.

        Args:
            per_class: add a table with the figures of the classes, the worst first.
        """
        blocks = [align(self._figure_lines())]
        if self.by_part:
            blocks.append(align(self._part_lines()))
        if per_class:
            blocks.append(self._class_table())
        if self.test is not None and self.test.permutations:
            blocks.append(self.test.describe(self.main_figure))
        if self.notes:
            blocks.append("\n".join(f"Note: {note}" for note in self.notes))
        return "\n\n".join(blocks)

    def _figure_lines(self) -> list[list[str]]:
        guesses = ["guess" if name == "chance" else name for name in self.baselines]
        lines = [["metric", "value", "low", "high", *guesses]]
        for name, figure in self.figures.items():
            values = [figure.value, figure.low, figure.high] if figure else [None] * 3
            lines.append([name, *map(cell, [*values, *(values_of.get(name) for values_of in self.baselines.values())])])
        return lines

    def _part_lines(self) -> list[list[str]]:
        names = [name for name in PART_COLUMNS if name in self.figures]
        lines = [
            [escape(part.name), str(part.rows), *(cell(part.figures[name]) for name in names)] for part in self.by_part
        ]
        spreads = [self.spread.get(name, (None, None)) for name in names]
        lines.append(["mean", "", *(cell(mean) for mean, _ in spreads)])
        lines.append(["spread", "", *(cell(deviation) for _, deviation in spreads)])
        return [["part", "rows", *names], *lines]

    def _class_table(self) -> str:
        worst = sorted(self.per_class, key=lambda one: (one.f1 is None, one.f1.value if one.f1 else 0.0))
        table = align([["class", "rows", *CLASS_COLUMNS], *map(class_cells, worst[:MAX_PRINTED_CLASSES])])
        more = len(worst) - MAX_PRINTED_CLASSES
        return table if more <= 0 else f"{table}\nand {plural(more, 'more class')} with the same or a better F1"


def class_cells(one_class: ClassMetrics) -> list[str]:
    """Return the cells of a class in the table of classes."""
    figures = [getattr(one_class, name) for name in CLASS_COLUMNS]
    return [
        escape(one_class.name),
        str(one_class.rows),
        *(cell(figure.value if figure else None) for figure in figures),
    ]


def cell(value: float | None) -> str:
    """Return a number as a table cell.

    >>> cell(0.98765), cell(None)
    ('0.9877', '-')
    """
    return "-" if value is None else f"{value:.4f}"


def escape(name: str) -> str:
    r"""Return a name that is safe to print.

    >>> escape("a\nb")
    'a\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def align(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as a table: the first column left-aligned, the others right-aligned.

    >>> align([["a", "10"], ["long", "5"]]).splitlines()
    ['a     10', 'long   5']
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines]
    return "\n".join("  ".join(cells).rstrip() for cells in padded)
