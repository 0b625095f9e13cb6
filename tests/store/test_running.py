"""The note of a running extraction: who reads it sees a run that goes on, and nothing of one that was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import embedx
from embedx.collection.verify import find_issues
from embedx.store.running import RUN_NAME, RunNote, read_run


def test_note_is_read_while_it_is_held(tmp_path: Path) -> None:
    assert read_run(tmp_path) is None
    with RunNote(tmp_path) as note:
        note.write({"done": 3, "planned": 9})
        assert read_run(tmp_path) == {"done": 3, "planned": 9}
        note.write({"done": 4, "planned": 9})  # at once after the first: not written
        assert read_run(tmp_path) == {"done": 3, "planned": 9}
    assert read_run(tmp_path) is None
    assert not (tmp_path / RUN_NAME).exists()


def test_note_of_a_killed_process_is_no_run(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from embedx.store.running import RunNote\n"
        "note = RunNote(Path(sys.argv[1])).__enter__(); note.write({'done': 1}); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert read_run(tmp_path) == {"done": 1}
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert (tmp_path / RUN_NAME).exists()
    assert read_run(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"x" * 512, b"00000000 {}" + b" " * 500 + b"\n"])
def test_damaged_note_is_no_run(tmp_path: Path, content: bytes) -> None:
    with RunNote(tmp_path):
        (tmp_path / RUN_NAME).write_bytes(content)
        assert read_run(tmp_path) is None


def test_folder_that_takes_no_file_does_not_stop_a_run(tmp_path: Path) -> None:
    (tmp_path / RUN_NAME).symlink_to(tmp_path / "elsewhere")
    with RunNote(tmp_path) as note:
        note.write({"done": 1})
    assert not (tmp_path / "elsewhere").exists()


def test_extraction_notes_how_far_it_is_and_verify_knows_the_file(manifest: Path, tmp_path: Path) -> None:
    seen: list[dict[str, Any] | None] = []

    def look(progress: object) -> None:
        seen.append(read_run(tmp_path / "c"))
        if len(seen) == 2:
            assert find_issues(tmp_path / "c") == []

    embedx.extract(manifest, out=tmp_path / "c", on_progress=look).close()
    notes = [one for one in seen if one is not None]
    assert notes
    assert all(0 <= one["done"] <= one["planned"] for one in notes)
    assert read_run(tmp_path / "c") is None
