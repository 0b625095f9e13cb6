"""The command `app`: what is wrong before the page is there has an exit code."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import embedx
from tests.helpers.commands import Capture, outcome


def test_missing_package_is_named_with_the_command_that_installs_it(
    made: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "embedx.server.gradio_page", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    code, _, words = outcome(capsys, "app", made)
    assert (code, "`embedx app` needs" in words, "pip install 'embedx[gradio]'" in words) == (2, True, True)


def test_collection_that_cannot_be_asked_is_refused(made: Path, tmp_path: Path, capsys: Capture) -> None:
    assert outcome(capsys, "app", tmp_path / "nosuch")[0] == 2
    shutil.copytree(made, tmp_path / "damaged")
    (tmp_path / "damaged" / "store.db").write_bytes(b"no database")
    assert outcome(capsys, "app", tmp_path / "damaged")[0] == 5
    np.save(tmp_path / "vectors.npy", np.eye(3, dtype=np.float32))
    embedx.import_vectors(tmp_path / "vectors.npy", out=tmp_path / "imported").close()
    code, _, words = outcome(capsys, "app", tmp_path / "imported")
    assert (code, "were imported" in words) == (2, True)
