"""URLs of search engines: their passwords are never shown."""

import pytest

from embedx.engines.places import parse_place
from embedx.errors import UsageError
from tests.helpers.commands import Capture, outcome


def test_password_is_kept_and_never_shown() -> None:
    place = parse_place("postgresql://me:s%40cret@db.example.org:5433/sounds?table=field")
    assert (place.user, place.password, place.host, place.port) == ("me", "s@cret", "db.example.org", 5433)
    assert "cret" not in f"{place} {place!r}"
    place = parse_place("qdrant://s3cret@127.0.0.1:6333/field")
    assert place.password == "s3cret"
    assert "s3cret" not in f"{place} {place!r}"


@pytest.mark.parametrize(
    "url",
    [
        "qdrant://:s3cret@host:port/field",
        "qdrant://s3cret@host/a/b",
        "qdrant://s3cret@host/",
        "postgresql://me:s3cret@host/db",
        "postgresql://me:s3cret@host/?table=x",
        "postgresql://me:s3cret@host/db?table=a;b",
        "postgresql://me@host/db?table=x&password=s3cret",
        "postgresql://me:s3cret@host/db?table=x#y",
        "milvus://me:s3cret@host/a-b",
        "milvus://me:s3cret@/x",
        "milvus://me:s3cret@host/a/b",
    ],
)
def test_unusable_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(UsageError, match="cannot be used") as error:
        parse_place(url)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "command", [["rm", "--where", "1"], ["status"], ["open"], ["backup", "copy"], ["verify"], ["push"]]
)
def test_other_commands_refuse_an_engine_without_its_password(command: list[str], capsys: Capture) -> None:
    arguments = ["qdrant://h/x"] if command == ["push"] else []
    code, out, err = outcome(capsys, command[0], "postgresql://me:s3cret@host/db?table=x", *command[1:], *arguments)
    assert code == 2
    assert "s3cret" not in out + err
