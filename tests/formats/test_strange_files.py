"""Files that a stranger brought, of kinds that no test had: what was expected of each was written down before it ran."""

import gzip
import io
import json
import math
import zipfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

import streammeta
from streammeta.app.kind import choose_kind
from streammeta.commands.init import draft
from streammeta.config import Settings, load
from streammeta.errors import ConfigError, TransportError
from streammeta.event import Decoder, Origin, Record
from streammeta.formats.fields import Fields
from streammeta.transport.file import FileSource
from tests.formats.test_files import ROWS, read

AT = Origin("t", 0, 0)
CODES = "codes with leading zeros, which are text, in "


@pytest.mark.parametrize(
    ("cell", "point", "comma"),
    [
        ("€ 1.000,50", None, 1000.5),
        ("₹1,00,000.50", 100000.5, None),
        ("1,000.50 USD", 1000.5, None),
        ("R$ 5", 5.0, 5.0),
        ("1 234,5 zł", None, 1234.5),
        ("0,84-", None, -0.84),
        ("1.5-", -1.5, -1.5),
        ("\u22125.5", -5.5, -5.5),
        ("(1.234,50)", None, -1234.5),
        ("$.50", 0.5, 0.5),
        ("4-", "4-", "4-"),
        ("--5", "--5", "--5"),
        ("030 123 456", "030 123 456", "030 123 456"),
        ("12 kg", "12 kg", "12 kg"),
        ("1_000", "1_000", "1_000"),
    ],
)
def test_money_of_many_countries_is_a_number_and_a_grade_or_a_phone_number_is_none(
    cell: str, point: Any, comma: Any, tmp_path: Path
) -> None:
    """None here: it is not said what it becomes there, where the other mark stands before decimals."""
    for other, wanted in (("0.5", point), ("0,5", comma)):
        if wanted is not None:
            (tmp_path / "a.csv").write_text(f'a;y\n"{cell}";0\n{other};1\n')
            assert read(tmp_path / "a.csv")[0][0] == ({"a": wanted}, "", 0)


@pytest.mark.parametrize(
    ("cells", "wanted", "said"),
    [
        (["2024-W01", "2024-W02"], [1704067200.0, 1704672000.0], "times in at"),
        (["2024-01", "2024-02"], [1704067200.0, 1706745600.0], "times in at"),
        (["2024-Q1", "2024-Q3"], [1704067200.0, 1719792000.0], "times in at"),
        (["31-Jan-2024", "01-FEB-2024"], [1706659200.0, 1706745600.0], "times in at"),
        (['"Jan 31, 2024"', '"February 1, 2024 4:05 PM"'], [1706659200.0, 1706803500.0], "times in at"),
        (['"Wed, 31 Jan 2024 10:00:00 GMT"'] * 2, [1706695200.0] * 2, "times in at"),
        (["31/Jan/2024:10:00:00 +0100"] * 2, [1706691600.0] * 2, "times in at"),
        (["00:59:30", "1:00:01"], [3570.0, 3601.0], "times in at (hours, minutes, seconds)"),
        (["0 days 00:01:30", "1 days 00:00:00"], [90.0, 86400.0], "times in at (hours, minutes, seconds)"),
        (["01067", "10115"], ["01067", "10115"], CODES + "at"),
        (["05", "11"], [5.0, 11.0], ""),
        (["may 12", "june 3"], ["may 12", "june 3"], ""),
    ],
)
def test_times_durations_and_codes_are_what_they_are_in_a_frame(
    cells: list[str], wanted: list[Any], said: str, tmp_path: Path
) -> None:
    """As text each of them is a category of its own; a postal code as a number has an order that means nothing."""
    (tmp_path / "a.csv").write_text("at,y\n" + "".join(f"{cell},{i}\n" for i, cell in enumerate(cells)))

    rows, description = read(tmp_path / "a.csv")

    assert [x["at"] for x, _, _ in rows] == wanted
    assert description == said


UNITS = "time,temp,state\ns,°C,-\n0,20.5,on\n10,21,off\n20,20,on\n"
TOTAL = "a row of totals, not of data"


@pytest.mark.parametrize(
    ("content", "rows", "said"),
    [
        (
            UNITS,
            [({"time": t, "temp": c, "state": s}, "", None) for t, c, s in ((0, 20.5, "on"), (10, 21, "off"), (20, 20, "on"))],
            "a row of units after the header passed over",
        ),
        ("shop,area,y\nA,none yet,0\nB,5,1\nC,6,0\n", 3, ""),  # one that is odd is no row of units
        ("# one\n# two\ntask,a,y\nt,1.5,0\n# a break\nt,2,1\n", ROWS, "2 line(s) before the header passed over, and lines after a # below it"),
        ("task,a,y\nt,1.5,0\nt,2,1\nTotal,3.5,1\n\nmade by ERP 4.2\n", [*ROWS, TOTAL, "1 cells, wanted 3"], ""),
        ("task,a,y\nt,1.5,0\nSubtotal:,,0\nt,2,1\n", [ROWS[0], TOTAL, ROWS[1]], ""),
        ("task,a,y\nTotal,1.5,0\nTotal,2,1\nt,3,1\n", 3, ""),  # an oil company
        ("a,0.5,y\n1,2,3\n", 1, "the first row, taken for names, has 0.5: is it data?"),
        ("shop^a^y\ns^1^0\n", 1, "one column, 'shop^a^y': no comma, semicolon, tab or bar separates others"),
    ],
)  # fmt: skip
def test_what_is_beside_the_rows_is_no_event(content: str, rows: Any, said: str, tmp_path: Path) -> None:
    """A total learned as an event is the largest label of all; a row of units makes text of columns of numbers."""
    (tmp_path / "a.csv").write_text(content)

    found, description = read(tmp_path / "a.csv")

    assert description == said
    if isinstance(rows, int):
        assert [isinstance(one, tuple) for one in found] == [True] * rows
        return
    for one, wanted in zip(found, rows, strict=True):
        assert wanted in one if isinstance(wanted, str) else one == wanted


def test_a_sheet_has_units_and_totals_as_well(tmp_path: Path) -> None:
    """The total below a column is in most sheets."""
    book = openpyxl.Workbook()
    day = datetime(2024, 1, 1)  # noqa: DTZ001 a sheet's has no zone
    for row in (
        ["at", "task", "a", "y"],
        ["date", "-", "kg", "EUR"],
        *([day + timedelta(days=i), "t", i / 2, 10 + i] for i in range(3)),
        ["Summe", None, None, 33],
    ):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")

    rows, description = read(tmp_path / "a.xlsx")

    assert description == "a row of units after the header passed over"
    assert rows[:3] == [({"at": 1704067200.0 + 86400 * i, "a": i / 2}, "t", 10 + i) for i in range(3)]
    assert [TOTAL in one for one in rows[3:]] == [True]


FLAT = "JSON objects without `x`: their fields beside task, y, id and ts are features"
TWO = [{"task": "t", "a": 1.5, "y": 0}, {"task": "t", "a": 2, "y": 1}]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("commas.jsonl", ",\n".join(map(json.dumps, TWO)) + ",\n", FLAT),
        ("keys.json", json.dumps({"e1": TWO[0], "e2": TWO[1]}), FLAT),
        ("columns.json", pd.DataFrame(TWO).to_json(), FLAT),
        ("wide.jsonl", "".join(json.dumps(one) + "\n" for one in TWO).encode("utf-16"), "encoding utf-16, " + FLAT),
        ("wide", "".join(json.dumps(one) + "\n" for one in TWO).encode("utf-16"), f"taken for jsonl by what it begins with, encoding utf-16, {FLAT}"),
        ("packed.csv", gzip.compress(b"task,a,y\nt,1.5,0\nt,2,1\n", mtime=0), "taken for gz, csv by what it begins with"),
        ("old-mac.csv", "task,a,y\rt,1.5,0\rt,2,1\r", ""),
    ],
)  # fmt: skip
def test_json_and_packed_files_of_many_makers_are_read(
    name: str, content: str | bytes, said: str, tmp_path: Path
) -> None:
    """PowerShell writes UTF-16, pandas columns by their names, and somebody always packs without saying so."""
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)

    assert read(tmp_path / name) == (ROWS, said)


def test_what_a_mac_lays_beside_a_file_is_no_second_file(tmp_path: Path) -> None:
    """Each archive that Finder makes has it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.csv", "task,a,y\nt,1.5,0\nt,2,1\n")
        archive.writestr("__MACOSX/._a.csv", "x")
        archive.writestr(".DS_Store", "x")
    (tmp_path / "a.csv.zip").write_bytes(content.getvalue())

    assert read(tmp_path / "a.csv.zip") == (ROWS, "")


def test_a_path_into_objects_of_a_parquet_file_is_a_column(tmp_path: Path) -> None:
    """`init` wrote `task = "shop.id"`, and the replay of the same file refused it."""
    table = pa.table(
        {
            "shop": pa.array([{"id": i % 3, "geo": {"lat": 1.5}} for i in range(60)]),
            "tags": pa.array([[1.0, float(i)] for i in range(60)]),
            "cost": pa.array([Decimal(f"{i}.25") for i in range(60)]),
            "at": pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 60, pa.timestamp("ns", "Europe/Berlin")),
            "y": [i % 2 for i in range(60)],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")

    rows, _ = read(
        tmp_path / "a.parquet", Fields(task="shop.id", include=("shop.geo.*", "cost"), missing=("cost=3.25",))
    )
    made = draft(str(tmp_path / "a.parquet"), Settings(), fixed={})
    (tmp_path / "s.toml").write_text(made.toml)

    assert rows[:2] == [({"shop.geo.lat": 1.5, "cost": i + 0.25}, str(i), i) for i in range(2)]
    assert streammeta.replay(tmp_path / "a.parquet", settings=load(tmp_path / "s.toml")).figures["rejected"] == 0


def records(*labels: Any) -> list[Record]:
    return [Record(json.dumps({"x": {"a": 1}, "y": y}).encode(), AT) for y in labels]


def test_labels_of_several_types_are_said() -> None:
    """True, 2 and "yes" are three classes: whoever has them may not know."""
    mixed = choose_kind(records(True, False, 2, "yes"))
    flags = choose_kind(records(True, False, 1, 0))
    numbers = choose_kind(records(True, 2.5))

    assert mixed.reason.endswith(
        "; of these labels 2 are true or false, which are 1 and 0, 1 are text and 1 numbers: is one of these a mistake?"
    )
    assert "mistake" not in flags.reason
    assert "1 are true or false" in numbers.reason
    assert Decoder().decode(records(True)[0]).y == 1


def test_dates_as_labels_are_a_target_where_they_are_known_and_else_refused(tmp_path: Path) -> None:
    """As text they are a class a day, which never comes again."""
    days = [f"2024-01-{1 + i % 28:02}" for i in range(60)]
    (tmp_path / "a.csv").write_text("a,paid\n" + "".join(f"{i},{day}\n" for i, day in enumerate(days)))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"a": i, "y": day}) + "\n" for i, day in enumerate(days)))

    rows, _ = read(tmp_path / "a.csv", Fields(label="paid"))
    lines, said = read(tmp_path / "a.jsonl")

    assert [y for _, _, y in rows[:2]] == [1704067200, 1704153600] == [y for _, _, y in lines[:2]]
    assert said == f"{FLAT}, times in y"
    with pytest.raises(ConfigError, match="the labels are dates as text in the first 60 labels, such as '2024-01-01'"):
        choose_kind(records(*days))


def test_a_time_is_found_whatever_its_name(tmp_path: Path) -> None:
    """`Datum`, `Zeit`, `fecha`: a date is known by its values."""
    rows = "".join(
        f"{1 + i % 28:02}.{1 + i // 28:02}.2024;{i % 7};{i % 3};{1700000000000 + 977 * i}\n" for i in range(90)
    )
    (tmp_path / "a.csv").write_text("Datum;a;y;tick\n" + rows)

    made = draft(str(tmp_path / "a.csv"), Settings(), fixed={})

    assert 'time = "Datum"  # numbers that are times since 1970, rising' in made.toml


def test_texts_among_labels_are_classes_unless_they_are_rare(tmp_path: Path) -> None:
    """Taken for missing values, a quarter of the labels would be gone."""
    (tmp_path / "a.csv").write_text("a,y\n" + "".join(f"{i},{'yes' if i % 4 == 0 else i % 2}\n" for i in range(80)))

    assert "missing =" not in draft(str(tmp_path / "a.csv"), Settings(), fixed={}).toml


@pytest.mark.parametrize(
    ("name", "content", "rows", "said"),
    [
        (
            "padded.csv",
            "Report X;;\nof today;;\n;;\ntask;a;y\nt;1,5;0\nt;2;1\n",
            ROWS,
            "columns separated by semicolons, decimal commas, 3 line(s) before the header passed over",
        ),
        ("empty.csv", "task,a,y\nt,1.5,0\n,,\n , ,\nt,2,1\n", ROWS, ""),
        ("blanks.csv", "task,a,y\nt ,1.5,no \nt,2,yes\n", [({"a": 1.5}, "t", "no"), ({"a": 2.0}, "t", "yes")], ""),
        ("dots.csv", "a,b,c,d,y\n.,..,--,(null),0\n", [(dict.fromkeys("abcd"), "", 0)], ""),
        ("after.csv", "a;y\n(1.100,20) €;0\n€ (2,5);1\n", [({"a": -1100.2}, "", 0), ({"a": -2.5}, "", 1)], None),
        ("loaded.csv.gz", "task,a,y\nt,1.5,0\nt,2,1\n", ROWS, "not packed, though its name ends in .gz"),
        ("pages.json", json.dumps({"count": 2, "next": None, "results": TWO}), ROWS, FLAT),
        ("pretty.json", json.dumps({"count": 2, "results": TWO}, indent=1), ROWS, FLAT),
    ],
)
def test_exports_and_downloads_are_read(name: str, content: str, rows: Any, said: str | None, tmp_path: Path) -> None:
    """Spreadsheets fill up titles with separators, services count what they answer, browsers unpack."""
    (tmp_path / name).write_text(content)

    found, description = read(tmp_path / name)

    assert found == rows
    assert said in (description, None)


def test_a_page_is_no_table(tmp_path: Path) -> None:
    """What is behind a login is downloaded as the login."""
    (tmp_path / "a.csv").write_text("<!DOCTYPE html>\n<html>, <body>\n</body>, </html>\n")

    with (
        closing(FileSource(tmp_path / "a.csv")) as source,
        pytest.raises(TransportError, match="is a page of HTML or XML, and no table"),
    ):
        source.poll(1, 0)


def test_a_frame_that_pandas_wrote_to_a_sheet_has_no_column_of_its_index(tmp_path: Path) -> None:
    """It counts the rows: the best feature of all, in a sorted file."""
    pd.DataFrame({"task": ["t", "t"], "a": [1.5, 2.0], "y": [0, 1]}).to_excel(tmp_path / "a.xlsx")

    assert read(tmp_path / "a.xlsx") == (ROWS, "the first column, which has no name and counts rows, left out")


def test_classes_that_differ_in_capitals_are_said_and_rare_whole_numbers_are_no_classes() -> None:
    """Two people typed them; and forty amounts among ninety labels are amounts."""
    shapes = [min(int(one), 14) for one in pd.Series(range(400)).map(lambda i: -4.0 * math.log((i % 97 + 1) / 98))]

    assert "'NO' and 'no' are different classes" in choose_kind(records("NO", "no", "yes")).reason
    assert choose_kind(records(*(10 + i % 40 for i in range(90)))).kind == "regression"
    assert choose_kind(records(*(i % 40 for i in range(400)))).kind == "classification"
    assert choose_kind(records(*shapes, 19)).kind == "regression", "counts that are mostly 0, 1, 2"
