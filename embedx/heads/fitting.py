"""Heads: light classifiers of vectors. Fitted by scikit-learn or torch, kept as arrays, predicting with numpy alone.

A head knows no collection: it takes arrays. Preparation and choices are learned on the rows that it is given, and
judged inside by whole groups of them.
"""

from collections.abc import Sequence
from typing import Any

from embedx.errors import UsageError
from embedx.heads.criteria import CRITERIA
from embedx.heads.head import Head
from embedx.heads.kinds import KINDS, check_settings
from embedx.heads.preprocessing import Array, read_chain
from embedx.heads.training_data import ClassWeight, make_examples

# numbers in x: below, one thread is quick, and threads that wait for each other can take a hundred times as long where
# other work shares the machine (measured on 2 busy cores, 240 x 1024, 10 classes: 0.03 s with one thread, 4 s with two)
SMALL = 2**24


def fit(
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
    **settings: Any,
) -> Head:
    """Fit a head, and return it without views, recipe and metrics, which the caller knows.

    Args:
        kind: one of `KINDS`.
        x: vectors [N, D]; for weighted-layers [N, L, D]. Training rows only: nothing is held out for a test here.
        y: numbers of classes [N], or with `multilabel` 0 and 1 for each label [N, C].
        classes: their names, C of them. One without a row is never named; with `multilabel`, a label that all rows have
            or none has is answered by its frequency. Either is said in `settings["notes"]`.
        multilabel: whether a row may have several labels.
        groups: what must not be split [N] when something is chosen inside; every row by itself if not given.
        validation: True [N] for rows that choices and early stopping are judged by, in place of inner folds. Once all
            is chosen, the head is fitted on all rows; with refit=False of the kinds that have it, on the others alone.
        sample_weight: of each row [N], such as little for rows that are only supposed to be negative.
        class_weight: None, "balanced", or weights for names of classes.
        head_model: steps that go before those of the kind, such as "PCA(128)" or "Unit()+PCA(64, whiten)"; see `STEPS`.
        seed: of everything that is drawn.
        **settings: of the kind: `KINDS[kind].settings` has their defaults.

    Raises:
        UsageError: an argument cannot be meant, or fewer than two classes have rows.
    """
    if kind not in KINDS:
        raise UsageError(f"Unknown kind of head {kind!r}. Kinds: {', '.join(KINDS)}.")
    made = KINDS[kind]
    chosen = check_settings(kind, settings)
    if "criterion" in chosen:
        chosen["criterion"] = chosen["criterion"] or CRITERIA[multilabel]
    examples = make_examples(
        x,
        y,
        classes,
        multilabel=multilabel,
        groups=groups,
        validation=validation,
        sample_weight=sample_weight,
        class_weight=class_weight,
        chain=(*read_chain(head_model), *read_chain(made.preparation)),
        seed=seed,
    )
    if (examples.x.ndim == 3) != made.layers:
        wanted = "several layers [N, L, D]" if made.layers else "one view [N, D]"
        raise UsageError(f"{kind} takes vectors of {wanted}; these are {list(examples.x.shape)}.")
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1 if examples.x.size < SMALL else None):
        arrays, learned = made.fit(examples, chosen)
    learned = {
        **chosen,
        **learned,
        "input": examples.x.shape[1:],
        "steps": len(examples.chain),
        "head_model": "+".join(map(str, examples.chain)),
        "class_weight": class_weight,
        "seed": seed,
        "rows": len(examples),
    }
    return Head(kind, examples.classes, multilabel, arrays=arrays, settings=learned)
