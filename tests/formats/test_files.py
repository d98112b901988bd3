"""Small files as people have them, each with what is expected of it, or the exact reason why not."""

import bz2
import gzip
import io
import json
import lzma
import sys
import zipfile
from collections.abc import Callable
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest
import zstandard

from streammeta.errors import ConfigError, EventError, TransportError
from streammeta.event import Decoder, Event
from streammeta.formats.fields import Fields
from streammeta.formats.mapping import Mapper, reshape
from streammeta.transport.file import FileSource

PLAIN = "task,a,y\nt,1.5,0\nt,2,1\n"
ROWS = [({"a": 1.5}, "t", 0), ({"a": 2.0}, "t", 1)]
COMMAS = "task;a;y\nt;1,5;0\nt;1.002,25;1\n"


def read(path: Path | str, names: Fields | None = None) -> tuple[list[Any], str]:
    """Each row as (features, task, label), or its reason; and how the file was said to be written."""
    source, decoder, found = FileSource(path, fields=names), Decoder(), list[Any]()
    while not source.exhausted:
        for record in source.poll(100, 0):
            try:
                event = decoder.decode(record)
                assert isinstance(event, Event)
                found.append((event.x, event.task, event.y))
            except EventError as err:
                found.append(str(err))
    source.close()
    return found, source.description


@pytest.mark.parametrize(
    ("name", "content", "rows", "description"),
    [
        ("a.csv", PLAIN, ROWS, ""),
        ("a.CSV", PLAIN, ROWS, ""),
        ("crlf.csv", PLAIN.replace("\n", "\r\n"), ROWS, ""),
        ("no-end.csv", PLAIN.rstrip(), ROWS, ""),
        ("quoted.csv", '"task","a","y"\n"t","1.5","0"\n"t","2","1"\n', ROWS, ""),
        ("comma-inside.csv", 'task,"a, or b",y\nt,"x, y",1\n', [({"a, or b": "x, y"}, "t", 1)], ""),
        ("newline-inside.csv", 'task,a,y\nt,"x\ny",1\n', [({"a": "x\ny"}, "t", 1)], ""),
        ("semicolon.csv", PLAIN.replace(",", ";"), ROWS, "columns separated by semicolons"),
        ("tab.csv", PLAIN.replace(",", "\t"), ROWS, "columns separated by tabs"),
        ("a.tsv", PLAIN.replace(",", "\t"), ROWS, "columns separated by tabs"),
        ("bar.csv", PLAIN.replace(",", "|"), ROWS, "columns separated by bars"),
        (
            "decimal.csv",
            COMMAS,
            [({"a": 1.5}, "t", 0), ({"a": 1002.25}, "t", 1)],
            "columns separated by semicolons, decimal commas",
        ),
        (
            "negative.csv",
            "a;y\n-1,5;0,5\n",
            [({"a": -1.5}, "", 0.5)],
            "columns separated by semicolons, decimal commas",
        ),
        (
            "thousands.csv",
            "a;y\n1.234;0,5\n",
            [({"a": 1234.0}, "", 0.5)],
            "columns separated by semicolons, decimal commas",
        ),
        ("points.csv", "a;b;y\n1.5;1,2;0\n", [({"a": 1.5, "b": "1,2"}, "", 0)], "columns separated by semicolons"),
        (
            "header-comma.csv",
            '"price, EUR";b;y\n1;2;0\n',
            [({"price, EUR": 1.0, "b": 2.0}, "", 0)],
            "columns separated by semicolons",
        ),
        ("bom.csv", "\ufeff" + PLAIN, ROWS, ""),
        ("one-column.csv", "y\n1\n", [({}, "", 1)], ""),
        (
            "index.csv",
            ",task,a,y\n0,t,1.5,0\n1,t,2,1\n",
            ROWS,
            "the first column, which has no name and counts rows, left out",
        ),
        ("no-index.csv", ",y\n5,0\n9,1\n", [({"column_0": 5.0}, "", 0), ({"column_0": 9.0}, "", 1)], ""),
        *(
            (f"missing-{i}.csv", f"a,b,y\n{marker},1,0\n", [({"a": None, "b": 1.0}, "", 0)], "")
            for i, marker in enumerate(
                ("", "NA", "N/A", "#N/A", "<NA>", "null", "NULL", "NaN", "-", "?", "None", "NaT", "\\N")
            )
        ),
        ("missing-label.csv", "a,y\n1,?\n", [({"a": 1.0}, "", None)], ""),
        (
            "codes.csv",
            "a,y\n1,01\n1,1\n1,007\n1,0\n1,-0.5\n1,1.0\n",
            [({"a": 1.0}, "", y) for y in ("01", 1, "007", 0, -0.5, 1)],
            "",
        ),
        (
            "short.csv",
            "a,y\n1\n2,1\n",
            [
                "short.csv/0/0: 1 cells, wanted 2 as in the header",
                ({"a": 2.0}, "", 1),
            ],
            "",
        ),
        (
            "sep.csv",
            "sep=;\n" + COMMAS,
            [({"a": 1.5}, "t", 0), ({"a": 1002.25}, "t", 1)],
            "columns separated by semicolons, decimal commas, 1 line(s) before the header passed over",
        ),
        ("remark.csv", "# exported, today\n\n" + PLAIN, ROWS, "2 line(s) before the header passed over"),
        ("hash.csv", "#a,y\n1,0\n2,1\n", [({"#a": 1.0}, "", 0), ({"#a": 2.0}, "", 1)], ""),
        ("spaces.csv", 'task, a, y\nt, 1.5, 0\nt, "2", 1\n', ROWS, ""),
        (
            "money.csv",
            'a,b,y\n"$1,234.50",12.5%,0\n-$7,3 %,1\n',
            [({"a": 1234.5, "b": 12.5}, "", 0), ({"a": -7.0, "b": 3.0}, "", 1)],
            "numbers such as '$1,234.50'",
        ),
        (
            "euro.csv",
            "a;y\n1.234,50 €;0\n2,5;1\n",
            [({"a": 1234.5}, "", 0), ({"a": 2.5}, "", 1)],
            "columns separated by semicolons, decimal commas",
        ),
        (
            "dates.csv",
            "when,y\n2024-01-02,0\n?,1\n2024-01-02T00:01:00Z,1\n",
            [({"when": 1704153600.0}, "", 0), ({"when": None}, "", 1), ({"when": 1704153660.0}, "", 1)],
            "times in when",
        ),
        (
            "flat.jsonl",
            '{"a": 1.5, "task": "t", "y": 0}\n{"a": 2, "task": "t", "y": 1}\n',
            ROWS,
            "JSON objects without `x`: their fields beside task, y, id and ts are features",
        ),
        ("bom.jsonl", '\ufeff{"x": {"a": 1}, "y": 1}\n', [({"a": 1}, "", 1)], ""),
    ],
)
def test_a_file_is_read_as_its_owner_would(
    name: str, content: str, rows: list[Any], description: str, tmp_path: Path
) -> None:
    """A wrong guess makes features of noise, or sets most rows aside, and nothing fails."""
    (tmp_path / name).write_bytes(content.encode())

    assert read(tmp_path / name) == (rows, description)


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        ("", bytes),
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", zstandard.compress),
    ],
)
@pytest.mark.parametrize(
    ("encoding", "said"),
    [("utf-8", ""), ("utf-8-sig", ""), ("utf-16", "encoding utf-16"), ("cp1252", "encoding cp1252")],
)
def test_encodings_and_packings_are_found_out(
    suffix: str, pack: Callable[[bytes], bytes], encoding: str, said: str, tmp_path: Path
) -> None:
    """A spreadsheet's export is Windows-1252 or UTF-16 as often as not."""
    text = "task,größe,y\nMünchen,1,0\nKöln,2,1\n"
    (tmp_path / f"a.csv{suffix}").write_bytes(pack(text.encode(encoding)))

    rows, description = read(tmp_path / f"a.csv{suffix}")

    assert rows == [({"größe": 1.0}, "München", 0), ({"größe": 2.0}, "Köln", 1)]
    assert description == said


def zipped(*files: tuple[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files:
            archive.writestr(name, text)
    return content.getvalue()


TEN = "".join(f"{day}/{month}/2024,{day / 2},{day % 2}\n" for day, month in [(1, 5), (2, 5), (3, 5), (14, 5)])
SECONDS = [1714521600.0 + 86400 * i for i in (0, 1, 2, 13)]  # from the first of May, 2024


@pytest.mark.parametrize(
    ("name", "content", "rows", "description"),
    [
        (
            "utf-16le.csv",
            PLAIN.replace("t,", "ä,").encode("utf-16-le"),
            [(x, "ä", y) for x, _, y in ROWS],
            "encoding utf-16-le",
        ),
        ("utf-16be.csv", PLAIN.encode("utf-16-be"), ROWS, "encoding utf-16-be"),
        ("commas.csv", b'task,a,y\nt,"1,5",0\nt,"2,0",1\n', ROWS, "decimal commas"),
        ("grouped.csv", b'a,y\n"1,500",0\n"2,000",1\n', [({"a": 1500.0}, "", 0), ({"a": 2000.0}, "", 1)], None),
        (
            "escaped.csv",
            b'task,a,y\nt,"say \\"hi, you\\"",0\nt,"b",1\n',
            [({"a": 'say "hi, you"'}, "t", 0), ({"a": "b"}, "t", 1)],
            "quotes inside of quotes after a backslash",
        ),
        ("title.csv", b"Sales of May\n\ntask,a,y\nt,1.5,0\nt,2,1\n", ROWS, "2 line(s) before the header passed over"),
        (
            "accounts.csv",
            b'a,y\n(1.50),0\n"(1,002.25)",1\n',
            [({"a": -1.5}, "", 0), ({"a": -1002.25}, "", 1)],
            "numbers such as '(1.50)'",
        ),
        (
            "swiss.csv",
            b"a;y\n1'002.50;0\n2;1\n",
            [({"a": 1002.5}, "", 0), ({"a": 2.0}, "", 1)],
            'columns separated by semicolons, numbers such as "1\'002.50"',
        ),
        (
            "french.csv",
            "a;y\n1 002,50;0\n2\u202f000;1\n".encode(),
            [({"a": 1002.5}, "", 0), ({"a": 2000.0}, "", 1)],
            "columns separated by semicolons, decimal commas",
        ),
        (
            "utc.csv",
            b"at,y\n2024-05-01 00:00:00 UTC,0\n2024-05-02 00:00:00 UTC,1\n",
            [({"at": SECONDS[0]}, "", 0), ({"at": SECONDS[1]}, "", 1)],
            "times in at",
        ),
        ("one.zip", zipped(("a.csv", PLAIN)), ROWS, None),
        ("a.csv.zip", zipped(("x/anything", PLAIN)), ROWS, ""),
        (
            "answer.json",
            b'{"data": [{"x": {"a": 1.5}, "task": "t", "y": 0}, {"x": {"a": 2}, "task": "t", "y": 1}], "next": null}',
            ROWS,
            "",
        ),
        (
            "lists.jsonl",
            b'{"of": [{"n": 1}], "y": 0}\n{"of": [{"n": 2}], "y": 1}\n',
            [({"of.0.n": 1.0}, "", 0), ({"of.0.n": 2.0}, "", 1)],
            None,
        ),
        ("after.csv", b"task,a,y\nt,1.5,0,\nt,2,1,\n", ROWS, ""),
        (
            "long.csv",
            b"a,y\n" + b"x" * 200_000 + b",1\n1.5,0\n",
            ["the row cannot be split into cells: field larger than field limit", ({"a": 1.5}, "", 0)],
            "",
        ),
        (
            "european.csv",
            ("at,a,y\n" + TEN).encode(),
            [({"at": s, "a": d / 2}, "", d % 2) for s, d in zip(SECONDS, (1, 2, 3, 14), strict=True)],
            "times in at (day, month, year)",
        ),
        (
            "american.csv",
            b"ts,a,y\n5/1/2024 4:05 PM,1,0\n5/14/2024 12:00 AM,2,1\n",
            [({"a": 1.0}, "", 0), ({"a": 2.0}, "", 1)],
            "times in ts (month, day, year)",
        ),
        ("unsure.csv", b"at,a,y\n1/2/2024,1,0\n2/1/2024,2,1\n", None, ""),
        (
            "array.json",
            b'[{"task": "t", "a": 1.5, "y": 0},\n {"task": "t", "a": 2, "y": 1}]',
            ROWS,
            "JSON objects without `x`: their fields beside task, y, id and ts are features",
        ),
        ("readme.json", b'[{"x": {"a": 1.5}, "task": "t", "y": 0}, {"x": {"a": 2}, "task": "t", "y": 1}]', ROWS, ""),
        ("pretty.json", b'{\n "x": {"a": 1.5}, "task": "t", "y": 0\n}\n{"x": {"a": 2}, "task": "t", "y": 1}', ROWS, ""),
        (
            "nan.jsonl",
            b'{"x": {"a": NaN, "b": "NaN \\" Infinity"}, "y": 0}\n{"x": {"a": -Infinity}, "y": 1}\n',
            [({"a": None, "b": 'NaN " Infinity'}, "", 0), "feature 'a' is -inf"],
            "",
        ),
        (
            "texts.jsonl",
            b'{"at": {"day": "2024-05-01"}, "a": "1.5", "zip": "12", "y": 0}\n'
            b'{"at": {"day": "2024-05-02"}, "a": "2", "zip": "13", "y": 1}\n'
            b'{"at": {"day": "no"}, "a": "high", "zip": "13", "y": 1}\n',
            None,
            "JSON objects without `x`: their fields beside task, y, id and ts are features",
        ),
        (
            "times.jsonl",
            b'{"at": {"day": "2024-05-01"}, "a": "1.5", "zip": "12", "y": 0}\n'
            b'{"at": {"day": "2024-05-02"}, "a": "2", "zip": "13", "y": 1}\n',
            [
                ({"at.day": SECONDS[0], "a": 1.5, "zip": "12"}, "", 0),
                ({"at.day": SECONDS[1], "a": 2.0, "zip": "13"}, "", 1),
            ],
            "JSON objects without `x`: their fields beside task, y, id and ts are features, times in at.day, numbers "
            "written as text in a",
        ),
    ],
)
def test_files_of_many_makers_are_read_as_meant_and_it_is_said(
    name: str, content: bytes, rows: list[Any] | None, description: str | None, tmp_path: Path
) -> None:
    """Read otherwise, each of these is a column of hundreds of categories, or a stream of dead letters."""
    (tmp_path / name).write_bytes(content)

    found, said = read(tmp_path / name)

    assert description in (said, None)
    for one, wanted in zip(found, rows or found, strict=True):
        assert wanted in one if isinstance(wanted, str) and isinstance(one, str) else one == wanted


def test_parts_that_are_empty_cost_nothing_and_are_said(tmp_path: Path) -> None:
    """Tools that write parts in parallel leave some."""
    for name, content in (("1.csv", ""), ("2.csv", PLAIN), ("3.csv", "")):
        (tmp_path / name).write_text(content)

    assert read(tmp_path) == (ROWS, "3 files, 1.csv is empty")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"x", "cannot be read as Parquet at row 0 .*; it is damaged, cut off, or of another kind"),
        ("a.feather", b"x", "cannot be read as Arrow at row 0"),
        ("a.xlsx", b"x", "cannot be read as Excel at row 0"),
        ("a.dat", b"x", "of a kind not known, and it does not begin as JSON or as rows of columns"),
        (
            "noext",
            b"\0\1\2,\n\3,\n",
            "wanted .csv, .tsv, .jsonl, .ndjson, .json, each also with .gz, .bz2, .xz, .zst, .zip, or",
        ),
        ("a.jsonl", b'["s", 1]\n["t", 2]\n', "begins as one array of objects, and cannot be read so"),
        ("a.json", b'{\n "x": {"a": 1}\n}\n{"x"', "begins as objects over several lines, and cannot be read so"),
        ("a.csv", b'{"a": 1, "y": 0}\n', "holds JSON objects, and its name says rows of columns; name it .jsonl"),
        ("a.zip", zipped(("1.csv", PLAIN), ("2.csv", PLAIN)), "holds 2 files; wanted one: unpack it into a folder"),
        ("a.csv.zip", b"PK\x03\x04", "cannot be read as .zip .*; it is damaged or cut off"),
        ("a.csv", b"", "is empty; wanted a header row and rows"),
        ("a.csv", b"1.5,0,1\n2,0,1\n", r"the first row has numbers only \(1.5, 0, 1\), and would be the names"),
        ("a.csv", b"a,a,y\n1,2,3\n", "the header row has the names a more than once"),
    ],
)
def test_a_file_that_is_not_read_says_what_to_do(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    """A misread file would be a stream of noise."""
    (tmp_path / name).write_bytes(content)

    with closing(FileSource(tmp_path / name)) as source, pytest.raises(TransportError, match=message):
        source.poll(1, 0)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_a_damaged_packed_file_is_said(suffix: str, tmp_path: Path) -> None:
    """Every packing has errors of its own."""
    (tmp_path / f"a.csv{suffix}").write_bytes(b"no such thing")

    with (
        closing(FileSource(tmp_path / f"a.csv{suffix}")) as source,
        pytest.raises(TransportError, match="cannot be read at row 0"),
    ):
        source.poll(1, 0)


def test_columns_of_other_names_are_named(tmp_path: Path) -> None:
    """`sold` and `store_id` are what columns are called."""
    (tmp_path / "a.csv").write_text("store_id;price;sold;at\n7;1,5;0;2024-01-01\n")

    source = FileSource(tmp_path / "a.csv", fields=Fields(task="store_id", label="sold", time="at"))
    event = Decoder().decode(source.poll(1, 0)[0])
    source.close()

    assert isinstance(event, Event)
    assert (event.x, event.task, event.y, event.ts) == ({"price": 1.5}, "7", 0, 1704067200.0)


def test_a_name_that_is_no_column_is_refused_with_those_there_are(tmp_path: Path) -> None:
    """A misspelt label would be a stream without labels."""
    (tmp_path / "a.csv").write_text("a,sold\n1,0\n")

    with (
        closing(FileSource(tmp_path / "a.csv", fields=Fields(label="slod"))) as source,
        pytest.raises(TransportError, match="no column 'slod' for --label; the header row has a, sold"),
    ):
        source.poll(1, 0)


@pytest.mark.parametrize(
    ("given", "names", "wanted"),
    [
        (
            {"store": {"id": 7}, "sold": True, "price": 1.5, "size": {"w": 1, "h": [2, 3]}},
            Fields(task="store.id", label="sold"),
            {"task": "7", "y": 1, "x": {"price": 1.5, "size.w": 1, "size.h.0": 2, "size.h.1": 3}},
        ),
        ({"x": {"a": 1, "b": {"c": 2}}, "sold": "no"}, Fields(label="sold"), {"y": "no", "x": {"a": 1, "b.c": 2}}),
        ({"a.b": 1, "c": 2}, Fields(label="a.b"), {"y": 1, "x": {"c": 2}}),
        ({"a": {"b": 1}, "at": 5}, Fields(label="a.b", time="at"), {"y": 1, "ts": 5, "x": {}}),
    ],
)
def test_json_of_other_names_is_read_by_paths(given: dict[str, Any], names: Fields, wanted: dict[str, Any]) -> None:
    """Producers nest: a path finds the label, and what is left are features by dotted names."""
    assert json.loads(reshape(json.dumps(given).encode(), Mapper(names), "here")) == wanted


def test_a_folder_and_a_pattern_are_one_stream_in_the_order_of_names(tmp_path: Path) -> None:
    """A stream is recorded a file a day; what is no recording lies beside it."""
    for day, value in (("2024-01-02", 2), ("2024-01-01", 1)):
        (tmp_path / f"{day}.csv").write_text(f"a,y\n{value},0\n{value},1\n")
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "2024-01-03.jsonl.gz").write_bytes(gzip.compress(b'{"x": {"a": 3}, "y": 0}\n'))

    rows, description = read(tmp_path)
    some, _ = read(tmp_path / "2024-01-0[12].csv")

    assert [x["a"] for x, _, _ in rows] == [1, 1, 2, 2, 3]
    assert description == "3 files"
    assert [x["a"] for x, _, _ in some] == [1, 1, 2, 2]
    with closing(FileSource(tmp_path)) as source:
        source.seek({(tmp_path.name, 0): 3})
        assert [record.origin.offset for record in source.poll(9, 0)] == [3, 4]
    with pytest.raises(TransportError, match="no file fits this pattern"):
        FileSource(tmp_path / "*.parquet")


@pytest.mark.parametrize(
    ("name", "content", "description"),
    [
        ("a.txt", PLAIN.encode(), "taken for csv by what it begins with"),
        ("a.data", gzip.compress(PLAIN.encode(), mtime=0), "taken for gz, csv by what it begins with"),
        (
            "data",
            PLAIN.replace(",", ";").encode(),
            "taken for csv by what it begins with, columns separated by semicolons",
        ),
        (
            "events",
            b'{"x": {"a": 1.5}, "task": "t", "y": 0}\n{"x": {"a": 2}, "task": "t", "y": 1}\n',
            "taken for jsonl by what it begins with",
        ),
    ],
)
def test_a_name_that_does_not_say_is_found_out_and_said(
    name: str, content: bytes, description: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UCI's files end in .data; a pipe has no name at all."""
    (tmp_path / name).write_bytes(content)

    assert read(tmp_path / name) == (ROWS, description)

    with (tmp_path / name).open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert read(Path("-")) == (ROWS, description)


def test_excel_and_parquet_come_as_people_save_them(tmp_path: Path) -> None:
    """Dates, failed formulas, empty rows below; pandas' index; categories, decimals and nanoseconds."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["task", "when", "a", "y", None], ["t", date(2024, 1, 2), "#DIV/0!", 0], [None] * 4, ["t", None, 2, 1]):
        sheet.append(row)
    book.save(tmp_path / "a.xlsx")
    frame = pd.DataFrame(
        {
            "kind": pd.Categorical(["p", "q"]),
            "cost": [Decimal("1.50"), None],
            "at": pd.to_datetime(["2024-01-02", None]),
            "nested": [{"b": 1}, {"b": 2}],
            "y": [0, 1],
        },
        index=pd.Index([5, 9]),
    )
    frame.to_parquet(tmp_path / "a.parquet")

    assert read(tmp_path / "a.xlsx")[0] == [
        ({"when": 1704153600.0, "a": None}, "t", 0),
        ({"when": None, "a": 2}, "t", 1),
    ]
    assert read(tmp_path / "a.parquet")[0] == [
        ({"kind": "p", "cost": 1.5, "at": 1704153600.0, "nested.b": 1}, "", 0),
        ({"kind": "q", "cost": None, "at": None, "nested.b": 2}, "", 1),
    ]


def test_a_title_over_a_sheet_is_passed_over_and_said(tmp_path: Path) -> None:
    """Taken for the header, it leaves one column, and a report of nothing."""
    book = openpyxl.Workbook()
    for row in (["Sales of May"], [], ["task", "a", "y"], ["t", 1.5, 0], ["t", 2, 1]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")

    assert read(tmp_path / "a.xlsx") == (ROWS, "2 row(s) before the header passed over")


def test_bytes_in_a_table_are_left_out_and_said(tmp_path: Path) -> None:
    """A picture beside the numbers would make a dead letter of each row."""
    frame = pd.DataFrame({"task": ["t", "t"], "a": [1.5, 2.0], "y": [0, 1], "picture": [b"\0\xff", b"\1"]})
    frame.to_parquet(tmp_path / "a.parquet")

    assert read(tmp_path / "a.parquet") == (ROWS, "left out, as bytes are no feature: picture")


def test_a_package_that_is_not_there_is_named_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ImportError names a module; a user installs a package."""
    pd.DataFrame({"y": [1]}).to_parquet(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)

    with (
        closing(FileSource(tmp_path / "a.parquet")) as source,
        pytest.raises(ConfigError, match=r"Parquet needs the package pyarrow, .* pip install 'streammeta\[files\]'"),
    ):
        source.poll(1, 0)


def test_a_pipe_of_quoted_cells_is_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commas and line breaks in a text, and pandas' index, were counted as columns: the same file by name was read."""
    text = ',task,a,note,y\n0,t,1.5,"x, and\ny",2.5\n1,t,2.5,"z",3.5\n'
    (tmp_path / "a.csv").write_text(text)
    by_name, _ = read(tmp_path / "a.csv")

    with (tmp_path / "a.csv").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert read(Path("-"))[0] == by_name
    assert [y for _, _, y in by_name] == [2.5, 3.5]
