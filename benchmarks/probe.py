"""Compare the sweep of logistic regressions with scikit-learn, and write the part of BENCHMARKS.md.

The vectors are 2 000 spoken digits from a model of the shape of HuBERT-base, 13 layers of 768. Its weights are random:
the accuracy is lower than with a trained model, but the cost is the same. The recordings are in shared/data/fsdd beside
the repository; the vectors are stored in build/probe-vectors.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from page import ROOT, commit, write_part
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import embedx
from embedx.bench.speed.roofline import name_device
from embedx.heads.batched_logistic.sweep import Part, sweep

RECORDINGS = ROOT.parent / "shared" / "data" / "fsdd" / "recordings"
BUILD = ROOT / "build"
CS = np.logspace(-4, 4, 10)  # the values of LogisticRegressionCV(Cs=10)
BLOCK = 3  # layers per turn

Vectors = Mapping[str, NDArray[np.float32]]
Work = Callable[["Vectors", "Task"], NDArray[np.float64]]


class Task(NamedTuple):
    """Labels and a split of the recordings."""

    name: str
    y: NDArray[np.int64]
    parts: list[Part]


def make_vectors() -> tuple[Vectors, list[str]]:
    """Return the vectors of each layer [N, D], and the names of the recordings. The first call takes some minutes."""
    out, model = BUILD / "probe-vectors", BUILD / "hubert-random"
    if not (out / "store.db").exists():
        import transformers

        torch.manual_seed(0)
        transformers.HubertModel(transformers.HubertConfig()).save_pretrained(model)
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(model)
        embedx.extract(RECORDINGS, model=str(model), layers="all", out=out).close()
    with embedx.open(out) as collection:
        return {view: collection.vectors(view) for view in collection.views}, [
            Path(path).stem for path in collection.rows()["path"]
        ]


def make_tasks(names: list[str]) -> list[Task]:
    """Return 50 classes in 5 folds of takes, and 10 digits in 4 folds of speakers.

    There are 10 digits by 4 speakers. The first and last 25 takes of one speaker count as two: 50 classes.
    """
    digit, speaker, take = np.array([name.split("_") for name in names]).T
    number = take.astype(int)
    half = np.where(speaker == "theo", number // 25, 0)
    _, fifty = np.unique([f"{a} {b} {c}" for a, b, c in zip(digit, speaker, half, strict=True)], return_inverse=True)
    return [
        Task("50 classes, 5 folds", fifty, [parts_of(number % 5 == fold) for fold in range(5)]),
        Task("10 digits, 4 speakers", digit.astype(int), [parts_of(speaker == one) for one in np.unique(speaker)]),
    ]


def parts_of(test: NDArray[np.bool_]) -> Part:
    """Return the positions of the training rows and of the test rows."""
    return np.flatnonzero(~test), np.flatnonzero(test)


def ours(vectors: Vectors, task: Task) -> NDArray[np.float64]:
    """Return accuracies [V, P, Cs]."""
    return sweep(vectors, task.y, task.parts, CS.tolist(), device="cpu").accuracy


def rival(jobs: int | None) -> Work:
    """Return the usual solution with scikit-learn, without the final fit on all rows, as in embedx."""

    def run(vectors: Vectors, task: Task) -> NDArray[np.float64]:
        found = []
        for x in vectors.values():
            search = LogisticRegressionCV(
                Cs=CS, cv=task.parts, max_iter=1000, n_jobs=jobs, scoring="accuracy", refit=False, l1_ratios=(0,),
                use_legacy_attributes=False,
            )  # fmt: skip
            found.append(make_pipeline(StandardScaler(), search).fit(x, task.y)[1].scores_)
        return np.reshape(found, (len(vectors), len(task.parts), len(CS)))

    return run


class Run(NamedTuple):
    """The result of one turn: wall time and processor time in seconds, and accuracies [V, P, Cs]."""

    wall: float
    cpu: float
    accuracy: NDArray[np.float64]


def processor_seconds() -> float:
    """Return the processor time of this process and its running children, in seconds (Linux)."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text(encoding="utf-8").split()
    fields = [Path(f"/proc/{one}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split() for one in children]
    return time.process_time() + sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def timed(work: Work, vectors: Vectors, task: Task) -> Run:
    """Run and measure one turn."""
    begun, used = time.perf_counter(), processor_seconds()
    accuracy = work(vectors, task)
    return Run(time.perf_counter() - begun, processor_seconds() - used, accuracy)


def race(vectors: Vectors, task: Task, rivals: Mapping[str, Work]) -> Iterator[str]:
    """Yield a table of both methods, in alternating turns of a few layers, and a sentence on their accuracies."""
    names = list(vectors)
    runs: dict[str, list[Run]] = {name: [] for name in rivals}
    loads = []
    for work in rivals.values():  # starts the processes and loads the libraries
        work({"warm": vectors[names[0]][:, :8]}, task)
    for turn, start in enumerate(range(0, len(names), BLOCK)):
        some = {name: vectors[name] for name in names[start : start + BLOCK]}
        for name in list(rivals)[:: 1 if turn % 2 else -1]:
            one = timed(rivals[name], some, task)
            runs[name].append(one)
            loads.append(os.getloadavg()[0])
            print(
                task.name, list(some), name, f"{one.wall:.1f} s, {one.cpu:.1f} CPU s, load {loads[-1]:.1f}", flush=True
            )
    ours, theirs = runs.values()
    yield f"| {task.name}, {len(names)} layers of 2 000 x 768, 10 Cs | s | ratio | CPU s | ratio |"
    yield "|---|---|---|---|---|"
    for name, those in runs.items():
        wall = statistics.median(one.wall / mine.wall for one, mine in zip(those, ours, strict=True))
        cpu = statistics.median(one.cpu / mine.cpu for one, mine in zip(those, ours, strict=True))
        sums = sum(one.wall for one in those), sum(one.cpu for one in those)
        yield f"| {name} | {sums[0]:.1f} | {wall:.1f} | {sums[1]:.1f} | {cpu:.1f} |"
    mine, other = (np.concatenate([one.accuracy for one in those]).mean(1) * 100 for those in (ours, theirs))  # [V, Cs]
    best, grid = mine.max(1) - other.max(1), np.abs(mine - other)
    yield (
        f"\nRatios are medians of {len(ours)} turns at a few layers each; the load of the machine was "
        f"{min(loads):.1f} to {max(loads):.1f}. The accuracy (mean over the parts, at the best C of each layer: "
        f"{mine.max(1).min():.1f} to {mine.max(1).max():.1f} %) differs from scikit-learn's by "
        f"{np.abs(best).max():.2f} points at most, {np.abs(best).mean():.2f} on average "
        f"and {abs(best.mean()):.2f} with its sign; over the grid "
        f"by {grid[:, CS < 0.1].max():.2f} at most where C < 0.1, and by {grid.max():.2f} where it is greater."
    )


def exactness(vectors: Vectors, task: Task) -> Iterator[str]:
    """Yield a table of the distance of each solution from the optimum, for one layer."""
    view = list(vectors)[len(vectors) // 2]
    made = sweep({view: vectors[view]}, task.y, task.parts, CS.tolist(), keep=["coefficients", "probabilities"])
    shape = len(task.parts), len(CS)
    excess, right, far = np.zeros((3, *shape)), np.zeros((3, *shape)), np.zeros(shape)
    for p, (train, test) in enumerate(task.parts):
        scaler = StandardScaler().fit(vectors[view][train].astype(np.float64))
        x, foreign = (scaler.transform(vectors[view][rows].astype(np.float64)) for rows in (train, test))
        default, converged = LogisticRegression(warm_start=True), LogisticRegression(warm_start=True, tol=1e-8)
        for c, C in enumerate(CS):
            for i, model in enumerate((default, converged)):
                model.set_params(C=C, max_iter=20_000).fit(x, task.y[train])
                excess[i, p, c] = objective(x @ model.coef_.T + model.intercept_, task.y[train], model.coef_, C)
                right[i, p, c] = model.score(foreign, task.y[test])
            weight, bias = (side[c] for side in made.coefficients[view, p])
            z = vectors[view][train].astype(np.float64) @ weight.T + bias
            excess[2, p, c] = objective(z, task.y[train], weight * scaler.scale_, C)
            far[p, c] = np.abs(converged.predict_proba(foreign) - made.probabilities[view, p][c]).max()
            print(f"{view}, fold {p + 1}, C = {C:.2g}: {excess[:, p, c]}, p {far[p, c]:.1e}", flush=True)
    right[2] = made.accuracy[0]
    excess = excess / excess.min(0) - 1
    yield f"| {task.name}, {view} | C | excess of the objective, worst fold | accuracy, mean of folds, % | p |"
    yield "|---|---|---|---|---|"
    for c, C in enumerate(CS):
        for i, name in enumerate(("scikit-learn, tol=1e-4", "scikit-learn, tol=1e-8", "embedx")):
            difference = f"{far[:, c].max():.1e}" if i == 2 else ""
            yield (
                f"| {name} | {C:.2g} | {excess[i, :, c].max():.1e} | {right[i, :, c].mean() * 100:.2f} | {difference} |"
            )
    yield (
        "\nExcess is relative to the lowest objective of the three. p is the maximum difference of a probability of a "
        "test row from scikit-learn with tol=1e-8. With its default of 1e-4, scikit-learn stops when the mean gradient "
        "is small. For a large C this is long before the optimum, so its accuracies and differences there depend on "
        "where it stopped."
    )


def steadiness(vectors: Vectors, task: Task) -> Iterator[str]:
    """Yield a sentence on the effect of the default tolerance of the sweep, over all layers."""
    usual = ours(vectors, task)
    exact = sweep(vectors, task.y, task.parts, CS.tolist(), tol=1e-8, device="cpu").accuracy
    best = np.abs(usual.mean(1).max(1) - exact.mean(1).max(1)).max() * 100
    grid = np.abs(usual.mean(1) - exact.mean(1)).max() * 100
    yield (
        f"\n{task.name}: the default tol of 1e-6 differs from 1e-8, which equals scikit-learn in the tests, by "
        f"{best:.2f} points at most at the best C of each of {len(vectors)} layers, and by {grid:.2f} at most at any C "
        "of any layer (mean over the parts)."
    )


def objective(z: NDArray[np.float64], y: NDArray[np.int64], weight: NDArray[np.float64], C: float) -> float:
    """Return the objective that scikit-learn minimises, for logits z [n, K]."""
    top = z.max(1)
    losses = top + np.log(np.exp(z - top[:, None]).sum(1)) - z[np.arange(len(z)), y]
    return float(C * losses.sum() + (weight**2).sum() / 2)


def main() -> None:
    """Measure everything, and write the part of BENCHMARKS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=13, help="number of layers to measure")
    options = parser.parse_args()
    vectors, names = make_vectors()
    vectors = {view: vectors[view] for view in list(vectors)[: options.layers]}
    cores = os.cpu_count() or 1
    rivals = {"embedx": ours, f"scikit-learn, LogisticRegressionCV(n_jobs={cores})": rival(cores)}
    parts = [
        f"Made by `python benchmarks/probe.py` on {time.strftime('%Y-%m-%d')} at commit {commit()}: {cores} "
        f"cores of {name_device('cpu')}, torch {torch.__version__}, scikit-learn {sklearn.__version__}, Python "
        f"{platform.python_version()}. scikit-learn is used in the usual way, one layer at a time: "
        "`make_pipeline(StandardScaler(), LogisticRegressionCV(cv=parts, max_iter=1000))`, without the fit on all rows "
        "at the end; n_jobs=None, with threads inside a product, is slower on a shared machine.\n",
    ]
    for task in make_tasks(names):
        parts += [*race(vectors, task, rivals), ""]
    with threadpool_limits(1):
        parts += exactness(vectors, make_tasks(names)[0])
    for task in make_tasks(names):
        parts += steadiness(vectors, task)
    print("\n".join(parts))
    write_part("Probe", "\n".join(parts))


if __name__ == "__main__":
    main()
