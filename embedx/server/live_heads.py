"""Live heads: train a head again on what is labelled now, and tell what has changed."""

from typing import Any

from embedx.server.columns import class_of_rows
from embedx.server.json_filter import read_filter
from embedx.server.schemas import HeadBody
from embedx.server.searching import timeout_of
from embedx.server.served import Served
from embedx.server.settings import Limits

MAX_FLIPPED = 1000  # rows whose prediction has changed, in an answer; their number is given


def train_live(served: Served, body: HeadBody, limits: Limits) -> dict[str, Any]:
    """Train a head, and return its figures, its confusion matrix and the rows whose prediction has changed.

    Raises:
        ApiError: the labels cannot be learned.
    """
    where = read_filter(body.filter, limits.filter)
    options = body.model_dump(exclude={"label", "using", "filter", "timeout", "wait"})
    with served.use() as collection:
        old = collection.heads().get(body.name or "")
        before = None if old is None else (class_of_rows(collection, old)[0], old.classes)
        trained = collection.fit_head(
            body.label, view=body.using, where=where, timeout=timeout_of(body.timeout, limits), **options
        )
        report, figure, gain = trained.report, None, trained.gain
        if report is not None:
            figure = report.figures.get(report.main_figure)
        after = class_of_rows(collection, trained)[0]
        ids = collection.store.ids().tolist()
    flipped = []
    if before is not None:
        pairs = zip(ids, before[0].tolist(), after.tolist(), strict=True)
        named = ((number, before[1][old_code], trained.classes[code]) for number, old_code, code in pairs)
        flipped = [{"id": number, "from": one, "to": other} for number, one, other in named if one != other]
    is_multilabel = report is not None and report.multilabel
    return {
        "head": trained.name,
        "macro_auc" if is_multilabel else "balanced_accuracy": None if figure is None else interval(figure),
        "before": None if gain is None else gain.before,
        "difference": None if gain is None else [gain.low, gain.after - gain.before, gain.high],
        "labels": list(trained.classes if report is None else report.classes),
        "confusion": None if report is None or report.confusion is None else report.confusion.tolist(),
        "notes": [] if report is None else list(report.notes),
        "flipped": flipped[:MAX_FLIPPED],
        "flipped_rows": len(flipped),
    }


def interval(figure: Any) -> list[float | None]:
    """Return the lower end, the value and the upper end of a figure."""
    return [figure.low, figure.value, figure.high]
