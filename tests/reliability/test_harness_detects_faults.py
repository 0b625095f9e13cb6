"""The tests detect faults: each injected bug breaks a promise in a copy of the project, and a named test fails."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.reliability.fault_injection import compile_fault_library, environment
from tests.reliability.report import report

AT_ONCE = 2  # the cores of CI
STEP = int(os.environ.get("EMBEDX_BUG_STEP", "8"))  # every eighth fault under `long`
ATOMIC, PREFETCH = "embedx/filesystem/atomic.py", "embedx/ingest/prefetch.py"
LOCK, CHANGES, CHECKING = "embedx/store/lock.py", "embedx/store/edit_table.py", "embedx/store/checksums.py"
STORE, READING, WRITING = "embedx/store/store.py", "embedx/store/reading.py", "embedx/store/writing.py"
RUN, INDEXING = "embedx/ingest/pipeline.py", "embedx/index/manager.py"
FLUSHED = "tests/reliability/test_durability.py::test_acknowledged_recording_is_flushed_to_disk[extract]"
POWER = "tests/reliability/test_durability.py::test_power_cut_after_any_call_loses_nothing[extract-long]"
KILLED = "tests/reliability/test_kills.py::test_kill_at_any_call_loses_nothing[extract-long]"
SECOND_WRITER = "tests/store/test_store.py::test_second_writer_is_refused_by_name_and_dead_one_ignored"
SECOND_SIGNAL = "tests/reliability/test_kills.py::test_second_signal_ends_run_without_waiting_for_batch"
SIGNAL = "tests/reliability/test_kills.py::test_signal_ends_run_with_a_commit[15]"
OLD_STATE = "tests/store/test_record.py::test_store_that_lost_commits_is_refused"
STEPS = "tests/ingest/test_growth.py::test_change_takes_same_steps_in_ten_times_larger_collection"
STALE = "tests/store/test_record.py::test_stale_block_is_found_and_never_sealed"
SEALED = "tests/store/test_record.py::test_damaged_row_is_not_relabelled"
READER = "tests/reliability/test_kills.py::test_reader_sees_whole_recordings_while_writer_commits"
DAMAGED = "tests/store/test_store.py::test_damaged_or_swapped_vector_is_never_served"
ADDED = "tests/index/test_manager.py::test_index_is_built_used_listed_and_kept"
FOREIGN = "tests/reliability/test_faults.py::test_index_of_another_store_is_not_used"
AGAIN = "tests/ingest/test_extract.py::test_second_run_embeds_only_new_or_edited_files"
IDS = "tests/store/test_store.py::test_replaced_recording_loses_old_rows_and_ids_are_not_reused"
LIES_READY = "tests/ingest/test_pipeline.py::test_prefetch_buffer_is_bounded_and_keeps_order"
BREAKS = "tests/ingest/test_pipeline.py::test_failing_model_stops_readers_and_workers"
TWO_PASSES = "tests/ingest/test_pipeline.py::test_concurrent_passes_keep_their_own_lengths[hubert]"


@dataclass(frozen=True)
class Bug:
    """A line of a file, what takes its place, and a test that must notice."""

    name: str
    file: str
    line: str
    instead: str
    detected_by: str


BUGS = (
    Bug("SQLite flushes nothing", STORE, "synchronous = FULL", "synchronous = OFF", FLUSHED),
    Bug("files are not flushed", ATOMIC, "os.fsync(handle.fileno())", "pass", FLUSHED),
    Bug("folders are not flushed", ATOMIC, "        os.fsync(handle)\n", "        pass\n", POWER),
    Bug("vectors are not checked", READING, "self._checksums.vector(table, number, blob) != stored", "False", DAMAGED),
    Bug(
        "no lock", LOCK, "fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass", SECOND_WRITER
    ),
    Bug(
        "acknowledged before the commit",
        RUN,
        "            self.finished.append(job)\n",
        "            self.finished.append(job)\n"
        "            self.on_progress(replace(self.progress, embedded=self.progress.embedded + len(self.finished)))\n",
        POWER,
    ),
    Bug(
        "a recording comes before its rows",
        WRITING,
        "numbers = self._insert_recordings([recording for recording, _ in batch], run)\n",
        "numbers = self._insert_recordings([recording for recording, _ in batch], run)\n"
        "            self._db.execute('COMMIT'); self._db.execute('BEGIN')\n",
        READER,
    ),
    Bug("the index is the truth", INDEXING, 'if index.manifest["token"] != ', "if None and None != ", FOREIGN),
    Bug(
        "an index is never brought up to date", INDEXING, "if changed or len(index) != len(ids):", "if False:", ADDED
    ),
    Bug("resume forgets", "embedx/ingest/changes.py", "compare_recording(result, stored.get(path), recording",
             "compare_recording(result, None, recording", AGAIN),
    Bug("ids come back", WRITING, "next_id=max(next_id, self._record.next_id)", "next_id=next_id", IDS),
    Bug("no copy of the commit record", WRITING, "            self._lock.keep(self._record.copy)\n\n", "\n", OLD_STATE),
    Bug("the copy is not compared", CHECKING, "if self._is_current(content):", "if True:", OLD_STATE),
    Bug("the copy is not flushed", LOCK,
             "% 2), pack(asdict(copy)))\n            os.fsync(self._handle)", "% 2), pack(asdict(copy)))", FLUSHED),
    Bug("the copy comes before the commit", WRITING, 'write_record(self._db, self._record)\n',
             'write_record(self._db, self._record); self._lock.keep(self._record.copy)\n', KILLED),
    Bug("sums are not compared", CHECKING, "        if total != expected:\n", "        if False:\n", STALE),
    Bug("a damaged row gets a new checksum", CHANGES, "        if check:\n", "        if False:\n", SEALED),
    Bug("a deletion counts the whole table again", CHANGES,
             "self._record.count(table, (checksum for (checksum,) in gone), -1)",
             "self._record.tables[table] = (0, 0); self._record.count(table, (row[0] for row in self._db.execute("
             "f'SELECT checksum FROM {table}').fetchall()))", STEPS),
    Bug("one commit at the end", RUN, "len(self.finished) >= COMMIT_CLIPS or waited > COMMIT_SECONDS", "False",
             READER),
    Bug("a journal that outlives a crash", "embedx/store/creation.py", '"PRAGMA journal_mode = WAL"', '"SELECT 1"',
             KILLED),
    Bug("no commit at a signal", RUN, "            self.store.add(batch, self.run_number)", "            pass", SIGNAL),
    Bug("readers lay down without end", PREFETCH, "self.held + size > self.budget and", "False and",
             LIES_READY),
    Bug("readers outlive their run", RUN, "from contextlib import closing",
             "from contextlib import nullcontext as closing", BREAKS),
    Bug("threads see one another's batches", "embedx/extractors/masking.py", "class ThreadBatch(threading.local):",
             "class ThreadBatch:", TWO_PASSES),
    Bug("a second signal is not heard", "embedx/cli/progress.py", "os._exit(128 + number)", "pass", SECOND_SIGNAL),
)  # fmt: skip


def check_detected(bug: Bug, folder: Path) -> str:
    """Run the test on a copy with the bug; return an empty text if the test fails, as it must, else the reason."""
    for name in ("embedx", "tests"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)
    file = folder / bug.file
    text = file.read_text(encoding="utf-8")
    if text.count(bug.line) != 1:
        return f"{bug.name}: {bug.line!r} stands {text.count(bug.line)} times in {bug.file}"
    file.write_text(text.replace(bug.line, bug.instead), encoding="utf-8")
    variables = environment() | {"PYTHONPATH": str(folder), "EMBEDX_FORK_SERVERS": "1", "EMBEDX_EVERY": "1"}
    variables.pop("EMBEDX_REPORT", None)  # a failure that is wanted is none to count
    options = ["-x", "-m", "long or not long", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, bug.detected_by]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode == pytest.ExitCode.TESTS_FAILED and f"FAILED {bug.detected_by}" in done.stdout:
        return ""
    said = done.stdout[-2000:] + done.stderr[-1000:]
    return f"{bug.name}: {bug.detected_by} does not fail ({done.returncode}):\n{said}"


def test_lines_that_are_replaced_stand_in_the_code_once() -> None:
    counts = {bug.name: (ROOT / bug.file).read_text(encoding="utf-8").count(bug.line) for bug in BUGS}
    assert counts == dict.fromkeys(counts, 1)


@pytest.mark.long
def test_injected_fault_is_detected_by_its_test(tmp_path: Path) -> None:
    """Every eighth fault; `make reliability` tries all, EMBEDX_BUG those with this text in their name."""
    compile_fault_library(tmp_path)  # or skip: without it the tests would be skipped, not fail
    begun = time.monotonic()
    name = os.environ.get("EMBEDX_BUG")
    chosen = [one for one in BUGS if name in one.name] if name else BUGS[::STEP]

    def do(number: int) -> str:
        return check_detected(chosen[number], tmp_path / str(number))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        failures = list(filter(None, pool.map(do, range(len(chosen)))))
    report("injected bugs", len(chosen), len(failures), begun)
    assert not failures, "\n".join(failures)
