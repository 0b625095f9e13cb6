"""The questions of `embedx app`: every sound gets an answer, and whatever is wrong a sentence."""

import shutil
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

import embedx
from embedx.server.gradio_answers import Questions, hits_table
from embedx.server.metrics import Metrics
from embedx.server.service import Service
from embedx.server.settings import Limits, Settings


def ask_about(folder: Path, limits: Limits, seconds: float = 60.0) -> Questions:
    """Return the questions about a collection, below the address /secret."""
    return Questions(Service(Settings((folder,), limits=limits), Metrics()), "/secret", seconds)


@pytest.fixture(scope="module")
def field(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the collection `made`, with a head."""
    folder = tmp_path_factory.mktemp("app") / "field"
    shutil.copytree(made, folder)
    with embedx.open(folder) as collection:
        collection.fit_head("label", name="kind", permutations=0)
    return folder


@pytest.fixture(scope="module")
def questions(field: Path) -> Iterator[Questions]:
    asked = ask_about(field, Limits(body=1 << 20, audio_s=4.0))
    yield asked
    asked.service.close()


@pytest.fixture
def sound(made: Path, tmp_path: Path) -> Path:
    """The recording of row 5, as it is uploaded."""
    with embedx.open(made) as collection:
        row = collection.rows().loc[5]
    return Path(shutil.copy(row["path"], tmp_path / f"{row['label']}.wav"))


def write_wav(path: Path, seconds: float) -> bytes:
    """Write a sound of 8 kHz, and return the bytes of the file."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\1\0" * round(8000 * seconds))
    return path.read_bytes()


def test_sound_of_the_collection_gets_itself_and_its_label(questions: Questions, sound: Path) -> None:
    answer = questions.ask(str(sound), "kind", 3)
    assert (answer.is_error, questions.heads()) == (False, ["kind"])
    assert max(answer.labels, key=lambda name: answer.labels[name]) == sound.stem
    assert answer.hits.count("<audio") == 3
    assert 'src="/secret/v1/collections/field/rows/5/audio"' in answer.hits.partition("</tr><tr>")[0]
    assert questions.ask(str(sound), None, 3).labels == {}


def test_bad_sound_gets_a_sentence_that_names_it(questions: Questions, tmp_path: Path) -> None:
    def ask(name: str, data: bytes) -> str:
        (tmp_path / name).write_bytes(data)
        answer = questions.ask(str(tmp_path / name), "kind", 3)
        assert (answer.is_error, answer.hits, dict(answer.labels)) == (True, "", {})
        assert str(tmp_path) not in answer.message
        return answer.message

    long = write_wav(tmp_path / "long.wav", 5.0)
    assert ask("text.wav", b"not audio " * 99).startswith("text.wav cannot be read as audio")
    assert ask("empty.wav", b"") == "empty.wav is empty (0 bytes)."
    assert ask("long.wav", long) == "A sound may have 4 s of audio."
    assert ask("large.wav", bytes((1 << 20) + 1)) == "A file may have 1 MB."
    assert "is not there any more" in questions.ask(str(tmp_path / "gone.wav"), None, 3).message
    assert questions.ask(None, None, 3).message.startswith("Choose an audio file")
    assert "There is no head 'nosuch'" in questions.ask(str(tmp_path / "long.wav"), "nosuch", 3).message


def test_collection_that_is_gone_or_damaged_gets_a_sentence(field: Path, sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "field"
    shutil.copytree(field, folder)
    questions = ask_about(folder, Limits())
    assert not questions.ask(str(sound), "kind", 3).is_error
    store = folder / "store.db"
    away = store.rename(tmp_path / "away")
    assert "The collection field cannot be read" in questions.ask(str(sound), "kind", 3).message
    store.write_bytes(b"no database")
    assert "The collection field cannot be read" in questions.ask(str(sound), "kind", 3).message
    assert questions.heads() == []
    store.unlink()
    shutil.copy(away, store)
    assert not questions.ask(str(sound), "kind", 3).is_error
    questions.service.close()


def test_question_that_takes_too_long_is_stopped(field: Path, tmp_path: Path) -> None:
    questions = ask_about(field, Limits(), seconds=0.001)
    write_wav(tmp_path / "long.wav", 600.0)
    assert "was stopped after 0.001 s" in questions.ask(str(tmp_path / "long.wav"), None, 3).message
    questions.service.close()


def test_values_of_rows_are_text_in_the_table() -> None:
    bad = '<img src=x onerror="alert(1)">'
    hit = {"id": 1, "score": 0.5, "path": bad, "start_s": 0.0, "end_s": 1.0, "label": bad, "meta": {bad: bad}}
    table = hits_table([hit], "/secret/rows")
    assert "<img" not in table
    assert table.count("&lt;img") == 5  # the name of the player, path, label, a column and its value
