"""Odd tables: what spreadsheets, scripts and other people write, each with its right reading or its refusal.

The files a.wav, b.wav, 007.wav and Krähe.wav lie next to a table.
"""

import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FILES = ("a.wav", "b.wav", "007.wav", "Krähe.wav")
AB = [("a.wav", "dog"), ("b.wav", "cat")]  # the usual reading
Rows = Sequence[tuple[str, str | None]]  # file and label


@dataclass(frozen=True)
class OddTable:
    """A table and what has to become of it.

    Attributes:
        name: the name of the file.
        data: its bytes.
        rows: file and label of each row; None if the table is refused.
        message: a regular expression that the refusal matches.
        meta: metadata of the first row, in part.
        code: the exit code of `extract`.
    """

    name: str
    data: bytes
    rows: Rows | None = None
    message: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    code: int = 0


def parquet(columns: dict[str, list[Any]], types: dict[str, pa.DataType] | None = None) -> bytes:
    file = io.BytesIO()
    arrays = [pa.array(values, (types or {}).get(name)) for name, values in columns.items()]
    pq.write_table(pa.table(arrays, names=list(columns)), file)
    return file.getvalue()


def hugging_face(columns: dict[str, list[Any]], **classes: list[str]) -> bytes:
    """Return a table whose whole numbers stand for classes, as `datasets` writes it."""
    features = {column: {"names": names, "_type": "ClassLabel"} for column, names in classes.items()}
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def arrow_file() -> bytes:
    file = io.BytesIO()
    table = pa.table({"path": ["a.wav"], "label": ["dog"]})
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def text(*lines: str, encoding: str = "utf-8", end: str = "\n") -> bytes:
    return "".join(line + end for line in lines).encode(encoding)


def good(name: str, data: bytes, rows: Rows | None = None, **meta: Any) -> OddTable:
    return OddTable(name, data, AB if rows is None else rows, meta=meta)


def bad(name: str, data: bytes, message: str, code: int = 2) -> OddTable:
    return OddTable(name, data, message=message, code=code)


PLAIN = ("path,label", "a.wav,dog", "b.wav,cat")
SEMICOLONS = tuple(line.replace(",", ";") for line in PLAIN)
UMLAUT = ("path,label", "Krähe.wav,Krähe")
CROW: Rows = [("Krähe.wav", "Krähe")]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

ODD_TABLES = [
    # cells and columns
    good("trailing_comma.csv", text("path,label", "a.wav,dog,", "b.wav,cat,")),
    good("trailing_commas_everywhere.csv", text("path,label,,", "a.wav,dog,,", "b.wav,cat,,")),
    good("trailing_comma_in_one_row.csv", text("path,label", "a.wav,dog", "b.wav,cat,")),
    bad("row_names_without_header.csv", text("path,label", "1,a.wav,dog", "2,b.wav,cat"), "Line 2 .*3 cells.*1 more"),
    bad("fewer_cells.csv", text("path,label,site", "a.wav,dog,x", "b.wav,cat"), "Line 3 .*2 cells.*3 columns"),
    bad("more_cells.csv", text("path,label", "a.wav,dog,1"), r"Line 2 .*3 cells.*2 columns \(path, label\)"),
    bad("comma_in_path.csv", text("path", "a,b.wav"), "Line 2 .*2 cells.*in quotes"),
    bad("double_column.csv", text("path,label,label", "a.wav,dog,cat"), r"several .*'label' \(columns 2 and 3\)"),
    good("id_and_id_.csv", text("path,label,id,id_", "a.wav,dog,7,70", "b.wav,cat,8,80"), id__=7, id_=70),
    good("case.csv", text("path,label,Site,site", "a.wav,dog,n,1", "b.wav,cat,s,2"), Site="n", site=1),
    good("index_column.csv", text(",path,label", "0,a.wav,dog", "1,b.wav,cat")),
    good("padded.csv", text("path, label", "a.wav, dog", "b.wav, cat")),
    good("padded_paths.csv", text("path,label", " a.wav,dog", "b.wav ,cat")),
    bad("no_path.csv", text("clip,label", "a.wav,dog"), r"no_path\.csv has no column with paths.*columns: clip, label"),
    bad("no_header.csv", text("x.wav,dog", "y.wav,cat"), "no column with paths.*x.wav, dog.*not a header"),
    good("two_path_columns.csv", text("file,path,label", "x,a.wav,dog", "y,b.wav,cat"), file="x"),
    # the same clip
    bad("two_labels.csv", text("path,label", "a.wav,dog", "a.wav,cat"), "1 conflict.*'dog'.*Line 2.*'cat'.*Line 3"),
    bad("two_sites.csv", text("path,site", "a.wav,x", "./a.wav,y"), "1 conflict.*site is 'x'.*'y'"),
    good("same_row_twice.csv", text(*PLAIN, "a.wav,dog")),
    good("second_row_adds.csv", text("path,label,site", "a.wav,dog,", "b.wav,cat,", "a.wav,,x"), site="x"),
    # text stays text
    good("text.csv", text("path,label", "007.wav,007", "a.wav,1e5"), [("007.wav", "007"), ("a.wav", "1e5")]),
    good("missing_words.csv", text("path,label", "a.wav,NA", "b.wav,null"), [("a.wav", "NA"), ("b.wav", "null")]),
    good("truth.csv", text("path,label", "a.wav,True", "b.wav,nan"), [("a.wav", "True"), ("b.wav", "nan")]),
    good("decimals.csv", text("path,label", "a.wav,2.50", "b.wav,1.0"), [("a.wav", "2.50"), ("b.wav", "1.0")]),
    OddTable("number_paths.csv", text("filename,label", "1,dog", "2,cat"), [("1", "dog"), ("2", "cat")], code=3),
    bad("number_path.jsonl", text('{"path": 1}'), "Line 1 .*column path: 1 is not a path.*as text"),
    bad("number_path.parquet", parquet({"path": [1, 2]}), "Row 1 .*column path: 1 is not a path"),
    bad("list_path.jsonl", text('{"path": ["a.wav"]}'), r"column path: \['a.wav'\] is not a path"),
    bad("list_label.jsonl", text('{"path": "a.wav", "label": ["a", "b"]}'), "Line 1 .*column label.*is not text"),
    good("integers_with_gaps.parquet", parquet({"path": ["a.wav", "b.wav"], "label": [7, None]}),
         [("a.wav", "7"), ("b.wav", None)]),
    # times
    bad("end_before_start.csv", text("path,start_s,end_s", "a.wav,2,1"), "Line 2 .*1 s.*not after the start.*2 s"),
    bad("no_length.csv", text("path,start,end", "a.wav,1,1"), "Line 2 .*not after the start"),
    bad("negative.csv", text("path,start_s", "a.wav,-1"), "Line 2 .*column start_s: .*not a time"),
    bad("nan_time.csv", text("path,start_s", "a.wav,nan"), "column start_s: 'nan' is not a time"),
    bad("infinite.jsonl", text('{"path": "a.wav", "end_s": Infinity}'), "Line 1 .*column end_s: inf is not a time"),
    bad("clock.csv", text("path,start_s", "a.wav,00:01:30"), "'00:01:30' is not a time"),
    bad("decimal_comma.csv", text("path;start_s", "a.wav;0,5"), "'0,5' is not a time.*decimal point"),
    bad("list_time.jsonl", text('{"path": "a.wav", "start_s": [1]}'), r"column start_s: \[1\] is not a time"),
    bad("true_time.jsonl", text('{"path": "a.wav", "start_s": true}'), "column start_s: True is not a time"),
    bad("huge_time.jsonl", text('{"path": "a.wav", "start_s": 1' + "0" * 400 + "}"), "column start_s: 10.* not a time"),
    OddTable("beyond_the_end.csv", text("path,start_s,label", "a.wav,1e9,dog"), [("a.wav", "dog")], code=3),
    # JSON
    bad("deep.jsonl", text('{"path": "a.wav", "x": ' + "[" * 100_000), "Line 1 .*nested deeper"),
    bad("nested.jsonl", text('{"path": "a.wav", "x": ' + "[" * 200 + "]" * 200 + "}"), "column x.*deeper than 100"),
    bad("key_twice.jsonl", text('{"path": "a.wav", "label": "dog", "label": "cat"}'), "the key 'label' is there twice"),
    bad("array.jsonl", text('[{"path": "a.wav"}]'), "JSON array"),
    bad("array.json", text('[{"path": "a.wav"}]'), "JSON array.*one object per line"),
    bad("line_is_list.jsonl", text('{"path": "a.wav"}', "[1]"), "Line 2 .*not an object"),
    good("big_number.jsonl", text('{"path": "a.wav", "label": "dog", "n": 36893488147419103232}'), AB[:1], n=2**65),
    bad("long_number.jsonl", text('{"path": "a.wav", "n": ' + "9" * 5000 + "}"), "Line 1 .*4300 digits.*as text"),
    good("nan.jsonl", text('{"path": "a.wav", "label": NaN, "n": Infinity}'), [("a.wav", None)], n=None),
    bad("surrogate.jsonl", text('{"path": "a.wav", "label": "\\ud800"}'), "column label.*both halves"),
    bad("nul_in_path.jsonl", text('{"path": "a\\u0000.wav"}'), "column path: the path has a NUL byte"),
    # separators
    good("semicolons.csv", text(*SEMICOLONS)),
    good("tabs.csv", text(*(line.replace(",", "\t") for line in PLAIN))),
    good("bars.csv", text(*(line.replace(",", "|") for line in PLAIN))),
    good("comma_in_a_name.csv", text("path;label;note, more", "a.wav;dog;x,y", "b.wav;cat;z")),
    good("semicolon_in_a_cell.csv", text("path,label,note", "a.wav,dog,x;y;z", "b.wav,cat,"), note="x;y;z"),
    good("quoted.csv", text('"path","label"', '"a.wav","dog"', '"b.wav","cat"')),
    # encodings and ends of lines
    good("mark.csv", b"\xef\xbb\xbf" + text(*PLAIN)),
    good("crlf.csv", text(*PLAIN, end="\r\n")),
    good("cr.csv", text(*PLAIN, end="\r")),
    good("cr.jsonl", text('{"path": "a.wav", "label": "dog"}', '{"path": "b.wav", "label": "cat"}', end="\r")),
    good("utf16.csv", text(*UMLAUT).decode().encode("utf-16"), CROW),
    good("utf16_le.csv", text(*UMLAUT, encoding="utf-16-le"), CROW),
    good("utf16_be.tsv", text(*(line.replace(",", "\t") for line in UMLAUT), encoding="utf-16-be"), CROW),
    good("utf16.jsonl", '{"path": "Krähe.wav", "label": "Krähe"}'.encode("utf-16"), CROW),
    good("utf8.csv", text(*UMLAUT), CROW),
    bad("latin1.csv", text(*UMLAUT, encoding="latin-1"), "Line 2 .*column path: .*not UTF-8.*0xe4.*iconv"),
    bad("latin1_label.csv", text("path;label", "a.wav;Krähe", encoding="cp1252"), "Line 2 .*column label: .*not UTF-8"),
    bad("half_utf16.csv", text(*PLAIN).decode().encode("utf-16") + b"x", "UTF-16"),
    bad("nul.csv", text("path,label", "a.wav,d\0og"), "Line 2 .*NUL byte"),
    # quotes
    bad("open_quote.csv", text('path,label', '"a.wav,dog', "b.wav,cat"), "line 2 .*quote that is not closed"),
    bad("long_open_quote.csv", text("path,label", '"' + "x" * 3_000_000), "line 2 .*quote that is not closed"),
    bad("open_quote_in_header.csv", text('path,"label', "a.wav,dog"), "begins in line 1 .*quote that is not closed"),
    good("inches.csv", text("path,label", 'a.wav,5" pipe', "b.wav,cat"), [("a.wav", '5" pipe'), ("b.wav", "cat")]),
    # files of other kinds
    bad("empty.csv", b"", "empty.csv is empty"),
    bad("blank.csv", b"\xef\xbb\xbf \r\n\n", "blank.csv is empty"),
    bad("header_only.csv", text("path,label"), r"header \(1\)\.$", code=8),
    bad("header_without_path.csv", text("clip,label"), "no column with paths"),
    bad("excel.xlsx", b"PK\x03\x04....xl/workbook.xml", r"Excel.*CSV \(UTF-8\)"),
    bad("excel.csv", b"PK\x03\x04....xl/workbook.xml", r"Excel.*CSV \(UTF-8\)"),
    bad("old.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel"),
    bad("zipped.csv.gz", gzip.compress(text(*PLAIN)), "compressed.*gunzip"),
    bad("packed.csv.zst", b"\x28\xb5\x2f\xfd\x04\x00", "compressed.*unzstd"),
    bad("table.arrow", arrow_file(), "Arrow.*Parquet"),
    bad("cut.parquet", parquet({"path": ["a.wav"]})[:-9], "cannot be read as a table"),
    # Hugging Face
    good("audio_paths.parquet", parquet({"audio": [{"bytes": None, "path": "a.wav"}, {"bytes": None, "path": "b.wav"}],
                                         "label": ["dog", "cat"]}, {"audio": STRUCT})),
    good("classes.parquet", hugging_face({"path": ["a.wav", "b.wav"], "label": [1, 0]}, label=["cat", "dog"])),
    good("no_class.parquet", hugging_face({"path": ["a.wav", "b.wav"], "label": [1, -1]}, label=["cat", "dog"]),
         [("a.wav", "dog"), ("b.wav", None)]),
    bad("bytes.parquet", parquet({"path": ["a.wav"], "spectrum": [b"\xff\x00"]}), "column spectrum.*as text"),
    good("far_time.parquet", parquet({"path": ["a.wav"], "label": ["dog"], "t": [2**60]}, {"t": pa.timestamp("us")}),
         AB[:1]),
    good("audio_object.jsonl", text(json.dumps({"audio": {"path": "a.wav", "bytes": None}, "label": "dog"})), AB[:1]),
    bad("audio_array.jsonl", text('{"audio": {"array": [0.1]}}'), "column audio: it is an object without a path"),
]  # fmt: skip
