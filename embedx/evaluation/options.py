"""Options of an experiment: the keywords of `probe` and `fit_head` -> labels, split and head as values."""

from collections.abc import Mapping, Sequence
from typing import Any

from embedx.evaluation.splits import SplitKwargs, SplitOptions
from embedx.evaluation.targets import LabelKwargs, LabelOptions
from embedx.heads.options import HeadKwargs, HeadOptions


class ExperimentKwargs(LabelKwargs, SplitKwargs, HeadKwargs, total=False):
    """The keywords that say what is learned, how the rows are split, and which head is fitted."""


def read_options(
    label: str | Sequence[str], keywords: Mapping[str, Any]
) -> tuple[LabelOptions, SplitOptions, HeadOptions]:
    """Return the options that the keywords of an experiment mean; `seed` counts for the split and for the head.

    Args:
        label: the label column, or several yes/no columns.
        keywords: see `ExperimentKwargs`.

    Returns:
        Labels, split and head.

    Raises:
        UsageError: an invalid value, or an unknown keyword.
    """
    labels = {name: value for name, value in keywords.items() if name in LabelKwargs.__annotations__}
    split = {name: value for name, value in keywords.items() if name in SplitKwargs.__annotations__}
    head = {name: value for name, value in keywords.items() if name not in labels and name not in split}
    options = SplitOptions(**split)
    return LabelOptions(label, **labels), options, HeadOptions.from_keywords(**head, seed=options.seed)
