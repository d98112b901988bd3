"""Files as others write them: encodings, decimal commas, numbers and dates as text, a pipe that pauses."""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from streammeta.app.kind import choose_kind
from streammeta.commands.init import draft
from streammeta.config import Settings
from streammeta.errors import ConfigError
from streammeta.event import Decoder, Event, Origin, Record
from tests.formats.test_files import ROWS, read

AT = Origin("t", 0, 0)
FLAT = "JSON objects without `x`: their fields beside task, y, id and ts are features"
LINES = '{"task": "t", "größe": 1.5, "y": 0}\n{"task": "t", "größe": 2, "y": 1}\n'
CELLS = "task,größe,y\nt,1.5,0\nt,2,1\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "mac.csv"])
def test_one_rule_finds_the_encoding_of_rows_and_of_objects(name: str, encoding: str, tmp_path: Path) -> None:
    """Objects in UTF-16 without a mark, or in Windows-1252, were refused line by line; UTF-32 was taken for UTF-16."""
    content = CELLS.replace("\n", "\r") if name == "mac.csv" else CELLS if name == "a.csv" else LINES
    (tmp_path / name).write_bytes(content.encode(encoding))

    rows, said = read(tmp_path / name)

    wanted = [({"größe": x["a"]}, task, y) for x, task, y in ROWS]
    assert rows == wanted
    assert said == ", ".join([f"encoding {encoding}", *([FLAT] if name == "a.jsonl" else [])])


def test_bytes_of_another_code_page_are_refused_by_what_they_are_not(tmp_path: Path) -> None:
    """Shift-JIS was refused as "not UTF-8", after it was said that it is read as Windows-1252; `init` said "no JSON"."""
    (tmp_path / "a.csv").write_bytes("値段,y\n1.5,赤\n2,青\n".encode("shift-jis"))
    why = "the row has bytes that are not cp1252; wanted a file that is saved as UTF-8"

    rows, said = read(tmp_path / "a.csv")

    assert said == "encoding cp1252"
    assert [why in row for row in rows] == [True, True]
    with pytest.raises(ConfigError, match=f"none of 2 records that can be read, as a.csv/0/0: {why}"):
        draft(str(tmp_path / "a.csv"), Settings(), fixed={})


def test_a_decimal_comma_before_three_digits_is_known_by_the_zero_before_it(tmp_path: Path) -> None:
    """Of "1,288" and "0,078" the one became 1288, and the other a category."""
    (tmp_path / "a.csv").write_text('a,y\n"1,288",0\n"0,078",1\n"-1,128",0\n')
    (tmp_path / "b.csv").write_text('a,y\n"1,288",0\n"12,078",1\n')

    commas, said = read(tmp_path / "a.csv")
    thousands, _ = read(tmp_path / "b.csv")

    assert said == "decimal commas"
    assert [x["a"] for x, _, _ in commas] == [1.288, 0.078, -1.128]
    assert [x["a"] for x, _, _ in thousands] == [1288.0, 12078.0]


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\f", "\x1c"])
def test_what_ends_a_line_for_python_alone_ends_no_row(odd: str, tmp_path: Path) -> None:
    """One such sign in a note, as Word and web pages have them, and a column of dates was one of categories."""
    rows = "".join(f"2024-01-{10 + i},one{odd if i == 3 else ' '}two,{i % 2}\n" for i in range(8))
    (tmp_path / "a.csv").write_text("day,note,y\n" + rows, "utf-8")

    found, said = read(tmp_path / "a.csv")

    assert said == "times in day"
    assert found[3] == ({"day": 1705104000.0, "note": f"one{odd}two"}, "", 1)


def test_texts_of_a_table_are_dates_and_numbers_as_those_of_rows_and_objects_are(tmp_path: Path) -> None:
    """Spark writes Parquet of texts only: each day and each price was a category of its own."""
    columns = {"day": ["2024-01-31", "2024-02-01", None], "price": ["1.5", "-2", "3"], "code": ["007", "8", "9"]}
    pyarrow.parquet.write_table(pa.table({**columns, "y": ["0.5", "1", "2"]}), tmp_path / "a.parquet")

    rows, said = read(tmp_path / "a.parquet")

    assert said == "times in day, numbers written as text in price, y"
    assert rows[0] == ({"day": 1706659200.0, "price": 1.5, "code": "007"}, "", 0.5)
    assert rows[2] == ({"day": None, "price": 3.0, "code": "9"}, "", 2)


def test_a_pipe_that_pauses_after_its_header_is_read_as_the_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that writes its header at once and its rows later was refused: "of a kind not known"."""
    source, target = os.pipe()

    def write() -> None:
        with os.fdopen(target, "wb", buffering=0) as pipe:
            pipe.write(b"task;a;y\n")
            time.sleep(0.2)
            pipe.write(b"t;1,5;0\nt;2;1\n")

    writer = threading.Thread(target=write)
    with os.fdopen(source) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        writer.start()
        rows, said = read("-")
    writer.join()

    assert rows == ROWS
    assert said == "taken for csv by what it begins with, columns separated by semicolons, decimal commas"


@pytest.mark.parametrize("name", ["customer_id", "cc_num", "ref"])
def test_digits_as_text_are_a_time_only_where_their_name_says_so(name: str, tmp_path: Path) -> None:
    """A customer's number was taken for a time (in 1992), and the customers were no tasks."""
    objects = [{name: str(700012340 + i % 10), "day": f"202401{10 + i % 9}", "y": i % 2} for i in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in objects))

    made = draft(str(tmp_path / "a.jsonl"), Settings(), fixed={}).toml

    assert f'task = "{name}"' in made
    assert 'time = "day"' in made


def test_a_number_too_large_for_a_float_is_shown_and_refused_by_what_it_is(tmp_path: Path) -> None:
    """`init` ended with an OverflowError, and showed what a file has as inf with the largest float's digits."""
    (tmp_path / "a.jsonl").write_text(f'{{"a": {10**400}, "b": Infinity, "y": 1}}\n' * 3)

    lines = draft(str(tmp_path / "a.jsonl"), Settings(), fixed={}).lines

    assert "a  whole number, 1 values: a whole number of 1329 bits" in lines
    assert "b  whole number, 1 values: inf" in lines


@pytest.mark.parametrize("y", [2**53, 2**53 + 1, -(2**53) - 1, 2**60, float(2**53)])
def test_classes_beyond_what_a_float_keeps_apart_are_no_classes_and_that_is_said(y: Any) -> None:
    """2^53 + 1 was learned as the class 2^53; larger ones were a target, as they were "not a whole number"."""
    event = Decoder().decode(Record(json.dumps({"x": {}, "y": y}).encode(), AT))
    assert isinstance(event, Event)
    assert isinstance(event.y, float), "the engine refuses it as a class"

    chosen = choose_kind([Record(json.dumps({"x": {}, "y": y}).encode(), AT)] * 3)

    assert chosen.kind == "regression"
    assert "is 2^53 or beyond, where numbers share floats: classes want text" in chosen.reason
