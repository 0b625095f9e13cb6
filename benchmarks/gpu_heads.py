"""The layer sweep and the head mlp on a GPU, with scikit-learn on the CPU beside it."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from gpu_models import Setting
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.linear_model import LogisticRegressionCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from embedx.heads.batched_logistic.sweep import sweep
from embedx.heads.fitting import fit
from embedx.processes.cores import count_cores

TIMES = 8.0  # target: speed-up over scikit-learn on the CPU of the same machine
CS = np.logspace(-4, 4, 10)  # the values of LogisticRegressionCV(Cs=10)
FOLDS, VIEWS = 5, 4
HIDDEN, BATCH = 256, 64  # the defaults of `mlp`


def make_rows(rows: int, dim: int, classes: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return vectors [N, D] around a centre for each class, and the classes [N]."""
    random = np.random.default_rng(4)
    y = np.arange(rows) % classes
    x = random.standard_normal((classes, dim))[y] * 0.2 + random.standard_normal((rows, dim))
    return x.astype(np.float32), y


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of some work, and its result."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def compare_sweep(setting: Setting) -> Iterator[str]:
    """Yield a table of the sweep: seconds for a view, and the best accuracy."""
    rows, dim, classes = (200, 16, 4) if setting.small else (2000, 768, 50)
    x, y = make_rows(rows, dim, classes)
    fold = np.arange(rows) // classes % FOLDS
    parts = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(FOLDS)]
    yield f"## Layer sweep; target: {TIMES:g} x scikit-learn on {count_cores()} cores beside it\n"
    yield f"{rows} x {dim}, {classes} classes, {FOLDS} folds, {len(CS)} Cs; embedx with {VIEWS} views at once.\n"
    yield "| | s for a view | x scikit-learn | best accuracy |"
    yield "|---|---|---|---|"
    views = {f"L{i}.mean": x for i in range(VIEWS)}

    def run() -> Any:
        return sweep(views, y, parts, CS.tolist(), device=setting.device)

    run()  # warm-up
    ours, found = seconds_of(run)
    search = LogisticRegressionCV(
        Cs=CS, cv=parts, max_iter=1000, n_jobs=count_cores(), scoring="accuracy", refit=False, l1_ratios=(0,),
        use_legacy_attributes=False,
    )  # fmt: skip
    yield f"| embedx, {setting.device} | {ours / VIEWS:.3f} | | {found.accuracy[0].mean(0).max():.3f} |"
    clone(search).set_params(Cs=[1.0]).fit(x[:, :2], y)  # starts the processes
    theirs, fitted = seconds_of(lambda: make_pipeline(StandardScaler(), search).fit(x, y))
    best = np.reshape(fitted[1].scores_, (FOLDS, len(CS))).mean(0).max()
    yield f"| scikit-learn, LogisticRegressionCV | {theirs:.3f} | {theirs * VIEWS / ours:.1f} | {best:.3f} |"


def compare_mlp(setting: Setting) -> Iterator[str]:
    """Yield a table of the head mlp: seconds for the same number of epochs, and the accuracy on other rows."""
    rows, dim, classes, epochs = (300, 16, 4, 3) if setting.small else (20_000, 768, 50, 10)
    x, y = make_rows(rows + rows // 4, dim, classes)
    train, test = slice(rows), slice(rows, None)
    names = [str(k) for k in range(classes)]
    options: dict[str, Any] = {"max_epochs": epochs, "patience": epochs, "refit": False, "device": setting.device}
    held = np.arange(rows) >= 0.9 * rows
    yield f"## mlp; target: {TIMES:g} x scikit-learn on {count_cores()} cores beside it\n"
    yield f"{rows} x {dim}, {classes} classes, {HIDDEN} hidden, batches of {BATCH}, {epochs} epochs.\n"
    yield "| | s | x scikit-learn | accuracy |"
    yield "|---|---|---|---|"

    def run() -> Any:
        return fit("mlp", x[train], y[train], names, validation=held, hidden=HIDDEN, batch_size=BATCH, **options)

    run()  # warm-up
    ours, head = seconds_of(run)
    right = np.mean(head.predict(x[test]) == np.array(names)[y[test]])
    yield f"| embedx, {setting.device} | {ours:.2f} | | {right:.3f} |"
    network = MLPClassifier(
        (HIDDEN,), batch_size=BATCH, max_iter=epochs, n_iter_no_change=epochs, early_stopping=True, random_state=0
    )
    theirs, fitted = seconds_of(lambda: make_pipeline(StandardScaler(), network).fit(x[train], y[train]))
    yield f"| scikit-learn, MLPClassifier | {theirs:.2f} | {theirs / ours:.1f} | {fitted.score(x[test], y[test]):.3f} |"
