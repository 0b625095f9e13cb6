"""The command `search`: queries, formats of hits, saved clips."""

import csv
import io
import json
import os
import pty
import re
import shutil
import subprocess
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest

import embedx
from embedx.cli.app import load_command
from tests.helpers.commands import COMMAND, Capture, WriteWav, outcome


@pytest.fixture
def query(made: Path) -> str:
    with embedx.open(made) as collection:
        return str(collection.rows()["path"].iloc[4])


def test_search_prints_table(made: Path, query: str, capsys: Capture) -> None:
    code, text, _ = outcome(capsys, "search", str(made), query, "-k", "3", "--columns", "source")
    lines = text.splitlines()
    assert code == 0
    assert lines[0].split() == ["id", "score", "file", "start", "end", "label", "source"]
    assert lines[1].split()[:2] == ["5", "1.0000"]
    assert lines[1].split()[2] == "/".join(query.split("/")[-2:])  # relative to the folder of the manifest
    assert len(lines) == 4
    assert query in outcome(capsys, "search", str(made), query, "-k", "1", "--absolute-paths")[1]


def test_search_prints_json_and_csv(made: Path, query: str, capsys: Capture) -> None:
    where = "label = 'clock'"
    hits = json.loads(outcome(capsys, "search", str(made), query, "--where", where, "-k", "4", "--format", "json")[1])
    assert [hit["label"] for hit in hits] == ["clock"] * 4
    assert list(hits[0]) == ["id", "score", "path", "start_s", "end_s", "label", "meta"]
    text = outcome(capsys, "search", str(made), "--id", "5", "--format", "csv", "--columns", "source")[1]
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 10
    assert list(rows[0]) == ["id", "score", "path", "start_s", "end_s", "label", "source"]
    assert "5" not in {row["id"] for row in rows}


def test_search_with_where_without_match_is_empty(made: Path, capsys: Capture) -> None:
    assert outcome(capsys, "search", str(made), "--id", "5", "--where", "id < 0", "--format", "json")[:2] == (0, "[]\n")
    assert outcome(capsys, "search", str(made), "--id", "5", "--where", "id < 0")[0] == 0


def test_search_output_is_safe_for_terminals_and_spreadsheets(
    tmp_path: Path, write_wav: WriteWav, capsys: Capture
) -> None:
    evil = write_wav("in/=cmd\x1b[31m.wav")
    frame_path = tmp_path / "m.csv"
    frame_path.write_text(f'path,label\n"{evil}","=HYPERLINK(1)\x1b[0m"\n')
    out = str(tmp_path / "c")
    assert outcome(capsys, "extract", str(frame_path), "-o", out)[0] == 0
    for form in ("table", "csv", "json"):
        text = outcome(capsys, "search", out, "--id", "1", "--include-self", "--format", form)[1]
        assert "\x1b" not in text
        assert form != "csv" or "'=HYPERLINK" in text


@pytest.mark.parametrize(
    "form", ["table", *(pytest.param(form, marks=pytest.mark.long) for form in ("csv", "json", "table of excerpt"))]
)
def test_search_of_names_that_are_not_utf8_keeps_their_bytes(form: str, tmp_path: Path, write_wav: WriteWav) -> None:
    name = os.fsdecode(b"in/caf\xe9/\xff.wav")
    path = write_wav(name)
    write_wav("in/other/a.wav")
    out = tmp_path / "c"
    query = str(path) + "#0-0.5" * (form == "table of excerpt")
    embedx.extract(tmp_path / "in", out=out).close()
    command = ["search", str(out), query, "-k", "1", "--format", form.split()[0]]
    done = subprocess.run([*COMMAND, *map(os.fsencode, command)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    with embedx.open(out) as collection:
        assert os.fsencode(collection.rows()["path"].iloc[0]).endswith(b"caf\xe9/\xff.wav")
        assert os.path.exists(collection.search(id=2)[0].path)
        assert collection.rows()["label"].tolist() == ["caf\\xe9", "other"]


def test_search_help_has_headings_and_fits_a_screen(capsys: Capture) -> None:
    text = outcome(capsys, "search", "--help")[1]
    headings = re.findall(r"^(\w[^:]*):", text, re.MULTILINE)
    assert [one.split(" (")[0] for one in headings] == [
        "Usage",
        "Instead of QUERY",
        "Which rows",
        "Selection of hits",
        "Output",
        "Model",
        "Other",
    ]
    options = {line.split()[0] for line in text.splitlines() if line.startswith("  -")}
    for param in load_command("search").params:
        assert not isinstance(param, click.Option) or param.opts[0] in options


def test_search_by_like_and_unlike_works(made: Path, query: str, capsys: Capture) -> None:
    common = ("search", str(made), "--format", "json", "-k", "40")
    hits = json.loads(outcome(capsys, *common, "--like", query, "--like", "17", "--unlike", "30")[1])
    with embedx.open(made) as collection:
        expected = collection.search(like=[query, 17], unlike=[30], k=40)
    assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
    assert {17, 30} & {hit["id"] for hit in hits} == set()


def test_search_with_radius_band_and_grouping_works(made: Path, query: str, tmp_path: Path, capsys: Capture) -> None:
    made = shutil.copytree(made, tmp_path / "c")  # another metric leaves another index

    def ids(*options: str) -> list[int]:
        return [
            hit["id"]
            for hit in json.loads(outcome(capsys, "search", str(made), query, "--format", "json", *options)[1])
        ]

    with embedx.open(made) as collection:
        for options, ways in (
            (["--radius", "0.9"], {"radius": 0.9}),
            (["--score-band", "0.2", "0.9", "-k", "4"], {"score_band": (0.2, 0.9), "k": 4}),
            (["--metric", "l2", "--score-band", "-90", "-20"], {"score_band": (-90, -20), "metric": "l2"}),
            (["--group-by", "label"], {"group_by": "label"}),
            (["--merge"], {"merge": True}),
            (["--diverse", "0.4", "--exact"], {"diverse": 0.4}),
            (["--align", "--include-self"], {"align": True}),
        ):
            found = ids(*options)
            assert found == [hit.id for hit in collection.search(query, **ways)]
            assert found
    table = outcome(capsys, "search", str(made), query, "--align")[1].splitlines()
    assert table[0].split() == ["id", "score", "file", "start", "end", "query_start", "label"]


def test_search_of_many_queries_prints_one_table(made: Path, query: str, tmp_path: Path, capsys: Capture) -> None:
    manifest = tmp_path / "queries.csv"
    (tmp_path / "text.wav").write_text("text")
    manifest.write_text(f"path,start,end\n{query},,\n{query},0.5,1\n{tmp_path}/text.wav,,\n{tmp_path}/gone.wav,,\n")
    code, text, log = outcome(capsys, "search", str(made), "--queries", str(manifest), "-k", "2", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert code == 3
    assert list(rows[0]) == ["query", "id", "score", "path", "start_s", "end_s", "label"]
    assert [row["query"] for row in rows] == [query, query, f"{query}#0.5-1", f"{query}#0.5-1"]
    assert rows[0]["path"] == "/".join(query.split("/")[-2:])
    assert len(log.splitlines()) == 2
    assert "text.wav cannot be read as audio" in log
    assert "no file" in log
    lines = outcome(capsys, "search", str(made), "--queries", str(manifest), "-k", "2", "--format", "jsonl")[
        1
    ].splitlines()
    assert [json.loads(line)["id"] for line in lines] == [int(row["id"]) for row in rows]
    assert outcome(capsys, "search", str(made), "--queries", str(manifest))[1].startswith("query ")


def test_search_writes_parquet(made: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "hits.parquet"
    arguments = ("search", str(made), "--id", "5", "--format", "parquet", "--output", str(out))
    assert outcome(capsys, *arguments) == (0, "", "")
    with embedx.open(made) as collection:
        pd.testing.assert_frame_equal(
            pd.read_parquet(out), collection.search(id=5).to_pandas(), check_dtype=False, rtol=0, atol=0
        )
    assert outcome(capsys, *arguments, "--where", "id < 0") == (0, "", "")
    assert list(pd.read_parquet(out).columns) == ["id", "score", "path", "start_s", "end_s", "label"]
    assert os.listdir(tmp_path) == ["hits.parquet"]
    piped = subprocess.run([*COMMAND, *arguments[:-2]], capture_output=True, check=True).stdout
    assert len(pd.read_parquet(io.BytesIO(piped))) == 10
    main, terminal = pty.openpty()
    done = subprocess.run([*COMMAND, *arguments[:-2]], stdout=terminal, stderr=subprocess.PIPE, check=False)
    os.close(terminal)
    os.close(main)
    assert done.returncode == 2
    assert b"cannot be printed on a terminal" in done.stderr


def test_search_parquet_holds_mixed_metadata_and_any_names(
    tmp_path: Path, write_wav: WriteWav, capsys: Capture
) -> None:
    paths = [str(write_wav(os.fsdecode(name))) for name in (b"0.wav", b"1.wav", b"\xff.wav")]
    frame = pd.DataFrame({"path": pd.Series(paths, dtype=object), "score": [1, 2, 3], "mixed": [1, "a", None]})
    frame["list"] = pd.Series([[1], [2, 3], None], dtype=object)
    embedx.extract(frame, out=tmp_path / "c").close()
    out = str(tmp_path / "hits.parquet")
    assert (
        outcome(
            capsys, "search", str(tmp_path / "c"), "--id", "1", "--include-self", "--format", "parquet", "--output", out
        )[0]
        == 0
    )
    found = pd.read_parquet(out).set_index("id").sort_index()
    assert found["score_"].tolist() == [1, 2, 3]
    assert found["mixed"].tolist()[:2] == ["1", '"a"']
    assert found["path"].iloc[2].endswith("\\xff.wav")


def test_search_writes_audacity_labels_per_recording(made: Path, query: str, tmp_path: Path, capsys: Capture) -> None:
    search = ("search", str(made), query, "-k", "3", "--format", "audacity")
    with embedx.open(made) as collection:
        hits = collection.search(query, k=3)
    lines = [
        f"{hit.start_s:.6f}\t{hit.end_s:.6f}\t{hit.score:.4f} {hit.label} {os.path.basename(hit.path)}" for hit in hits
    ]
    for output in ([], ["--output", str(tmp_path / "labels.txt")]):
        code, _, log = outcome(capsys, *search, *output)
        assert (code, "there are 3. Use --output FOLDER/" in log) == (2, True)
    assert outcome(capsys, *search, "--output", f"{tmp_path / 'labels'}/")[0] == 0
    files = sorted((tmp_path / "labels").iterdir())
    assert [file.read_text().rstrip("\n") for file in files] == lines
    one = (*search[:3], "-k", "1", "--format", "audacity")
    assert outcome(capsys, *one)[1].splitlines() == lines[:1]
    assert outcome(capsys, *one, "--output", str(tmp_path / "one.txt"))[0] == 0
    assert (tmp_path / "one.txt").read_text().splitlines() == lines[:1]


def test_search_writes_raven_selection_table(made: Path, query: str, capsys: Capture) -> None:
    text = outcome(capsys, "search", str(made), query, "-k", "3", "--format", "raven")[1]
    table = pd.read_csv(io.StringIO(text), sep="\t")
    assert list(table.columns)[:9] == [
        *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
        *("Low Freq (Hz)", "High Freq (Hz)", "Begin Path", "File Offset (s)"),
    ]
    assert table["Selection"].tolist() == [1, 2, 3]
    assert table["Channel"].tolist() == [1, 1, 1]
    assert set(table["High Freq (Hz)"]) == {8000.0}
    with embedx.open(made) as collection:
        hits = collection.search(query, k=3).to_pandas()
    assert table["id"].tolist() == hits["id"].tolist()
    assert table["Begin Path"].tolist() == hits["path"].tolist()
    np.testing.assert_allclose(table["File Offset (s)"], hits["start_s"], atol=1e-6)
    np.testing.assert_allclose(table["End Time (s)"], hits["end_s"], atol=1e-6)


def test_search_output_file_is_written_whole_or_not_at_all(made: Path, tmp_path: Path, capsys: Capture) -> None:
    arguments = ("search", str(made), "--id", "5", "--output")
    code, _, log = outcome(capsys, *arguments, str(tmp_path / "missing" / "hits.txt"))
    assert (code, f"There is no folder {tmp_path / 'missing'}." in log) == (2, True)
    code, _, log = outcome(capsys, *arguments, str(tmp_path))
    assert (code, f"{tmp_path} is a folder" in log) == (2, True)
    assert outcome(capsys, *arguments, "/dev/null") == (0, "", "")
    assert not Path("/dev/null").is_file()
    assert os.listdir(tmp_path) == []


def test_search_saves_clips_and_names_missing_files(tmp_path: Path, write_wav: WriteWav, capsys: Capture) -> None:
    paths = [write_wav(f"in/{name}.wav") for name in "abc"]
    collection, clips = str(tmp_path / "c"), tmp_path / "clips"
    embedx.extract(tmp_path / "in", out=collection).close()
    paths[1].unlink()
    code, _, log = outcome(capsys, "search", collection, "--id", "1", "--include-self", "--save-clips", str(clips))
    assert code == 3
    assert "2 clips saved" in log
    assert "b.wav" in log
    assert sorted(one.name.split("_")[2] for one in clips.iterdir()) == ["a", "c"]
    queries = ("--queries", str(tmp_path / "in"), "-k", "1", "--save-clips", str(tmp_path / "many"))
    assert outcome(capsys, "search", collection, *queries)[0] == 0
    assert sorted(one.name for one in (tmp_path / "many").iterdir()) == ["0001_a", "0002_c"]


def test_exported_csv_has_relative_paths_and_json_lines_full_ones(made: Path, tmp_path: Path, capsys: Capture) -> None:
    paths = embedx.open(made).rows()["path"].tolist()
    for options, expected in (((), ["/".join(path.split("/")[-2:]) for path in paths]), (("--absolute-paths",), paths)):
        outcome(capsys, "export", str(made), "-o", str(tmp_path / "a.csv"), "--overwrite", *options)
        assert pd.read_csv(tmp_path / "a.csv")["path"].tolist() == expected
        outcome(capsys, "export", str(made), "-o", str(tmp_path / "a.jsonl"), "--overwrite", *options)
        assert pd.read_json(tmp_path / "a.jsonl", lines=True)["path"].tolist() == paths


@pytest.fixture(scope="module")
def halves(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two collections, each with some recordings of the corpus, as absolute paths."""
    table = pd.read_csv(manifest)
    table["path"] = [str(manifest.parent / path) for path in table["path"]]
    folder = tmp_path_factory.mktemp("halves")
    for name, part in (("north", table.head(4)), ("south", table.iloc[4:8])):
        embedx.extract(part, out=folder / name).close()
    return [folder / "north", folder / "south"]


@pytest.mark.parametrize(
    "form", ["table", "json", *(pytest.param(form, marks=pytest.mark.long) for form in ("jsonl", "csv", "raven"))]
)
def test_search_of_several_collections_names_them(form: str, halves: list[Path], capsys: Capture) -> None:
    with embedx.open(halves) as both:
        path = both.collections[1].rows()["path"].iloc[0]
        expected = [(hit.collection, hit.id) for hit in both.search(path, k=3)]
    code, text, _ = outcome(capsys, "search", *halves, path, "-k", "3", "--format", form)
    assert code == 0
    assert expected[0] == (str(halves[1]), 1)
    if form == "json":
        assert [(hit["collection"], hit["id"]) for hit in json.loads(text)] == expected
    assert sum(text.count(str(folder)) for folder in halves) == 3


def test_search_of_several_collections_takes_every_query(halves: list[Path], tmp_path: Path, capsys: Capture) -> None:
    with embedx.open(halves) as both:
        path = both.collections[0].rows()["path"].iloc[1]
        np.save(tmp_path / "v.npy", both.collections[0].vectors(ids=[2])[0])
        pd.DataFrame({"path": [path]}).to_csv(tmp_path / "q.csv", index=False)
    queries: list[tuple[object, ...]] = [
        (path,),
        ("--vector", tmp_path / "v.npy"),
        ("--id", f"{halves[0]}:2", "--include-self"),
        ("--like", "north:2", "--include-self"),
        ("--queries", tmp_path / "q.csv"),
    ]
    for query in queries:
        code, text, error = outcome(capsys, "search", *halves, *query, "-k", "1", "--format", "json")
        assert code == 0, error
        (hit,) = json.loads(text)
        assert (hit["collection"], hit["id"]) == (str(halves[0]), 2)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["north", "south"], "south is a collection. Give a query after it"),
        (["north"], "exactly one query"),
        (["north", "south", "--id", "1"], "a row is COLLECTION:ID, such as north:17"),
        (["north", "--id", "north:1"], "id= is the number of a row"),
        (["north", "nowhere", "--id", "north:1"], "There is no collection in nowhere"),
        (["north", "south", "a.wav", "--id", "north:1"], "exactly one query"),
        (["north", "south", "a.wav", "--queries", "a.wav"], "--queries and QUERY cannot be used together"),
        (["north", "http://127.0.0.1:1/x", "a.wav"], "http://127.0.0.1:1/x cannot be searched together"),
        (["north", "north/../north", "a.wav"], "are one collection"),
        (["north", "other", "a.wav"], "different recipes and cannot be used together (poolings: "),
    ],
)
def test_search_of_several_collections_explains_what_is_wrong(
    arguments: list[str], problem: str, halves: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(halves[0].parent)
    with embedx.open("north") as north:
        sound = north.rows()["path"].iloc[0]
        if "other" in arguments:
            embedx.extract(sound, out="other", pooling="max").close()
    Path("a.wav").write_bytes(Path(sound).read_bytes())
    code, _, error = outcome(capsys, "search", *arguments)
    assert code != 0
    assert problem in error
