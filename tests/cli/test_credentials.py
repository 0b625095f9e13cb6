"""Passwords and signatures in URLs: no command shows them, and none writes them, wherever such a URL is given."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

import embedx
from embedx.collection.pushing import push
from embedx.engines import extract_shards
from embedx.errors import EmbedxError
from embedx.filesystem import remote
from tests.helpers.commands import Capture, outcome

SECRET = "c0ffee"
URLS = [
    f"s3://KEY:{SECRET}@bucket/x",
    f"gs://bucket/a.wav?X-Goog-Signature={SECRET}&take=1",
    f"memory://bucket/x?sig={SECRET}",
    f"https://me:{SECRET}@127.0.0.1:9/a.wav",
    f"http://127.0.0.1:9/a.wav?take=2&token={SECRET}",
    f"ftp://me:{SECRET}@127.0.0.1/x",
    f"ray://me:{SECRET}@127.0.0.1:9",
    f"POSTGRESQL://me:{SECRET}@127.0.0.1:9/db?table=x",
    f"postgres://me:{SECRET}@127.0.0.1:9/db?table=x",
    f"qdrant://{SECRET}@127.0.0.1:9/x/y",
    f"milvus://me:{SECRET}@127.0.0.1:9/x",
]
COMMANDS = [
    "extract URL -o out", "extract in -o URL", "extract in -o out --segments URL", "extract in -o out --model URL",
    "extract in -o out --shards 2 --plan URL", "extract in -o out --shards 2 --engine URL",
    "extract in -o out --meta URL", "extract in -o out --label URL", "search URL in/1.wav", "search c URL",
    "search c URL --json", "search c --where URL", "status URL", "status URL --json", "rm c --where URL",
    "label c --csv URL", "backup URL out", "backup c URL", "push URL s3://bucket/x", "push c URL", "verify URL",
    "verify c --against URL", "merge c URL -o out", "merge c -o URL", "share URL --local-dir out",
    "share c --local-dir URL", "share c --to URL", "export URL -o out.csv", "export c -o URL", "import URL -o out",
    "predict c --model URL", "predict URL --model m", "serve URL", "serve c --config URL", "mcp URL",
    "duplicates URL", "probe URL", "train URL", "index URL", "open URL",
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WAITS_S", ())
    monkeypatch.setattr(remote, "outages", {})


def files_with_secret(folder: Path) -> list[Path]:
    return [
        file
        for file in folder.rglob("*")
        if SECRET in str(file) or (file.is_file() and SECRET.encode() in file.read_bytes())
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_url_in_a_command_keeps_its_secret(
    command: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "c").symlink_to(made)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for url in URLS:
        code, out, err = outcome(capsys, *(url if word == "URL" else word for word in command.split()))
        assert code not in (0, 1), (url, out, err)
        assert SECRET not in out + err, url
        assert files_with_secret(tmp_path) + files_with_secret(made) == [], url


@pytest.mark.parametrize("url", URLS)
def test_url_in_a_call_keeps_its_secret(url: str, made: Path, tmp_path: Path) -> None:
    places: list[Path | str] = [made, url]
    calls: list[Callable[[], object]] = [
        lambda: embedx.open(url),
        lambda: embedx.open(places),
        lambda: embedx.import_vectors(url, out=tmp_path / "out"),
        lambda: extract_shards(made, out=tmp_path / "out", shards=2, engine=url),
        lambda: push(made, url),
    ]
    for call in calls:
        with pytest.raises(EmbedxError) as error:
            call()
        assert SECRET not in str(error.value)


def test_url_in_a_manifest_keeps_its_secret(made: Path, tmp_path: Path, capsys: Capture) -> None:
    """It is stored without its signature; one with a password is refused."""
    table = tmp_path / "given.csv"

    def write(*urls: str) -> None:
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([["path"], *([url] for url in urls)])

    signed = [url for url in URLS if url.startswith("http") and "@" not in url]
    for url in set(URLS) - set(signed):
        write(url)
        code, out, err = outcome(capsys, "extract", table, "-o", tmp_path / "out" / "bad")
        assert code == 2, (url, err)
        assert SECRET not in out + err, url
    write(*signed)
    code, out, err = outcome(capsys, "extract", table, "-o", tmp_path / "out" / "c", "--model", "logmel")
    assert code == 3, err
    assert SECRET not in out + err
    assert extract_shards(table, out=tmp_path / "out" / "d", shards=1, plan_only=True, model="logmel") is None
    for arguments in (["status", "--failures"], ["status", "--json"], ["export", "-o", tmp_path / "out" / "rows.csv"]):
        code, out, err = outcome(capsys, arguments[0], tmp_path / "out" / "c", *arguments[1:])
        assert SECRET not in out + err
    assert (tmp_path / "out" / "d.shards" / "plan.json").exists()
    assert files_with_secret(tmp_path / "out") == []
