"""The hub: what is uploaded comes back, through the client of the hub and a server that stands in for it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.collections import Make, clusters
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
        timeout=120,
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
