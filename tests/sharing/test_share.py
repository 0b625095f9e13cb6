"""Sharing: a folder with everything that is needed and a card of what was measured; nothing else leaves the machine."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import embedx
from embedx.cli import run
from embedx.errors import DiskError, ModelError, StoreError, UsageError
from embedx.filesystem.hub import repository_of
from embedx.sharing.cards import cell
from embedx.sharing.share import share
from tests.helpers.collections import Make, clusters


@pytest.fixture
def plain(make: Make) -> embedx.Collection:
    return make(*clusters(6, 2, spread=2.0))


@pytest.fixture
def trained(make: Make) -> embedx.Collection:
    x, labels = clusters(60, 3, spread=2.0)
    collection = make(x, [f"{label}|<b>" for label in labels], paths=[f"/home/someone/{i // 2}.wav" for i in range(60)])
    collection.fit_head(name="kinds", C=0.1, permutations=0)
    collection.fit_head(name="loose", C=0.1, leaky=True, permutations=0)
    return collection


def write_model_folder(folder: Path, outputs: dict[str, object]) -> Path:
    """Write the files of models/NAME, with a checkpoint of the training that must not be shared."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.pt").write_bytes(b"optimizer")
    (folder / "notes.txt").write_text("private")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text('{"model_type": "wav2vec2"}')
    head = {"outputs": {"label": ["a", "b"]}}
    described = {"format": 1, "model": "facebook/hubert-base-ls960", "plain": True, "sample_rate": 16000, "head": head}
    (folder / "finetune.json").write_text(json.dumps(described))
    (folder / "arguments.json").write_text(json.dumps({"source": ["/home/someone/birds"], "epochs": 3}))
    metrics = {
        "outputs": outputs,
        "train_rows": 40,
        "validation_rows": 8,
        "test_rows": 12,
        "split": "the column 'fold'",
    }
    failures = {"failures": ["/home/someone/broken.wav cannot be decoded"], "notes": ["few rows"]}
    (folder / "metrics.json").write_text(json.dumps(metrics | failures))
    return folder


def test_collection_is_shared_with_heads_and_measured_figures(trained: embedx.Collection, tmp_path: Path) -> None:
    shared = share(trained.folder, local_dir=tmp_path / "out")
    assert shared.kind == "dataset"
    assert shared.address is None
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\n")
    assert "Vectors of 30 recordings" in card
    assert "60 rows" in card
    measured = trained.head("kinds").metrics["held_out"]
    for name, figure in measured["figures"].items():
        interval = f"{figure['low']:.3f} to {figure['high']:.3f}" if figure["low"] is not None else ""
        assert f"| {cell(name)} | {figure['value']:.3f} | {interval} |" in card
    kinds, loose = card.split("loose: logistic")
    assert "LEAKY" not in kinds
    assert "LEAKY" in loose
    assert "c0\\|&lt;b&gt; | 20 |" in card
    with embedx.open(tmp_path / "out") as copy:
        assert np.array_equal(copy.vectors(), trained.vectors())
        assert np.array_equal(
            copy.head("kinds").predict_proba(copy.vectors()), trained.head("kinds").predict_proba(trained.vectors())
        )
    assert sorted(shared.files) == sorted(
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    )


@pytest.mark.long
def test_only_known_files_of_a_model_are_shared(trained: embedx.Collection, tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "models" / "birds", {"label": trained.head("kinds").metrics["held_out"]})
    share(folder, local_dir=tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"config.json", "model.safetensors", "finetune.json", "metrics.json", "arguments.json", "README.md"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert 'base_model: "facebook/hubert-base-ls960"' in card
    assert 'library_name: "transformers"' in card
    assert "40 rows to train on, 8 to choose the checkpoint by, 12 to test on" in card
    assert re.search(r"\| accuracy \| 0\.\d{3} \| 0\.\d{3} to \d\.\d{3} \| majority 0\.333", card)
    for path in (tmp_path / "out").iterdir():
        assert b"someone" not in path.read_bytes()
    assert json.loads((tmp_path / "out" / "arguments.json").read_text()) == {"source": ["birds"], "epochs": 3}


def test_command_writes_the_folder_and_says_what_it_holds(
    plain: embedx.Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["share", str(plain.folder), "--local-dir", str(tmp_path / "out"), "--json"]) == 0
    assert "README.md" in json.loads(capsys.readouterr().out)["files"]
    assert run(["share", str(plain.folder), "--local-dir", str(tmp_path / "out")]) == 2
    assert "exists" in capsys.readouterr().err


def test_invalid_input_is_refused_and_leaves_nothing(plain: embedx.Collection, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cases: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: share(plain.folder), UsageError, "Give a repository"),
        (lambda: share(plain.folder, to="user/repo"), UsageError, "hf:USER/NAME"),
        (lambda: share(plain.folder, to="hf:repo"), UsageError, "not a repository"),
        (lambda: share(plain.folder, to="hf:user/../x"), UsageError, "not a repository"),
        (lambda: share(plain.folder, to="hf:user/repo@main"), UsageError, "names a revision"),
        (lambda: share(tmp_path, local_dir=out), UsageError, "neither a model"),
        (lambda: share(tmp_path / "none", local_dir=out), UsageError, "neither a model"),
    ]
    broken = write_model_folder(tmp_path / "broken", {"label": {"figures": 3}})
    cases.append((lambda: share(broken, local_dir=out), ModelError, "not as `embedx finetune` writes it"))
    torn = write_model_folder(tmp_path / "torn", {})
    (torn / "metrics.json").write_text("{")
    cases.append((lambda: share(torn, local_dir=out), ModelError, "cannot be read"))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "store.db").write_bytes(b"no database")
    cases.append((lambda: share(damaged, local_dir=out), StoreError, "damaged"))
    for call, error, text in cases:
        with pytest.raises(error, match=text):
            call()
        assert not out.exists()


@pytest.mark.long
def test_unreachable_hub_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, plain: embedx.Collection, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DiskError, match="hf:user/field cannot be downloaded: "):
        embedx.open("hf:user/field")
    with pytest.raises(DiskError, match="hf:user/field cannot be written: "):
        share(plain.folder, to="hf:user/field")


@pytest.mark.parametrize("name", ["hf:", "hf:a", "hf:a/b/c", "hf:../b", "hf:a/b@", "hf:a/b@../c", "hf:a /b"])
def test_invalid_repository_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not a repository"):
        repository_of(name)
