"""The configuration of a benchmark: config file, keywords, protocols, names of heads."""

import re
from pathlib import Path
from typing import Any

import pytest

from embedx.bench.config import make_plan, read_plan
from embedx.bench.head_spec import read_heads
from embedx.bench.results import Result
from embedx.bench.runner import run
from embedx.errors import UsageError
from tests.helpers.paths import ROOT


@pytest.mark.parametrize(
    "given, message",
    [
        ({"tasks": "x"}, "no option 'tasks'.*task, model"),
        ({"task": "/nowhere"}, "no file or folder /nowhere"),
        ({"out": None}, "needs out .*folder"),
        ({"head": "svm"}, "Unknown head 'svm'.*logistic, mlp"),
        ({"head": "knn(n=3)"}, "no setting 'n'.*k, weights"),
        ({"head": "knn(k=0)"}, "k of knn must be"),
        ({"head": "knn(k)"}, "'knn\\(k\\)' takes NAME=VALUE, not 'k'"),
        ({"head": "PCA+knn"}, "'PCA' in head_model is not a step"),
        ({"shots": "0"}, "at least 1"),
        ({"shots": [1, "some"]}, "at least 1, and all"),
        ({"seeds": 0}, "integer from 1"),
        ({"seeds": True}, "integer from 1"),
        ({"jobs": "2"}, "integer from 1"),
        ({"layers": "middle"}, "all, last, or integers"),
        ({"layers": [1.5]}, "all, last, or integers"),
        ({"leaky": "yes"}, "true or false"),
        ({"map": "tsne"}, "pca or umap"),
        ({"protocol": "quick"}, "Protocols: full, few-shot, mteb"),
        ({"task": {"data": "MADE", "labels": "species"}}, "no option 'labels'.*separator"),
        ({"task": {"name": "x"}}, "needs data"),
        ({"task": ["MADE", "MADE"]}, "Two tasks have the name"),
        ({"task": {"data": "MADE", "label": 3}}, "label takes a text"),
        ({"task": "CORPUS"}, "needs a model"),
    ],
)
def test_invalid_arguments_are_refused(
    given: dict[str, Any], message: str, made: Path, manifest: Path, tmp_path: Path
) -> None:
    def there(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: there(one) for name, one in value.items()}
        if isinstance(value, list):
            return [there(one) for one in value]
        return {"MADE": str(made), "CORPUS": str(manifest)}.get(value, value) if isinstance(value, str) else value

    with pytest.raises(UsageError, match=message):
        make_plan(**{"task": str(made), "out": str(tmp_path / "out")} | there(given))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "given, message",
    [
        ({"layers": "7"}, "no layers"),
        ({"pooling": "sum"}, "no pooling 'sum'.*mean, max"),
        ({"task": {"label": "species"}}, "No row has a value in the column 'species'"),
        ({"task": {"where": "label = 'nothing'"}}, "No row of the task"),
    ],
)
def test_bench_of_missing_layers_or_labels_is_refused(
    given: dict[str, Any], message: str, made: Path, tmp_path: Path
) -> None:
    task = {"data": str(made)} | given.pop("task", {})
    with pytest.raises(UsageError, match=message):
        run(make_plan(task=task, out=str(tmp_path), **given))


def test_bench_of_two_models_with_same_name_is_refused(manifest: Path, tmp_path: Path) -> None:
    for place in ("a/model", "b/model"):
        (tmp_path / place).mkdir(parents=True)
    models = [str(tmp_path / "a/model"), str(tmp_path / "b/model")]
    with pytest.raises(UsageError, match="Two models have the name 'model'"):
        make_plan(task=str(manifest), model=models, out=str(tmp_path))
    named = make_plan(task=str(manifest), model=[f"first={models[0]}", models[1]], out=str(tmp_path))
    assert [one.name for one in named.model] == ["first", "model"]


def test_bench_config_file_equals_keywords(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "bench.toml"
    file.write_text(
        'out = "out"\nhead = ["logistic", "PCA(8)+knn(k=3)"]\nshots = [1, "all"]\nseeds = 3\nlayers = [0]\n'
        f'[[task]]\nname = "sounds"\ndata = "{made}"\nlabel = "label"\n'
    )
    task = {"name": "sounds", "data": str(made), "label": "label"}
    asked = {"head": "logistic,PCA(8)+knn(k=3)", "shots": "1,all", "layers": "0"}
    assert read_plan(file) == make_plan(task=task, out=str(tmp_path / "out"), seeds=3, **asked)
    assert read_plan(file, seeds=5, head=None).seeds == 5
    file.write_text("out = ")
    with pytest.raises(UsageError, match="as TOML"):
        read_plan(file)
    with pytest.raises(UsageError, match="no file"):
        read_plan(tmp_path / "missing.toml")


def test_bench_config_in_documentation_is_valid(manifest: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs/benchmark.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "benchmark.toml").write_text(example, encoding="utf-8")
    (tmp_path / "corpus").symlink_to(manifest.parent)
    rows = run(read_plan(tmp_path / "benchmark.toml"))
    assert (tmp_path / "results/results.csv").exists()
    assert len(rows) == 2 * (2 * 2 + 1) * 5 - 2 * 5  # of four rows there are no 8 directions
    known = {name for name in Result.__dataclass_fields__ if name != "more"}
    assert known <= set(re.findall(r"\w+", text.partition("## The results table")[2]))


def test_bench_protocol_sets_shots_and_seeds(made: Path, tmp_path: Path) -> None:
    asked = {"task": str(made), "out": str(tmp_path)}
    assert (make_plan(**asked).shots, make_plan(**asked).seeds) == (("all",), 1)
    mteb = make_plan(**asked, protocol="mteb")
    assert (mteb.shots, mteb.seeds) == ((8,), 10)
    assert make_plan(**asked, protocol="few-shot", seeds=2).seeds == 2


def test_head_specs_keep_their_text_as_name() -> None:
    texts = ["logistic", "mlp(hidden=64, dropout=0.1)", "Unit()+PCA(8, whiten)+knn(k=3)", "logistic(C=1e+02)"]
    named = [str(head) for head in read_heads(texts)]
    assert named == [*texts[:3], "logistic(C=100.0)"]
    assert [str(head) for head in read_heads(named)] == named
    assert [head.random for head in read_heads("logistic,mlp,weighted-layers")] == [False, True, True]
