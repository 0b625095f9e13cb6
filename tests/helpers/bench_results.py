"""Results of a small benchmark: scikit-learn fits on synthetic vectors, written as the runner writes them."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from embedx.bench.artifacts import Predictions, note_run, save_map, save_predictions
from embedx.bench.report.projections import project
from embedx.bench.results import Result, Shots, extend_table, key

DIM, FOLDS, TAKES, SHOTS = 12, 5, 4, (1, 4)  # TAKES rows of one recording
STRENGTH = {"hubert-base": (0.5, 0.9, 1.4, 1.1), "wav2vec2-base": (0.4, 0.8, 1.0, 0.7), "yamnet": (1.3,)}  # per layer
HEADS = {"logistic": lambda: LogisticRegression(C=0.1, max_iter=2000), "knn": lambda: KNeighborsClassifier(1)}
Split = tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]  # training rows, test rows, probabilities


class Corpus:
    """Rows with a class and a recording, and vectors per model and layer; without `learnable` the vectors are noise."""

    def __init__(
        self, names: list[str], recordings: int, learnable: bool = True, shares: list[float] | None = None
    ) -> None:
        self.random = np.random.default_rng(0)
        self.names, self.learnable = names, learnable
        of = self.random.choice(len(names), recordings, p=shares) if shares else np.arange(recordings) % len(names)
        self.groups = np.repeat(np.arange(recordings), TAKES)
        self.y = np.repeat(of, TAKES)
        self.folds = (self.groups // len(names)) % FOLDS + 1

    def vectors(self, model: str, layer: int) -> NDArray[np.float32]:
        random = np.random.default_rng([len(model), layer])
        centres = random.standard_normal((len(self.names), DIM)) * STRENGTH[model][layer] * self.learnable
        recordings = random.standard_normal((self.groups.max() + 1, DIM))
        noise = random.standard_normal((len(self.y), DIM))
        x: NDArray[np.float32] = (centres[self.y] + recordings[self.groups] + 0.5 * noise).astype(np.float32)
        return x


def fit(corpus: Corpus, x: NDArray[np.float32], head: str, fold: int, shots: Shots, seed: int) -> Split:
    test = corpus.folds == fold
    train = np.flatnonzero(~test)
    if shots != "all":
        random = np.random.default_rng([seed, fold])
        train = np.concatenate([random.permutation(train[corpus.y[train] == one])[:shots] for one in set(corpus.y)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of too few rows of a class
        with threadpool_limits(1):
            model = make_pipeline(StandardScaler(), HEADS[head]()).fit(x[train], corpus.y[train])
    proba = np.zeros((test.sum(), len(corpus.names)), np.float32)
    proba[:, model.classes_] = model.predict_proba(x[test])
    return train, test, proba


def run(
    folder: Path,
    task: str,
    corpus: Corpus,
    model: str,
    layer: int,
    head: str,
    shots: Shots,
    seed: int,
    leaky: bool,
    keep: bool,
) -> list[Result]:
    rows, x, every = [], corpus.vectors(model, layer), np.arange(len(corpus.names))
    scored = []
    for fold in range(1, FOLDS + 1):
        train, test, proba = fit(corpus, x, head, fold, shots, seed)
        y, said = corpus.y[test], proba.argmax(axis=1)
        counts = np.bincount(corpus.y[train], minlength=len(every))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes that are missing in a small test part
            balanced = float(balanced_accuracy_score(y, said))
        row = Result(
            task=task, model=model, layer=layer, pooling="mean", head=head, shots=shots, seed=seed, fold=str(fold),
            rows_train=len(train), rows_test=len(y), classes=len(every), split="5 folds by recording", leaky=leaky,
            duplicates=int(leaky), C=0.1 if head == "logistic" else None, accuracy=float((said == y).mean()),
            balanced_accuracy=balanced,
            macro_f1=float(f1_score(y, said, average="macro", zero_division=0)),
            log_loss=float(log_loss(y, proba, labels=every)),
            majority=float((y == counts.argmax()).mean()), chance=1 / len(every), seconds=0.01,
            made="2026-01-01T00:00:00+00:00", embedx="0.1.0", recipe="ab12" + model[:4],
        )  # fmt: skip
        rows.append(row)
        scored.append((y, proba, np.full(len(y), str(fold)), corpus.groups[test]))
    if keep:
        arrays = (np.concatenate(one) for one in zip(*scored, strict=True))
        save_predictions(folder, key(rows[0]), Predictions(tuple(corpus.names), *arrays))
    return rows


def make_benchmark(
    folder: Path, task: str = "animals", corpus: Corpus | None = None, *, whole: bool = True, leaky: bool = False
) -> list[Result]:
    """Fit all models, layers and heads, if `whole` also with few rows, predictions and a map; return the table."""
    corpus = corpus or Corpus([f"class {i}" for i in range(6)], 60)
    rows: list[Result] = []
    for model, layers in STRENGTH.items():
        for layer in range(len(layers)):
            for head in HEADS:
                rows += run(folder, task, corpus, model, layer, head, "all", 0, leaky, keep=whole)
        if whole:
            for shots in SHOTS:
                for seed in range(2):
                    rows += run(
                        folder, task, corpus, model, int(np.argmax(layers)), "logistic", shots, seed, leaky, False
                    )
    names = np.array(corpus.names)[corpus.y]
    if whole:
        save_map(folder, task, "hubert-base L2.mean", project(corpus.vectors("hubert-base", 2), names))
    note_run(
        folder,
        command=f"embedx bench probe --task {task} --model hubert-base --shots 1,2,4,8,all -o {folder.name}",
        versions={"embedx": "0.1.0", "scikit-learn": "1.9"},
        tasks={task: {"protocol": "Five folds; the four takes of a recording are never parted.", "source": "made"}},
        recipes={f"ab12{model[:4]}": {"extractor": model, "poolings": ["mean"]} for model in STRENGTH},
    )
    return extend_table(folder, rows)


def result(fold: str = "1", **values: object) -> Result:
    known: dict[str, object] = {
        "task": "esc", "model": "yamnet", "layer": 0, "pooling": "mean", "head": "logistic", "shots": "all", "seed": 0,
        "fold": fold, "rows_train": 80, "rows_test": 20, "classes": 4, "split": "5 folds", "leaky": False,
        "duplicates": 0, "accuracy": 0.1 + 0.2, "chance": 0.25,
    }  # fmt: skip
    return Result(**known | values)  # type: ignore[arg-type]
