"""Many threads share a collection beside an extract: no spurious error, and every answer is that of one state."""

import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import embedx
from tests.helpers.commands import COMMAND

THREADS, FILES = 100, 120
K = 5


def ask(collection: embedx.Collection, chance: np.random.Generator) -> dict[str, bytes]:
    """Ask in one snapshot, compare a search with all scores, and return the vector of every recording."""
    with collection.snapshot():
        frame, vectors = collection.rows(), collection.vectors()
        number = int(chance.integers(len(frame)))
        row_id = int(frame.index[number])
        hits = collection.search(id=row_id, k=K, exclude_self=False)
        owls = collection.rows("label = 'owl'")
    assert len(frame) == len(vectors)
    assert owls.index.tolist() == frame.index[frame["label"] == "owl"].tolist()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = np.sort(unit @ unit[number])[::-1][:K]
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-5)
    return dict(zip(frame["path"], map(bytes, vectors), strict=True))


@pytest.mark.long
def test_many_threads_beside_an_extract_get_answers_of_one_state(tmp_path: Path) -> None:
    chance = np.random.default_rng(5)
    (tmp_path / "audio").mkdir()
    for number in range(FILES):
        name = f"{number:03}-{('owl', 'cat')[number % 2]}.wav"
        soundfile.write(tmp_path / "audio" / name, 0.1 * chance.standard_normal(8_000), 16_000)
    files = sorted((tmp_path / "audio").glob("*.wav"))
    embedx.extract(files[:20], out=tmp_path / "c", label="(owl|cat)").close()
    stop, problems, answers = threading.Event(), list[BaseException](), list[dict[str, bytes]]()
    with embedx.open(tmp_path / "c") as collection:

        def ask_all(number: int) -> None:
            chance = np.random.default_rng(number)
            try:
                while not stop.is_set():
                    answers.append(ask(collection, chance))
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=ask_all, args=(number,)) for number in range(THREADS)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        try:  # in another process, which does not wait for the threads of this one
            command = [*COMMAND, "extract", str(tmp_path / "audio"), "-o", str(tmp_path / "c"), "--label", "(owl|cat)"]
            subprocess.run(command, check=True, capture_output=True, timeout=600)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        final = ask(collection, chance)
    print(f"{THREADS} threads: {len(answers)} answers beside an extract in {time.monotonic() - begun:.0f} s")
    assert not problems, problems[:3]
    assert len(final) == FILES
    assert len(answers) >= THREADS
    for answer in answers:
        assert answer.items() <= final.items()
