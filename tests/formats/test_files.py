"""Small files as people have them, each with what is expected of it, or the exact reason why not."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from streammeta.errors import EventError, TransportError
from streammeta.event import Decoder, Event
from streammeta.formats.names import Names, reshape
from streammeta.transport.file import FileSource

PLAIN = "task,a,y\nt,1.5,0\nt,2,1\n"
ROWS = [({"a": 1.5}, "t", 0), ({"a": 2.0}, "t", 1)]
COMMAS = "task;a;y\nt;1,5;0\nt;1.002,25;1\n"


def read(path: Path, names: Names | None = None) -> tuple[list[Any], str]:
    """Each row as (features, task, label), or its reason; and how the file was said to be written."""
    source, decoder, found = FileSource(path, names=names), Decoder(), list[Any]()
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
            "short.csv",
            "a,y\n1\n2,1\n",
            [
                "short.csv/0/0: neither an event nor a late label; wanted `x` (an event without features has an empty "
                "one), `y`, or `id` and `y`",
                ({"a": 2.0}, "", 1),
            ],
            "",
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
    ("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "a.parquet",
            r"is no text; read it into a data frame: streammeta.replay\(pandas.read_parquet\('a.parquet'\)\)",
        ),
        ("a.feather", r"pandas.read_feather\('a.feather'\)"),
        ("a.xlsx", r"pandas.read_excel\('a.xlsx'\)"),
        ("a.csv.zst", r"wanted .gz, .bz2 or .xz"),
        ("a.dat", r"of a kind not known; wanted .csv, .tsv, .jsonl, .ndjson, .json, each also with .gz, .bz2 or .xz"),
        ("noext", "of a kind not known"),
    ],
)
def test_a_file_that_is_not_read_says_what_to_do(name: str, message: str, tmp_path: Path) -> None:
    """Who has a Parquet file has a way in, and is told it."""
    (tmp_path / name).write_bytes(b"x")

    with pytest.raises(TransportError, match=message):
        FileSource(tmp_path / name)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
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

    source = FileSource(tmp_path / "a.csv", names=Names(task="store_id", label="sold", time="at"))
    event = Decoder().decode(source.poll(1, 0)[0])
    source.close()

    assert isinstance(event, Event)
    assert (event.x, event.task, event.y, event.ts) == ({"price": 1.5}, "7", 0, 1704067200.0)


def test_a_name_that_is_no_column_is_refused_with_those_there_are(tmp_path: Path) -> None:
    """A misspelt label would be a stream without labels."""
    (tmp_path / "a.csv").write_text("a,sold\n1,0\n")

    with (
        closing(FileSource(tmp_path / "a.csv", names=Names(label="slod"))) as source,
        pytest.raises(TransportError, match="no column 'slod' for --label; the header row has a, sold"),
    ):
        source.poll(1, 0)


@pytest.mark.parametrize(
    ("given", "names", "wanted"),
    [
        (
            {"store": {"id": 7}, "sold": True, "price": 1.5, "size": {"w": 1, "h": [2, 3]}},
            Names(task="store.id", label="sold"),
            {"task": "7", "y": 1, "x": {"price": 1.5, "size.w": 1, "size.h.0": 2, "size.h.1": 3}},
        ),
        ({"x": {"a": 1, "b": {"c": 2}}, "sold": "no"}, Names(label="sold"), {"y": "no", "x": {"a": 1, "b.c": 2}}),
        ({"a.b": 1, "c": 2}, Names(label="a.b"), {"y": 1, "x": {"c": 2}}),
        ({"a": {"b": 1}, "at": 5}, Names(label="a.b", time="at"), {"y": 1, "ts": 5, "x": {}}),
    ],
)
def test_json_of_other_names_is_read_by_paths(given: dict[str, Any], names: Names, wanted: dict[str, Any]) -> None:
    """Producers nest: a path finds the label, and what is left are features by dotted names."""
    assert json.loads(reshape(json.dumps(given).encode(), names, "here")) == wanted
