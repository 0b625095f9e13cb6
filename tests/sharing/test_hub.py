"""The hub: what is uploaded comes back, through the client of the hub and a server that stands in for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import embedx
from tests.helpers.collections import Make, clusters
from tests.helpers.finetuning import Checkpoint, train_tones, write_tones
from tests.helpers.model_hub import model_hub

pytestmark = pytest.mark.long  # each step starts a process, because the client reads its address when it is imported


def run_at(url: str, folder: Path, *words: str) -> str:
    variables = {"HF_ENDPOINT": url, "HF_HOME": str(folder / "home"), "HF_TOKEN": "hf_stand_in"}
    process = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_shared_collection_is_opened_from_the_hub(make: Make, tmp_path: Path) -> None:
    collection = make(*clusters(40, 2, 1.0))
    collection.fit_head(name="kinds", C=0.1, permutations=0)
    read = """
import embedx, numpy as np
with embedx.open("hf:me/field") as collection:
    np.save("vectors.npy", collection.vectors()); print(collection.folder, list(collection.heads()), len(collection))
"""
    with model_hub() as hub:
        out = run_at(hub.url, tmp_path, "-m", "embedx", "share", str(collection.folder), "--to", "hf:me/field")
        assert f"written to {hub.url}/datasets/me/field" in out
        assert hub.created[0]["visibility"] == "private"
        files = hub.repositories["datasets/me/field"]
        assert b"Vectors of 40 recordings" in files["README.md"]
        first, again = (run_at(hub.url, tmp_path, "-c", read) for _ in range(2))
        assert first == again
        assert "['kinds'] 40" in first
        assert str(tmp_path / "home") in first
        assert np.array_equal(np.load(tmp_path / "vectors.npy"), collection.vectors())
        files["old.txt"] = b"of an earlier upload"
        run_at(hub.url, tmp_path, "-m", "embedx", "share", str(collection.folder), "--to", "hf:me/field")
        assert "old.txt" not in files


READ_MODEL = """
import json, sys, embedx, numpy as np
from embedx.finetune.options import FinetuneOptions
from embedx.finetune.run import finetune
import pandas as pd
frame = pd.read_csv("tones.csv")
files = list(frame.path[:4])
name, out = sys.argv[1:]
with embedx.extract(files, model=name, out=out) as collection:
    source, vectors = collection.recipe.source, collection.vectors()
loaded = embedx.load(name).encode(files)
shared = embedx.load(name + "?layer=shared").encode(files)
labels = embedx.predict(files, model=name)
finetune(frame, out + "-m", FinetuneOptions(name, epochs=1, freeze="encoder", device="cpu"))
print(json.dumps({
    "source": source, "is_same": bool(np.allclose(vectors, loaded, atol=1e-5)), "shared": shared.shape,
    "vectors": vectors.tolist(), "proba": labels.proba.tolist(),
    "base": json.load(open(out + "-m/finetune.json"))["model"],
}))
"""
QUERY = """
import json, sys, embedx
collection, name, revision, file = sys.argv[1:]
new = embedx.load(name).encode([file])  # the newest commit is in the cache now
old = embedx.load(name + "@" + revision).encode([file])
(hit,) = embedx.open(collection).search(file, k=1)
print(json.dumps({"new": new[0].tolist(), "old": old[0].tolist(), "score": hit.score}))
"""


def test_shared_model_is_used_from_the_hub_at_the_commit_of_the_recipe(checkpoint: Checkpoint, tmp_path: Path) -> None:
    frame = write_tones(tmp_path / "tones", speakers=3, takes=1)
    frame.to_csv(tmp_path / "tones.csv", index=False)
    models = [
        train_tones(frame, checkpoint("hubert"), tmp_path / f"m{seed}", epochs=1, shared=6, hidden=5, seed=seed)
        for seed in (0, 1)
    ]
    expected = embedx.predict(list(frame.path[:4]), model=str(models[0].folder))
    with model_hub() as hub:
        run_at(hub.url, tmp_path, "-m", "embedx", "share", str(models[0].folder), "--to", "hf:me/birds")
        first = json.loads(run_at(hub.url, tmp_path, "-c", READ_MODEL, "hf:me/birds", "c").splitlines()[-1])
        name, _, commit = first["source"].partition("@")
        assert (name, commit, first["base"]) == ("me/birds", hub.commit_of("models/me/birds"), first["source"])
        assert first["is_same"]
        assert first["shared"] == [4, 6]
        np.testing.assert_allclose(first["proba"], expected.proba, atol=1e-5)
        files = hub.repositories["models/me/birds"]
        files.update((one.name, one.read_bytes()) for one in models[1].folder.iterdir())
        later = json.loads(run_at(hub.url, tmp_path, "-c", QUERY, "c", "hf:me/birds", commit, frame.path[0]))
    assert later["score"] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(later["old"], first["vectors"][0], atol=1e-5)
    assert np.abs(np.subtract(later["new"], later["old"])).max() > 1e-3
