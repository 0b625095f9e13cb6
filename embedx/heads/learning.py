"""Learning: arrays -> the arrays and settings of a head, fitted by scikit-learn or torch.

A head does not know collections. Preprocessing and choices such as C are learned on the given rows only, and choices
are made on held-out groups of these rows.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from embedx.errors import UsageError
from embedx.heads.criteria import CRITERIA
from embedx.heads.kinds import KINDS, Kind, check_kind, check_settings
from embedx.heads.preprocessing import Array, read_chain
from embedx.heads.training_data import ClassWeight, Examples, make_examples

# Up to this many numbers in x, one thread is used. It is fast enough, and threads that wait for each other are up to
# 100 times slower on a busy machine (2 busy cores, 240 x 1024, 10 classes: 0.03 s with one thread, 4 s with two).
MAX_SINGLE_THREAD_NUMBERS = 2**24


def learn(
    kind: str,
    x: Array,
    y: Array,
    classes: Sequence[str],
    *,
    multilabel: bool = False,
    groups: Array | None = None,
    validation: Array | None = None,
    sample_weight: Array | None = None,
    class_weight: ClassWeight = None,
    head_model: str = "",
    seed: int = 0,
    copies: Array | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Return the fields of a fitted head; see `embedx.heads.fitting.fit`."""
    check_kind(kind)
    chosen = check_settings(kind, settings)
    if "criterion" in chosen:
        chosen["criterion"] = chosen["criterion"] or CRITERIA[multilabel]
    chain = (*read_chain(head_model), *read_chain(KINDS[kind].preparation))
    examples = make_examples(
        x, y, classes, multilabel=multilabel, groups=groups, validation=validation, sample_weight=sample_weight,
        class_weight=class_weight, chain=chain, seed=seed, copies=copies,
    )  # fmt: skip
    arrays, learned = fit_kind(kind, KINDS[kind], examples, chosen)
    described = describe_examples(examples) | {
        "class_weight": class_weight,
        "seed": seed,
        "rows": len(examples),
        "given": settings,
    }
    settings = {**chosen, **learned, **described}
    return {"kind": kind, "classes": examples.classes, "multilabel": multilabel, "arrays": arrays, "settings": settings}


def fit_kind(
    name: str, kind: Kind, examples: Examples, settings: dict[str, Any]
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays of a head, and what was learned and chosen."""
    if (examples.x.ndim == 3) != kind.layers:
        allowed = "several layers [N, L, D]" if kind.layers else "one view [N, D]"
        raise UsageError(f"{name} takes vectors of {allowed}; these have the shape {list(examples.x.shape)}.")
    with limit_threads(examples.x.size):
        return kind.fit(examples, settings)


def limit_threads(numbers: int) -> AbstractContextManager[object]:
    """Use one thread within this context if x has few numbers; see `MAX_SINGLE_THREAD_NUMBERS`."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1 if numbers < MAX_SINGLE_THREAD_NUMBERS else None)
    return limits


def describe_examples(examples: Examples) -> dict[str, Any]:
    """Return the shape of a row and the steps, as a head keeps them."""
    return {
        "input": examples.x.shape[1:],
        "steps": len(examples.chain),
        "head_model": "+".join(map(str, examples.chain)),
    }
